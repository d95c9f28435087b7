"""From the name of a backend to what it says, writes and does. The only place that knows which ones there are."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from ..backends import local
from ..core.canonical import digest_bytes
from ..core.errors import ConfigError, DefinitionError, RefusedError, UsageError, did_you_mean
from ..core.files import put_generated, put_text
from ..core.plain import plain_or_exact
from ..graph import Graph
from ..graph.demands import demands
from ..ports.backend import Backend, Blueprint, Bundle, Places, Report, Support, check
from .config import Settings, check_pools
from .manifest import manifest_text, place_of, publish_manifest, without_password

LOCAL = "local"
_CLASSES = {"airflow": "AirflowBackend", "prefect": "PrefectBackend", "kubeflow": "KubeflowBackend"}
NAMES = (LOCAL, *_CLASSES)


def backend_named(name: str) -> Backend:
    """The adapter for an engine. Raises UsageError with the near name."""
    if name not in _CLASSES:
        what = "the local engine needs no" if name == LOCAL else "there is no"
        raise UsageError(f"{what} backend '{name}'", hint=did_you_mean(name, list(_CLASSES)))
    module = importlib.import_module(f"{__package__.rpartition('.')[0]}.backends.{name}")
    made: Backend = getattr(module, _CLASSES[name])()
    return made


def blueprint(
    settings: Settings, graph: Graph, *, source: str = "", name: str = "", accepted: Sequence[str] = ()
) -> Blueprint:
    """What generated code is made from. Where artifacts lie behind a URL, the manifest lies there too."""
    _check_endpoint(settings)
    is_far = "://" in settings.artifacts_url and not settings.artifacts_url.startswith("file://")
    name = _deployment_name(name or graph.pipeline)
    graph = Graph.from_json(graph.to_json())  # as every process will read it: the digest is that of the same bytes
    text = manifest_text(settings, graph, name, tuple(accepted))
    return Blueprint(
        graph=graph,
        name=name,
        digest=digest_bytes(text.encode()),
        manifest=place_of(settings, text) if is_far else "",
        root=settings.root,
        python=settings.python or sys.executable,
        runs=without_password(settings.runs_url),
        artifacts=without_password(settings.artifacts_url),
        home=settings.home,
        profile=settings.profile,
        image=settings.image,
        form=settings.form,
        endpoint=settings.endpoint,
        secret=settings.secret,
        network=settings.network,
        accelerator=settings.accelerator,
        source=source or graph.target.partition(":")[0],
        version=metadata.version("penstock"),
        waived=tuple(accepted),
        pools={
            pool: settings.pools[pool] for pool in sorted(_pools(graph)) if pool in settings.pools
        },  # one that no setting knows is an error of its own
    )


def planned(
    settings: Settings,
    graph: Graph,
    backend: str,
    *,
    source: str = "",
    name: str = "",
    accepted: Sequence[str] = (),
    inherited: Sequence[str] = (),
) -> Blueprint:
    """The blueprint for one engine, with those waivers that are needed there.

    accepted:   by name, now: what the pipeline does not ask for raises UsageError
    inherited:  earlier, perhaps for another engine
    """
    plan = blueprint(settings, graph, source=source, name=name)
    wanted = list(dict.fromkeys([*inherited, *accepted]))
    if not wanted:
        return plan
    rows = report(backend, plan).rows
    known = {each for row in rows for each in (row.demand.name, row.demand.feature)}
    for each in accepted:
        if each not in known:
            raise UsageError(
                f"--accept {each}: pipeline '{graph.pipeline}' asks for no such thing",
                hint=did_you_mean(each, sorted(known)) or f"penstock check --on {backend} lists what it asks for",
            )
    lacking = [row.demand for row in rows if row.verdict.support is Support.REFUSED]
    needed = {each for demand in lacking for each in (demand.name, demand.feature)}
    waivers = [each for each in wanted if each in needed]
    return blueprint(settings, graph, source=source, name=name, accepted=waivers) if waivers else plan


def _check_endpoint(settings: Settings) -> None:
    """An endpoint is written into generated files and messages, and no engine takes a login from it anyway."""
    shown = without_password(settings.endpoint)
    if shown != settings.endpoint or "@" in shown:
        raise ConfigError(
            "the endpoint holds a user, a password or a token, and it is written into generated files",
            hint="take it out; AIRFLOW_TOKEN, PREFECT_API_KEY, PREFECT_API_AUTH_STRING or KFP_TOKEN in the environment"
            " logs in",
        )


def _pools(graph: Graph) -> set[str]:
    return {node.options.pool for node in graph.nodes if node.options.pool is not None}


def places(settings: Settings) -> Places:
    """How to reach the engine from here. Tokens come from the environment, as they are."""
    return Places(
        endpoint=settings.endpoint,
        folder=settings.dags and os.path.join(settings.root, os.path.expanduser(settings.dags)),
        python=settings.engine_python,
        environment=dict(os.environ),
        work=str(Path(settings.home) / "deployments"),
    )


def report(name: str, plan: Blueprint) -> Report:
    """The pipeline against a backend, row by row."""
    declared = local.declarations() if name == LOCAL else backend_named(name).declarations(plan)
    return check(name, declared, plan.graph, demands(plan.graph), plan.waived)


def refuse(found: Report) -> None:
    """Raise RefusedError where the backend refuses anything that nobody accepted."""
    problems = [
        DefinitionError(
            f"{row.demand.name}{f' = {row.demand.value}' if row.demand.value else ''}: {row.verdict.how}",
            where=row.demand.where,
            hint=f"--accept {row.demand.name} goes without it, and every run records that",
        )
        for row in found.refused
    ]
    if problems:
        many = "what it asks for" if len(problems) > 1 else "something"
        raise RefusedError(
            f"pipeline '{found.pipeline}' cannot run on {found.backend}: {many} is not kept there", problems=problems
        )


def compiled(backend: Backend, settings: Settings, plan: Blueprint) -> Bundle:
    """The engine's native form, and the manifest beside it. Refuses what cannot be kept. Writes nothing."""
    check_pools(plan.graph, settings)
    refuse(report(backend.name, plan))
    bundle = backend.compile(plan)
    manifest = {f"{plan.name}.manifest.json": manifest_text(settings, plan.graph, plan.name, plan.waived)}
    return Bundle(bundle.backend, bundle.entry, {**bundle.files, **manifest})


