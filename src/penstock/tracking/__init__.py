"""tracking: experiments, the model registry and scores, on MLflow and scikit-learn; and who is told of them.

An adapter: may know models, ports, graph and core; its siblings are strangers. MLflow, scikit-learn and skops are
imported late, with an error that names the extra. Sends no telemetry, prints nothing, leaves no `mlruns` folder, and
never reads a pickled model unless it was told that the registry is trusted.
"""

from ..models.observing import observers
from .mlflow_registry import MlflowRegistry
from .notifier import OutsideNotifier
from .scorer import SklearnScorer

__all__ = ["MlflowRegistry", "OutsideNotifier", "SklearnScorer", "observers"]
