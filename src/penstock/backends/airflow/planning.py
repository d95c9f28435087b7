"""From a graph to the tasks of a DAG: names, groups, edges and trigger rules. Pure, and linear in the graph's size.

A trigger rule is Airflow's own (`all_success`, `none_failed`) only where it comes to the launcher's verdict in every
case; where a guard, an optional input or an element of a map has a say, the task runs when everything before it is done
(`all_done`) and the launcher decides.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable

import msgspec

from ...core.canonical import digest_bytes
from ...graph import Argument, Graph, Guard, Node, outputs_in

ALL_SUCCESS, NONE_FAILED, ALL_DONE = "all_success", "none_failed", "all_done"
END = "penstock_end"

_DEEPEST = 9  # groups inside each other; Python allows twenty nested blocks
_LONGEST = 200  # of a task's whole id; Airflow allows 250
# Names that the generated file gives a meaning of its own.
_TAKEN = frozenset(keyword.kwlist) | {
    "Asset", "AssetOrTimeSchedule", "AIRFLOW", "AirflowException", "AirflowFailException", "AirflowSkipException",
    "AS_WRITTEN", "BaseOperator", "CronTriggerTimetable", "DIGEST", "DockerOperator", "Elements", "End", "IMAGE",
    "KubernetesPodOperator", "MANIFEST", "PASSED", "PYTHON", "Param", "Path", "Penstock", "NETWORK", "ROOT",
    "ACCELERATOR", "SECRET", "Step", "TaskGroup",
    "TemporaryDirectory", "ZoneInfo", "conf", "dag", "datetime", "elements", "end", "json", "k8s", "os", "pod",
    "step", "subprocess", "timedelta",
}  # fmt: skip


class Task(msgspec.Struct, frozen=True, omit_defaults=True):
    """One task: a step, or what lists the elements of a map (`node` is None then)."""

    name: str  # of the step or map in the graph
    groups: tuple[str, ...]
    task_id: str  # inside its groups
    variable: str
    rule: str
    after: tuple[str, ...] = ()  # variables of tasks
    each: str = ""  # the variable of the task whose list it is expanded over
    node: Node | None = None


class Plan(msgspec.Struct, frozen=True):
    tasks: tuple[Task, ...]
    end_id: str
    end_after: tuple[str, ...]  # variables of the tasks that nothing else surely waits for


class _Needs(msgspec.Struct, frozen=True):
    """What a step or a map waits for, by how it is needed."""

    inputs: frozenset[str]
    optional: frozenset[str]  # of the inputs, those that are only ever taken as "or None"
    guards: frozenset[str]
    after: frozenset[str]
    is_guarded: bool

    @property
    def all(self) -> frozenset[str]:
        return self.inputs | self.guards | self.after


def planned(graph: Graph) -> Plan:
    """The tasks of a graph, each after what it needs."""
    return _Planning(graph).plan()


class _Planning:
    def __init__(self, graph: Graph) -> None:
        self._order = _order(graph)
        self._position = {name: at for at, name in enumerate(self._order)}
        self._nodes = {node.name: node for node in graph.nodes}
        self._scopes = {scope.name: scope for scope in graph.scopes}
        self._chains: dict[str | None, tuple[str, ...]] = {None: ()}
        for scope in graph.scopes:
            self._chain(scope.name)
        self._may_skip: dict[str, bool] = {}
        self._scope_may_skip: dict[str, bool] = {}
        self._implied: dict[str, frozenset[str]] = {}  # scope -> nodes that are done when its elements are known
        self._variables: dict[str, str] = {}  # node -> variable
        self._each: dict[str, str] = {}  # scope -> variable
        self._used = set(_TAKEN)
        self._ids: set[tuple[str, ...]] = {node_path(node.name) for node in graph.nodes}
        self._tasks: list[Task] = []

    def plan(self) -> Plan:
        for name in self._order:
            self._add_step(self._nodes[name])
        return Plan(tuple(self._tasks), self._free_id((END,)), _uncovered(self._tasks))

    # -- tasks ---------------------------------------------------------------------------------------------------

    def _add_step(self, node: Node) -> None:
        each = self._elements_of(node.scope)
        needs = _needs_of(node.inputs.values(), node.guards, node.after)
        chain = self._chains[node.scope]
        self._may_skip[node.name] = (
            needs.is_guarded
            or any(self._scope_may_skip[scope] for scope in chain)
            or self._spreads(needs.inputs - needs.optional | needs.guards)
        )
        implied = self._implied[node.scope] if node.scope else frozenset()
        variable = self._variables[node.name] = self._free_variable(node.name)
        *groups, own = node_path(node.name)
        self._tasks.append(
            Task(
                name=node.name,
                groups=_shallow(groups),
                task_id=_short(groups, own),
                variable=variable,
                rule=self._rule(needs, chain, needs.all - implied),
                after=self._sorted(needs.all - implied),
                each=each,
                node=node,
            )
        )

    def _elements_of(self, name: str | None) -> str:
        """The variable of the task that lists a map's elements; the task is made when it is first asked for."""
        if name is None or name in self._each:
            return self._each[name] if name else ""
        scope = self._scopes[name]
        above = self._elements_of(scope.parent)
        needs = _needs_of(scope.over.values(), scope.guards, ())
        chain = self._chains[scope.parent]
        may_skip = self._scope_may_skip[name] = needs.is_guarded or self._spreads(needs.inputs | needs.guards)
        implied = self._implied[scope.parent] if scope.parent else frozenset()
        self._implied[name] = implied | needs.all
        variable = self._each[name] = self._free_variable(f"{name}_elements")
        *groups, own = self._free_path((*node_path(name)[:-1], f"{node_path(name)[-1]}_elements"))
        after = self._sorted(needs.all - implied)
        self._tasks.append(
            Task(
                name=name,
                groups=_shallow(groups),
                task_id=_short(groups, own),
                variable=variable,
                # Skipped without a list, it would take for a failure what is only skipped: the launcher gives it one.
                rule=NONE_FAILED
                if (rule := self._rule(needs, chain, needs.all - implied)) == ALL_SUCCESS and may_skip
                else rule,
                after=(above, *after) if above else after,
            )
        )
        return variable

    # -- rules ---------------------------------------------------------------------------------------------------

    def _spreads(self, needed: frozenset[str]) -> bool:
        return any(self._may_skip[name] for name in needed)

    def _rule(self, needs: _Needs, chain: tuple[str, ...], beside: frozenset[str]) -> str:
        """Airflow's rule that says what the launcher would. `beside`: what is needed besides the elements of its maps.

        The launcher: a false guard skips whatever else happened; then what `after` names must not have failed; then a
        skipped input skips, even beside one that failed; then a failed one blocks. In a map, element by element: where
        there is no element, nothing is blocked.
        """
        if needs.is_guarded or (chain and beside):
            return ALL_DONE
        required = needs.inputs - needs.optional
        skippable = {name for name in required if self._may_skip[name]}
        if skippable and (len(needs.inputs) > 1 or any(self._chain_of(name) for name in skippable)):
            return ALL_DONE
        forgiven = needs.optional | needs.after
        # A map without elements is "skipped" to Airflow, and nobody who needs its list minds.
        if any(self._chain_of(name) for name in needs.all) or any(self._may_skip[name] for name in forgiven):
            return NONE_FAILED
        return ALL_SUCCESS

    # -- names ---------------------------------------------------------------------------------------------------

    def _chain(self, name: str) -> tuple[str, ...]:
        if name not in self._chains:
            parent = self._scopes[name].parent
            self._chains[name] = (*(self._chain(parent) if parent else ()), name)
        return self._chains[name]

    def _chain_of(self, node: str) -> tuple[str, ...]:
        return self._chains[self._nodes[node].scope]

    def _sorted(self, needed: frozenset[str]) -> tuple[str, ...]:
        """Their variables, in the order in which the tasks were made."""
        return tuple(self._variables[name] for name in sorted(needed, key=self._position.__getitem__))

    def _free_variable(self, name: str) -> str:
        plain = "".join(each if f"_{each}".isidentifier() else "_" for each in name)
        candidate, number = plain, 2
        while candidate in self._used or not candidate.isidentifier():
            candidate, number = f"{plain}_{number}" if plain.isidentifier() else f"_{plain}_{number}", number + 1
        self._used.add(candidate)
        return candidate

    def _free_path(self, path: tuple[str, ...]) -> tuple[str, ...]:
        candidate, number = path, 2
        while candidate in self._ids:
            candidate, number = (*path[:-1], f"{path[-1]}_{number}"), number + 1
        self._ids.add(candidate)
        return candidate

    def _free_id(self, path: tuple[str, ...]) -> str:
        return self._free_path(path)[-1]


