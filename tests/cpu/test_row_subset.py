"""Some rows as rows of their own: the same as if their values had been loaded."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.exact.sums import Grid
from tests.support.assertions import assert_labels
from tests.support.launches.common import rows_and_centers
from tests.support.oracles import nearest

N, K, D = 57, 4, 9


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("indices", [[0], [56, 3, 3, 11, 0, 3], list(range(56, -1, -1)), [5] * 40])
def test_a_subset_is_what_its_values_are(backend, indices, weighted, dtype):
    X, C = rows_and_centers(N, K, D, dtype)
    C = C.astype(np.float32 if X.dtype == np.float32 else np.float64)
    index = np.array(indices)
    weight = np.random.default_rng(0).uniform(0.1, 3, len(index)) if weighted else None
    whole = backend.load(X, np.full(N, 7.0))  # whose weights are not inherited
    some = whole.subset(index, weight)
    del whole  # a subset stands by itself
    assert (some.n_samples, some.n_features, some.center_dtype) == (len(index), D, C.dtype)
    values = np.stack([X[i] for i in indices])
    assert np.array_equal(some.take(np.arange(len(index))), values)
    grid = Grid.for_rows(values, weight)
    assert (some.grid.bits, some.grid.n_limbs) == (grid.bits, grid.n_limbs)
    assert np.array_equal(some.grid.scale, grid.scale)
    run = some.start(C)
    run.assign()
    assert_labels(run.labels(), values, C)
    _, weights = run.sums()
    want = np.bincount(nearest(values, C), weight, K)
    assert np.allclose(run.update().weights, want, rtol=1e-12, atol=0)
    assert weights.shape[1] == K


def test_a_subset_without_a_grid_is_labelled_only(backend):
    X, C = rows_and_centers(N, K, D, np.float64)
    run = backend.load(X).subset(np.array([4, 4, 2]), sums=False).start(C)
    with pytest.raises(ValueError, match="without a grid"):
        run.assign()
    run.assign(move=False)
    assert_labels(run.labels(), X[[4, 4, 2]], C)


@pytest.mark.parametrize(("lowest", "shared"), [(2.0**-9, True), (2.0**-30, False)])
def test_batches_on_the_grid_of_all_rows_have_the_sums_of_their_own(lowest, shared):
    """The largest value, and one that may need a second limb, are in a row of the last batch only."""
    local = np.random.default_rng(6)
    X = (local.integers(1, 1 << 12, (400, 5)) * 2.0**-12).astype(np.float32)
    X[-1, :2] = lowest * (1 + 2.0**-23), 3.0
    rows = NumpyBackend().load(X, sums=False)
    with NumpyBackend().feed(X, 60) as feed:
        for number in range(5):
            indices = local.integers(0, 399 + (number == 4), 60)
            indices[-1] = 399 if number == 4 else 0
            feed.send(indices)
            got, want = feed.receive(), rows.subset(indices)
            assert np.array_equal(got.grid.scale, want.grid.scale) == (not shared or number not in (2, 3))
            found, own = (some.batch_sums(X[:3]) for some in (got, want))
            assert found.inertia == own.inertia
            assert np.array_equal(found.sums, own.sums)
            assert np.array_equal(found.weights, own.weights)
