"""Input of every kind is clustered, and bad input gets an error that says what was given and loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning

from gpukmeans import KMeans
from tests.support.small_fits import FITTED, model, rows, same

# ---- input of every kind ---------------------------------------------------------------------------------------------


def strided(X):
    wide = np.zeros((len(X) * 2, X.shape[1] * 2), X.dtype)
    wide[::2, ::2] = X
    return wide[::2, ::2]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def swapped(X):
    return X.astype(X.dtype.newbyteorder())


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "reversed": lambda X: X[::-1].copy()[::-1],
    "read-only": read_only,
    "transposed": lambda X: X.T.copy().T,
    "misaligned": lambda X: np.frombuffer(b"x" + X.tobytes(), X.dtype, offset=1).reshape(X.shape),
    "other byte order": swapped,
    "memory map": None,
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_same_bits_and_is_left_alone(backend, layout, dtype, tmp_path):
    X = rows(dtype)
    if layout == "memory map":
        np.save(tmp_path / "rows.npy", X)
        given = np.load(tmp_path / "rows.npy", mmap_mode="r")
    else:
        given = LAYOUTS[layout](X)
    before = given.tobytes()
    got = KMeans(3, random_state=0, backend=backend).fit(given)
    assert same(got, KMeans(3, random_state=0, backend=backend).fit(X))
    assert np.array_equal(got.predict(given), got.labels_)
    assert given.tobytes() == before


@pytest.mark.parametrize("convert", [np.ndarray.tolist, lambda X: X.astype(np.int64), lambda X: X.astype(np.int8)])
def test_lists_and_integers_are_float64(convert):
    X = rows().round() // 2
    assert same(model().fit(convert(X)), model().fit(X))


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, np.uint16, bool, object])
def test_other_dtypes_are_converted_to_float64(dtype):
    X = (rows() > 100) if dtype is bool else rows().round()
    got = model().fit(X.astype(dtype))
    assert got.cluster_centers_.dtype == np.float64
    assert same(got, model().fit(X.astype(np.float64)))


def test_weights_may_be_lists_integers_or_one_number():
    X = rows()
    weight = np.arange(60)
    want = model().fit(X, sample_weight=weight.astype(float))
    assert same(model().fit(X, sample_weight=weight), want)
    assert same(model().fit(X, sample_weight=weight.tolist()), want)
    assert np.array_equal(model().fit(X, sample_weight=2.0).labels_, model().fit(X).labels_)


# ---- bad input -------------------------------------------------------------------------------------------------------


def planted(value, dtype=np.float64):
    X = rows(dtype)
    X[41, 2] = value
    return X


BAD_ROWS = [
    (planted(np.nan), "contains NaN"),
    (planted(np.nan, np.float32), "contains NaN"),
    (planted(np.inf), "contains infinity"),
    (planted(-np.inf, np.float32), "contains infinity"),
    (np.empty((0, 4)), r"Found array with 0 sample\(s\)"),
    (np.empty((5, 0)), r"Found array with 0 feature\(s\)"),
    (np.arange(6.0), "Expected 2D array, got 1D array instead"),
    (np.zeros((4, 2, 2)), "Found array with dim 3"),
    (np.float64(3), "Expected 2D array, got scalar array instead"),
    (planted(2.0**481), r"up to 6.24e\+144 in magnitude; squared distances need at most 2\*\*480"),
    (planted(-1e200), r"up to 1e\+200 in magnitude"),
    (rows().astype(complex) + 1j, "Complex data not supported"),
    ([["a", "b"], ["c", "d"], ["e", "f"]], "could not convert string to float|Unable to convert"),
]


@pytest.mark.parametrize(("X", "message"), BAD_ROWS)
@pytest.mark.parametrize("method", ["fit", "predict"])
def test_bad_rows_get_a_clear_error_and_change_nothing(backend, method, X, message):
    estimator = KMeans(3, random_state=0, backend=backend).fit(rows())
    kept = {name: getattr(estimator, name) for name in FITTED}
    with pytest.raises(ValueError, match=message):
        getattr(estimator, method)(X)
    assert all(getattr(estimator, name) is value for name, value in kept.items())


@pytest.mark.parametrize(("value", "dtype"), [(1e200, np.float64), (np.nan, np.float32)])
def test_rows_are_named_where_initial_centers_are_some_of_them(backend, value, dtype):
    X = planted(value, dtype)
    bad = int(np.flatnonzero(~(np.abs(X) < 1e100).all(axis=1))[0])
    with pytest.raises(ValueError, match=r"^(Input )?X "):
        KMeans(2, init=X[[0, bad]], n_init=1, backend=backend).fit(X)


def test_the_largest_allowed_values_are_clustered(backend):
    X = np.array([[2.0**480, 1.0], [-(2.0**480), 0.0], [2.0**480, -1.0]])
    fitted = KMeans(2, backend=backend, init=X[:2], n_init=1).fit(X)
    assert fitted.labels_.tolist() == [0, 1, 0]
    assert fitted.cluster_centers_[0].tolist() == [2.0**480, 0.0]


def test_too_few_rows():
    with pytest.raises(ValueError, match=r"^n_samples=3 should be >= n_clusters=8\.$"):
        KMeans(8, backend="numpy").fit(rows(n=3))


BAD_WEIGHTS = [
    (np.ones(59), r"sample_weight.shape == \(59,\), expected \(60,\)"),
    (np.ones((60, 1)), "Sample weights must be 1D"),
    (np.where(np.arange(60) == 7, -1.0, 1.0), "Negative values in data passed to `sample_weight`"),
    (np.zeros(60), "sample_weight is zero everywhere|at least one non-zero"),
    (np.where(np.arange(60) == 7, np.nan, 1.0), "Input sample_weight contains NaN"),
    (np.where(np.arange(60) == 7, np.inf, 1.0), "Input sample_weight contains infinity"),
    (np.full(60, 1e300), r"largest sample_weight is 1e\+300; it should lie between"),
    (np.full(60, 1e-300), r"largest sample_weight is 1e-300; it should lie between"),
    (["a"] * 60, "could not convert string to float"),
]


@pytest.mark.parametrize(("weight", "message"), BAD_WEIGHTS)
def test_bad_weights_get_a_clear_error(backend, weight, message):
    estimator = KMeans(3, backend=backend)
    with pytest.raises(ValueError, match=message):
        estimator.fit(rows(), sample_weight=weight)
    assert not hasattr(estimator, "labels_")


@pytest.mark.parametrize("weight", [2.0**50, 2.0**-399])
def test_the_most_extreme_weights_are_exact(backend, weight):
    X = rows()
    got = KMeans(3, random_state=0, backend=backend).fit(X, sample_weight=np.full(60, weight))
    want = KMeans(3, random_state=0, backend=backend).fit(X)
    assert np.array_equal(got.labels_, want.labels_)
    assert np.array_equal(got.cluster_centers_, want.cluster_centers_)
    assert got.inertia_ == want.inertia_ * weight


BAD_CENTERS = [
    (rows()[:2], r"The shape of the initial centers \(2, 4\) does not match the number of clusters 3."),
    (rows(d=5)[:3], r"The shape of the initial centers \(3, 5\) does not match the number of features of the data 4."),
    (np.full((3, 4), np.nan), "contains NaN"),
    (np.zeros(3), "Expected 2D array, got 1D array instead"),
    (np.full((3, 4), 1e300), r"init has values up to 1e\+300 in magnitude"),
]


@pytest.mark.parametrize(("centers", "message"), BAD_CENTERS)
@pytest.mark.parametrize("as_callable", [False, True])
def test_bad_centers_get_a_clear_error(centers, message, as_callable):
    init = (lambda X, k, random_state: centers) if as_callable else centers
    with pytest.raises(ValueError, match=message):
        model(init=init).fit(rows())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_callable_gets_what_scikit_learn_gives_it(dtype):
    """X less its mean (that of scikit-learn to rounding), k and the random state; what it returns is moved back."""
    X = rows(dtype)
    calls = {"ours": [], "theirs": []}

    def recorder(who):
        def init(X, n_clusters, random_state):
            calls[who].append((X.copy(), n_clusters, random_state.uniform()))
            # Ours may hand back a part of what it was given; scikit-learn would write into it.
            return X[5 : 5 + n_clusters] if who == "ours" else X[5 : 5 + n_clusters].copy()

        return init

    got = model(init=recorder("ours"), n_init=2, random_state=3).fit(X)
    floats = X.astype(np.float64) if dtype == np.uint8 else X
    want = SklearnKMeans(3, init=recorder("theirs"), n_init=2, random_state=3).fit(floats)
    assert len(calls["ours"]) == len(calls["theirs"]) == 2
    for mine, yours in zip(calls["ours"], calls["theirs"], strict=True):
        assert mine[0].dtype == yours[0].dtype
        np.testing.assert_allclose(mine[0], yours[0], atol=255 * 60 * np.finfo(mine[0].dtype).eps)
        assert mine[1:] == yours[1:]
    assert np.array_equal(got.labels_, want.labels_)
    assert got.n_iter_ == want.n_iter_


def test_a_fit_that_fails_leaves_the_estimator_as_it_was():
    X = np.random.default_rng(0).standard_normal((60, 3))
    fitted = KMeans(3, random_state=0, backend="numpy").fit(X)
    before = vars(fitted).copy()
    for bad, weight, complaint in (
        (np.full((60, 4), np.nan), None, "contains NaN"),
        (X[:2, :2], None, "n_samples=2 should be >= n_clusters=3"),
        (X[:, :2], -np.ones(60), "sample_weight"),
    ):
        with pytest.raises(ValueError, match=complaint):
            fitted.fit(bad, sample_weight=weight)
        assert vars(fitted) == before
    assert np.array_equal(fitted.predict(X), fitted.labels_)


def test_warnings_point_at_whoever_calls_fit():
    X = np.random.default_rng(0).standard_normal((30, 3))
    with pytest.warns(RuntimeWarning, match="only one init") as several:
        KMeans(3, init=X[:3], n_init=4, backend="numpy").fit(X)
    with pytest.warns(ConvergenceWarning, match="distinct clusters") as duplicates:
        KMeans(3, backend="numpy").fit(np.ones((30, 3)))
    assert several[0].filename == duplicates[0].filename == __file__
