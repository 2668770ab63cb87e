"""The estimator's contract: scikit-learn's parameters, attributes, methods and warnings, on every backend."""

from __future__ import annotations

import pickle
import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_estimator

import gpukmeans
from gpukmeans import KMeans
from gpukmeans.backends import BackendUnavailable, get_backend
from gpukmeans.backends.cuda.device import probe
from tests.support.oracles import nearest
from tests.support.small_fits import model, rows, same

# ---- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_clusters", 0),
        ("n_clusters", 2.5),
        ("n_clusters", "3"),
        ("init", "kmeans++"),
        ("init", None),
        ("n_init", 0),
        ("n_init", "few"),
        ("max_iter", 0),
        ("max_iter", 1.5),
        ("tol", -1e-9),
        ("tol", "small"),
        ("verbose", -1),
        ("random_state", "zero"),
        ("copy_x", "yes"),
        ("algorithm", "full"),
    ],
)
def test_a_wrong_parameter_gets_scikit_learns_error(name, value):
    with pytest.raises(InvalidParameterError) as theirs:
        SklearnKMeans(**{"n_clusters": 3, name: value}).fit(rows())
    with pytest.raises(InvalidParameterError) as ours:
        model().set_params(**{name: value}).fit(rows())
    words = [sorted(re.findall(r"[^\s{},]+", str(error.value))) for error in (ours, theirs)]  # sets have any order
    if name == "init":
        for name in ("'k-means||'", "'two-level'"):  # scikit-learn has neither
            words[0].remove(name)
    assert words[0] == words[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backend", "cuda"),
        ("backend", 3),
        ("backend", None),
        ("precision", "float16"),
        ("callback", 3),
        ("progress", 3),
    ],
)
def test_a_wrong_parameter_of_our_own_is_named(name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of KMeans must be"):
        model().set_params(**{name: value}).fit(rows())


def test_the_constructor_is_scikit_learns_and_a_little_more():
    theirs, ours = SklearnKMeans().get_params(), KMeans().get_params()
    assert {name: ours[name] for name in theirs} == theirs
    assert set(ours) - set(theirs) == {"backend", "precision", "callback", "progress"}
    with pytest.raises(TypeError):
        KMeans(3, "k-means++")  # keyword only, as in scikit-learn


def test_clone_parameters_and_pickle():
    first = model(tol=0.0, n_init=2).fit(rows())
    copy = clone(first)
    assert copy.get_params() == first.get_params()
    assert not hasattr(copy, "labels_")
    assert same(copy.fit(rows()), first)
    again = pickle.loads(pickle.dumps(first))
    assert same(again, first)
    assert np.array_equal(again.predict(rows(seed=1)), first.predict(rows(seed=1)))
    assert "n_init=2" in repr(first)


def test_fit_changes_no_parameter():
    init = rows()[:3]
    state = np.random.RandomState(0)
    estimator = model(init=init, random_state=state)
    kept = init.copy()
    estimator.fit(rows())
    assert estimator.init is init
    assert np.array_equal(init, kept)
    assert estimator.random_state is state


@pytest.mark.parametrize("algorithm", ["lloyd", "elkan"])
@pytest.mark.parametrize("copy_x", [True, False])
def test_parameters_that_change_nothing(algorithm, copy_x):
    X = rows()
    X.flags.writeable = False
    assert same(model(algorithm=algorithm, copy_x=copy_x).fit(X), model().fit(X))


def test_the_same_random_state_gives_the_same_fit():
    X = rows()
    assert same(model(random_state=4).fit(X), model(random_state=4).fit(X))
    assert same(model(random_state=4).fit(X), model(random_state=np.random.RandomState(4)).fit(X))


def test_n_init_keeps_the_best_run(backend):
    X = rows()
    state = np.random.RandomState(2)
    alone = [KMeans(6, init="random", n_init=1, random_state=state, backend=backend).fit(X) for _ in range(5)]
    together = KMeans(6, init="random", n_init=5, random_state=2, backend=backend).fit(X)
    best = min(alone, key=lambda run: run.inertia_)  # the first of equals
    assert same(together, best)
    assert max(run.inertia_ for run in alone) > best.inertia_


def test_n_init_auto_is_one_for_plusplus_and_arrays_and_ten_for_random():
    for init, runs in [("k-means++", 1), (rows()[:3], 1), ("random", 10), (lambda X, k, random_state: X[:k], 10)]:
        seen = model(init=init).fit(rows()).fit_report_.iterations
        assert max(record.init for record in seen) + 1 == runs


def test_given_centers_run_once_and_say_so():
    with pytest.warns(RuntimeWarning, match="performing only one init in KMeans instead of n_init=5"):
        model(init=rows()[:3], n_init=5).fit(rows())


def test_fit_is_the_estimator_in_one_call():
    X = rows()
    weight = np.arange(60.0)
    got = gpukmeans.fit(X, 3, random_state=0, backend="numpy", sample_weight=weight)
    assert isinstance(got, KMeans)
    assert same(got, model().fit(X, sample_weight=weight))
    assert gpukmeans.fit(X, backend="numpy").n_clusters == 8


# ---- fitted attributes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "centers"), [(np.uint8, np.float64), (np.float32, np.float32), (np.float64, np.float64)]
)
def test_fitted_attributes(backend, dtype, centers):
    X = rows(dtype)
    fitted = KMeans(3, random_state=0, backend=backend).fit(X)
    assert fitted.cluster_centers_.shape == (3, 4)
    assert fitted.cluster_centers_.dtype == centers
    assert fitted.labels_.shape == (60,)
    assert fitted.labels_.dtype == np.int32
    assert isinstance(fitted.inertia_, float)
    assert isinstance(fitted.n_iter_, int)
    assert fitted.n_features_in_ == 4
    assert fitted.backend_ == backend.name
    assert fitted.get_feature_names_out().tolist() == ["kmeans0", "kmeans1", "kmeans2"]


