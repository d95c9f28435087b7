"""The steps themselves."""

from __future__ import annotations

from ..authoring.step import Step, step
from ..models import steps as models
from ..models.gate import Verdict
from ..models.steps import Deployment
from ..ports.models import ModelVersion

gate = step(models.gate)
register = step(effect="exactly-once")(models.register)
deploy = step(effect="exactly-once")(models.deploy)

__all__ = ["Deployment", "ModelVersion", "Step", "Verdict", "deploy", "gate", "register"]
