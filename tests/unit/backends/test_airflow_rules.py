"""Airflow's trigger rules against the launcher's verdicts, over drawn pipelines, outcomes and orders of events.

A small Airflow lives here: what its scheduler does with `all_success`, `none_failed`, `all_done`, mapped tasks, tasks
that were skipped, and a teardown. It is the rule book of Airflow 3.3 (ti_deps/deps/trigger_rule_dep.py), read as law.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from penstock.backends.airflow.planning import Plan, Task, planned
from penstock.engine.arguments import Blocked, NotReady, Resolver, Skipped
from penstock.engine.frontier import Frontier, child
from penstock.engine.settling import settle
from penstock.graph import Graph, Guard, Item, Many, Node, Output, Param, Parameter, Scope
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.events import MapExpanded, RunView
from penstock.ports.records import StepRun, StepState

SUCCESS, FAILED, SKIPPED, UPSTREAM = "success", "failed", "skipped", "upstream_failed"
BAD = {FAILED, UPSTREAM}
PARAMETERS = {"yes": "true", "no": "false"}
FINALLY = {
    StepState.SUCCEEDED: {SUCCESS},
    StepState.FAILED: {FAILED},
    StepState.SKIPPED: {SKIPPED},
    # A mapped task that is never expanded stands for elements that the run log has no row of.
    StepState.UPSTREAM_FAILED: BAD,
}


class Shelf:
    def save(self, value: Any, annotation: Any = Any) -> ArtifactRef:
        return ArtifactRef(digest=repr(value), codec="json", inline=repr(value))


class Outcomes:
    """What each step gives when it runs: a list of this length, or a failure where it is None."""

    def __init__(self, graph: Graph, lengths: dict[str, int | None]) -> None:
        self.graph = graph
        self._lengths = lengths
        self.view = RunView()
        self.resolver = Resolver(graph, self.view, PARAMETERS, Shelf())  # type: ignore[arg-type]
        self.launcher, self.services, self.clock, self.engine = self, self, self, "airflow"
        self.is_ours = True

    def now_us(self) -> int:
        return 0

    def append(self, *events: Any) -> None:
        for event in events:
            self.view.apply(event)

    def catch_up(self) -> None:
        return

    def run(self, name: str, index: str) -> StepState:
        """What `exec-step` comes to."""
        node = self.graph.node(name)
        verdict = self.resolver.arguments(node, index)
        if isinstance(verdict, NotReady) and settle(self):  # type: ignore[arg-type]
            verdict = self.resolver.arguments(node, index)
        assert not isinstance(verdict, NotReady), f"{name}[{index}] was started too early: {verdict}"
        if isinstance(verdict, Skipped):
            return self.put(name, index, StepState.SKIPPED)
        if isinstance(verdict, Blocked):
            return self.put(name, index, StepState.UPSTREAM_FAILED)
        failed = self._lengths[name] is None or (index.endswith("1") and name.endswith("f"))
        return self.put(name, index, StepState.FAILED if failed else StepState.SUCCEEDED)

    def put(self, name: str, index: str, state: StepState) -> StepState:
        text = str(list(range(self._lengths[name] or 0)))
        ref = ArtifactRef(digest=text, codec="json", inline=text)
        outputs = {"output": ref} if state is StepState.SUCCEEDED else {}
        self.view.steps[name, index] = StepRun(name, index, state, outputs=outputs)
        return state

    def expand(self, scope: str, parent: str) -> int | None:
        """What `exec-map` comes to at one element of the enclosing map; None where the scope is closed there."""
        settle(self)  # type: ignore[arg-type]
        size = self.resolver.expand(scope, parent)
        assert not isinstance(size, NotReady), f"{scope} was expanded too early: {size}"
        if isinstance(size, int):
            self.view.apply(MapExpanded(at=0, scope=scope, index=parent, size=size))
            return size
        state = StepState.SKIPPED if isinstance(size, Skipped) else StepState.UPSTREAM_FAILED
        for node in self.graph.nodes:
            if scope in self.graph.scopes_of(node.scope):
                self.put(node.name, parent, state)
        return None


def embedded(graph: Graph, lengths: dict[str, int | None]) -> RunView:
    """The local engine's calm run."""
    run, frontier = Outcomes(graph, lengths), Frontier(graph)
    while frontier.ready or frontier.open_more():
        item = frontier.ready.popleft()
        if not item.is_scope:
            run.run(item.name, item.index)
            frontier.finished(item.name, item.index)
        elif (size := run.expand(item.name, item.index)) is None:
            frontier.closed(item.name, item.index)
        else:
            frontier.expanded(item.name, item.index, size)
    return run.view


