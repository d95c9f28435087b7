"""An input that is gone or altered when a step reads it is made again by the step that made it, in the same run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from penstock.ports.events import StepReopened
from penstock.ports.records import StepState
from penstock.wiring.runs import Run

from ..e2e.engine_lab import Lab, states

PLACES = [{"workers": 1}, {"workers": 2}, {"one_process_per_step": True}]
IDS = ["inline", "workers", "processes"]

# `harm` alters, truncates or deletes every blob of the store that holds a certain text, as a failing disk would.
TOOLS = """
def blobs():
    return [p for p in (HERE / ".penstock" / "artifacts" / "objects").glob("*/*") if p.is_file()]

def harm(word, how):
    for place in blobs():
        content = place.read_bytes()
        if word.encode() not in content:
            continue
        os.chmod(place, 0o644)
        if how == "delete":
            place.unlink()
        elif how == "truncate":
            place.write_bytes(content[:-1])
        else:
            place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            os.utime(place, ns=(1, 1))
"""

SOURCE = (
    TOOLS
    + """
@step
def source() -> str:
    mark("source")
    return "spring" * 5000
"""
)

CHAIN = (
    SOURCE
    + """
@step
def harmer(text: str, how: str) -> int:
    mark("harmer")
    harm("spring", how)
    return len(text)

@step
def reader(text: str, seen: int) -> int:
    mark("reader")
    return len(text) + seen

@pipeline
def main(how: str) -> int:
    text = source()
    return reader(text, harmer(text, how))
"""
)


def reopened(lab: Lab, run: Run) -> list[str]:
    return [e.step for _, e in lab.project().store.events(run.id) if isinstance(e, StepReopened)]


@pytest.mark.parametrize("options", PLACES, ids=IDS)
@pytest.mark.parametrize("how", ["alter", "truncate", "delete"])
def test_what_is_lost_between_two_steps_is_made_again_and_the_run_succeeds(
    lab: Lab, how: str, options: dict[str, Any]
) -> None:
    run = lab.write(CHAIN).run(parameters={"how": how}, **options)
    assert states(run) == {"source": "succeeded", "harmer": "succeeded", "reader": "succeeded"}
    assert run.output == 60_000
    assert lab.ran() == ["source", "harmer", "source", "reader"]
    assert reopened(lab, run) == ["source", "reader"]
    stored = {each.step: each for each in lab.project().store.step_runs(run.id)}
    assert {name: each.state.value for name, each in stored.items()} == states(run)
    assert stored["source"].attempts == 2


@pytest.mark.parametrize("options", PLACES, ids=IDS)
def test_a_hit_whose_bytes_turn_out_altered_is_dropped_and_computed_again(lab: Lab, options: dict[str, Any]) -> None:
    lab.write(
        SOURCE
        + """
@step
def reader(text: str, salt: int) -> int:
    mark("reader")
    return len(text)

@pipeline
def main(salt: int) -> int:
    return reader(source(), salt)
"""
    )
    assert lab.run(parameters={"salt": 1}, **options).output == 30_000
    lab.load().harm("spring", "alter")
    run = lab.run(parameters={"salt": 2}, **options)
    assert run.output == 30_000
    assert lab.ran() == ["source", "reader", "source", "reader"]
    assert run.step("source").state is StepState.SUCCEEDED
    assert lab.run(parameters={"salt": 3}, **options).step("source").state is StepState.CACHED


@pytest.mark.parametrize("options", PLACES, ids=IDS)
def test_a_loss_several_steps_up_is_followed_to_where_it_can_be_made(lab: Lab, options: dict[str, Any]) -> None:
    lab.write(
        TOOLS
        + """
@step
def first() -> str:
    mark("first")
    return "spring" * 5000

@step
def second(text: str) -> str:
    mark("second")
    return text + "!"

@step
def harmer(text: str) -> int:
    harm("spring", "alter")
    return 1

@step
def reader(text: str, seen: int) -> int:
    return len(text) + seen

@pipeline
def main() -> int:
    text = second(first())
    return reader(text, harmer(text))
"""
    )
    run = lab.run(**options)
    assert (run.state.value, run.output) == ("succeeded", 30_002)
    assert lab.ran() == ["first", "second", "first", "second"]


@pytest.mark.parametrize("options", PLACES, ids=IDS)
def test_elements_and_lists_of_a_map_are_made_again(lab: Lab, options: dict[str, Any]) -> None:
    lab.write(
        TOOLS
        + """
@step
def texts() -> list[str]:
    mark("texts")
    return [letter * 10_000 for letter in "abc"]

@step
def harmer(found: list[str]) -> int:
    harm("aaaa", "alter")
    return 1

@step
def size(text: str) -> str:
    return text + "x"

