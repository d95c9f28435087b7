"""Which types a stored model may bring to life. The list is ours: it is never read from the model's own files.

skops refuses whatever it does not know to be harmless. These are scikit-learn's own building blocks that ordinary
estimators contain and that run no code when they are read; tree nodes are indices that predict does not check, so a
file from a stranger could crash the process: that is why its digest is compared first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.errors import RegistryError

TRUSTED_TYPES = frozenset(
    {
        "numpy.dtype",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)


def refuse_untrusted(found: Iterable[str], extra: Sequence[str], model: str) -> None:
    """Raises RegistryError naming every type that neither we nor the user's settings trust."""
    if strange := sorted(set(found) - TRUSTED_TYPES - set(extra)):
        shown = ", ".join(strange)
        raise RegistryError(
            f"{model} contains types that are not on the list of trusted ones: {shown}",
            hint="if they are yours, list them: trusted_types = [" + ", ".join(f'"{each}"' for each in strange) + "]",
        )


def untrusted_types_in(path: Path) -> list[str]:
    """What skops would ask about this file, without bringing anything to life."""
    import skops.io

    return list(skops.io.get_untrusted_types(file=str(path)))
