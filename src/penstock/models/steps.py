"""Gate, register and deploy as plain functions; the lifecycle room makes steps of them.

Each says what it looked at (`observe`), so that a later hit is allowed only while the registry still says the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.canonical import digest_json
from ..core.errors import PenstockError, RegistryError
from ..ports.context import Context, context
from ..ports.models import AliasMove, ModelCard, ModelRegistry, ModelVersion, Scorer
from .gate import Opponent, Verdict, check_metrics, judge
from .moving import move_alias
from .reference import NO_VERSION, ModelReference, check_alias, parse_model_reference


@dataclass(frozen=True)
class Deployment:
    """An alias that points at a version; servers that follow the alias serve it."""

    name: str
    version: str
    alias: str
    uri: str


def gate(
    model: Any,
    on: Any,
    label: str = "label",
    metrics: list[str] = ["auc"],  # noqa: B006 - never changed; a step's defaults are JSON values
    minimum: dict[str, float] = {},  # noqa: B006
    not_worse_than: str | None = None,
    margin: float = 0.0,
) -> Verdict:
    """Score the model, and the champion on the same rows; say whether it may go on, and why.

    The champion is `not_worse_than`, as in "churn@champion"; while that alias points nowhere, `minimum` alone decides.
    """
    check_metrics(metrics, minimum, margin)
    surroundings = context()
    scorer: Scorer = surroundings.service("scorer")
    candidate = dict(scorer.score(model, on, label=label, metrics=metrics))
    champion, opponent = None, None
    if not_worse_than is not None:
        reference = parse_model_reference(not_worse_than)
        found = _champion(surroundings, reference)
        opponent = Opponent(str(reference), found.version if found else None)
        if found is not None:
            champion = _champion_scores(surroundings, found, reference, on, label, metrics)
    for name, value in candidate.items():
        surroundings.metric(name, value)
    for name, value in (champion or {}).items():
        surroundings.metric(f"champion_{name}", value)
    verdict = judge(candidate, champion, minimum=minimum, margin=margin, opponent=opponent, rows=len(on))
    surroundings.note = ("passed: " if verdict.passed else "refused: ") + "; ".join(verdict.reasons)
    return verdict


def _champion(surroundings: Context, reference: ModelReference) -> ModelVersion | None:
    registry: ModelRegistry = surroundings.service("registry")
    found = registry.find(*reference) if reference.is_alias else registry.get(*reference)
    surroundings.observe("model", str(reference), found.version if found else NO_VERSION)
    return found


def _champion_scores(
    surroundings: Context, champion: ModelVersion, reference: ModelReference, on: Any, label: str, metrics: list[str]
) -> dict[str, float]:
    registry: ModelRegistry = surroundings.service("registry")
    scorer: Scorer = surroundings.service("scorer")
    try:
        return dict(scorer.score(registry.load(champion), on, label=label, metrics=metrics))
    except PenstockError as error:
        raise RegistryError(
            f"{reference} (version {champion.version}) cannot be scored on these rows: {error.problem}",
            hint="give the gate rows that both models read, or drop not_worse_than for this one release",
        ) from error


def register(
    name: str,
    model: Any,
    evidence: Verdict | None = None,
    example: Any = None,
    parameters: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
) -> ModelVersion:
    """Make the model a new version of `name`, once: the same stored model is the same version, run after run.

    `example` is a table like the one the model was fitted on; it gives the version its signature.
    """
    surroundings = context()
    registry: ModelRegistry = surroundings.service("registry")
    digest = _model_digest(surroundings)
    # The evidence is left out on purpose: once deployed, a model is judged against itself, and that must not
    # register it a second time.
    key = digest_json(["register", name, digest])[:32]
    with surroundings.effect(f"register {registry.url} {name} {key}") as effect:
        version = registry.find_key(name, key)
        if version is not None:
            surroundings.note = f"already registered as version {version.version}"
        else:
            card = _card(surroundings, digest, evidence, parameters, tags)
            version = registry.register(name, model, card, key=key, example=example, check=effect.check)
            surroundings.note = f"registered {name} version {version.version}"
    surroundings.observe("model-version", f"{name}/{version.version}", f"exists:{key}")
    # Aliases move; leaving them out keeps this output the same, so that what follows is not run again for nothing.
    return msgspec.structs.replace(version, aliases=())


def _model_digest(surroundings: Context) -> str:
    """The stored model's digest as the launcher knows it; where none is known, this step of this run."""
    if known := surroundings.input_digests.get("model"):
        return known[0] if len(known) == 1 else digest_json(known)
    return digest_json(["unstored", surroundings.run_id, surroundings.step, surroundings.index])


def _card(
    surroundings: Context,
    digest: str,
    evidence: Verdict | None,
    parameters: dict[str, Any] | None,
    tags: dict[str, str] | None,
) -> ModelCard:
    metrics = dict(evidence.candidate) if evidence else {}
    lineage = {name: ",".join(known) for name, known in surroundings.input_digests.items() if known}
    if evidence:
        metrics |= {f"champion_{name}": value for name, value in (evidence.champion or {}).items()}
    verdict = {"penstock.gate": "passed" if evidence.passed else "refused"} if evidence else {}
    return ModelCard(
        run_id=surroundings.run_id,
        pipeline=surroundings.pipeline,
        step=surroundings.step,
        digest=digest,
        parameters=surroundings.parameters | {name: str(value) for name, value in (parameters or {}).items()},
        metrics=metrics,
        tags=verdict | (tags or {}),
        lineage=lineage,
    )


def deploy(version: ModelVersion, alias: str = "champion") -> Deployment:
    """Point the alias at the version; servers that follow it switch without a failed request."""
    check_alias(alias)
    surroundings = context()
    registry: ModelRegistry = surroundings.service("registry")
    with surroundings.effect(f"alias {registry.url} {version.name}@{alias}") as effect:
        move = AliasMove(
            version=version.version,
            key=effect.key,
            run_id=surroundings.run_id,
            step=surroundings.step,
            index=surroundings.index,
            attempt=surroundings.attempt,
        )
        surroundings.note = move_alias(registry, version.name, alias, move, effect)
    surroundings.observe("model", f"{version.name}@{alias}", version.version)
    return Deployment(version.name, version.version, alias, f"models:/{version.name}@{alias}")
