"""`predict` tells once of rows in another unit than those of the fit, and of no others."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.intake.given import receive
from gpukmeans.intake.ranges import range_of, value_range

PIXELS = np.random.default_rng(0).integers(0, 256, (200, 6)).astype(np.float64)
PIXELS[0, 0], PIXELS[0, 1] = 0.0, 255.0


def warned(model, X):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.predict(X)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans, BisectingKMeans])
def test_another_unit_is_told_once_for_a_fit_at_the_callers_line(cls):
    model = cls(3, random_state=0, backend="numpy").fit(PIXELS)
    assert model.data_range_ == (0.0, 255.0)
    with pytest.warns(UserWarning, match=r"X ranges from 0 to 1, the rows of the fit from 0 to 255: ") as told:
        model.predict(PIXELS / 255)
    assert told[0].filename == __file__
    assert warned(model, PIXELS / 255) == []
    model.fit(PIXELS / 255)
    assert "X ranges from 0 to 255, the rows of the fit from 0 to 1" in warned(model, PIXELS)[0]


def test_rows_that_may_well_be_right_are_not_told_of():
    model = KMeans(3, random_state=0, backend="numpy").fit(PIXELS)
    quiet = [PIXELS[:19] / 255, np.zeros((50, 6)), PIXELS / 15.9, PIXELS * 15.9, -PIXELS, sparse.csr_array(PIXELS)]
    assert [warned(model, X) for X in quiet] == [[]] * len(quiet)
    assert warned(model, sparse.csr_array(PIXELS / 255))
    shifted = KMeans(3, random_state=0, backend="numpy").fit(PIXELS + 1e6)
    assert warned(shifted, PIXELS[:50] % 3 + 1e6) == []  # narrow, but where the fitted rows are
    assert warned(SphericalKMeans(3, random_state=0, backend="numpy").fit(PIXELS), PIXELS / 255) == []  # has no unit


def test_a_first_look_does_not_decide_that_all_rows_are_small():
    X = np.full((1 << 18, 2), 1.0)
    X[1] = 255.0  # not among the evenly spaced rows of the first look
    assert range_of(X, 1 << 14) == (1.0, 1.0)
    assert warned(KMeans(2, random_state=0, backend="numpy").fit(PIXELS[:, :2]), X) == []


def test_the_range_of_batches_is_that_of_all_and_sparse_rows_have_their_zeros():
    model = MiniBatchKMeans(2, random_state=0, backend="numpy").partial_fit(PIXELS[1:50] + 1)
    low, high = model.data_range_
    model.partial_fit(-PIXELS)
    assert model.data_range_ == (-255.0, high)
    assert low > 0
    for dense in (np.array([[0.0, 3.0], [5.0, 6.0]]), np.array([[2.0, 3.0], [-5.0, 6.0]]), np.zeros((2, 2))):
        given = receive(KMeans(), sparse.csr_array(dense), backend="numpy", reset=True)
        assert value_range(given) == (dense.min(), dense.max())


def test_problems_fitted_together_have_their_ranges_and_files_keep_them(tmp_path):
    X = np.stack([PIXELS[:40], PIXELS[40:80] - 300])
    models = gpukmeans.fit_many(X, 2, random_state=0, backend="numpy")
    assert [model.data_range_ for model in models] == [(x.min(), x.max()) for x in X]
    again = gpukmeans.load_model(models[1].save(tmp_path / "model.npz"))
    assert again.data_range_ == models[1].data_range_
    assert warned(again, PIXELS / 1e4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_refused_has_no_range(bad):
    model = KMeans(2, n_init=1, random_state=0, backend="numpy").fit(PIXELS / 1.0)
    X = PIXELS / 1.0
    X[3, 1] = bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="contains"):
            model.predict(X)
