"""MiniBatchKMeans: scikit-learn's steps in float64, the same bits on every backend, and its estimator's contract."""

from __future__ import annotations

import functools
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import MiniBatchKMeans as Sklearn
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_estimator

from gpukmeans import KMeans, MiniBatchKMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.rows import NumpyRows
from tests.support.assertions import assert_same
from tests.support.oracles import nearest

ours = functools.partial(MiniBatchKMeans, backend="numpy")


def blobs(n=1500, k=8, d=6, seed=0, spread=3.0):
    rng = np.random.default_rng(seed)
    return spread * rng.standard_normal((k, d))[rng.integers(0, k, n)] + rng.standard_normal((n, d))


def weights(n):
    return np.random.default_rng(1).uniform(0, 3, n) * (np.arange(n) % 7 != 3)


def some_rows(X, k, random_state):
    return X[random_state.permutation(len(X))[:k]]


def same_as_scikit_learns(got, want):
    """1e-10: scikit-learn rounds every sum of some hundred steps, each to 1e-16 of its terms."""
    assert got.n_steps_ == want.n_steps_
    np.testing.assert_allclose(got.cluster_centers_, want.cluster_centers_, rtol=1e-10, atol=1e-12)
    if want.compute_labels:
        assert np.array_equal(got.labels_, want.labels_)
        assert got.labels_.dtype == np.int32
    if hasattr(want, "inertia_"):
        assert got.inertia_ == pytest.approx(want.inertia_, rel=1e-9)


# ---- scikit-learn ----------------------------------------------------------------------------------------------------

