"""docs/backends.md, drawn from the results: what each engine keeps, by feature and by case."""

from __future__ import annotations

from collections.abc import Sequence

from .case import Case
from .results import Column, Results

# What the page shows, in order; `cluster` stays "not run" until somebody has run it.
COLUMNS = {
    "local": "local, worker processes",
    "apart": "local, a process per step",
    "airflow": "Airflow",
    "prefect": "Prefect",
    "kubeflow": "Kubeflow (`kfp.local`)",
    "kubeflow-cluster": "Kubeflow on a cluster",
}
_MARKS = {"kept": "✓", "differs": "✗ differs", "refused": "refused", "broken": "✗ broken"}
_HEAD = """# Backends: what each engine keeps

<!-- written by `python -m penstock.testing.conformance`; do not edit -->

The same pipelines, unchanged, on every engine. Each case below is a file in
[`penstock/testing/conformance/cases`](../src/penstock/testing/conformance/cases) with one idea in it. It is run on the
engine, really running, and held against a calm run of the local engine, one step at a time: states of the run and of
every step run, digests of every output, what each attempt came to and printed, the least time between attempts, what
was skipped, what was taken from the cache and from where, the lineage, parameters, tags, and what the pipeline
returned. Planted secrets are looked for in the engine's database, logs and files.

- **✓** the run meant the same. With *emulated*: by other means than the engine's own; the means are listed below.
- **refused**: the engine cannot keep it. `penstock check` says so before anything starts; only that a checkpoint folder
  goes with its container is told by no graph, and so by this page alone.
- **not run**: nobody has tried.
"""


def page(results: Results, cases: Sequence[Case]) -> str:
    """The whole page."""
    parts = [_HEAD, *_on_what(results), *_features(results, cases)]
    for group in dict.fromkeys(case.group for case in cases):
        parts += _cases(results, group, [case for case in cases if case.group == group])
    generated = sorted({name for column in results.engines.values() for name in column.cases} - {c.name for c in cases})
    return "\n".join([*parts, *_generated(results, generated), *_means(results), *_code(results)]) + "\n"


def _on_what(results: Results) -> list[str]:
    rows = [["engine", "versions", "size of the cases", "date", "command"]]
    for name, label in COLUMNS.items():
        column = results.engines.get(name)
        if column is None:
            rows.append([label, "not run", "", "", ""])
        else:
            versions = ", ".join(f"{what} {version}" for what, version in column.versions.items())
            size = "full" if column.full else "small, as in CI"
            rows.append([label, versions, size, column.date, f"`{column.command}`"])
    return ["## What ran", "", *_table(rows)]


def _features(results: Results, cases: Sequence[Case]) -> list[str]:
    """A row per feature: what the engine's backend declares, and how many of the cases that need it were kept."""
    rows = [["feature", *COLUMNS.values()]]
    for feature in sorted({feature for case in cases for feature in case.needs}):
        needing = [case.name for case in cases if feature in case.needs]
        rows.append([f"`{feature}`", *(_feature(results.engines.get(name), feature, needing) for name in COLUMNS)])
    return [
        "## Features", "",
        "What the engine's backend declares, and of the cases that need it, how many were kept.", "",
        *_table(rows),
    ]  # fmt: skip


def _feature(column: Column | None, feature: str, needing: Sequence[str]) -> str:
    if column is None:
        return "not run"
    tried = [column.cases[name] for name in needing if name in column.cases]
    support = column.declared.get(feature, ("supported", ""))[0]
    kept = sum(one.verdict == "kept" for one in tried)
    return f"{support}, {kept}/{len(tried)}" if tried else "not run"


def _cases(results: Results, group: str, cases: Sequence[Case]) -> list[str]:
    rows = [["case", "idea", *COLUMNS.values()]]
    for case in cases:
        rows.append([f"`{case.name}`", case.idea, *(_cell(results.engines.get(name), case.name) for name in COLUMNS)])
    return [f"## {group.capitalize()}", "", *_table(rows)]


def _cell(column: Column | None, case: str) -> str:
    one = column.cases.get(case) if column is not None else None
    if one is None:
        return "not run"
    return f"{_MARKS[one.verdict]}, emulated" if one.emulated and one.verdict == "kept" else _MARKS[one.verdict]


def _generated(results: Results, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    rows = [["", *COLUMNS.values()]]
    cells = []
    for name in COLUMNS:
        column = results.engines.get(name)
        tried = [column.cases[each] for each in names if each in column.cases] if column is not None else []
        cells.append(f"{sum(one.verdict == 'kept' for one in tried)} of {len(tried)} kept" if tried else "not run")
    rows.append(["pipelines", *cells])
    text = "Graph shapes and options that a seed draws; the same seeds on every engine that was given any."
    return ["## Generated pipelines", "", text, "", *_table(rows)]


def _means(results: Results) -> list[str]:
    """What stands behind the words emulated, refused and differs."""
    lines: list[str] = []
    for name, label in COLUMNS.items():
        column = results.engines.get(name)
        if column is None:
            continue
        own = [
            f"- `{feature}` {support}: {how}"
            for feature, (support, how) in sorted(column.declared.items())
            if support != "supported"
        ]
        own += [
            f"- **{case}** {one.verdict}: {_escaped(told)}"
            for case, one in sorted(column.cases.items())
            if one.verdict in ("differs", "broken")
            for told in one.told[:3]
        ]
        if own:
            lines += [f"### {label}", "", *own, ""]
    return ["## How, and why not", "", *lines] if lines else []


def _code(results: Results) -> list[str]:
    rooms = sorted({room for column in results.engines.values() for room in column.code})
    names = [name for name in COLUMNS if name in results.engines]
    rows = [["room", *(COLUMNS[name] for name in names)]]
    for room in rooms:
        rows.append([f"`{room}`", *(f"`{results.engines[name].code.get(room, '')}`" for name in names)])
    text = (
        "Digests of the syntax trees, without comments and docstrings. A test fails when they are not those of the\n"
        "code beside this page; then run `make conformance` again."
    )
    return ["## The code that was tried", "", text, "", *_table(rows)[:-1]]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    ruled = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return [*(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in ruled), ""]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
