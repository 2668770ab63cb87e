"""`backend=` takes any object that has the names of the protocol, and names those that are missing."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import InvalidParameterError

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans, fit_many, k_means, kmeans_plusplus
from gpukmeans.backends import Backend, CupyBackend, Feed, NumpyBackend, Rows, Run, Seeding
from gpukmeans.backends.choice import NAMES
from gpukmeans.backends.defaults import BackendDefaults, RowsDefaults, RunDefaults
from gpukmeans.backends.problems import BatchBackend
from gpukmeans.backends.protocol import members, missing
from gpukmeans.study.options import Options
from tests.support.assertions import assert_same
from tests.support.toy_backend import ToyBackend

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]


def rows(dtype=np.float64, n=90, d=4):
    local = np.random.default_rng(5)
    return (100 + 20 * local.standard_normal((n, d)) + 60 * local.integers(-1, 2, (n, 1))).clip(1, 255).astype(dtype)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_a_backend_of_required_names_only_serves_every_estimator(cls, dtype, weighted):
    X = rows(dtype)
    weight = np.random.default_rng(6).random(len(X)) if weighted else None
    got, want = (cls(5, random_state=0, backend=b).fit(X, sample_weight=weight) for b in (ToyBackend(), "numpy"))
    assert got.backend_ == "toy"
    assert_same(got, want)
    assert np.array_equal(got.predict(X[::2]), want.predict(X[::2]))
    assert np.array_equal(got.transform(X), want.transform(X))
    assert got.score(X, sample_weight=weight) == want.score(X, sample_weight=weight)


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random", lambda X, k, random_state: X[:k]])
def test_it_serves_every_start(init):
    X = rows()
    for params in ({"n_init": 3}, {"n_init": 1, "max_iter": 1}):
        models = [KMeans(6, init=init, random_state=2, backend=b, **params).fit(X) for b in (ToyBackend(), "numpy")]
        assert_same(*models)


def test_it_serves_the_functions():
    X = rows()
    toy, numpy = ({"random_state": 1, "backend": b} for b in (ToyBackend(), "numpy"))
    for got, want in zip(k_means(X, 4, **toy), k_means(X, 4, **numpy), strict=True):
        assert np.array_equal(got, want)
    for got, want in zip(kmeans_plusplus(X, 4, **toy), kmeans_plusplus(X, 4, **numpy), strict=True):
        assert np.array_equal(got, want)
    stack = np.stack([X, X[::-1]])
    for got, want in zip(fit_many(stack, 3, **toy), fit_many(stack, 3, **numpy), strict=True):
        assert_same(got, want)
    stream = [MiniBatchKMeans(3, **params).partial_fit(X[:40]).partial_fit(X[40:]) for params in (toy, numpy)]
    assert_same(*stream)


def test_it_relocates_empty_clusters():
    X = rows()
    init = np.concatenate([X[:2], np.full((2, 4), 5000.0)])
    models = [KMeans(4, init=init, n_init=1, backend=b).fit(X) for b in (ToyBackend(), "numpy")]
    assert sum(record.n_relocated for record in models[0].fit_report_.iterations) > 0
    assert_same(*models)


# ---- what is missing ------------------------------------------------------------------------------------------------


class Half:
    """What was asked for in earlier versions, and is not enough for any fit."""

    load = checks_values = describe = len


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("method", ["fit", "fit_predict"])
def test_an_object_that_lacks_names_is_refused_with_all_of_them(cls, method):
    pattern = r"lacks name, reads_sparse, .*feed, load_in_turn: derive its class from .*BackendDefaults"
    with pytest.raises(TypeError, match=pattern):
        getattr(cls(2, backend=Half()), method)(rows())


@pytest.mark.parametrize("name", members(Backend))
def test_each_missing_name_is_told(name):
    kept = {other: getattr(ToyBackend(), other) for other in members(Backend) if other != name}
    model = KMeans(2, backend=type("Partly", (), kept)())
    with pytest.raises(TypeError, match=f"lacks {name}: derive"):
        model.fit(rows())
    for call in (kmeans_plusplus, k_means):
        with pytest.raises(TypeError, match=f"lacks {name}: derive"):
            call(rows(), 2, backend=model.backend)
    with pytest.raises(TypeError, match=f"lacks {name}: derive"):
        fit_many([rows()], 2, backend=model.backend)


def test_a_backend_that_fits_many_needs_two_names_more():
    class Joins(ToyBackend):
        fits_many = True

    with pytest.raises(TypeError, match="lacks problems_at_a_time, load_many: derive"):
        fit_many([rows()], 2, backend=Joins())


@pytest.mark.parametrize("backend", [3, None, object(), "gpu", ["numpy"], NumpyBackend])
def test_what_is_no_backend_at_all_is_a_wrong_parameter(backend):
    with pytest.raises(InvalidParameterError, match=r"a str among .*'cupy'.* or a gpukmeans\.backends\.Backend"):
        KMeans(2, backend=backend).fit(rows())
    with pytest.raises(InvalidParameterError, match=r"a gpukmeans\.backends\.Backend"):
        kmeans_plusplus(rows(), 2, backend=backend)


def test_sparse_rows_and_rows_on_a_device_need_a_backend_that_reads_them():
    with pytest.raises(ValueError, match="the backend 'toy' reads dense rows only"):
        KMeans(2, backend=ToyBackend()).fit(sparse.csr_array(rows()))
    with pytest.raises(ValueError, match="backend='toy' computes on the host"):
        gpukmeans.backends.get_backend(ToyBackend(), 0)


# ---- the protocols --------------------------------------------------------------------------------------------------


def test_every_backend_has_all_names(every_backend):
    X = rows(np.float32)
    loaded = every_backend.load(X)
    assert missing(every_backend, Backend) == []
    assert missing(loaded, Rows) == []
    assert missing(loaded.start(X[:2]), Run) == []
    assert missing(loaded.seeding(), Seeding) == []
    with every_backend.feed(X, 10) as feed:
        assert missing(feed, Feed) == []


def test_the_classes_have_all_names():
    for cls in (NumpyBackend, CupyBackend, ToyBackend):
        assert missing(cls, Backend) == []
    assert missing(CupyBackend, BatchBackend) == []
    assert CupyBackend.fits_many
    assert not NumpyBackend.fits_many


@pytest.mark.parametrize(
    ("defaults", "protocol"), [(BackendDefaults, Backend), (RowsDefaults, Rows), (RunDefaults, Run)]
)
def test_defaults_have_names_of_the_protocol_only_and_the_toy_writes_the_others(defaults, protocol):
    optional = {name for name in vars(defaults) if not name.startswith("_")}
    assert optional <= set(members(protocol))
    backend = ToyBackend()
    toy = {Backend: backend, Rows: backend.load(rows()), Run: backend.load(rows()).start(rows()[:2])}[protocol]
    own = {name for cls in type(toy).__mro__[:1] for name in vars(cls)} | set(vars(toy))
    assert set(members(protocol)) - optional <= own
    assert own & optional == set()


def test_default_batch_sums_are_exact():
    """Where rounded distances leave the inertia open, whole numbers decide it."""
    X = rows(np.uint8)
    loaded = [backend.load(X) for backend in (ToyBackend(), NumpyBackend())]
    for centers in (X[:3].astype(np.float64), X[:3] + 1e-9):
        got, want = (each.batch_sums(centers) for each in loaded)
        assert np.array_equal(got.sums, want.sums)
        assert np.array_equal(got.weights, want.weights)
        assert got.inertia == want.inertia
        assert np.isnan(loaded[0].batch_sums(centers, inertia=False).inertia)


def test_runs_that_advance_together_are_not_a_default():
    with pytest.raises(NotImplementedError):
        ToyBackend().load(rows()).start_many(rows()[None, :2])


def test_duplicates_are_warned_of_by_default_counts():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning, match="Number of distinct clusters"):
            KMeans(3, random_state=0, backend=ToyBackend()).fit(np.repeat(rows(n=2), 4, axis=0))


def test_the_command_line_offers_the_names_that_estimators_take():
    """It names them itself, so that `gpukmeans --help` need not load any backend's protocol."""
    (option,) = (each for each in dataclasses.fields(Options) if each.name == "backend")
    assert tuple(option.metadata["kwargs"]["choices"]) == NAMES
