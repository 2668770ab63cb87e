"""Bases of components: chosen where they save work, and filled with rows together or alone alike."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.backends.cpu.screens.components import (
    Components,
    choose_basis,
    fill_together,
    leading_directions,
)
from gpukmeans.backends.cpu.screens.full import SAMPLE, RowScreen
from gpukmeans.threads import workers
from tests.support.component_cases import DATA, K, decaying


def chosen(X, k=K, step=0.3):
    return choose_basis(RowScreen(X), X[:k] + step * np.random.default_rng(47).standard_normal((k, X.shape[1])), X[:k])


def test_a_basis_is_chosen_where_it_pays():
    X = DATA["float32"](decaying())
    basis = chosen(X)
    assert np.abs(basis.T @ basis - np.eye(basis.shape[1])).max() < 1e-5
    assert ((X @ basis) ** 2).sum() > 0.95 * (X * X).sum()
    assert chosen(np.random.default_rng(48).standard_normal(X.shape)) is None  # white noise
    assert chosen(X, step=3.0) is None  # centers that still move far
    assert chosen(X * np.float32(2.0**40)) is None


def test_no_basis_is_tried_without_rows_and_features_enough():
    X = DATA["float32"](decaying())
    assert chosen(X[: 8 * SAMPLE]) is not None
    assert chosen(X[: 8 * SAMPLE - 1]) is None
    assert chosen(X, k=16, step=0.01) is not None
    assert chosen(X, k=17, step=0.01) is None
    assert chosen(X[:, :48]) is not None
    assert chosen(X[:, :47]) is None


@pytest.mark.parametrize("name", DATA)
def test_projections_filled_together_are_those_filled_alone(name):
    screen = RowScreen(DATA[name](decaying(20000, 32)))
    x = screen.block(slice(0, 20000))
    bases = [np.ascontiguousarray(leading_directions(x, 16)[:, :m]) for m in (4, 16)]
    together = [Components(20000, basis) for basis in bases]
    with workers(screen.X.size) as pool:
        fill_together(together, screen, pool)
    room = 2.0**-17 * screen.norms[:, None]
    for projection in together:
        alone = Components(20000, projection.basis)
        alone.fill(slice(None), x @ projection.basis, screen.norms)
        assert projection.filled
        assert (np.abs(projection.table - alone.table) <= room).all()
        assert (np.abs(projection.table[:, :-2] - x.astype(np.float64) @ projection.basis) <= room).all()
