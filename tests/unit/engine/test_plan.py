"""A plan tells the truth: what it says will run runs, what will hit hits, and nothing is written to find out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.authoring.identity import load_file
from penstock.authoring.pipeline import Pipeline
from penstock.engine.plan import PlanItem, plan
from penstock.models.memory import MemoryRegistry
from penstock.ports.models import ModelCard
from penstock.ports.records import RunRecord, StepState
from penstock.wiring.config import Settings
from penstock.wiring.planning import plan_run
from penstock.wiring.project import Project
from penstock.wiring.runner import LocalRunner
from penstock.wiring.runs import Run

HELPER = """
def scaled(row):
    return row * 2


def unused(row):
    return row * 3
"""

FLOW = """
from pathlib import Path
from typing import NamedTuple

import shaping
from penstock import context, pipeline, step, when

OFFSET = 1


class Split(NamedTuple):
    train: list[int]
    test: list[int]


@step
def ingest(uri: str) -> list[int]:
    from penstock.data.files import FileObserver

    context().observe("file", uri, FileObserver().version(uri) or "gone")
    return [int(line) for line in Path(uri).read_text().split()]


@step
def clean(rows: list[int]) -> list[int]:
    return [shaping.scaled(row) for row in rows if row >= 0]


@step
def split(rows: list[int]) -> Split:
    return Split(rows[:3], rows[3:])


@step
def fit(train: list[int], depth: int) -> int:
    return sum(train) * depth + OFFSET


@step
def weigh(model: int) -> int:
    return model % 1000


@step
def pick(models: list[int], weights: list[int]) -> int:
    return max(models)


@step
def passed(model: int, least: int) -> bool:
    return model >= least


@step
def publish(model: int) -> str:
    return f"model {model}"


@step
def tell(text: str) -> None:
    print(text)


@step
def report(rows: list[int], note: str = "plain") -> str:
    return f"{note}: {len(rows)}"


@step(cache=False)
def stamp() -> int:
    return 7


@step
def stamped(number: int) -> int:
    return number + 1


@step(env=("PLAN_REGION",))
def region() -> str:
    import os

    return os.environ.get("PLAN_REGION", "nowhere")


@step
def big() -> list[int]:
    return list(range(10_000))


@step
def chunk(rows: list[int]) -> list[list[int]]:
    return [rows[:5000], rows[5000:]]


@step
def size(rows: list[int]) -> int:
    return len(rows)


@step
def gate(model: int, name: str = "churn@champion") -> bool:
    found = context().service("registry").find("churn", "champion")
    context().observe("model", name, found.version if found else "none")
    return found is None


@pipeline
def prepare(uri: str) -> Split:
    return split(clean(ingest(uri)))


@pipeline
def flow(uri: str, depths: list[int] = [4, 6], least: int = 0, note: str = "plain") -> None:
    train, test = prepare(uri)
    models = fit.partial(train=train).map(depth=depths)
    weights = weigh.map(model=models)
    best = pick(models, weights)
    good = passed(best, least)
    with when(good):
        tell(publish(best))
    report(test, note)
    stamped(stamp())
    region()
    size.map(rows=chunk(big()))
    gate(best)
"""

ALL = {
    "prepare/ingest", "prepare/clean", "prepare/split", "fit", "weigh", "pick", "passed", "publish", "tell", "report",
    "stamp", "stamped", "region", "big", "chunk", "size", "gate",
}  # fmt: skip
ALWAYS = {"stamp"}


class Bench:
    """A project in a folder, whose code is loaded anew for every plan and every run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = MemoryRegistry()
        self.parameters: dict[str, Any] = {"uri": str(root / "rows.txt")}
        self.options: dict[str, Any] = {}
        self.seed = 0
        (root / "penstock.toml").write_text("")
        (root / "rows.txt").write_text("1\n2\n3\n4\n5\n")
        (root / "shaping.py").write_text(HELPER)
        (root / "flow.py").write_text(FLOW.replace("@step\n", '@step(isolation="thread")\n'))

    def edit(self, old: str, new: str, file: str = "flow.py") -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def project(self) -> Project:
        settings = Settings(root=str(self.root), home=str(self.root / ".penstock"), seed=self.seed, workers=2)
        project = Project(settings)
        project.registry = self.registry
        return project

    def traced(self) -> tuple[Any, dict[str, str]]:
        forget_modules(self.root)
        pipeline: Pipeline[..., Any] = load_file(str(self.root / "flow.py")).flow
        parameters = pipeline.parameters(self.parameters)
        return pipeline.trace(parameters), parameters

    def plan(self) -> list[PlanItem]:
        traced, parameters = self.traced()
        project = self.project()
        force = self.options.get("restart_from", ())
        record = RunRecord(
            id="planned", pipeline="flow", project="", manifest="", parameters=parameters, created_at=0, seed=self.seed,
            options={
                "cache": self.options.get("cache", True),
                "force": sorted(traced.graph.downstream(*force)) if force else [],
            },
        )  # fmt: skip
        try:
            return plan(traced.graph, record, project.store, project.services(traced.graph))
        finally:
            project.store.close()

    def run(self) -> Run:
        traced, parameters = self.traced()
        project = self.project()
        try:
            runner = LocalRunner(project=project)
            return runner.run(traced, parameters, check=False, echo=False, **self.options)
        finally:
            project.store.close()


