"""Exact k-means at the speed of the machine, the same bits everywhere.

fit(X, 10)              cluster rows: a fitted KMeans
fit_many(problems, 10)  cluster many data sets in one call
KMeans                  the estimator, a drop-in for sklearn.cluster.KMeans
MiniBatchKMeans         from batches of rows, with partial_fit
BisectingKMeans         by splitting clusters in two
SphericalKMeans         by direction: cosine similarity
evaluate                the metrics of a model or of labels, with classes where they are known
members                 the most typical, doubtful and far rows of each cluster
name_clusters           name clusters after known classes, and predict classes
silhouette              of every row: how much nearer its cluster is than the next
sweep                   cluster into several numbers of clusters, and recommend one
kmeans_1d               the best clusters of all of numbers on a line
k_means, kmeans_plusplus            scikit-learn's functions of these names
load_model              read a model that its method `save` has written
keep_state, refit       fit old and new rows from a model of the old ones
checkpoint, resume      keep a long fit in a file, and go on from it to the same bits
open_rows               rows that are read block by block, for more of them than memory holds
load_mnist, load_digits             images of handwritten digits
read_table              rows of your own: CSV, Parquet, npy, a folder of pictures, ...
Facts, Partial, partial one step of a fit over rows that lie in many places: exact sums that add up
patch_sklearn, unpatch_sklearn      put these classes in the place of scikit-learn's

Packages: gpukmeans.evaluation (metrics), gpukmeans.plots (pictures), gpukmeans.datasets, gpukmeans.backends,
gpukmeans.distributed (rows on many workers).
`python -m gpukmeans --help` shows the command line.

Examples
--------
>>> import gpukmeans
>>> X, y = gpukmeans.load_digits(return_X_y=True)
>>> model = gpukmeans.fit(X, 10, random_state=0, backend="numpy")
>>> model.labels_.shape, model.cluster_centers_.shape
((1797,), (10, 64))
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as in typing, whose import would take longer than all of this
if TYPE_CHECKING:
    from typing import Any

    from gpukmeans.datasets import load_digits, load_mnist
    from gpukmeans.estimators.bisecting import BisectingKMeans
    from gpukmeans.estimators.functions import k_means, kmeans_plusplus
    from gpukmeans.estimators.kmeans import KMeans, fit
    from gpukmeans.estimators.line import kmeans_1d
    from gpukmeans.estimators.many import fit_many
    from gpukmeans.estimators.minibatch import MiniBatchKMeans
    from gpukmeans.estimators.refits import keep_state, refit
    from gpukmeans.estimators.resuming import resume
    from gpukmeans.estimators.saved import load_model
    from gpukmeans.estimators.spherical import SphericalKMeans
    from gpukmeans.evaluation.member_rows import members
    from gpukmeans.evaluation.naming import name_clusters
    from gpukmeans.evaluation.silhouettes import silhouette
    from gpukmeans.evaluation.sweeps import sweep
    from gpukmeans.evaluation.table import evaluate
    from gpukmeans.intake.opened import open_rows
    from gpukmeans.intake.partials import partial
    from gpukmeans.patching import patch_sklearn, unpatch_sklearn
    from gpukmeans.scale.checkpoints import checkpoint
    from gpukmeans.scale.facts import Facts
    from gpukmeans.scale.partials import Partial
    from gpukmeans.scale.table import read_table

__version__ = "0.1.0"
__all__ = [
    "BisectingKMeans",
    "Facts",
    "KMeans",
    "MiniBatchKMeans",
    "Partial",
    "SphericalKMeans",
    "__version__",
    "checkpoint",
    "evaluate",
    "fit",
    "fit_many",
    "k_means",
    "keep_state",
    "kmeans_1d",
    "kmeans_plusplus",
    "load_digits",
    "load_mnist",
    "load_model",
    "members",
    "name_clusters",
    "open_rows",
    "partial",
    "patch_sklearn",
    "read_table",
    "refit",
    "resume",
    "silhouette",
    "sweep",
    "unpatch_sklearn",
]

_HOME = {
    "BisectingKMeans": "gpukmeans.estimators.bisecting",
    "Facts": "gpukmeans.scale.facts",
    "KMeans": "gpukmeans.estimators.kmeans",
    "MiniBatchKMeans": "gpukmeans.estimators.minibatch",
    "Partial": "gpukmeans.scale.partials",
    "SphericalKMeans": "gpukmeans.estimators.spherical",
    "checkpoint": "gpukmeans.scale.checkpoints",
    "evaluate": "gpukmeans.evaluation.table",
    "fit": "gpukmeans.estimators.kmeans",
    "fit_many": "gpukmeans.estimators.many",
    "k_means": "gpukmeans.estimators.functions",
    "keep_state": "gpukmeans.estimators.refits",
    "kmeans_1d": "gpukmeans.estimators.line",
    "kmeans_plusplus": "gpukmeans.estimators.functions",
    "load_digits": "gpukmeans.datasets",
    "load_mnist": "gpukmeans.datasets",
    "load_model": "gpukmeans.estimators.saved",
    "members": "gpukmeans.evaluation.member_rows",
    "name_clusters": "gpukmeans.evaluation.naming",
    "open_rows": "gpukmeans.intake.opened",
    "partial": "gpukmeans.intake.partials",
    "patch_sklearn": "gpukmeans.patching",
    "read_table": "gpukmeans.scale.table",
    "refit": "gpukmeans.estimators.refits",
    "resume": "gpukmeans.estimators.resuming",
    "silhouette": "gpukmeans.evaluation.silhouettes",
    "sweep": "gpukmeans.evaluation.sweeps",
    "unpatch_sklearn": "gpukmeans.patching",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use, so that ``import gpukmeans`` stays light."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