def test_feature_names_are_kept_and_checked():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows(), columns=list("abcd"))
    fitted = model().fit(frame)
    assert fitted.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[list("dcba")])


def test_the_report_and_the_callback_tell_of_every_iteration(backend):
    seen = []
    fitted = KMeans(4, init="random", n_init=3, random_state=0, backend=backend, progress=seen.append).fit(rows())
    report = fitted.fit_report_
    assert report.iterations == seen
    assert [record.iteration for record in seen if record.init == 0][:3] == [1, 2, 3][: len(seen)]
    assert {record.init for record in seen} == {0, 1, 2}
    assert fitted.n_iter_ in {max(r.iteration for r in seen if r.init == i) for i in range(3)}
    assert set(report.stages) == {"load", "seed", "lloyd", "inertia"}
    assert all(seconds >= 0 for seconds in report.stages.values())
    assert report.backend == backend.describe()


def test_verbose_output_is_scikit_learns(capsys):
    X = rows()
    theirs = SklearnKMeans(3, init=X[:3], n_init=1, verbose=1, tol=0).fit(X)
    wanted = capsys.readouterr().out.splitlines()
    model(init=X[:3], verbose=1, tol=0).fit(X)
    got = capsys.readouterr().out.splitlines()
    assert theirs.n_iter_ > 1
    assert [line.split(",")[0] for line in got] == [line.split(",")[0] for line in wanted]
    assert got[-1] == wanted[-1]
    for mine, yours in zip(got, wanted, strict=True):
        if "inertia" in mine:
            a, b = (float(line.split("inertia ")[1].rstrip(".")) for line in (mine, yours))
            assert abs(a / b - 1) < 1e-12
    model().fit(X)
    assert capsys.readouterr().out == ""


# ---- predict, transform, score ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["predict", "transform", "score"])
def test_unfitted(method):
    with pytest.raises(NotFittedError):
        getattr(model(), method)(rows())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_transform_and_score_are_scikit_learns(backend, dtype):
    X, other = rows(dtype), rows(dtype, seed=1)
    fitted = KMeans(3, random_state=0, backend=backend).fit(X)
    reference = SklearnKMeans(3, init=fitted.cluster_centers_, n_init=1, max_iter=1, tol=1e9).fit(X.astype(np.float64))
    reference.cluster_centers_ = fitted.cluster_centers_.astype(np.float64)
    distances = fitted.transform(other)
    # sklearn's |x|^2 - 2 x.c + |c|^2 loses half the digits: 1e-6 in float64, upcast chunks for float32.
    np.testing.assert_allclose(distances, reference.transform(other.astype(np.float64)), rtol=1e-5)
    assert distances.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert abs(fitted.score(other) / reference.score(other.astype(np.float64)) - 1) < 1e-12
    assert fitted.score(X) == -fitted.inertia_
    weight = np.random.default_rng(0).random(60, np.float32)  # for float32 rows weights are rounded to float32
    assert (
        abs(fitted.score(X, sample_weight=weight) / reference.score(X.astype(float), sample_weight=weight) - 1) < 1e-12
    )
    assert np.array_equal(fitted.fit_transform(X), fitted.transform(X))
    assert np.array_equal(KMeans(3, random_state=0, backend=backend).fit_predict(X), fitted.labels_)