@step
def harm_again(sizes: list[str]) -> int:
    harm("bbbbx", "delete")
    return 1

@step
def join(sizes: list[str]) -> int:
    return sum(len(each) for each in sizes)

@pipeline
def main() -> int:
    found = texts()
    broken = harmer(found)
    sizes = size.after(broken).map(text=found)
    return join.after(harm_again(sizes))(sizes)
"""
    )
    run = lab.run(**options)
    assert run.state.value == "succeeded", [(each.step, each.failure) for each in run.steps]
    assert run.output == 30_003


def test_an_at_most_once_effect_is_not_done_again_and_the_error_names_step_digest_place_and_fix(lab: Lab) -> None:
    lab.write(CHAIN.replace("@step\ndef source", '@step(effect="at-most-once")\ndef source'))
    run = lab.run(parameters={"how": "alter"})
    assert states(run) == {"source": "succeeded", "harmer": "succeeded", "reader": "failed"}
    assert lab.ran() == ["source", "harmer"]
    failure, digest = run.step("reader").failure, run.step("source").outputs["output"].digest
    assert failure is not None
    assert failure.kind.value == "input_lost"
    for part in (digest[:12], os.path.join(".penstock", "artifacts"), "'source'", "at-most-once"):
        assert part in failure.message
    assert "resume" in (failure.hint or "")


def test_what_comes_out_different_when_made_again_is_refused_where_others_have_used_the_first(lab: Lab) -> None:
    changing = CHAIN.replace('return "spring" * 5000', 'return "spring" * 5000 + str(time.time_ns())')
    lab.write(changing)
    run = lab.run(parameters={"how": "alter"})
    assert states(run) == {"source": "failed", "harmer": "succeeded", "reader": "upstream_failed"}
    failure = run.step("source").failure
    assert failure is not None
    assert "different" in failure.message
    assert "'harmer'" in failure.message
    again = lab.resume(run.id)
    assert again.state.value == "failed", "resume does not mix the two either"


def test_what_nobody_has_used_may_come_out_different(lab: Lab) -> None:
    lab.write(
        TOOLS
        + """
@step
def source() -> str:
    mark("source")
    return "spring" * 5000 + str(time.time_ns())

@step
def harmer() -> int:
    harm("spring", "alter")
    return 1

@step
def reader(text: str) -> int:
    return len(text)

@pipeline
def main() -> int:
    text = source()
    return reader.after(harmer.after(text)())(text)
"""
    )
    assert lab.run().output == 30_019
    assert lab.ran() == ["source", "source"]


def test_a_step_is_made_again_once_and_then_the_run_fails(lab: Lab) -> None:
    lab.write(
        SOURCE
        + """
@step
def reader(text: str) -> int:
    return len(text)

@pipeline
def main() -> int:
    return reader(source())
"""
    )
    project = lab.project()
    real = project.artifacts.blobs.put_file

    class Rotting:
        """A disk that alters what is written to it, after it was digested."""

        def __getattr__(self, name: str) -> Any:
            return getattr(project.artifacts.blobs_kept, name)

        def put_file(self, path: Path) -> tuple[str, int]:
            done = real(path)
            lab.load().harm("spring", "alter")
            return done

    project.artifacts.blobs_kept = project.artifacts.blobs  # type: ignore[attr-defined]
    project.artifacts._opened = Rotting()  # type: ignore[assignment]
    from penstock.wiring.runner import LocalRunner

    texts: dict[str, str] = {}
    run = LocalRunner(project=project).run(lab.load().main.trace(texts), texts, workers=1, echo=False, check=False)
    assert states(run) == {"source": "succeeded", "reader": "failed"}
    assert lab.ran() == ["source", "source"]
    failure = run.step("reader").failure
    assert failure is not None
    assert "once already" in failure.message


@pytest.mark.parametrize("options", PLACES, ids=IDS)
def test_resume_makes_again_what_was_lost_after_the_run_had_ended(lab: Lab, options: dict[str, Any]) -> None:
    lab.write(
        SOURCE
        + """
@step
def reader(text: str) -> int:
    if not (HERE / "go").exists():
        raise ValueError("not yet")
    return len(text)

@pipeline
def main() -> int:
    return reader(source())
"""
    )
    for how in ("delete", "alter"):
        (lab.root / "go").unlink(missing_ok=True)
        (lab.root / "ran.txt").unlink(missing_ok=True)
        run = lab.run(cache=False, **options)
        assert states(run) == {"source": "succeeded", "reader": "failed"}
        lab.load().harm("spring", how)
        (lab.root / "go").touch()
        assert lab.resume(run.id, **options).output == 30_000
        assert lab.ran() == ["source", "source"]