def _order(graph: Graph) -> tuple[str, ...]:
    """As written, where everything is written after what it needs: then nested pipelines stay together."""
    seen: set[str] = set()
    for name, needed in graph.needs().items():
        if not needed <= seen:
            return graph.order()
        seen.add(name)
    return tuple(node.name for node in graph.nodes)


def node_path(name: str) -> tuple[str, ...]:
    """The nested pipelines that a step lies in, and its own name.

    >>> node_path("prepare/split")
    ('prepare', 'split')
    """
    return tuple(name.split("/"))


def full_id(task: Task) -> str:
    """The id that Airflow knows a task by."""
    return ".".join((*task.groups, task.task_id))


def _shallow(groups: list[str]) -> tuple[str, ...]:
    if len(groups) <= _DEEPEST:
        return tuple(groups)
    return (*groups[: _DEEPEST - 1], "__".join(groups[_DEEPEST - 1 :]))


def _short(groups: list[str], own: str) -> str:
    whole = ".".join([*groups, own])
    if len(whole) <= _LONGEST:
        return own
    return f"{own[:40]}_{digest_bytes(whole.encode())[:12]}"


def _needs_of(arguments: Iterable[Argument], guards: tuple[Guard, ...], after: tuple[str, ...]) -> _Needs:
    outputs = [output for argument in arguments for output in outputs_in(argument)]
    required = frozenset(output.node for output in outputs if not output.optional)
    return _Needs(
        inputs=frozenset(output.node for output in outputs),
        optional=frozenset(output.node for output in outputs) - required,
        guards=frozenset(output.node for guard in guards for output in outputs_in(guard.value)),
        after=frozenset(after),
        is_guarded=bool(guards),
    )


def _uncovered(tasks: list[Task]) -> tuple[str, ...]:
    """Tasks that may still run when everything that needs them is done: the last task must wait for them itself.

    A task that runs when all is done, or that needs only one other, is never done before what it needs. Any other may
    be: one failure is enough for it to be given up, while the rest of what it needs goes on.
    """
    covered: set[str] = set()
    for task in tasks:
        before = [*task.after, task.each] if task.each else [*task.after]
        if task.rule == ALL_DONE or len(before) == 1:
            covered.update(before)
    return tuple(task.variable for task in tasks if task.variable not in covered)
