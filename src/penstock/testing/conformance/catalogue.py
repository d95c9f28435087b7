"""Every case of the suite, by group. The files beside this one in `cases/` hold what a user would write."""

from __future__ import annotations

from typing import Literal

from .case import Act, Case

FAILED = Act("failed")
_RETRY = ("retry.attempts", "retry.base", "retry.factor", "retry.cap")
_LOCAL: Literal["local"] = "local"
_NO_FOLDER = ("kubeflow",)  # a checkpoint folder goes with its container
_EVERY_TYPE = {
    "whole": -3,
    "large": 123456789012345678901234567890,
    "real": 0.1,
    "switch": True,
    "word": 'größe, "x"',
    "nothing": None,
    "rows": [3, 1],
    "table": {"a": [1.5, 2.0], "b": []},
    "kept": "not the default",
}
_TOLD = [
    "int -3", "int 123456789012345678901234567890", "float 0.1", "bool True", "str 'größe, \"x\"'", "NoneType None",
    "list [3, 1]", "dict {'a': [1.5, 2.0], 'b': []}", "str 'not the default'", "list ['a', 'b']",
]  # fmt: skip
_EXACT = [
    "floats [inf, -0.0, 1e+308, 5e-324, 0.30000000000000004]", "tuple (1, (2.0, 'three'))",
    "keys {1: 'one', '1': 'text'}", "bytes b'\\x00\\xff'", "set frozenset({1, 2})",
    "large 1208925819614629174706176", "date datetime.date(2024, 2, 29)",
]  # fmt: skip

VALUES = [
    Case("linear", "values", ("steps",), (Act(output=3),), sample=True),
    Case("diamond", "values", ("steps in parallel", "parameters"), (Act(output=[10, 15]),)),
    Case("several_outputs", "values", ("several outputs",), (Act(output=5),)),
    Case("whole_record", "values", ("several outputs",), (Act(output="Verdict: True, the score is 3"),)),
    Case("nested_pipelines", "values", ("nested pipeline",), (Act(output=[70, 7]),)),
    Case("parameter_types", "values", ("parameters",), (Act(output=_TOLD, parameters=_EVERY_TYPE),), sample=True),
    Case("parameter_defaults", "values", ("parameters",), (Act(output="abab"),)),
    Case("static_parameter", "values", ("parameters.static",), (Act(output=14),)),
    Case(
        "result_forms", "values", ("result",),
        (Act(output={"list": [14, [7]], "tuple": (14, 1), "plain": "text", "dict": {"number": 7, "made": 14}}),),
    ),
    Case(
        "unicode_names", "values", ("steps", "several outputs"),
        (Act(output={"größe": 9.0, "цвет": "синий", "é\u0301": 'a\tb\n"c" \\ \u2028'}),),
    ),
    Case("exact_values", "values", ("steps",), (Act(output=_EXACT),)),
    Case("large_artifact", "values", ("steps",), (Act(output=[20971520, 255, 124716]),), full={"megabytes": 64}),
    Case("path_artifact", "values", ("steps",), (Act(output={"below/0.txt": "one", "below/1.txt": "zwei"}),)),
    Case("async_steps", "values", ("steps",), (Act(output=100),)),
    Case("private_values", "values", ("steps",), (Act(output=[2, 3]),)),
    Case(
        "pandas_table", "values", ("steps",),
        (Act(output=["number int64", "half float64", "word str", "w3", "w4", "w5"]),),
    ),
    Case("metrics_and_notes", "values", ("steps",), (Act(output=3),)),
    Case("printed_text", "values", _RETRY, (Act(output="hello"),)),
    Case("many_steps", "values", ("steps",), (Act(output=12),), full={"chains": 10, "length": 20}),
    Case("deep_chain", "values", ("steps",), (Act(output=[0, 1, 2, 3, 4, 5]),), full={"depth": 60}),
    Case(
        "wide_fan", "values", ("steps in parallel",), (Act(output=[0, 1, 2, 3, 4]),), full={"width": 60}
    ),
]  # fmt: skip

