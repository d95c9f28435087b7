"""`penstock artifact show|get RUN STEP[.OUTPUT]`: look at a stored value, or take it out of the store."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from ...core.errors import MissingExtraError, NotFoundError, UsageError, did_you_mean
from ...core.units import shown_size
from ...engine.comparison import instance, place
from ...graph import Graph
from ...ports.artifacts import ArtifactRef
from ...ports.records import RunSummary, StepRun
from ...stores.artifacts import ArtifactStore
from ...wiring.runner import find_run
from ..elements import FEW, counts
from ..lineage import Lineage, shown
from ..opening import project_for
from ..records import artifact_facts, steps_named
from ..render import counted, paint, print_json, shortened, table, width, without_control

_TABLES = ("DataFrame", "Series", "Table", "RecordBatch")
_SUFFIXES = (".csv", ".parquet", ".json")  # what a table can be written as
_LONG = 2000  # characters of a JSON value that are shown
_CELL = 24  # columns of the terminal that a cell of a table takes at most
_REASONS = "reasons"  # the column of a quarantine that says why a row is in it
_REASONS_SHOWN = 10
_QUIET = ("type", "rows", "columns", "preview", "class", "params", "why")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock artifact {show,get} RUN STEP[.OUTPUT] [flags]"
    parser.epilog = """
an element of a map is STEP[INDEX], and `show` tells a map as a whole; without OUTPUT, `show` shows every output and
`get` takes the only one

examples:
  penstock artifact show last split
  penstock artifact show 7f3a "fit[2]"
  penstock artifact get last split.train -o train.csv
  penstock artifact get last evaluate > metrics.json
