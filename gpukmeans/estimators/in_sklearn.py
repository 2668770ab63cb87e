"""Fitted models as scikit-learn's, for tools that know its classes only, such as converters to ONNX."""

from __future__ import annotations

import copy
from typing import Any

from numpy.typing import NDArray
from sklearn import cluster
from sklearn.cluster._bisect_k_means import _BisectingTree
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from sklearn.utils.validation import check_is_fitted

from gpukmeans.callers import warn_caller
from gpukmeans.intake.kinds import arrays_on_host

#: Attributes that scikit-learn's classes have under the same names, as far as each has them.
_SHARED = (
    "n_features_in_", "feature_names_in_", "labels_", "inertia_", "n_iter_", "n_steps_", "_n_features_out", "_n_init",
    "_batch_size", "_init_size", "_n_since_last_reassign", "_random_state",
)  # fmt: skip


def sklearn_model(model: Any) -> Any:
    """A fitted scikit-learn estimator: see `gpukmeans.estimators.keeping.Kept.to_sklearn`."""
    check_is_fitted(model)
    names = [cls.__name__ for cls in type(model).__mro__]  # a subclass is what it is derived from
    spherical = "SphericalKMeans" in names
    kind = cluster.KMeans if spherical else next(getattr(cluster, name) for name in names if hasattr(cluster, name))
    own, centers = arrays_on_host(model.__dict__), model._host_centers(model.n_features_in_)
    twin = kind(**_parameters(model, kind))
    for name in _SHARED:
        if name in own:
            setattr(twin, name, copy.deepcopy(own[name]))
    twin.cluster_centers_ = centers.copy()
    twin._n_threads = _openmp_effective_n_threads()  # as its fit sets it
    if "_counts" in own:
        twin._counts = own["_counts"].astype(centers.dtype)
    if "_tree" in own:
        twin._bisecting_tree = _tree(own["_tree"], 0)
    if not spherical:
        return twin
    twin.inertia_ *= 2.0
    normalizer = Normalizer()
    normalizer.n_features_in_ = model.n_features_in_
    if "feature_names_in_" in own:
        normalizer.feature_names_in_ = twin.feature_names_in_
        del twin.feature_names_in_  # the normalizer gives it an array
    return make_pipeline(normalizer, twin)


def _parameters(model: Any, kind: type) -> dict[str, Any]:
    """The parameters that scikit-learn's class has, too."""
    known = kind().get_params()
    found = {name: copy.deepcopy(value) for name, value in model.get_params(deep=False).items() if name in known}
    if isinstance(model.init, str) and model.init in ("k-means||", "two-level"):
        found["init"] = "k-means++"
        warn_caller(
            f'scikit-learn has no init="{model.init}": a new fit of its model would start by "k-means++".', UserWarning
        )
    return found


def _tree(arrays: dict[str, NDArray], node: int) -> Any:
    """A node of scikit-learn's tree of splits, and all below it."""
    found = _BisectingTree(center=arrays["centers"][node], indices=None, score=0.0)
    first = int(arrays["first_child"][node])
    if first < 0:
        found.label = int(arrays["label"][node])
    else:
        found.left, found.right = _tree(arrays, first), _tree(arrays, first + 1)
    return found
