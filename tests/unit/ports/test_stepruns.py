"""`StepRuns` is a dict of step runs to whoever uses it, whatever lies packed inside."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from penstock.ports.artifacts import ArtifactRef, Blob
from penstock.ports.records import Failure, FailureClass, HiddenInput, Observation, StepRun, StepState
from penstock.ports.stepruns import StepRuns

_INDEXES = st.sampled_from(["", "0", "1", "7", "0.0", "0.3", "7.1", "7.1.2"])
_PLACES = st.tuples(st.sampled_from(["fit", "load"]), _INDEXES)
_REF = ArtifactRef("d" * 64, "json", 3, (Blob("a/b", "e" * 64, 9),), "[1]", False, {"rows": 2, "columns": [["a", "b"]]})


@st.composite
def _runs(draw: st.DrawFn, place: tuple[str, str]) -> StepRun:
    parts = draw(st.sampled_from([{}, {"code": "c"}, {"code": "d", "env:X": "1"}]))
    failure = Failure(FailureClass.ERROR, "no", ("a:B",), "trace", "hint", b"\x00", "same")
    return StepRun(
        *place,
        draw(st.sampled_from(list(StepState))),
        attempts=draw(st.integers(0, 3)),
        key=draw(st.sampled_from([None, "k" * 64])),
        outputs=draw(st.sampled_from([{}, {"output": _REF}])),
        inputs=draw(st.sampled_from([{}, {"x": ["1", "2"]}])),
        parts=dict(parts),
        started_at=draw(st.sampled_from([None, 1_795_768_052_239_158])),
        failure=draw(st.sampled_from([None, failure])),
        origin=draw(st.sampled_from([None, ("r", "s", "i")])),
        observations=draw(st.sampled_from([(), (Observation("file", "n", "v"),)])),
        metrics=draw(st.sampled_from([{}, {"auc": 0.5}])),
        hidden=draw(st.sampled_from([(), (HiddenInput("file", "n", "w"),)])),
    )


@given(st.data())
def test_it_is_a_dict_of_step_runs(data: st.DataObject) -> None:
    found, model = StepRuns(), dict[tuple[str, str], StepRun]()
    for _ in range(data.draw(st.integers(0, 20))):
        place = data.draw(_PLACES)
        if data.draw(st.booleans()) or place not in model:
            found[place] = model[place] = data.draw(_runs(place))
        else:
            del found[place]
            del model[place]
        assert dict(found.items()) == model
        assert len(found) == len(model)
        assert +found.states == Counter(run.state for run in model.values())
        assert found.get(("fit", "9")) is None
        assert all(found.get(key) == run and key in found for key, run in model.items())


def test_a_map_that_is_done_takes_eight_bytes_of_memory_for_an_element_and_keeps_its_order() -> None:
    runs = StepRuns()
    for at in range(30_000):
        runs["fit", str(at)] = StepRun("fit", str(at), StepState.SUCCEEDED, key="k" * 64, outputs={"output": _REF})
    assert [index for _, index in runs] == [str(at) for at in range(30_000)]
    assert runs["fit", "29999"].outputs == {"output": _REF}
    assert len(runs._scratch._tail) < 1_100_000


def test_parts_that_were_read_back_take_turns_and_are_kept_once() -> None:
    runs = StepRuns()
    for at in range(100):
        for step in ("fit", "load"):
            runs[step, str(at)] = StepRun(step, str(at), StepState.SUCCEEDED, parts={"code": step})
    assert len(runs._parts) == 3
    assert (runs["fit", "7"].parts, runs["load", "7"].parts) == ({"code": "fit"}, {"code": "load"})
