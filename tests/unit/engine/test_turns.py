"""Whose turn it is: bounds are never exceeded, everybody's turn comes, and runs that share places take turns."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.sharing import LEASE_S, SharedPlaces
from penstock.engine.turns import LONG, Turns
from penstock.graph import Graph, Item, Node, Scope, StepOptions, Value
from penstock.ports.runlog import Store
from penstock.stores.memory import memory_store, next_process
from penstock.testing.clock import TurnedClock


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def store(clock: TurnedClock) -> Iterator[Store]:
    found = memory_store(clock)
    yield found
    found.close()


def places(store: Store, run_id: str, **sizes: int) -> SharedPlaces:
    return SharedPlaces(store, run_id, "pool", sizes)


def node(name: str, max_parallel: int | None = None, pool: str | None = None, scope: str | None = None) -> Node:
    return Node(name, f"f.py:{name}", options=StepOptions(max_parallel=max_parallel, pool=pool), scope=scope)


def test_a_pool_gives_as_many_places_as_it_has_and_each_again(store: Store) -> None:
    ours, theirs = places(store, "a", gpu=2), places(store, "b", gpu=2)
    first, second = ours.take("gpu"), theirs.take("gpu")
    assert first is not None
    assert second is not None
    assert first != second
    assert ours.take("gpu") is None
    assert ours.holders("gpu") == ["a", "b"]
    theirs.give_back(second)
    assert ours.take("gpu") == second
    ours.close()
    theirs.close()


def test_other_names_and_kinds_have_places_of_their_own(store: Store) -> None:
    ours = places(store, "a", gpu=1, io=1)
    runs = SharedPlaces(store, "a", "active", {"gpu": 1})
    assert ours.take("gpu")
    assert ours.take("io")
    assert runs.take("gpu")
    ours.close()
    runs.close()


def test_who_gives_a_place_back_and_wants_another_one_stands_behind_those_who_wait(store: Store) -> None:
    one, two, three = (places(store, name, gpu=1) for name in ("a", "b", "c"))
    place = one.take("gpu")
    assert place is not None
    assert two.take("gpu") is None  # now the next
    assert three.take("gpu") is None  # and the one behind
    one.give_back(place)
    assert one.take("gpu") is None
    assert three.take("gpu") is None
    place = two.take("gpu")
    assert place is not None
    assert three.take("gpu") is None  # moves up
    assert one.take("gpu") is None
    two.give_back(place)
    assert one.take("gpu") is None
    assert two.take("gpu") is None
    assert three.take("gpu") is not None
    for each in (one, two, three):
        each.close()


def test_who_does_not_stand_in_line_takes_what_is_free_and_keeps_nobody_waiting(store: Store) -> None:
    one, two, three = (places(store, name, gpu=1) for name in ("a", "b", "c"))
    place = one.take("gpu", in_line=False)
    assert place is not None
    assert two.take("gpu", in_line=False) is None
    one.give_back(place)
    assert three.take("gpu") is not None  # nobody is in the line before it
    for each in (one, two, three):
        each.close()


def test_closing_gives_back_places_and_the_place_in_the_line(store: Store) -> None:
    one, two, three = (places(store, name, gpu=1) for name in ("a", "b", "c"))
    assert one.take("gpu")
    assert two.take("gpu") is None
    one.close()
    two.close()
    assert three.take("gpu")
    three.close()


def test_a_place_whose_owner_lives_here_outlasts_its_lease_and_that_of_a_dead_one_does_not(
    store: Store, clock: TurnedClock
) -> None:
    one = places(store, "a", gpu=1)
    assert one.take("gpu")
    clock.advance(10 * LEASE_S)
    two = places(store, "b", gpu=1)
    assert two.take("gpu") is None
    two.close()
    after = next_process(store)
    three = places(after, "c", gpu=1)
    assert three.take("gpu") == "pool:gpu:0"
    three.close()


class Engine:
    """Plays the scheduler: begins who is admitted, ends some of those who run, in any order."""

    def __init__(self, nodes: list[Node], store: Store, clock: TurnedClock, run_id: str, sizes: dict[str, int]) -> None:
        self.clock = clock
        self.told: list[tuple[str, ...]] = []
        shared = SharedPlaces(store, run_id, "pool", sizes)
        self.turns: Turns[str] = Turns(nodes, shared, run_id, clock, lambda *words: self.told.append(words))
        self.running: list[tuple[str, str]] = []
        self.done: list[tuple[str, str]] = []

    def admit(self) -> None:
        for what in self.turns.admitted(lambda step: True):
            step, index = what.split("|")
            self.running.append((step, index))

    def end(self, at: int) -> None:
        instance = self.running.pop(at % len(self.running))
        self.turns.left(instance)
        self.done.append(instance)


STEPS = st.lists(
    st.tuples(st.integers(1, 12), st.one_of(st.none(), st.integers(1, 3)), st.sampled_from([None, "gpu", "io"])),
    min_size=1,
    max_size=4,
)


@given(
    steps=STEPS, sizes=st.fixed_dictionaries({"gpu": st.integers(1, 3), "io": st.integers(1, 2)}), seed=st.integers()
)
def test_no_bound_is_ever_exceeded_and_everybodys_turn_comes_whatever_ends_first(
    steps: list[tuple[int, int | None, str | None]], sizes: dict[str, int], seed: int
) -> None:
    draw = random.Random(seed)
    clock = TurnedClock()
    store = memory_store(clock)
    nodes = [node(f"s{n}", most, pool) for n, (_, most, pool) in enumerate(steps)]
    bound = [each for each in nodes if each.options.max_parallel or each.options.pool]
    runs = [Engine(nodes, store, clock, run_id, sizes) for run_id in ("a", "b")]
    wanted = [(f"s{n}", str(at)) for n, (count, _, _) in enumerate(steps) for at in range(count) if nodes[n] in bound]
    for run in runs:
        for step, index in wanted:
            run.turns.stand((step, index), f"{step}|{index}")
    for _ in range(100_000):
        if all(run.turns.is_empty and not run.running for run in runs):
            break
        run = draw.choice(runs)
        run.admit()
        pools: Counter[str] = Counter()
        for each in runs:
            for step, count in Counter(step for step, _ in each.running).items():
                options = nodes[int(step[1:])].options
                assert options.max_parallel is None or count <= options.max_parallel
                pools.update({options.pool: count} if options.pool else {})
        assert all(count <= sizes[pool] for pool, count in pools.items())
        busy = [each for each in runs if each.running]
        if busy and draw.random() < 0.7:
            draw.choice(busy).end(draw.randrange(100))
        else:
            clock.advance(0.5)
    assert [sorted(run.done) for run in runs] == [sorted(wanted)] * 2
    for run in runs:
        run.turns.close()
    store.close()


def test_places_are_not_taken_for_those_who_could_not_begin(store: Store, clock: TurnedClock) -> None:
    engine = Engine([node("fit", pool="gpu")], store, clock, "a", {"gpu": 4})
    for index in range(4):
        engine.turns.stand(("fit", str(index)), f"fit|{index}")
    assert list(engine.turns.admitted(lambda step: len(engine.turns.placed) < 2)) == ["fit|0", "fit|1"]
    assert places(store, "b", gpu=4).take("gpu") == "pool:gpu:2"
    engine.turns.close()


def test_waiting_for_another_run_is_told_once_for_a_step_and_for_our_own_not_at_all(
    store: Store, clock: TurnedClock
) -> None:
    engine = Engine([node("fit", pool="gpu"), node("own", pool="io")], store, clock, "a", {"gpu": 1, "io": 1})
    other = places(store, "b", gpu=1)
    assert other.take("gpu")
    for step in ("fit", "own"):
        for index in range(3):
            engine.turns.stand((step, str(index)), f"{step}|{index}")
    for _ in range(100):
        engine.admit()
        clock.advance(0.2)
    assert engine.told == [("fit", "0", "b", "gpu")]
    assert engine.running == [("own", "0")]
    other.close()
    engine.turns.close()


def test_a_map_opens_no_more_elements_while_a_line_in_it_is_long(store: Store, clock: TurnedClock) -> None:
    engine = Engine([node("fit", 1, scope="s"), node("free", scope="s")], store, clock, "a", {})
    for index in range(LONG):
        assert engine.turns.long_scopes("fit") == set()
        engine.turns.stand(("fit", str(index)), f"fit|{index}")
    assert engine.turns.long_scopes("fit") == engine.turns.long_scopes() == {"s"}
    engine.admit()
    assert engine.turns.long_scopes() == set()
    engine.turns.close()


def test_a_held_scope_keeps_what_is_left_of_it_and_lets_others_go_on() -> None:
    from penstock.engine.frontier import Frontier
    from penstock.engine.frontier import Item as Ready

    scopes = tuple(Scope(name, {"x": Value("[]")}) for name in ("s", "t"))
    nodes = tuple(Node(f"in_{name}", "f.py:f", inputs={"x": Item(name, "x")}, scope=name) for name in ("s", "t"))
    frontier = Frontier(Graph("p", "f.py:p", nodes, scopes))
    frontier.ready.clear()
    for name in ("s", "t"):
        frontier.expanded(name, "", 2)
    frontier.held = {"s"}
    assert frontier.has_ready
    assert frontier.open_more()
    assert list(frontier.ready) == [Ready("in_t", "0"), Ready("in_t", "1")]
    frontier.ready.clear()
    assert not frontier.has_ready
    assert not frontier.open_more()
    assert {item.name for item in frontier.waiting} == {"in_s"}
    frontier.held = set()
    assert frontier.has_ready
    assert frontier.open_more()
    assert [item.name for item in frontier.ready] == ["in_s", "in_s"]
