"""What an instance receives, or why it cannot: guards, skips, failures, lists that are mapped over."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core.errors import ArtifactMissingError
from penstock.engine.arguments import Blocked, NotReady, Resolver, Skipped, Unreadable
from penstock.engine.tasks import NOTHING, Collected, Json, SecretValue, Stored
from penstock.graph import Graph, Guard, Item, Many, Node, Output, Param, Parameter, Scope, Secret, Value
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.events import RunView
from penstock.ports.records import FailureClass, StepRun, StepState


class Shelf:
    """Artifacts that are all gone, but for inline ones."""

    def save(self, value: Any, annotation: Any = Any) -> ArtifactRef:
        return ArtifactRef(digest=repr(value), codec="json", inline=repr(value))

    def load(self, ref: ArtifactRef, annotation: Any = Any) -> Any:
        raise ArtifactMissingError(f"{ref.digest} is gone")

    def intact(self, ref: ArtifactRef) -> bool:
        return ref.inline is not None

    def weed(self, ref: ArtifactRef) -> bool:
        return ref.inline is None


def done(name: str, json: str | None, index: str = "", state: StepState = StepState.SUCCEEDED) -> StepRun:
    ref = ArtifactRef(digest=f"d{json}", codec="json", inline=json)
    return StepRun(name, index, state, outputs={"output": ref} if state.has_output else {})


def resolver(*runs: StepRun, nodes: tuple[Node, ...], scopes: tuple[Scope, ...] = (), **given: str) -> Resolver:
    view = RunView()
    view.steps = {(run.step, run.index): run for run in runs}
    parameters = (Parameter("n", "int"), Parameter("token", "str", secret=True))
    return Resolver(Graph("p", "f.py:p", nodes, scopes, parameters), view, given, Shelf())


A, B = Node("a", "f.py:a"), Node("b", "f.py:b", inputs={"x": Output("a")})


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (StepState.PENDING, NotReady("a")),
        (StepState.RUNNING, NotReady("a")),
        (StepState.FAILED, Blocked("'a' failed")),
        (StepState.TIMED_OUT, Blocked("'a' timed out")),
        (StepState.UPSTREAM_FAILED, Blocked("'a' upstream failed")),
        (StepState.CANCELLED, Blocked("'a' cancelled")),
        (StepState.SKIPPED, Skipped("'a' was skipped")),
    ],
)
def test_a_step_shares_the_fate_of_what_it_needs(state: StepState, verdict: object) -> None:
    assert resolver(done("a", None, state=state), nodes=(A, B)).arguments(B, "") == verdict


def test_an_optional_input_takes_a_skipped_step_as_nothing_but_not_a_failed_one() -> None:
    wants = Node("b", "f.py:b", inputs={"x": Output("a", optional=True)})
    assert resolver(done("a", None, state=StepState.SKIPPED), nodes=(A, wants)).arguments(wants, "") == {"x": NOTHING}
    failed = resolver(done("a", None, state=StepState.FAILED), nodes=(A, wants)).arguments(wants, "")
    assert failed == Blocked("'a' failed")


def test_a_false_guard_skips_whatever_became_of_the_inputs() -> None:
    guarded = Node("b", "f.py:b", inputs={"x": Output("a")}, guards=(Guard(Param("n"), "1"),))
    found = resolver(done("a", None, state=StepState.FAILED), nodes=(A, guarded), n="2").arguments(guarded, "")
    assert found == Skipped("n is 2, not 1")


def test_a_guard_on_a_failed_step_blocks() -> None:
    guarded = Node("b", "f.py:b", guards=(Guard(Output("a")),))
    found = resolver(done("a", None, state=StepState.FAILED), nodes=(A, guarded)).arguments(guarded, "")
    assert found == Blocked("'a' failed")


def test_constants_parameters_secrets_and_lists_come_as_they_were_written() -> None:
    inputs = {
        "c": Value("1"),
        "n": Param("n"),
        "t": Param("token"),
        "s": Secret("S"),
        "l": Many((Value("1"), Output("a"))),
    }
    node = Node("b", "f.py:b", inputs=inputs)
    found = resolver(done("a", "7"), nodes=(A, node), n="5", token='"secret:TOK"').arguments(node, "")
    assert found == {
        "c": Json("1"),
        "n": Json("5"),
        "t": SecretValue("TOK"),
        "s": SecretValue("S"),
        "l": Collected((Json("1"), Stored(done("a", "7").outputs["output"]))),
    }


ELEMENT = Node("f", "f.py:f", inputs={"x": Item("s", "x")}, scope="s")
OVER_A = Scope("s", {"x": Output("a")})


def test_an_element_gets_its_own_part_of_the_list_and_a_collector_all_in_order() -> None:
    total = Node("t", "f.py:t", inputs={"xs": Output("f")})
    found = resolver(
        done("a", "[10,20]"), done("f", "1", "0"), done("f", "2", "1"), nodes=(A, ELEMENT, total), scopes=(OVER_A,)
    )
    assert found.expand("s", "") == 2
    assert found.arguments(ELEMENT, "1") == {"x": Json("20")}
    assert found.arguments(total, "") == NotReady("f"), "the map has not been opened"
    found._view.sizes["s", ""] = 2
    collected = found.arguments(total, "")
    assert isinstance(collected, dict)
    assert isinstance(collected["xs"], Collected)
    assert [item.ref.inline for item in collected["xs"].items if isinstance(item, Stored)] == ["1", "2"]


def test_lists_that_cannot_be_mapped_say_why() -> None:
    uneven = Scope("s", {"x": Output("a"), "y": Value("[1]")})
    nodes = (A, ELEMENT)
    assert resolver(done("a", "[1,2]"), nodes=nodes, scopes=(uneven,)).expand("s", "") == Blocked(
        "the lists mapped side by side differ in length (x: 2, y: 1)"
    )
    assert resolver(done("a", "3"), nodes=nodes, scopes=(OVER_A,)).expand("s", "") == Blocked(
        "what is mapped over is a int, not a list"
    )
    small = Scope("s", {"x": Output("a")}, max_size=1)
    assert resolver(done("a", "[1,2]"), nodes=nodes, scopes=(small,)).expand("s", "") == Blocked(
        "the map has 2 elements, more than max_size=1"
    )


def test_a_list_whose_bytes_are_gone_blocks_the_map_instead_of_ending_the_engine() -> None:
    found = resolver(done("a", None), nodes=(A, ELEMENT), scopes=(OVER_A,)).expand("s", "")
    assert isinstance(found, Unreadable)
    assert found.because == "what is mapped over cannot be read: dNone is gone"
    assert found.failure.kind is FailureClass.INPUT_LOST


def test_a_map_that_was_closed_and_is_pending_again_is_no_longer_closed() -> None:
    total = Node("t", "f.py:t", inputs={"xs": Output("f")})
    closed = resolver(done("f", None, state=StepState.UPSTREAM_FAILED), nodes=(A, ELEMENT, total), scopes=(OVER_A,))
    assert closed.arguments(total, "") == Blocked("'f' upstream failed")
    reopened = resolver(done("f", None, state=StepState.PENDING), nodes=(A, ELEMENT, total), scopes=(OVER_A,))
    reopened._view.sizes["s", ""] = 0
    assert reopened.arguments(total, "") == {"xs": Collected(())}


def test_an_index_that_the_map_does_not_have_is_not_an_instance() -> None:
    found = resolver(done("a", "[1]"), nodes=(A, ELEMENT), scopes=(OVER_A,)).arguments(ELEMENT, "7")
    assert found == Blocked("the map 's' has no element 7")


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_a_failed_and_a_skipped_need_the_skip_decides_in_whatever_order_they_are_written(order: str) -> None:
    both = Node(name="both", target="t.py:f", inputs={name: Output(name) for name in order})
    b = Node(name="b", target="t.py:f")
    view = resolver(
        done("a", None, state=StepState.FAILED), done("b", None, state=StepState.SKIPPED), nodes=(A, b, both)
    )
    assert view.arguments(both, "") == Skipped("'b' was skipped")