MAPS = [
    Case("map_parameter", "maps", ("map",), (Act(output=[10, 2, 5]),)),
    Case("map_output", "maps", ("map.of a step's output",), (Act(output=[0, 1, 4, 9]),)),
    Case("map_of_one", "maps", ("map.of a step's output",), (Act(output="['ONLY']"),)),
    Case(
        "map_empty", "maps", ("map.of a step's output",),
        (Act(output=["0 numbers, 0 in all", "0 numbers, 0 in all"]),), sample=True,
    ),
    Case("map_nested", "maps", ("map.nested",), (Act(output=31.0),), sample=True),
    Case(
        "map_nested_empty", "maps", ("map.nested",),
        (Act(output="[['north 1', 'north 2'], [], ['west 3']]"),),
    ),
    Case("map_side_by_side", "maps", ("map.several lists",), (Act(output=[10, 21, 32]),)),
    Case("map_uneven", "maps", ("map.several lists",), (FAILED,)),
    Case("map_too_large", "maps", ("map.max_size",), (FAILED,)),
    Case("map_beyond_a_cap", "maps", ("map.of a step's output",), (Act(output=55),), full={"number": 1100}),
    Case("map_joined", "maps", ("map",), (Act(output=[14, -14]),)),
    Case("map_outer_value", "maps", ("map",), (Act(output=[-301, -302]),)),
    Case("map_several_outputs", "maps", ("map", "several outputs"), (Act(output=2),)),
    Case("map_equal_elements", "maps", ("map",), (Act(output=21),)),
    Case("map_one_fails", "maps", ("map",), (FAILED,), sample=True),
    Case("map_one_retried", "maps", ("map", *_RETRY), (Act(output=30),)),
    Case("map_of_a_failure", "maps", ("map.of a step's output",), (FAILED,)),
]  # fmt: skip

CONDITIONS = [
    Case("guard_true", "conditions", ("guard",), (Act(output="got 6"),)),
    Case("guard_false", "conditions", ("guard",), (Act(output="got 1"),)),
    Case(
        "guard_value", "conditions", ("guard", "optional input"),
        (Act(output="sampled 100, whole None"), Act(output="sampled None, whole 30", parameters={"rows": 30})),
    ),
    Case(
        "guard_on_parameter", "conditions", ("guard", "optional input"),
        (Act(output="got None"), Act(output="got 1", parameters={"go": True})),
    ),
    Case(
        "guard_inside_map", "conditions", ("guard.inside a map", "optional input"),
        (Act(output=["1 2", "2 None", "3 6"]),), sample=True,
    ),
    Case(
        "guards_nested", "conditions", ("guard", "optional input"),
        (Act(output=["None, None", "more than one 2, None", "more than one 3, more than two 3"]),),
    ),
    Case("guarded_map", "conditions", ("guard", "map", "optional input"), (Act(output="got None"),)),
    Case("guard_on_failure", "conditions", ("guard",), (FAILED,)),
    Case("optional_join", "conditions", ("optional input",), (Act(output=[None, "B", None]),)),
    Case("skip_spreads", "conditions", ("guard",), (Act(output=5),)),
    Case("skip_beats_failure", "conditions", ("guard",), (FAILED,)),
    Case("after_order", "conditions", ("after",), (Act(output=6),)),
    Case("after_skipped", "conditions", ("after", "guard"), (Act(output=8),)),
    Case("after_failure", "conditions", ("after",), (FAILED,)),
]  # fmt: skip

FAILURES = [
    Case("failure_independent", "failures", ("steps in parallel",), (FAILED,), sample=True),
    Case(
        "fail_fast", "failures", ("fail_fast",), (FAILED,), full={"seconds": 30.0},
        apart={"slow": ("cancelled", "succeeded")},
    ),
    Case("retry_third_time", "failures", _RETRY, (Act(output=8),), sample=True),
    Case("retry_runs_out", "failures", _RETRY, (FAILED,)),
    Case("retry_other_class", "failures", (*_RETRY, "retry.on"), (FAILED,)),
    Case("retry_not_on", "failures", (*_RETRY, "retry.not_on"), (FAILED,)),
    Case("retry_same_error", "failures", (*_RETRY, "retry.even_if_same"), (FAILED,)),
    Case("retry_jitter_full", "failures", (*_RETRY, "retry.jitter"), (Act(output=4),)),
    Case("retry_jitter_equal", "failures", (*_RETRY, "retry.jitter"), (Act(output=4),)),
    Case("retry_cap", "failures", _RETRY, (Act(output=4),)),
    Case(
        "timeout_stops_children", "failures", ("timeout", *_RETRY, "retry.on"),
        (Act(output="the child is gone"),), sample=True, refused=_NO_FOLDER,
    ),
    Case("timeout_retry", "failures", ("timeout", *_RETRY, "retry.on"), (Act(output=5),)),
    Case("timeout_final", "failures", ("timeout",), (FAILED,)),
    Case("memory_limit", "failures", ("limits.memory",), (FAILED,)),
    Case(
        "memory_grows", "failures",
        ("limits.memory", "limits.on_out_of_memory.factor", "limits.on_out_of_memory.cap", *_RETRY, "retry.on"),
        (Act(output=[1024, 900]),),
    ),
    Case("process_killed", "failures", ("isolation", *_RETRY, "retry.on"), (Act(output=3),)),
    Case("unstorable_result", "failures", _RETRY, (FAILED,)),
    Case("checkpoint", "failures", _RETRY, (Act(output=[2, 3]),), refused=_NO_FOLDER),
    Case("max_parallel", "failures", ("max_parallel",), (Act(output=60),)),
    Case("pool_of_one", "failures", ("pool",), (Act(output=[2, 3]),)),
    Case(
        "resources", "failures", ("resources.cpu", "resources.memory"), (Act(output=2),), refused=("airflow",)
    ),
    Case("resources_gpu", "failures", ("resources.gpu",), (Act(output=3),), refused=("airflow",)),
]  # fmt: skip

