"""The steps themselves."""

from __future__ import annotations

from ..authoring.step import Step
from ..graph import RetryPolicy, StepOptions
from ..models import steps as models
from ..models.gate import Verdict
from ..models.steps import Deployment
from ..ports.effects import Notification
from ..ports.models import ModelVersion
from . import notifying

_ONCE = StepOptions(effect="exactly-once")
# What is told belongs to its run: a run whose inputs are those of another one tells again.
_TOLD = StepOptions(effect="at-least-once", cache=False, retry=RetryPolicy(attempts=3, base_s=1.0, on=("network",)))

gate = Step(models.gate, target=f"{__name__}:gate")
register = Step(models.register, _ONCE, target=f"{__name__}:register")
deploy = Step(models.deploy, _ONCE, target=f"{__name__}:deploy")
notify = Step(notifying.notify, _TOLD, target=f"{__name__}:notify")

__all__ = [
    "Deployment",
    "ModelVersion",
    "Notification",
    "Step",
    "Verdict",
    "deploy",
    "gate",
    "notify",
    "register",
]
