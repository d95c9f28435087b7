"""PostgreSQL is restarted, or dies and recovers, under a run: the run goes on in the same process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.ports.records import RunState
from penstock.wiring.runner import find_run

from ..conformance import postgres
from ..e2e.engine_lab import Lab, finish, last_json, wait_for


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    folder = postgres.binaries()
    if folder is None:
        pytest.skip("missing capability: a PostgreSQL server (initdb and postgres) on this machine")
    running = postgres.Server(folder)
    try:
        running.start()
        yield running
    finally:
        running.remove()


@pytest.fixture
def lab(tmp_path: Path, server: postgres.Server) -> Iterator[Lab]:
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS penstock CASCADE")
    with Lab(tmp_path) as found:
        (tmp_path / "penstock.toml").write_text(f'runs = "{server.url}"\n')
        yield found


FLOW = """
@step(isolation={isolation!r})
def during(n: int) -> int:
    mark("during"); arrive("there"); await_file("go")
    print("afterwards")
    return n

@step
def after(x: int) -> int:
    mark("after")
    return x + 1

@pipeline
def main() -> int:
    return after(during(1))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restarted", "died"])
@pytest.mark.parametrize(
    ("options", "isolation"),
    [("workers=1", "auto"), ("workers=2", "process"), ("one_process_per_step=True", "auto")],
)
def test_a_run_outlives_its_server(
    lab: Lab, server: postgres.Server, options: str, isolation: str, how: signal.Signals
) -> None:
    lab.write(FLOW.format(isolation=isolation))
    engine = lab.start(f"print(json.dumps(lab.main.using({options}, echo=False).run().output))")
    wait_for(lambda: (lab.root / "there").exists(), "the step never began")
    server.stop(how)
    (lab.root / "go").touch()  # it ends, and is recorded, while no server is there or it is only coming up
    server.start()
    code, out, err = finish(engine)
    assert (code, last_json(out)) == (0, 2), err
    assert lab.ran() == ["during", "after"]
    assert find_run(lab.project(), "last").state is RunState.SUCCEEDED
    assert lab.text(lab.last_run(), "during") == "afterwards\n"