"""
    add = parser.add_argument
    add("action", choices=("show", "get"), metavar="{show,get}", help="look at it, or fetch it")
    add("run", metavar="RUN", help="a run's id, a part of it, or `last`")
    add("value", metavar="STEP[.OUTPUT]", help="a step, and which of its outputs")
    add("--output", "-o", metavar="FILE", help="for `get`: tables as .csv, .parquet or .json by suffix; - is stdout")


def execute(arguments: argparse.Namespace) -> int:
    project = project_for(arguments)
    summary = find_run(project, arguments.run)
    runs = project.store.step_runs(summary.record.id)
    if arguments.action == "show" and (elements := _map(runs, arguments.value)) is not None:
        if arguments.json:
            print_json(_map_facts(*elements))
        else:
            print(_map_page(summary, *elements))
        return 0
    run, output = _chosen(runs, arguments.value, summary.record.id)
    if arguments.action == "get":
        ref = _only(run, output, summary.record.id)
        target = None if arguments.output in (None, "-") else Path(arguments.output)
        return _get(project.artifacts, ref, target, arguments.value)
    lineage = Lineage(Graph.from_json(project.store.manifest(summary.record.manifest)), runs)
    outputs = {output: run.outputs[output]} if output is not None else run.outputs
    if arguments.json:
        print_json([_facts(summary, run, name, ref, lineage) for name, ref in outputs.items()])
    elif not outputs:
        print(f"step '{instance(run.step, run.index)}' {run.state.value.replace('_', ' ')}; it has no output")
    else:
        pages = [_page(project.artifacts, summary, run, name, ref, lineage) for name, ref in outputs.items()]
        print("\n\n".join(pages))
    return 0


# -- which value -------------------------------------------------------------------------------------------------------


def _chosen(runs: list[StepRun], wanted: str, run_id: str) -> tuple[StepRun, str | None]:
    """The step run, and the output named after it (None: no output was named)."""
    for run in runs:
        for name in (instance(run.step, run.index), run.step if not run.index else ""):
            if name and wanted == name:
                return run, None
            if name and wanted.startswith(name + ".") and wanted[len(name) + 1 :] in run.outputs:
                return run, wanted[len(name) + 1 :]
    step, dot, output = wanted.rpartition(".")
    found = steps_named(runs, step if dot and "]" not in output else wanted, run_id)
    if len(found) == 1 and found[0].step == wanted:  # the only element of a map
        return found[0], None
    if len(found) > 1:
        indices = [run.index for run in found]
        raise NotFoundError(
            f"step '{found[0].step}' of run {run_id} is a map of {len(found)} elements",
            hint=f"choose one: '{found[0].step}[{indices[0]}]' … '{found[0].step}[{indices[-1]}]'",
        )
    raise NotFoundError(
        f"step '{instance(found[0].step, found[0].index)}' of run {run_id} has no output '{output}'",
        hint=did_you_mean(output, list(found[0].outputs)),
    )


def _map(runs: list[StepRun], wanted: str) -> tuple[list[StepRun], str | None] | None:
    """The elements of a map that is named as a whole, and the output named after it; None where it is no such name."""
    for step, output in ((wanted, None), wanted.rpartition(".")[::2]):
        found = sorted((run for run in runs if run.index and run.step == step), key=lambda run: place(run.index))
        if found and (output is None or any(output in run.outputs for run in found)):
            return found, output
    return None


def _only(run: StepRun, output: str | None, run_id: str) -> ArtifactRef:
    if output is not None:
        return run.outputs[output]
    name = instance(run.step, run.index)
    if not run.outputs:
        raise NotFoundError(
            f"step '{name}' of run {run_id} {run.state.value.replace('_', ' ')} and has no output",
            hint=f"penstock why {run_id} {name}",
        )
    if len(run.outputs) > 1:
        raise UsageError(
            f"step '{name}' has {len(run.outputs)} outputs: {', '.join(run.outputs)}",
            hint=f"choose one: {name}.{next(iter(run.outputs))}",
        )
    return next(iter(run.outputs.values()))


# -- show --------------------------------------------------------------------------------------------------------------


def _facts(summary: RunSummary, run: StepRun, output: str, ref: ArtifactRef, lineage: Lineage) -> dict[str, Any]:
    made_by = run.origin or (summary.record.id, run.step, run.index)
    return {
        "step": run.step,
        "index": run.index,
        "output": output,
        **artifact_facts(ref),
        "canonical": ref.canonical,
        "blobs": [{"path": blob.path, "digest": blob.digest, "size_bytes": blob.size_bytes} for blob in ref.blobs],
        "value": _raw(ref),
        "meta": ref.meta,
        "metrics": run.metrics,
        "made_by": dict(zip(("run", "step", "index"), made_by, strict=True)),
        "from": _sources(run, lineage),
        "used_by": [instance(each.step, each.index) for each in lineage.users(run, output)],
    }


def _map_facts(runs: list[StepRun], output: str | None) -> list[dict[str, Any]]:
    """Every value of a map, without its lineage."""
    return [
        {
            "step": run.step,
            "index": run.index,
            "output": name,
            **artifact_facts(ref),
            "value": _raw(ref),
            "meta": ref.meta,
        }
        for run in runs
        for name, ref in run.outputs.items()
        if output in (None, name)
    ]


def _raw(ref: ArtifactRef) -> msgspec.Raw | None:
    return msgspec.Raw(ref.inline.encode()) if ref.inline is not None else None


def _map_page(summary: RunSummary, runs: list[StepRun], output: str | None) -> str:
    """The values of a map, output by output: how many of what, and the first ones."""
    step = runs[0].step
    lines = [f"{paint(step, 'bold')}: {counted(len(runs), 'element')}  {counts(runs, summary.state)}"]
    names = [output] if output is not None else list(dict.fromkeys(name for run in runs for name in run.outputs))
    for name in names:
        made = [(run, run.outputs[name]) for run in runs if name in run.outputs]
        kinds = Counter(_kind(ref) for _, ref in made)
        size = shown_size(sum(ref.size_bytes for _, ref in made))
        different = len({ref.digest for _, ref in made})
        what = ", ".join(f"{number} x {kind}" for kind, number in kinds.most_common(3))
        lines += ["", f"{paint(name, 'bold')}  {what}, {size}, {different} different"]
        rows = [
            [instance(step, run.index), ref.digest[:12], _kind(ref), shown_size(ref.size_bytes), _short(ref)]
            for run, ref in made[:FEW]
        ]
        lines += [table(rows, indent="  ")] if rows else []
        lines += [f"  and {counted(len(made) - FEW, 'element')} more: see --json"] if len(made) > FEW else []
    example = instance(step, next((run for run in runs if run.outputs), runs[0]).index)
    return "\n".join([*lines, "", f'one of them: penstock artifact show {summary.record.id} "{example}"'])


def _kind(ref: ArtifactRef) -> str:
    rows = f", {ref.meta['rows']} rows" if "rows" in ref.meta else ""
    return f"{ref.meta.get('class') or ref.meta.get('type') or ref.codec}{rows}"


def _short(ref: ArtifactRef) -> str:
    return shortened(ref.inline, 60) if ref.inline is not None else ""


def _page(
    artifacts: ArtifactStore, summary: RunSummary, run: StepRun, output: str, ref: ArtifactRef, lineage: Lineage
) -> str:
    name = f"{instance(run.step, run.index)}.{output}"
    made_in, made_by, index = run.origin or (summary.record.id, run.step, run.index)
    sources = [f"{argument} ← {source}" for argument, source in _sources(run, lineage).items()]
    users = ", ".join(instance(each.step, each.index) for each in lineage.users(run, output))
    stored = "in the run log" if ref.inline is not None else f"{len(ref.blobs)} blob{'s' if len(ref.blobs) > 1 else ''}"
    facts = [
        ["value", _kind(ref)],
        ["stored", f"{shown_size(ref.size_bytes)} as {ref.codec}, {stored}"],
        ["version", ref.digest],
        ["made by", f"{instance(made_by, index)} in run {made_in}"],
        ["from", "; ".join(sources)],
        ["used by", users or "no step of this run"],
    ]
    if not ref.canonical:
        facts.append(["note", "the same value may be stored under other bytes another time"])
    if ref.meta.get("unsafe"):
        facts.append(["note", "stored as a pickle: load it only if you trust this store"])
    if not artifacts.intact(ref):
        facts.append(["missing", paint("its bytes are not in the store any more", "red")])
    lines = [paint(name, "bold"), table([fact for fact in facts if fact[1]], indent="  ")]
    if run.metrics:
        lines += [
            "",
            table([[key, f"{value:.6g}"] for key, value in run.metrics.items()], ["metric", "value"], indent="  "),
        ]
    for content in (_content(ref), _reasons(artifacts, ref)):
        lines += ["", content] if content else []
    return "\n".join(lines)


def _sources(run: StepRun, lineage: Lineage) -> dict[str, str]:
    """For each argument, which outputs of this run it was given."""
    return {argument: ", ".join(map(shown, made)) for argument, made in lineage.sources(run).items()}


def _content(ref: ArtifactRef) -> str:
    meta = ref.meta
    if ref.inline is not None:
        text = ref.inline if len(ref.inline) <= 100 else msgspec.json.format(ref.inline.encode(), indent=2).decode()
        return text if len(text) <= _LONG else text[:_LONG] + "\n…"
    preview = meta.get("preview")
    if "columns" in meta:
        return _table_preview(meta["columns"], preview or [])
    rows = [[key, shortened(str(value), 100)] for key, value in meta.items() if key not in _QUIET]
    rows += [[str(key), shortened(str(value), 100)] for key, value in (meta.get("params") or {}).items()]
    if isinstance(preview, list):
        rows += [["", str(each)] for each in preview]
    elif preview is not None:
        rows.append(["preview", shortened(without_control(str(preview)), 200)])
    return table(rows, indent="  ")


def _table_preview(columns: list[list[Any]], preview: list[list[Any]]) -> str:
    """The first rows, of as many columns as the terminal is wide; the other columns by name."""
    stacks = [
        [shortened(str(name), 40), str(kind), *(shortened(str(row[at]), _CELL) for row in preview if at < len(row))]
        for at, (name, kind, *_) in enumerate(columns)
    ]
    left, fitting = shutil.get_terminal_size((100, 24)).columns, 0
    for stack in stacks:
        left -= 2 + max(map(width, stack))
        if left < 0 and fitting:
            break
        fitting += 1
    names, kinds, *rows = zip(*stacks[:fitting], strict=True) if stacks else ((), ())
    lines = [table([[paint(kind, "dim") for kind in kinds], *rows], names, indent="  ")]
    if rest := [f"{name} ({kind})" for name, kind, *_ in columns[fitting:]]:
        lines.append(f"  and {counted(len(rest), 'column')} more: {shortened(', '.join(rest), _LONG)}")
    return "\n".join(lines)


def _reasons(artifacts: ArtifactStore, ref: ArtifactRef) -> str:
    """Why each row of a quarantine is in it: the first ten, read from the stored table."""
    columns = [str(name) for name, *_ in ref.meta.get("columns", ())]
    if ref.meta.get("type") != "DataFrame" or _REASONS not in columns:
        return ""
    if ref.meta.get("unsafe") or not artifacts.intact(ref):  # looking at a value never unpickles it
        return ""
    try:
        value = artifacts.load(ref)
    except MissingExtraError:
        return f"  why each row is here: in the column {_REASONS}"
    told = list(value[_REASONS][:_REASONS_SHOWN])
    labels = list(value.index[:_REASONS_SHOWN]) if hasattr(value, "index") else range(len(told))
    lines = [f"  row {label}: {without_control(str(why))}" for label, why in zip(labels, told, strict=True)]
    more = int(ref.meta.get("rows", len(told))) - len(told)
    return "\n".join([*lines, f"  and {counted(more, 'row')} more"] if more > 0 else lines)


# -- get ---------------------------------------------------------------------------------------------------------------


def _get(artifacts: ArtifactStore, ref: ArtifactRef, target: Path | None, name: str) -> int:
    if ref.meta.get("type") in _TABLES:
        if target is not None and target.suffix not in _SUFFIXES:
            raise UsageError(
                f"a table cannot be written to {target}: its suffix is '{target.suffix}'",
                hint=f"name a file that ends in {', '.join(_SUFFIXES)}",
            )
        _write_table(artifacts.load(ref), target)
    elif ref.inline is not None:
        _write_bytes(ref.inline.encode() + b"\n", target)
    elif len(ref.blobs) == 1 and not ref.blobs[0].path:
        source = artifacts.blobs.open_local(ref.blobs[0].digest, ref.blobs[0].size_bytes)
        if target is None and ref.codec != "json" and sys.stdout.isatty():
            raise UsageError(
                f"'{name}' is {shown_size(ref.size_bytes)} of {ref.codec}, which is no text",
                hint="write it with -o FILE",
            )
        _copy(source, target)
    else:
        _write_tree(artifacts, ref, target, name)
    if target is not None:
        print(f"wrote {target}", file=sys.stderr)
    return 0


def _write_table(value: Any, target: Path | None) -> None:
    """A table of whatever library, by the suffix of the file; CSV to stdout."""
    suffix = target.suffix if target is not None else ".csv"
    sink: Any = target if target is not None else sys.stdout
    with _writing(target):
        if hasattr(value, "to_csv"):  # pandas; a plain numbering of rows is no data
            named = hasattr(value, "index") and type(value.index).__name__ != "RangeIndex"
            frame = value.to_frame() if not hasattr(value, "columns") else value
            if suffix == ".csv":
                frame.to_csv(sink, index=named)
            elif suffix == ".parquet":
                frame.to_parquet(sink)
            else:
                frame.to_json(sink, orient="records", date_format="iso")
            return
        frame = value.to_frame() if not hasattr(value, "columns") and hasattr(value, "to_frame") else value
        if hasattr(frame, "write_csv"):  # polars
            {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".json": frame.write_json}[suffix](sink)
            return
        _write_arrow(frame, suffix, target)


def _write_arrow(value: Any, suffix: str, target: Path | None) -> None:
    try:
        import pyarrow as pa
        from pyarrow import csv, parquet
    except ImportError as error:
        raise MissingExtraError("writing this table needs pyarrow", extra="pandas") from error
    rows = pa.Table.from_batches([value]) if isinstance(value, pa.RecordBatch) else value
    if suffix == ".csv":
        csv.write_csv(rows, str(target) if target is not None else sys.stdout.buffer)
    elif suffix == ".parquet":
        parquet.write_table(rows, str(target))
    else:
        assert target is not None
        target.write_bytes(msgspec.json.encode(rows.to_pylist(), enc_hook=str))


def _write_bytes(content: bytes, target: Path | None) -> None:
    with _writing(target):
        if target is None:
            sys.stdout.flush()
            sys.stdout.buffer.write(content)
        else:
            target.write_bytes(content)


def _copy(source: Path, target: Path | None) -> None:
    with _writing(target), source.open("rb") as reading:
        if target is None:
            sys.stdout.flush()
            shutil.copyfileobj(reading, sys.stdout.buffer)
        else:
            with target.open("wb") as writing:
                shutil.copyfileobj(reading, writing)


def _write_tree(artifacts: ArtifactStore, ref: ArtifactRef, target: Path | None, name: str) -> None:
    if target is None:
        raise UsageError(f"'{name}' is a folder of {len(ref.blobs)} files", hint="write it with -o FOLDER")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already", hint="give a new folder")
    # A value that is one named file comes back as that file.
    if ref.codec == "file" and len(ref.blobs) == 1 and target.suffix:
        _copy(artifacts.blobs.open_local(ref.blobs[0].digest, ref.blobs[0].size_bytes), target)
        return
    with _writing(target):
        artifacts.unpack(ref, target, shutil.copyfile)


@contextlib.contextmanager
def _writing(target: Path | None) -> Any:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if target is None:
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(f"{target} cannot be written: {reason}", hint="give another -o FILE") from error