def test_predict_of_other_dtypes_meets_the_centers_as_stored(backend):
    """Centers of float64 that differ by less than float32 can tell: float32 rows must not round them."""
    fitted = KMeans(2, backend=backend, init=[[1.0 + 1e-9], [1.0]], n_init=1).fit([[1.0 + 1e-9], [1.0]])
    X = np.array([[0.0], [2.0], [1.0]], np.float32)
    assert fitted.predict(X).tolist() == [1, 0, 1]
    assert fitted.predict(X.astype(np.float64)).tolist() == [1, 0, 1]
    assert fitted.predict(X.astype(np.uint8)).tolist() == [1, 0, 1]
    assert fitted.score(X) == fitted.score(X.astype(np.float64))
    small = KMeans(3, random_state=0, backend=backend).fit(rows(np.float32))
    for dtype in (np.uint8, np.float64):
        assert np.array_equal(small.predict(rows(dtype)), nearest(rows(dtype), small.cluster_centers_))


@pytest.mark.parametrize("method", ["predict", "transform", "score"])
def test_a_wrong_number_of_features_is_named(method):
    fitted = model().fit(rows())
    with pytest.raises(ValueError, match="X has 3 features, but KMeans is expecting 4 features as input"):
        getattr(fitted, method)(rows(d=3))


def test_in_a_pipeline():
    X = rows()
    labels = make_pipeline(StandardScaler(), model()).fit_predict(X)
    assert np.array_equal(labels, model().fit(StandardScaler().fit_transform(X)).labels_)


def test_scikit_learns_own_checks_pass():
    """But for those that scikit-learn's KMeans fails too: draws among repeated rows are others than among weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(KMeans(backend="numpy"), on_fail=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert set(failed) <= {f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse")}
    assert len(results) > 40


# ---- backends --------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_gpu(monkeypatch):
    reason = "the driver knows no CUDA device."
    monkeypatch.setattr(probe, "probe", lambda: probe.Probe(False, reason))
    return reason


def test_cupy_without_a_gpu_says_why_and_loses_nothing(no_gpu):
    estimator = model().fit(rows())
    kept = dict(vars(estimator))
    X = rows(seed=1)
    before = X.copy()
    estimator.set_params(backend="cupy")
    for method in (estimator.fit, estimator.predict, estimator.score):
        with pytest.raises(BackendUnavailable, match=no_gpu) as error:
            method(X)
        assert "backend='numpy'" in str(error.value)
    assert {**vars(estimator), "backend": "numpy"} == kept
    assert np.array_equal(X, before)
    fresh = model(backend="cupy")
    with pytest.raises(BackendUnavailable):
        fresh.fit(X)
    assert not [name for name in vars(fresh) if name.endswith("_")]


def test_auto_without_a_gpu_is_numpy_and_says_so(no_gpu):
    fitted = model(backend="auto").fit(rows())
    assert fitted.backend_ == "numpy"
    assert same(fitted, model(backend="numpy").fit(rows()))


def test_a_backend_object_is_used_as_it_is():
    class Counting(type(get_backend("numpy"))):
        loads = 0

        def load(self, *args, **options):
            type(self).loads += 1
            return super().load(*args, **options)

    own = Counting()
    assert same(model(backend=own).fit(rows()), model().fit(rows()))
    assert Counting.loads >= 1
    assert get_backend(own) is own
    with pytest.raises(ValueError, match="backend='cuda' is not one of 'auto', 'numpy', 'cupy'"):
        get_backend("cuda")


# ---- warnings --------------------------------------------------------------------------------------------------------


def test_fewer_distinct_rows_than_clusters_warn_as_in_scikit_learn(backend):
    X = np.repeat(rows(n=2), 5, axis=0)
    with pytest.warns(ConvergenceWarning) as theirs:
        SklearnKMeans(3, random_state=0).fit(X)
    with pytest.warns(ConvergenceWarning) as ours:
        KMeans(3, random_state=0, backend=backend).fit(X)
    more = " There are 2 distinct rows of positive weight."
    assert [str(w.message) for w in ours] == [str(w.message) + more for w in theirs]


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_an_ordinary_fit_warns_of_nothing(backend, dtype, scale):
    X = rows(dtype) if dtype == np.uint8 else (rows() * scale).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KMeans(3, random_state=0, backend=backend).fit(X).predict(X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_and_smallest_values_warn_of_nothing(backend, dtype):
    """Overflow inside a screen is intended: the caller gets no warning of it."""
    scales = (2.0**100, 2.0**-140) if dtype == np.float32 else (2.0**460, 2.0**-450)
    for scale in scales:
        X = (rows() * scale / 256).astype(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted = KMeans(3, random_state=0, backend=backend).fit(X)
        assert np.array_equal(fitted.labels_, nearest(X, fitted.cluster_centers_))