def forget_modules(root: Path) -> None:
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(root)):
            del sys.modules[name]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PLAN_REGION", "north")
    yield Bench(tmp_path)
    forget_modules(tmp_path)


def hold_to_its_word(items: list[PlanItem], run: Run) -> None:
    """Compare what was planned with what happened."""
    planned = {(item.step, item.index): item for item in items}
    for item in items:
        if item.index.endswith("*"):
            continue
        happened = run.step(item.step, item.index)
        match item.verdict:
            case "run":
                assert happened.state in (StepState.SUCCEEDED, StepState.FAILED), (item, happened.state)
                assert happened.attempts > 0
            case "hit":
                assert happened.state is StepState.CACHED, (item, happened.state)
                assert happened.origin == item.origin
            case "skip":
                assert happened.state is StepState.SKIPPED, (item, happened.state)
            case "blocked":
                assert happened.state is StepState.UPSTREAM_FAILED, (item, happened.state)
    for happened in run.steps:
        parent = happened.index.rpartition(".")[0]
        every = f"{parent}.*" if parent else "*"
        expected = planned.get((happened.step, happened.index)) or planned.get((happened.step, every))
        expected = expected or planned.get((happened.step, f"{happened.index}.*" if happened.index else "*"))
        assert expected is not None, f"{happened.step}[{happened.index}] was not planned"


def verdicts(items: list[PlanItem], verdict: str) -> set[str]:
    return {item.step for item in items if item.verdict == verdict}


def reason(items: list[PlanItem], step: str, index: str = "") -> str:
    return next(item.why for item in items if (item.step, item.index) == (step, index))


def nothing(bench: Bench) -> None:
    return


def edited(old: str, new: str, file: str = "flow.py") -> Callable[[Bench], None]:
    return lambda bench: bench.edit(old, new, file)


def given(**parameters: Any) -> Callable[[Bench], None]:
    return lambda bench: bench.parameters.update(parameters)


def asked(**options: Any) -> Callable[[Bench], None]:
    return lambda bench: bench.options.update(options)


def rows(text: str) -> Callable[[Bench], None]:
    return lambda bench: (bench.root / "rows.txt").write_text(text) and None


def touched(bench: Bench) -> None:
    os.utime(bench.root / "rows.txt", (1, 1))


def removed(bench: Bench) -> None:
    (bench.root / "rows.txt").unlink()


def moved_region(bench: Bench) -> None:
    os.environ["PLAN_REGION"] = "south"  # the fixture puts the old one back


def other_seed(bench: Bench) -> None:
    bench.seed = 5


def lost_bytes(bench: Bench) -> None:
    for blob in (bench.root / ".penstock" / "artifacts" / "objects").rglob("*"):
        if blob.is_file():
            blob.unlink()


def crowned(bench: Bench) -> None:
    card = ModelCard(run_id="r", pipeline="p", step="s", digest="d")
    version = bench.registry.register("churn", {"a": 1}, card, key="k")
    bench.registry.set_alias("churn", "champion", version.version)