EFFECTS = [
    Case("effect_at_most_once", "effects", ("effect", *_RETRY), (FAILED,)),
    Case(
        "effect_exactly_once", "effects", ("effect", *_RETRY, "retry.on"),
        (Act(output=["coffee", 1]),), refused=_NO_FOLDER,
    ),
    Case(
        "secret_used", "effects", ("secret",), (Act(output=[128, 32]),), sample=True,
        secrets=("PENSTOCK_CASE_TOKEN", "PENSTOCK_CASE_PASSWORD"),
    ),
    Case(
        "secret_in_failure", "effects", ("secret", *_RETRY), (FAILED,), secrets=("PENSTOCK_CASE_TOKEN",)
    ),
    Case("gate_refused", "effects", ("guard",), (Act(output=["the score is 0.54, 0.8 is not reached"]),)),
    Case("data_events", "effects", ("on_data", "updates"), (Act(output=6),)),
    Case("tags_and_schedule", "effects", ("tags", "schedule.expression", "schedule.tz"), (Act(output=2),)),
]  # fmt: skip

CACHE = [
    Case("cache_second_run", "cache and resume", ("map",), (Act(output=5), Act(output=5))),
    Case(
        "cache_changed_parameter", "cache and resume", ("parameters",),
        (Act(output=[12, 6]), Act(output=[18, 6], parameters={"by": 3})),
    ),
    Case(
        "cache_cut_off", "cache and resume", ("parameters",),
        (Act(output=6), Act(output=6, parameters={"number": 2.9})),
    ),
    Case("cache_uncached_step", "cache and resume", ("cache",), (Act(output=4), Act(output=4))),
    Case(
        "environment_in_key", "cache and resume", ("env",),
        (
            Act(output="7 EU"),
            Act(output="7 US", where=_LOCAL, environment={"PENSTOCK_CASE_REGION": "us"}),
            Act(output="7 EU", where=_LOCAL),
        ),
        environment={"PENSTOCK_CASE_REGION": "eu"},
    ),
    Case("declared_file", "cache and resume", ("reads",), (Act(output=1), Act(output=1))),
    Case("hidden_input", "cache and resume", ("cache_despite",), (Act(output=[3, 3]), Act(output=[3, 3]))),
    Case(
        "cache_across_engines", "cache and resume", ("map.of a step's output",),
        (Act(output=1), Act(output=1, where=_LOCAL)), sample=True,
    ),
    Case(
        "cache_from_elsewhere", "cache and resume", ("map.of a step's output",),
        (Act(output=1, where=_LOCAL), Act(output=1)),
    ),
    Case(
        "resume_elsewhere", "cache and resume", ("steps in parallel",),
        (FAILED, Act(output=[50, 3], where=_LOCAL, resume=True)), sample=True,
    ),
    Case(
        "resume_from_elsewhere", "cache and resume", ("map",),
        (Act("failed", where=_LOCAL), Act(output=30, resume=True)), sample=True,
    ),
]  # fmt: skip

# What pipelines may ask for, and no case does -> why.
WITHOUT_A_CASE = {
    "notebook function": "it is in no file; every engine but the local one refuses it",
    "on_invalid.max_fraction": "needs pandera where steps run; tests of the boundary have it",
    "on_invalid.max_rows": "the same",
    "max_active_runs": "of several runs at a time, and a case has one after the other",
    "schedule.catch_up": "starts runs by itself, and a case starts its own",
    "schedule.start": "the same",
}

CASES: tuple[Case, ...] = (*VALUES, *MAPS, *CONDITIONS, *FAILURES, *EFFECTS, *CACHE)


def chosen(words: tuple[str, ...] = (), *, sample: bool = False) -> tuple[Case, ...]:
    """The cases of these names or groups; all of them where nothing is asked for."""
    return tuple(
        case for case in CASES if (not words or {case.name, case.group} & set(words)) and (case.sample or not sample)
    )