GRID = {
    "defaults": {},
    "random": {"init": "random"},
    "random, once": {"init": "random", "n_init": 1},
    "array": {"init": blobs()[::200][:7]},
    "callable": {"init": some_rows, "n_init": 2},
    "more starts": {"n_init": 4},
    "tol": {"tol": 1e-3, "max_no_improvement": None},
    "to the end": {"max_no_improvement": None, "max_iter": 2},
    "at once": {"max_no_improvement": 0},
    "small batches": {"batch_size": 40},
    "tiny batches": {"batch_size": 14, "init_size": 30},
    "one batch": {"batch_size": 5000},
    "one step": {"batch_size": 1000, "max_iter": 1},
    "much reassigned": {"reassignment_ratio": 0.8, "batch_size": 50},
    "never reassigned": {"reassignment_ratio": 0, "batch_size": 20},
    "no labels": {"compute_labels": False},
    "many clusters": {"n_clusters": 60, "batch_size": 130},
    "one cluster": {"n_clusters": 1},
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("params", GRID.values(), ids=GRID.keys())
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_is_scikit_learns(params, weighted):
    X = blobs()
    weight = weights(len(X)) if weighted else None
    params = {"n_clusters": 7, **params}
    for seed in (0, 1):
        want = Sklearn(**params, random_state=seed).fit(X, sample_weight=weight)
        got = ours(**params, random_state=seed).fit(X, sample_weight=weight)
        same_as_scikit_learns(got, want)
        assert got.n_iter_ == want.n_iter_


def test_as_many_light_clusters_as_rows_are_taken_in_the_order_of_their_index(monkeypatch):
    """scikit-learn sorts equal weights as it comes; once its sort is stable, it does as we do."""
    X = blobs()
    got = ours(12, batch_size=7, init_size=20, random_state=0).fit(X)
    monkeypatch.setattr(np, "argsort", functools.partial(np.argsort, kind="stable"))
    same_as_scikit_learns(got, Sklearn(12, batch_size=7, init_size=20, random_state=0).fit(X))


@pytest.mark.parametrize("params", [{}, {"init": "random"}, {"init": blobs()[::200][:7]}, {"reassignment_ratio": 0.9}])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("compute_labels", [False, True])
def test_partial_fits_are_scikit_learns(params, weighted, compute_labels):
    X = blobs()
    weight = weights(len(X)) if weighted else None
    params = {"n_clusters": 7, "random_state": 3, "compute_labels": compute_labels, **params}
    want, got = Sklearn(**params), ours(**params)
    for start, stop in [(0, 100), (100, 130), (130, 131), (131, 900), (900, 1500)]:
        part = None if weight is None else weight[start:stop]
        for model in (want, got):
            model.partial_fit(X[start:stop], sample_weight=part)
        same_as_scikit_learns(got, want)
        assert hasattr(got, "inertia_") == compute_labels
        assert np.array_equal(got.predict(X), want.predict(X))
    got = pickle.loads(pickle.dumps(got))  # goes on where it was
    same_as_scikit_learns(got.partial_fit(X), want.partial_fit(X))
    assert not hasattr(clone(got), "cluster_centers_")


def test_partial_fit_after_fit_is_scikit_learns():
    X = blobs()
    want, got = (M(7, random_state=0, batch_size=100).fit(X) for M in (Sklearn, ours))
    for model in (want, got):
        model.partial_fit(X[:300]).partial_fit(X[300:320], sample_weight=np.eye(20)[3])
    same_as_scikit_learns(got, want)
    assert (got.labels_ >= 0).all()


def test_a_random_state_is_left_as_scikit_learn_leaves_it():
    X = blobs()
    states = [np.random.RandomState(5), np.random.RandomState(5)]
    for M, state in zip((Sklearn, ours), states, strict=True):
        M(7, random_state=state, batch_size=60, reassignment_ratio=0.5).fit(X)
    assert states[0].randint(1 << 30) == states[1].randint(1 << 30)


@pytest.mark.parametrize("params", [{}, {"tol": 0.1}, {"n_init": 2, "reassignment_ratio": 0.9, "batch_size": 30}])
def test_verbose_lines_are_scikit_learns(params, capsys):
    """But for the last digits of numbers."""
    lines = []
    for M in (Sklearn, ours):
        M(7, random_state=0, verbose=1, max_iter=3, **params).fit(blobs())
        words = [line.split() for line in capsys.readouterr().out.splitlines()]
        lines.append([[w for w in line if not w.replace(".", "").rstrip(",").isdigit()] for line in words])
    assert lines[0] == lines[1]
    assert len(lines[0]) > 5


# ---- the same bits everywhere ----------------------------------------------------------------------------------------


def equal_bits(a, b):
    assert_same(a, b)
    assert a._counts.tolist() == b._counts.tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("params", [{"init": "random"}, {"reassignment_ratio": 0.9, "batch_size": 20}])
def test_cuda_ends_in_numpys_bits(cuda_backend, dtype, params):
    """Batches of rows on the host come by way of a thread and of stages; much reassignment takes draws back."""
    X = blobs(150, 5, 5, spread=9.0)
    X = np.clip(20 * X + 128, 0, 255).astype(dtype)
    params = {"batch_size": 50, "max_iter": 4, "random_state": 1, "n_clusters": 6, "tol": 1e-6, **params}
    weight = weights(150)
    a = ours(**params).fit(X, sample_weight=weight)
    b = MiniBatchKMeans(**params, backend=cuda_backend).fit(X, sample_weight=weight)
    equal_bits(a, b)
    assert [r.inertia for r in a.fit_report_.iterations] == [r.inertia for r in b.fit_report_.iterations]
    if "reassignment_ratio" in params:
        assert sum(r.n_relocated for r in a.fit_report_.iterations) > 3
    equal_bits(a.partial_fit(X[:31], sample_weight=weight[:31]), b.partial_fit(X[:31], sample_weight=weight[:31]))
    assert (a.backend_, b.backend_) == ("numpy", "cupy")


class General(NumpyBackend):
    """Takes the way of a run for every batch."""

    def __init__(self):
        super().__init__(screen=False)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_short_cuts_of_the_cpu_change_no_bit(dtype, offset, threads, monkeypatch):
    monkeypatch.setattr("gpukmeans.threads.SMALL", 0)
    monkeypatch.setattr("gpukmeans.threads.n_threads", lambda: threads)
    X = (np.clip(blobs(3000, 20, 9), -20, 20) + 30 + offset).astype(dtype)
    X[::9] = X[0]  # and ties
    params = {"n_clusters": 15, "batch_size": 700, "random_state": 0, "max_iter": 3}
    equal_bits(ours(**params).fit(X), MiniBatchKMeans(**params, backend=General()).fit(X))


@pytest.mark.parametrize("spoilt", ["sums", "weights"])
def test_a_planted_fault_of_one_unit_is_seen(spoilt, monkeypatch):
    """The comparison with ==, and the one with scikit-learn's labels or centers, can both fail."""
    X = blobs()
    want = ours(7, random_state=0).fit(X)
    right = NumpyRows.batch_sums

    def wrong(self, *args, **options):
        found = right(self, *args, **options)
        return found._replace(**{spoilt: getattr(found, spoilt) * (1 + 2.0**-40)})

    monkeypatch.setattr(NumpyRows, "batch_sums", wrong)
    got = ours(7, random_state=0).fit(X)
    with pytest.raises(AssertionError):
        equal_bits(got, want)


def test_a_mapped_file_is_fitted_as_an_array(tmp_path):
    X = blobs().astype(np.float32)
    mapped = np.memmap(tmp_path / "rows", np.float32, "w+", shape=X.shape)
    mapped[:] = X
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=X.shape)
    equal_bits(ours(7, random_state=0).fit(mapped), ours(7, random_state=0).fit(X))
    a, b = ours(7, random_state=0), ours(7, random_state=0)
    for start in range(0, 1500, 300):
        equal_bits(a.partial_fit(mapped[start : start + 300]), b.partial_fit(X[start : start + 300]))


