"""Fits of rows whose values are far from one, in a unit in which their squares are floats (arrays/magnitude.py)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.magnitude import times_power
from gpukmeans.engine.records import FitReport, Iteration
from gpukmeans.intake.checks import check_centers
from gpukmeans.intake.kinds import on_host

if TYPE_CHECKING:
    from gpukmeans.estimators.base import BaseKMeans
    from gpukmeans.intake.given import Given


def fit_in_range(model: BaseKMeans, given: Given, fit: Callable[[Any, Given], object], *, go_on: bool = False) -> None:
    """Fit a model; for rows far from one by a copy of it in another unit.

    Parameters
    ----------
    model : BaseKMeans
    given : Given
    fit : callable
        A method of the model's class that sets the fitted attributes.
    go_on : bool
        Whether it goes on from the fitted centers.
    """
    near, exponent = None, given.exponent()
    if exponent:
        if go_on:
            near = model._host_centers(given.n_features)
        elif not isinstance(model.init, str) and not callable(model.init):
            near = check_centers(model.init, model.n_clusters, given.n_features, given.center_dtype)
        exponent = given.exponent(near)
    if not exponent:
        fit(model, given)
        return
    twin = _in_unit(model, near, exponent)
    if model.verbose:
        print(f"Rows are multiplied by 2**{exponent} for the fit; the numbers printed below are in this unit.")
    fit(twin, given.in_unit(exponent))
    parameters = model.get_params(deep=False)
    for name, value in vars(twin).items():
        if name not in parameters:
            setattr(model, name, _from_unit(name, value, exponent))
    stored = times_power(model.cluster_centers_, exponent)
    rounded = not np.array_equal(on_host(stored), on_host(twin.cluster_centers_))  # subnormal centers
    if rounded and getattr(model, "compute_labels", True):
        model._label_again(given)


def _in_unit(model: BaseKMeans, near: NDArray | None, exponent: int) -> Any:
    """A copy of a model for rows that are multiplied by 2**exponent; its callables still get what they are used to."""
    twin: Any = copy.copy(model)
    init: Any = model.init
    if callable(init):
        twin.init = lambda X, *args, **named: times_power(init(times_power(X, -exponent), *args, **named), exponent)
    elif not isinstance(init, str) and near is not None:
        twin.init = times_power(near, exponent)
    if "cluster_centers_" in vars(twin):
        twin.cluster_centers_ = times_power(twin.cluster_centers_, exponent)
    callback, progress = getattr(model, "callback", None), getattr(model, "progress", False)
    if callback is not None:
        twin.callback = lambda number, inertia, shift, n_moved: callback(
            number, times_power(inertia, -2 * exponent), times_power(shift, -2 * exponent), n_moved
        )
    if callable(progress):
        twin.progress = lambda record: progress(_record_from_unit(record, exponent))
    if model.tol_is_absolute:
        twin.tol = times_power(float(twin.tol), 2 * exponent)
    return twin


def _from_unit(name: str, value: Any, exponent: int) -> Any:
    """A fitted attribute as it is for the caller's rows."""
    if name == "cluster_centers_":
        return times_power(value, -exponent)
    if name == "inertia_":
        return times_power(value, -2 * exponent)
    if name == "_tree":
        return {**value, "centers": times_power(value["centers"], -exponent)}
    if isinstance(value, FitReport):
        return replace(value, iterations=[_record_from_unit(record, exponent) for record in value.iterations])
    return value


def _record_from_unit(record: Iteration, exponent: int) -> Iteration:
    inertia = None if record.inertia is None else times_power(record.inertia, -2 * exponent)
    return replace(record, shift=times_power(record.shift, -2 * exponent), inertia=inertia)