class Airflow:
    """A DAG run, one event after the other; `choose` says which task is looked at next."""

    def __init__(self, graph: Graph, plan: Plan, run: Outcomes, choose: Callable[[int], int]) -> None:
        self.plan = plan
        self.states: dict[str, list[str]] = {}  # variable -> states of its instances, when it is done
        self._lists: dict[str, list[str]] = {}
        self._graph, self._run, self._choose = graph, run, choose

    def go(self) -> None:
        waiting = list(self.plan.tasks)
        while waiting:
            ready = [task for task in waiting if self._verdict(task) is not None]
            assert ready, f"deadlock: {[each.variable for each in waiting]}"
            task = ready[self._choose(len(ready))]
            waiting.remove(task)
            self._do(task, self._verdict(task))
            if all(each in self.states for each in self.plan.end_after):
                assert not waiting, f"the end would start before {[each.variable for each in waiting]}"

    def _verdict(self, task: Task) -> str | None:
        """ "run", a state that Airflow gives without running anything, or None: not yet."""
        before = [*task.after, *([task.each] if task.each else [])]
        done = [state for name in before if name in self.states for state in self.states[name]]
        everything = all(name in self.states for name in before)
        if task.rule == "all_done" or not before:
            return "run" if everything else None
        if any(state in BAD for state in done):
            return UPSTREAM
        if task.rule == "all_success" and SKIPPED in done:
            return SKIPPED
        return "run" if everything else None

    def _do(self, task: Task, verdict: str | None) -> None:
        if verdict != "run":
            self.states[task.variable] = [str(verdict)]
        elif task.node is None:
            self._lists[task.variable] = self._elements(task.name)
            self.states[task.variable] = [SUCCESS]
        elif not task.each:
            self.states[task.variable] = [self._step(task.name, "")]
        elif task.each not in self._lists:
            self.states[task.variable] = [UPSTREAM]  # expanded over what is not there
        else:
            self.states[task.variable] = [self._step(task.name, each) for each in self._lists[task.each]] or [SKIPPED]

    def _elements(self, scope: str) -> list[str]:
        parents = [""]
        for above in self._graph.scopes_of(scope)[:-1]:
            parents = [child(p, at) for p in parents for at in range(self._run.view.sizes.get((above, p), 0))]
        return [child(p, at) for p in parents for at in range(self._run.expand(scope, p) or 0)]

    def _step(self, name: str, index: str) -> str:
        told = {StepState.SUCCEEDED: SUCCESS, StepState.SKIPPED: SKIPPED}
        return told.get(self._run.run(name, index), FAILED)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, dict[str, int | None]]:
    nodes: list[Node] = []
    scopes: list[Scope] = []
    lengths: dict[str, int | None] = {}
    for at in range(draw(st.integers(2, 7))):
        scope: str | None = None
        reach = [each.name for each in nodes]
        if reach and draw(st.integers(0, 2)) == 0:
            parent = draw(st.sampled_from([None, *(each.name for each in scopes if each.parent is None)]))
            lists = draw(st.sampled_from([each for each in nodes if each.scope in (None, parent)] or nodes))
            if lists.scope in (None, parent):
                scope = f"m{at}"
                guards = draw(st.sampled_from([(), (), (Guard(Param("no")),)]))
                scopes.append(Scope(scope, {"x": Output(lists.name)}, parent, guards=guards))
        elif scopes and draw(st.booleans()):
            scope = draw(st.sampled_from([None, *(each.name for each in scopes)]))
        name = f"n{at}{draw(st.sampled_from(['', 'f']))}"
        picked = draw(st.lists(st.sampled_from(reach), max_size=3, unique=True)) if reach else []
        inputs: dict[str, Any] = {
            f"a{i}": draw(st.sampled_from([Output(each), Output(each, optional=True), Many((Output(each),))]))
            for i, each in enumerate(picked)
        }
        if scope is not None:
            inputs["x"] = Item(scope, "x")
        after = tuple(draw(st.lists(st.sampled_from(reach), max_size=1))) if reach else ()
        guards = draw(st.sampled_from([(), (), (), (Guard(Param("yes")),), (Guard(Param("no")),)]))
        if reach and draw(st.integers(0, 5)) == 0:
            plain = [each.name for each in nodes if each.scope is None] or None
            guards = (Guard(Output(draw(st.sampled_from(plain))), "[0]"),) if plain else guards
        nodes.append(Node(name, "f.py:f", inputs, scope=scope, after=after, guards=guards))
        lengths[name] = draw(st.sampled_from([0, 1, 2, 2, None]))
    parameters = tuple(Parameter(name, "bool") for name in PARAMETERS)
    return Graph.checked(pipeline="p", target="f.py:p", nodes=tuple(nodes), scopes=tuple(scopes),
                         parameters=parameters), lengths  # fmt: skip


def shown(graph: Graph, lengths: dict[str, int | None]) -> str:
    scopes = [f"{each.name}({each.parent}) over {each.over} if {each.guards}" for each in graph.scopes]
    nodes = [
        f"{each.name} in {each.scope}: {each.inputs} after {each.after} if {each.guards} gives {lengths[each.name]}"
        for each in graph.nodes
    ]
    rules = [f"{each.variable}: {each.rule} of {each.after} each {each.each}" for each in planned(graph).tasks]
    return "\n".join([*scopes, *nodes, *rules])


@settings(max_examples=300, deadline=None)
@given(drawn=graphs(), data=st.data())
def test_in_any_order_airflow_runs_skips_and_gives_up_what_the_local_engine_does(
    drawn: tuple[Graph, dict[str, int | None]], data: st.DataObject
) -> None:
    graph, lengths = drawn
    note(shown(graph, lengths))
    truth = embedded(graph, lengths)
    run = Outcomes(graph, lengths)
    airflow = Airflow(graph, planned(graph), run, lambda count: data.draw(st.integers(0, count - 1)))
    airflow.go()
    for key, there in run.view.steps.items():
        assert there.state is truth.step(*key).state, f"{key} ran otherwise than on the local engine"
    ran = {key for key, each in truth.steps.items() if each.state in (StepState.SUCCEEDED, StepState.FAILED)}
    assert ran <= set(run.view.steps), "Airflow never started what the local engine ran"
    for task in airflow.plan.tasks:
        if task.node is not None and not task.each:
            assert airflow.states[task.variable][0] in FINALLY[truth.step(task.name).state]