def test_float32_keeps_float32_centers_near_those_of_float64():
    """Each step rounds centers once to float32: 200 steps of 6e-8 at most, unless a row changes sides."""
    X = blobs(spread=20.0).astype(np.float32)
    a, b = ours(8, random_state=0).fit(X), ours(8, random_state=0).fit(X.astype(np.float64))
    assert a.cluster_centers_.dtype == np.float32
    assert np.array_equal(a.labels_, b.labels_)
    np.testing.assert_allclose(a.cluster_centers_, b.cluster_centers_, rtol=2e-5, atol=2e-5)
    assert np.array_equal(a.labels_, nearest(X, a.cluster_centers_))
    a.partial_fit(X.astype(np.float64)[:50])  # a stream may change its dtype, centers do not
    assert a.cluster_centers_.dtype == np.float32
    b.partial_fit(X[:50])
    assert b.cluster_centers_.dtype == np.float64


# ---- the estimator ---------------------------------------------------------------------------------------------------


def test_scikit_learns_estimator_checks():
    """All but those that scikit-learn's own fails: batches are drawn by weight, which repeated rows are not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(ours(), on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed <= {"check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"}
    assert len(results) > 40


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("compute_labels", "yes"),
        ("max_no_improvement", -1),
        ("init_size", 0),
        ("max_iter", 0),
        ("reassignment_ratio", -0.1),
        ("tol", -1.0),
        ("n_init", 0),
        ("callback", 3),
        ("progress", "x"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
def test_a_wrong_parameter_is_refused(name, value, verb):
    with pytest.raises(InvalidParameterError, match=name):
        getattr(ours(3).set_params(**{name: value}), verb)(blobs())


@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
def test_warnings_are_scikit_learns(verb):
    X = blobs()
    for params, pattern in [({"init_size": 3}, "init_size=3"), ({"init": X[:7], "n_init": 4}, "only one init")]:
        for M in (Sklearn, ours):
            with pytest.warns(RuntimeWarning, match=pattern) as caught:
                getattr(M(7, **params), verb)(X)
            assert len(caught) == 1
            if M is ours:
                assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(ours(7), verb)(X)


@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("X", "weight", "match"),
    [
        (blobs()[:4], None, "n_samples=4 should be >= n_clusters=7"),
        (blobs()[0], None, "2D"),
        (np.full((20, 6), np.nan), None, "NaN"),
        (np.where(np.arange(120).reshape(20, 6) == 77, np.inf, 1).astype(np.float32), None, "infinity"),
        (blobs()[:20] * 1e200, None, "2\\*\\*480"),
        (blobs()[:20], -np.ones(20), "[Nn]egative"),
        (blobs()[:20], np.zeros(20), "zero"),
        (blobs()[:20], np.ones(19), "sample_weight.shape"),
    ],
)
def test_errors_leave_the_estimator_as_it_was(verb, X, weight, match):
    model = ours(7, random_state=0)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=match):
        getattr(model, verb)(X, sample_weight=weight)
    assert vars(model) == before
    with pytest.raises(NotFittedError):
        model.predict(blobs())


def test_a_partial_fit_that_fails_half_way_changes_nothing(monkeypatch):
    """Neither attributes nor the random state: the next one goes on as if it had not been."""
    X = blobs()
    a, b = (ours(7, random_state=0, reassignment_ratio=0.9).partial_fit(X[:200]) for _ in range(2))
    state = pickle.dumps(a)
    right = MiniBatchKMeans._label

    def fail(*arguments):
        raise MemoryError("planted")

    monkeypatch.setattr(MiniBatchKMeans, "_label", fail)
    for batch in (X[200:240], X[240:300]):
        with pytest.raises(MemoryError, match="planted"):
            a.partial_fit(batch)
    with pytest.raises(MemoryError, match="planted"):
        a.fit(X)
    monkeypatch.setattr(MiniBatchKMeans, "_label", right)
    assert pickle.dumps(a) == state
    equal_bits(a.partial_fit(X[200:]), b.partial_fit(X[200:]))
    with pytest.raises(ValueError, match="features"):
        a.partial_fit(X[:, :3])
    equal_bits(a, b)


def test_what_follows_a_fit():
    X = blobs()
    model = ours(7, random_state=0).fit(X)
    assert np.array_equal(model.predict(X), model.labels_)
    assert model.score(X) == -model.inertia_
    assert model.transform(X).shape == (1500, 7)
    assert np.array_equal(ours(7, random_state=0).fit_predict(X), model.labels_)
    assert model.get_feature_names_out()[0] == "minibatchkmeans0"
    report = model.fit_report_
    assert list(report.stages) == ["seed", "steps", "labels"]
    assert len(report.iterations) == model.n_steps_
    assert isinstance(ours(3, init="k-means||", random_state=0).fit(X).inertia_, float)
    assert model.inertia_ < 1.3 * KMeans(7, random_state=0, backend="numpy").fit(X).inertia_


def test_a_callback_sees_every_step_and_ends_the_fit():
    seen = []
    X = blobs()
    model = ours(7, random_state=0, batch_size=90)

    def look(*values):
        seen.append(values)
        return len(seen) == 5

    model.set_params(callback=look).fit(X)
    assert [s[0] for s in seen] == [1, 2, 3, 4, 5]
    assert all(s[1] > 0 and s[2] > 0 and s[3] == 90 for s in seen)
    assert model.n_steps_ == 5
    records = []
    model.set_params(callback=None, progress=records.append, random_state=0).fit(X)
    assert [r.iteration for r in records] == list(range(1, model.n_steps_ + 1))
    assert [r.inertia for r in records[:5]] == [s[1] for s in seen]


def test_a_progress_bar_counts_steps(capsys):
    pytest.importorskip("tqdm")
    model = ours(7, random_state=0, progress=True).fit(blobs())
    shown = capsys.readouterr().err
    assert "MiniBatchKMeans" in shown
    assert f"{model.n_steps_}/" in shown
