"""How a model is kept: pickles, copies, files, and the same model in scikit-learn."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator

from gpukmeans.callers import warn_caller
from gpukmeans.engine.records import FitReport
from gpukmeans.intake.kinds import arrays_on_host
from gpukmeans.scale.archives import own_version

_VERSION = "_gpukmeans_version"


class Kept(BaseEstimator):
    """What `BaseKMeans` has for this."""

    _sums_records: ClassVar[bool] = False  # whether pickles keep one record in `fit_report_`, not one an iteration
    fit_report_: FitReport

    def save(self, path: str | os.PathLike[str], *, labels: bool = False) -> Path:
        """Write the fitted model into a file without pickle, which `gpukmeans.load_model` reads.

        The file, an npz of arrays and JSON, holds what the methods need: parameters, centers, names of features, what
        `partial_fit` or the splits of `BisectingKMeans` go on from; and the counts of `fit_report_`, without times.
        What JSON does not hold is left out with a warning that names it: callables, backend objects, a RandomState as
        `random_state`.

        Parameters
        ----------
        path : path
            Replaced if it exists, once the new file is complete; of a link, the link.
        labels : bool, default=False
            Whether `labels_` are saved, too: 4 bytes a row.

        Returns
        -------
        pathlib.Path
            `path`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        TypeError
            The model is of a class that is derived from one of gpukmeans.
        OSError
            The file cannot be written.
        """
        from gpukmeans.estimators.saved import save_model

        return save_model(self, path, labels=labels)

    def to_sklearn(self) -> Any:
        """The same fitted model as scikit-learn's, for tools that know its classes only (skl2onnx, for one).

        Its `predict`, `transform` and, of mini-batches, `partial_fit` use the same centers; its labels are those of
        rounded distances, so they may differ where two centers are equally near but for rounding.

        Returns
        -------
        sklearn.cluster.KMeans, MiniBatchKMeans or BisectingKMeans
            Of a `SphericalKMeans`, which scikit-learn does not have, a Pipeline of a Normalizer and a KMeans.  Its
            inertia is twice ours, and its label of a row of zeros is that of rounding.

        Notes
        -----
        As everywhere in scikit-learn, a model of float32 centers predicts float32 rows only, one of float64 centers
        float64 rows; and its Normalizer makes zeros of float16 rows longer than 256: convert them first.

        ``skl2onnx.to_onnx(model.to_sklearn(), X[:1].astype("float32"))`` converts all but a `BisectingKMeans`, for
        which skl2onnx has no converter; it computes in float32 (``pip install 'gpukmeans[onnx]'``).

        Examples
        --------
        >>> import gpukmeans
        >>> model = gpukmeans.fit([[0.0], [1.0], [9.0], [10.0]], 2, random_state=0)
        >>> model.to_sklearn().predict([[2.0]]) == model.predict([[2.0]])
        array([ True])
        """
        from gpukmeans.estimators.in_sklearn import sklearn_model

        return sklearn_model(self)

    def __getstate__(self) -> dict[str, Any]:
        """For pickles: NumPy arrays, so that they can be read on machines without a GPU or torch, and no times.

        The counts of `fit_report_` are kept, its seconds are not: equal fits have equal pickles.
        """
        state = arrays_on_host(super().__getstate__()) | {_VERSION: own_version()}
        report = state.get("fit_report_")
        return state if report is None else state | {"fit_report_": report.kept(summed=self._sums_records)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """From a pickle; warns where another version has written it."""
        state = dict(state)
        version = state.pop(_VERSION, "of unknown version")
        if version != own_version():
            warn_caller(
                f"A pickled {type(self).__name__} of gpukmeans {version} is read by gpukmeans {own_version()}, which "
                "may fail or change results: `save` and `gpukmeans.load_model` carry a model from version to version.",
                UserWarning,
            )
        super().__setstate__(state)
        if "fit_report_" in state:
            self.fit_report_ = FitReport.of_kept(state["fit_report_"])

    def __copy__(self) -> Self:
        """A copy that shares the arrays."""
        return self._with(self.__dict__.copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy with copies of the arrays, made where they lie."""
        return self._with(copy.deepcopy(self.__dict__, memo))

    def _with(self, attributes: dict[str, Any]) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__ = attributes
        return twin
