"""The shift of the centers below which a run ends: `tol` times the mean variance of the features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpukmeans.backends.protocol import Rows


class Tolerance:
    """``tol * mean_variance(rows)``, computed only if bounds do not decide a comparison.

    Used on the right of ``shift <= tolerance``.  Where the rows have `scatter_bounds`, these are cheap and the variance
    is not.

    Parameters
    ----------
    tol : float
    lowest, highest : float
        Bounds of the mean variance.
    compute : callable
        Returns the mean variance; called once at most.
    """

    def __init__(self, tol: float, lowest: float, highest: float, compute: Callable[[], float]) -> None:
        self._lowest, self._highest = tol * lowest * (1.0 - 2.0**-50), tol * highest * (1.0 + 2.0**-50)
        self._compute = lambda: tol * compute()
        self._value: float | None = None

    @property
    def highest(self) -> float:
        """A value that it does not exceed: itself, once computed."""
        return self._highest if self._value is None else self._value

    def __float__(self) -> float:
        if self._value is None:
            self._value = self._compute()
        return self._value

    def __str__(self) -> str:
        return str(float(self))

    def __ge__(self, shift: float) -> bool:
        if self._value is None and not self._lowest <= shift <= self._highest:
            return shift < self._lowest
        return shift <= float(self)


def scaled_tolerance(rows: Rows, tol: float, n_features: int | None = None) -> float | Tolerance:
    """`tol` times the mean variance of `n_features` features: the absolute tolerance of `lloyd`.

    By default those of `rows`; features that these have not are zero everywhere.
    """
    if tol == 0.0:
        return 0.0
    bounds = rows.scatter_bounds()
    if bounds is None:
        return tol * mean_variance(rows, n_features)
    size, slack = rows.n_samples * (n_features or rows.n_features), 2.0**-50  # of the quotients
    lowest, highest = bounds[0] / size * (1.0 - slack), bounds[1] / size * (1.0 + slack)
    return Tolerance(tol, lowest, highest, lambda: mean_variance(rows, n_features))


def mean_variance(rows: Rows, n_features: int | None = None) -> float:
    """The mean over `n_features` features (default: those of `rows`; others are zero) of the population variance.

    It is the inertia of one cluster, divided by n_samples * n_features.  Weights play no part, as in scikit-learn,
    whose `tol` is relative to this number.
    """
    run = rows.start(np.zeros((1, rows.n_features)))
    if not run.advance(1, -1.0):
        run.assign()
        run.update()
    return run.inertia() / (rows.n_samples * (n_features or rows.n_features))