def write_bundle(bundle: Bundle, folder: Path) -> list[Path]:
    """Write the files of a bundle. Each appears whole, and only where its content is another one."""
    written = []
    for name, text in bundle.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":  # a manifest has no head that could say what made it
            put_text(path, text)
        else:
            put_generated(path, text, hint="choose another folder, or another name with --name")
        written.append(path)
    return written


def deployed(backend: Backend, settings: Settings, plan: Blueprint) -> str:
    """Make the engine know the pipeline. Returns words for people."""
    bundle = compiled(backend, settings, plan)
    if plan.manifest:
        publish_manifest(settings, bundle.files[f"{plan.name}.manifest.json"])
    return backend.deploy(bundle, plan, places(settings))


def plain_parameters(parameters: Mapping[str, str], graph: Graph) -> dict[str, object]:
    """Given parameters as plain JSON values, as an engine's form shows them, but for secrets; tagged where JSON has no
    form for one (NaN, bytes). The exact values are in the run log, where the launcher takes them."""
    secret = {each.name for each in graph.parameters if each.secret}
    return {name: plain_or_exact(json.loads(text)) for name, text in parameters.items() if name not in secret}


def _deployment_name(text: str) -> str:
    """A name that every engine takes; where letters had to go, a few of the digest keep it apart from others."""
    name = re.sub(r"[^0-9A-Za-z_-]+", "-", text).strip("-")
    return name if name == text else "-".join(filter(None, [name, digest_bytes(text.encode())[:6]]))
