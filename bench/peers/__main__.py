"""`python -m bench.peers [NAME …]`: install each peer in an environment of its own, measure it, write peers.json."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ..__main__ import install_core
from ..measuring import Figures, run_once
from ..pipelines import CHAIN
from ..report import environment
from . import FOUND, table

RUNS = int(os.environ.get("BENCH_PEER_RUNS", "3"))
PLACE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "penstock-peers"
SCRIPTS = Path(__file__).parent
HELLO = 2  # steps of a hello run
# Nobody is told that we measure.
SILENT = {
    "DO_NOT_TRACK": "1",
    "HAMILTON_TELEMETRY_ENABLED": "false",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "ZENML_ANALYTICS_OPT_IN": "false",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}


class Peer(NamedTuple):
    """One library. In commands, {python} and {bin} are its environment's, {script} its file, {n} a number of steps,
    {home} a folder that outlives a run."""

    name: str
    requirements: tuple[str, ...]
    imports: str
    keeps: str  # what a run leaves behind, in words
    steps: int = 100
    run: tuple[str, ...] = ("{python}", "{script}", "{n}")
    before: tuple[str, ...] = ()  # in the run's fresh folder, untimed
    once: tuple[str, ...] = ()  # after the installation, untimed
    settings: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()  # written once, below {home}
    distribution: str = ""
    count: tuple[str, ...] = ()  # prints how many step runs its store has, where some may be lost


PEERS = (
    Peer("luigi", ("luigi",), "import luigi", "output files"),
    Peer("hamilton", ("sf-hamilton",), "from hamilton import driver", "results as pickles, keys in SQLite",
         distribution="sf-hamilton"),
    Peer("kedro", ("kedro", "kedro-datasets"), "from kedro.pipeline import node", "pickles, no metadata"),
    Peer("metaflow", ("metaflow", "setuptools<81"), "from metaflow import FlowSpec, step",
         "every artifact, metadata files", steps=30,
         run=("{python}", "flow.py", "run"), before=("{python}", "{script}", "prepare", "{n}"),
         settings=(("METAFLOW_USER", "bench"), ("USER", "bench"))),
    Peer("dagster", ("dagster",), "from dagster import job, op", "event log in SQLite, outputs as files",
         settings=(("DAGSTER_HOME", "{home}"),), files=(("dagster.yaml", "telemetry:\n  enabled: false\n"),)),
    Peer("prefect", ("prefect",), "from prefect import flow, task",
         "states in SQLite by a server started for the run, results as files",
         settings=(("PREFECT_HOME", "{home}"), ("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "240")),
         count=("{python}", "-c", "import sqlite3; print(sqlite3.connect('{home}/prefect.db').execute("
                "'select count(*) from task_run').fetchone()[0])")),
    Peer("kfp.local", ("kfp",), "from kfp import dsl, local", "files", steps=10, distribution="kfp"),
    Peer("flytekit", ("flytekit",), "from flytekit import task, workflow", "temporary files, no metadata"),
    Peer("zenml", ("zenml[local]",), "from zenml import pipeline, step", "artifacts, metadata in SQLite", steps=20,
         once=("{bin}/zenml", "status"),
         settings=(("ZENML_CONFIG_PATH", "{home}"), ("ZENML_LOGGING_VERBOSITY", "WARN"))),
    Peer("airflow", ("apache-airflow",), "from airflow.sdk import dag, task", "metadata in SQLite (`dags test`)",
         steps=20, run=("{bin}/airflow", "dags", "test", "chain"), once=("{bin}/airflow", "db", "migrate"),
         settings=(("AIRFLOW_HOME", "{home}"), ("AIRFLOW__CORE__LOAD_EXAMPLES", "False"), ("STEPS", "{n}")),
         distribution="apache-airflow"),
)  # fmt: skip


def main() -> None:
    wanted = sys.argv[1:] or ["penstock", *(peer.name for peer in PEERS)]
    found: dict[str, dict[str, Any]] = {}
    if FOUND.exists():
        found = {each["name"]: each for each in json.loads(FOUND.read_text(encoding="utf-8"))["peers"]}
    for name in wanted:
        print(f"{name} …", flush=True)
        peer = next((each for each in PEERS if each.name == name), None)
        try:
            found[name] = measured(peer) if peer else penstock()
        except (subprocess.CalledProcessError, SystemExit) as error:
            found[name] = {"name": name, "error": last_line(error)}
        print(found[name], flush=True)
        write(found)
    print(table())


def write(found: dict[str, dict[str, Any]]) -> None:
    order = ["penstock", *(peer.name for peer in PEERS)]
    facts = {
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "measured_on": datetime.date.today().isoformat(),
        "runs": RUNS,
        "peers": [found[name] for name in order if name in found],
    }
    FOUND.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def last_line(error: BaseException) -> str:
    """Why a peer could not be measured: the last line that it wrote."""
    output = getattr(error, "stderr", None) or getattr(error, "output", None) or str(error)
    lines = [line.strip() for line in str(output).splitlines() if line.strip()]
    return lines[-1].replace("|", "/")[:200] if lines else type(error).__name__


# -- one of them -------------------------------------------------------------------------------------------------------


def measured(peer: Peer) -> dict[str, Any]:
    python, size_mb, packages = installed(peer)
    home = PLACE / peer.name / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for name, text in peer.files:
        (home / name).write_text(text)
    script = SCRIPTS / f"{peer.name.partition('.')[0]}_chain.py"
    if peer.name == "airflow":
        (home / "dags").mkdir()
        shutil.copy(script, home / "dags")
    words = {"python": str(python), "bin": str(python.parent), "script": str(script), "home": str(home)}

    def filled(command: tuple[str, ...], steps: int) -> list[str]:
        return [word.format(n=steps, **words) for word in command]

    def surroundings(steps: int) -> dict[str, str]:
        given = {name: value.format(n=steps, **words) for name, value in peer.settings}
        return environment() | SILENT | {"HOME": str(home)} | given

    if peer.once:
        checked(filled(peer.once, HELLO), home, surroundings(HELLO))

    def run(steps: int) -> Figures:
        folder = fresh_folder(peer.name)
        if peer.before:
            checked(filled(peer.before, steps), folder, surroundings(steps))
        return run_once(filled(peer.run, steps), folder, surroundings(steps))

    version = checked(
        [str(python), "-c", f"import importlib.metadata as m; print(m.version('{peer.distribution or peer.name}'))"],
        home, environment(),
    ).strip()  # fmt: skip
    facts = {"name": peer.name, "version": version, "packages": packages, "size_mb": round(size_mb, 1)}
    imported = import_cost(python, peer.imports, home, surroundings(HELLO))
    found = figures(run, peer.steps)
    keeps = peer.keeps
    if peer.count:
        begun = HELLO * (RUNS + 1) + peer.steps * RUNS
        counted = int(checked(filled(peer.count, HELLO), home, surroundings(HELLO)))
        keeps += f" ({counted} of {begun} step runs were there in the end)"
    return facts | {"import_cpu_s": round(imported, 3)} | found | {"keeps": keeps}


def penstock() -> dict[str, Any]:
    """The same figures of penstock itself, for the same table."""
    python, size_mb, packages = core()
    command = [str(python.parent / "penstock"), "run", "chain.py", "--length"]

    def run(steps: int) -> Figures:
        folder = fresh_folder("penstock")
        (folder / "chain.py").write_text(CHAIN)
        return run_once([*command, str(steps)], folder, environment())

    imported = import_cost(python, "from penstock import pipeline, step", PLACE, environment())
    version = checked([str(python), "-c", "import penstock; print(penstock.__version__)"], PLACE, environment()).strip()
    facts = {"name": "penstock", "version": version, "packages": packages, "size_mb": round(size_mb, 1)}
    kept = {"keeps": "every event, value, key and the code behind it, in SQLite"}
    return facts | {"import_cpu_s": round(imported, 3)} | figures(run, 100) | kept


def figures(run: Any, steps: int) -> dict[str, Any]:
    """Medians of a hello run, and what a further step of a longer chain adds; taken in turn."""
    run(HELLO)  # warms the page cache and writes bytecode
    every = [(run(HELLO), run(steps)) for _ in range(RUNS)]
    hello, long = (Figures(*map(statistics.median, zip(*column, strict=True))) for column in zip(*every, strict=True))
    return {
        "hello_cpu_s": round(hello.cpu, 3),
        "hello_wall_s": round(hello.wall, 3),
        "hello_peak_mb": round(hello.peak_mb, 1),
        "step_cpu_ms": round((long.cpu - hello.cpu) * 1000 / (steps - HELLO), 3),
        "step_wall_ms": round((long.wall - hello.wall) * 1000 / (steps - HELLO), 3),
        "steps": steps,
    }


def import_cost(python: Path, statement: str, folder: Path, given: dict[str, str]) -> float:
    def cost(code: str) -> float:
        run_once([str(python), "-c", code], folder, given)
        return statistics.median(run_once([str(python), "-c", code], folder, given).cpu for _ in range(RUNS))

    return cost(statement) - cost("pass")


# -- environments ------------------------------------------------------------------------------------------------------


def installed(peer: Peer) -> tuple[Path, float, int]:
    """The peer's own environment; made once, by uv where there is one."""
    place = PLACE / peer.name / "env"
    python = place / "bin" / "python"
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        uv = shutil.which("uv")
        if uv:
            checked([uv, "venv", "-q", "--python", sys.executable, str(place)], PLACE, environment())
            checked([uv, "pip", "install", "-q", "--python", str(python), *peer.requirements], PLACE, environment())
        else:
            checked([sys.executable, "-m", "venv", str(place)], PLACE, environment())
            checked([str(python), "-m", "pip", "install", "-qq", *peer.requirements], PLACE, environment())
        (place / "done").touch()
    site = next((place / "lib").glob("python*/site-packages"))
    own = [path for path in site.iterdir() if not path.name.startswith(("pip", "_virtualenv", "__pycache__"))]
    size = sum(file.stat().st_size for path in own for file in ([path] if path.is_file() else path.rglob("*"))
               if file.is_file() and file.suffix != ".pyc")  # fmt: skip
    return python, size / 1e6, sum(path.name.endswith(".dist-info") for path in own)


def core() -> tuple[Path, float, int]:
    place = PLACE / "penstock"
    shutil.rmtree(place, ignore_errors=True)
    return install_core(place / "env")


def fresh_folder(name: str) -> Path:
    folder = PLACE / name / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def checked(command: list[str], folder: Path, given: dict[str, str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(command, cwd=folder, env=given, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