# name: (edit, steps that run besides ALWAYS, (step, index, words of its reason) or None)
EDITS: dict[str, tuple[Callable[[Bench], None], set[str], tuple[str, str, str] | None]] = {
    "nothing": (nothing, set(), ("stamp", "", "cache is off")),
    "a comment": (edited("OFFSET = 1", "OFFSET = 1  # one"), set(), None),
    "formatting": (edited("return max(models)", "return (max(models))"), set(), None),
    "a new line above": (edited("OFFSET = 1", "\n\n\nOFFSET = 1"), set(), None),
    "an unused helper": (edited("row * 3", "row * 4", "shaping.py"), set(), None),
    "a helper": (edited("row * 2", "row * 5", "shaping.py"), {"prepare/clean"},
                 ("prepare/clean", "", "scaled in shaping.py changed")),
    "a helper without effect": (edited("row * 2", "2 * row", "shaping.py"), {"prepare/clean"}, None),
    "a constant": (edited("OFFSET = 1", "OFFSET = 2"), {"fit"}, ("fit", "0", "OFFSET in flow.py changed")),
    "a step's body": (edited("return max(models)", "return min(models)"), {"pick"}, ("pick", "", "own code changed")),
    "the first step": (edited("int(line) for", "int(line) + 0 for"), {"prepare/ingest"}, None),
    "the last step": (edited("print(text)", "print(text, text)"), {"tell"}, ("tell", "", "own code")),
    "a step inside a map": (edited("model % 1000", "model % 10"), {"weigh"}, ("weigh", "1", "own code")),
    "a step of many outputs": (edited("rows[:3], rows[3:]", "rows[:2], rows[2:]"), {"prepare/split"}, None),
    "an annotation": (edited("def publish(model: int)", "def publish(model: float)"), {"publish"}, None),
    "a default": (edited('int], note: str = "plain"', 'int], note: str = "fine"'), {"report"}, None),
    "a parameter": (given(note="long"), {"report"}, ("report", "", 'parameter note: "plain" → "long"')),
    "two parameters": (given(note="long", least=3), {"report", "passed"}, ("passed", "", "parameter least: 0 → 3")),
    "an element": (given(depths=[4, 8]), {"fit"}, ("fit", "1", "depth: 6 → 8")),
    "one element more": (given(depths=[4, 6, 9]), {"fit"}, ("fit", "2", "element is new")),
    "one element less": (given(depths=[4]), {"pick"}, ("pick", "", "changed")),
    "elements in another order": (given(depths=[6, 4]), {"pick"}, None),
    "no elements": (given(depths=[]), {"pick"}, None),
    "an element twice": (given(depths=[5, 5]), {"fit"}, None),
    "a guard that may fall": (given(least=10_000), {"passed"}, None),
    "other rows": (rows("5\n6\n7\n8\n"), {"prepare/ingest"}, ("prepare/ingest", "", "rows.txt changed")),
    "the same rows, written again": (rows("1\n2\n3\n4\n5\n"), set(), None),
    "the same rows in another form": (rows("1 2 3 4 5"), {"prepare/ingest"}, None),
    "a touched file": (touched, set(), None),
    "a file that is gone": (removed, {"prepare/ingest"}, ("prepare/ingest", "", "is gone")),
    "an environment variable": (moved_region, {"region"}, ("region", "", "PLAN_REGION changed")),
    "the champion": (crowned, {"gate"}, ("gate", "", "champion of churn moved from nothing to 1")),
    "lost bytes": (lost_bytes, {"big"}, ("big", "", "missing or damaged")),
    "the seed": (other_seed, {"prepare/ingest", "region", "big"}, ("region", "", "seed: 0 → 5")),
    "from a step": (asked(restart_from=("pick",)), {"pick"}, ("pick", "", "asked to run anew")),
    "from the first step": (asked(restart_from=("prepare/ingest",)), {"prepare/ingest"}, None),
    "no cache": (asked(cache=False), {"prepare/ingest", "region", "big"}, ("big", "", "cache is off for this run")),
    "a step more": (edited("    region()\n", '    region()\n    tell.named("shout")("hi")\n'), {"shout"},
                    ("shout", "", "not run before")),
    "a step less": (edited("    region()\n", ""), set(), None),
    "a step by another name": (edited("    region()\n", '    region.named("place")()\n'), set(), None),
    "a constant argument": (edited("gate(best)", 'gate(best, "churn@candidate")'), {"gate"},
                            ("gate", "", "input 'name' is new")),
    "a cache put out": (edited('thread")\ndef size', 'thread", cache=False)\ndef size'), {"size"},
                        ("size", "0", "cache is off")),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_what_is_planned_is_what_happens(name: str, bench: Bench) -> None:
    change, runs, why = EDITS[name]
    bench.run()
    change(bench)
    items = bench.plan()
    planned = verdicts(items, "run")
    assert planned - ALWAYS == runs, {item.step: item.why for item in items if item.step in planned ^ runs}
    if why is not None:
        assert why[2] in reason(items, why[0], why[1])
    hold_to_its_word(items, bench.run())


def test_before_the_first_run_what_has_no_inputs_runs_and_the_rest_depends(bench: Bench) -> None:
    items = bench.plan()
    assert verdicts(items, "run") == {"prepare/ingest", "stamp", "region", "big"}
    assert verdicts(items, "depends") == ALL - verdicts(items, "run")
    assert reason(items, "region") == "it has not run before"
    hold_to_its_word(items, bench.run())


def test_a_map_of_unknown_size_is_one_item_that_depends(bench: Bench) -> None:
    items = [item for item in bench.plan() if item.step == "size"]
    assert [(item.index, item.verdict, item.on) for item in items] == [("*", "depends", "chunk")]
    assert "size of the map" in items[0].why


def test_a_hit_says_whose_result_it_takes_and_what_time_that_saves(bench: Bench) -> None:
    first = bench.run()
    hit = next(item for item in bench.plan() if item.step == "pick")
    assert hit.origin == (first.id, "pick", "")
    assert hit.saved_seconds > 0
    assert first.id in hit.why


def test_a_guard_that_is_known_to_be_false_skips_what_it_guards(bench: Bench) -> None:
    bench.parameters["least"] = 10**9
    bench.run()
    items = bench.plan()
    assert verdicts(items, "skip") == {"publish", "tell"}
    assert reason(items, "publish") == "passed is false"
    hold_to_its_word(items, bench.run())


def test_a_false_guard_skips_though_other_inputs_are_not_known(bench: Bench) -> None:
    bench.edit("        tell(publish(best))", "        tell(publish(stamped.named('late')(stamp.named('early')())))")
    bench.parameters["least"] = 10**9
    bench.run()
    items = bench.plan()
    assert {"publish", "tell"} <= verdicts(items, "skip")
    hold_to_its_word(items, bench.run())


def test_whether_a_guarded_step_runs_depends_on_its_condition(bench: Bench) -> None:
    bench.run()
    bench.parameters["least"] = 5
    item = next(item for item in bench.plan() if item.step == "publish")
    assert (item.verdict, item.on) == ("depends", "passed")
    assert "whether it runs" in item.why


def test_a_step_that_failed_runs_again_and_says_so(bench: Bench) -> None:
    bench.edit("return max(models)", "raise ValueError('broken')")
    bench.run()
    items = bench.plan()
    assert "did not finish" in reason(items, "pick")
    assert "pick" in verdicts(items, "run")
    hold_to_its_word(items, bench.run())


def test_the_same_computation_twice_is_promised_once(bench: Bench) -> None:
    bench.parameters["depths"] = [5, 5]
    items = [item for item in bench.plan() if item.step == "fit"]
    assert {item.verdict for item in items} == {"depends"}
    bench.run()
    bench.parameters["depths"] = [7, 7]
    items = [item for item in bench.plan() if item.step == "fit"]
    assert [item.verdict for item in items] == ["run", "depends"]
    assert items[1].on == "fit[0]"


def test_lists_of_unequal_length_are_blocked_before_anything_starts(bench: Bench) -> None:
    bench.edit("fit.partial(train=train).map(depth=depths)", "fit.map(train=[[1], [2], [3]], depth=depths)")
    items = bench.plan()
    assert "fit" in verdicts(items, "blocked")
    assert "differ in length" in reason(items, "fit", "*")
    hold_to_its_word(items, bench.run())


def test_a_plan_writes_nothing_where_nothing_has_been_run(bench: Bench) -> None:
    before = sorted(path.name for path in bench.root.iterdir())
    traced, parameters = bench.traced()
    assert verdicts(plan_run(traced, parameters), "run") == {"prepare/ingest", "stamp", "region", "big"}
    assert sorted(path.name for path in bench.root.iterdir()) == before


def test_a_plan_leaves_the_stores_as_they_are(bench: Bench) -> None:
    bench.edit("gate(best)", "")
    bench.run()
    bench.edit("row * 2", "row * 9", "shaping.py")
    lost_bytes(bench)
    objects = bench.root / ".penstock" / "artifacts"

    def kept() -> tuple[Any, ...]:
        project = bench.project()
        database: Any = project.store
        tables = [
            row[0]
            for row in database.database.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        counts = {name: list(database.database.connection.execute(f"SELECT * FROM {name}")) for name in sorted(tables)}
        project.store.close()
        return counts, sorted(str(path) for path in objects.rglob("*"))

    before = kept()
    traced, parameters = bench.traced()
    items = plan_run(traced, parameters)
    assert {"prepare/clean", "big"} <= verdicts(items, "run")
    assert kept() == before
