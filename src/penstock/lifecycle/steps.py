"""The steps themselves."""

from __future__ import annotations

from ..authoring.step import Step
from ..graph import StepOptions
from ..models import steps as models
from ..models.gate import Verdict
from ..models.steps import Deployment
from ..ports.models import ModelVersion

_ONCE = StepOptions(effect="exactly-once")

gate = Step(models.gate, target=f"{__name__}:gate")
register = Step(models.register, _ONCE, target=f"{__name__}:register")
deploy = Step(models.deploy, _ONCE, target=f"{__name__}:deploy")

__all__ = ["Deployment", "ModelVersion", "Step", "Verdict", "deploy", "gate", "register"]
