"""scikit-learn's k-means replaced by ours, for code that cannot be edited."""

from __future__ import annotations

import importlib
import sys

#: Names in `sklearn.cluster` that are replaced by the same names of gpukmeans.
NAMES = ("BisectingKMeans", "KMeans", "MiniBatchKMeans", "k_means", "kmeans_plusplus")

#: (module, name) -> scikit-learn's original.
_replaced: dict[tuple[str, str], object] = {}


def patch_sklearn() -> tuple[str, ...]:
    """Put our estimators and functions in the place of scikit-learn's.

    From then on ``from sklearn.cluster import KMeans`` gives `gpukmeans.KMeans`, and scikit-learn's own code that
    clusters by k-means (`SpectralClustering`, `KBinsDiscretizer`) uses ours.  May be called again at any time.

    Returns
    -------
    tuple of str
        The names that are replaced, such as "sklearn.cluster.KMeans", in order.

    Raises
    ------
    ImportError
        If scikit-learn cannot be imported.

    Notes
    -----
    Only names in scikit-learn's modules are replaced.  A module that has imported a class before keeps the one it has:
    call this before importing such modules, or run the script by ``python -m gpukmeans script.py``.  The modules that
    define the originals (`sklearn.cluster._kmeans`) stay as they are, so that models pickled by scikit-learn load as
    what they were.  Child processes that import scikit-learn anew are not patched, unless the script was run by
    ``python -m gpukmeans``; models sent to them are still ours.

    Examples
    --------
    >>> import gpukmeans
    >>> replaced = gpukmeans.patch_sklearn()
    >>> from sklearn.cluster import KMeans
    >>> KMeans is gpukmeans.KMeans
    True
    >>> _ = gpukmeans.unpatch_sklearn()
    >>> from sklearn.cluster import KMeans
    >>> KMeans is gpukmeans.KMeans
    False
    """
    cluster = importlib.import_module("sklearn.cluster")
    ours = importlib.import_module("gpukmeans")
    for name in NAMES:
        original = _replaced.get((cluster.__name__, name), getattr(cluster, name))
        for module in _modules_of_sklearn():
            if vars(module).get(name) is original and module.__name__ != original.__module__:
                _replaced[module.__name__, name] = original
                setattr(module, name, getattr(ours, name))
    return _names_of(_replaced)


def unpatch_sklearn() -> tuple[str, ...]:
    """Undo `patch_sklearn`; without a patch it does nothing.

    Names that other code has replaced since are left as they are.  Estimators made in between stay gpukmeans's.

    Returns
    -------
    tuple of str
        The names that are scikit-learn's again.
    """
    back = {}
    ours = importlib.import_module("gpukmeans")
    for (module_name, name), original in _replaced.items():
        module = sys.modules.get(module_name)
        if module is not None and vars(module).get(name) is getattr(ours, name):
            setattr(module, name, original)
            back[module_name, name] = original
    _replaced.clear()
    return _names_of(back)


def _modules_of_sklearn() -> list:
    return [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "sklearn" and module]


def _names_of(replaced: dict[tuple[str, str], object]) -> tuple[str, ...]:
    return tuple(sorted(f"{module}.{name}" for module, name in replaced))
