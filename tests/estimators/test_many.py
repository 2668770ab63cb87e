"""Many problems in one call: each ends in the bits of its own fit, and launches do not grow with their number."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from gpukmeans import KMeans, fit_many
from gpukmeans.arrays.on_device import BFLOAT16, DeviceInput
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.datasets import near_ties
from gpukmeans.engine.tolerance import mean_variance
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import story
from tests.support.launches.common import DTYPES, ROW_DTYPES
from tests.support.many_problems import assert_same, emulated, one_by_one, problems, watched, weights_of


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- the law --------------------------------------------------------------------------------------------------------


@pytest.mark.one_in(6)
@pytest.mark.parametrize(
    ("dtype", "weighted"), [(np.uint8, False), (np.float32, False), (np.float32, True), (np.float64, True)]
)
@pytest.mark.parametrize(
    "params",
    [{}, {"n_init": 3, "tol": 0}, {"init": "random", "n_init": 2}, {"init": "k-means||"}, {"max_iter": 2}],
    ids=lambda params: "-".join(f"{name}={value}" for name, value in params.items()) or "defaults",
)
def test_every_problem_ends_in_the_bits_of_its_own_fit(dtype, weighted, params):
    X = problems(dtype)  # of more rows than a block takes: test_shapes
    weights = [*weights_of(3, 70)] if weighted else None
    got = fit_many(X, 6, sample_weight=weights, backend=watched(), random_state=5, **params)
    assert_same(got, one_by_one(X, 6, weights, random_state=5, **params))
    assert {model.backend_ for model in got} == {"cupy"}


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("k", "d"), [(1, 3), (8, 1), (17, 33), (40, 9)])
def test_shapes(k, d):
    X = problems(np.float32, 3, 130, d)
    assert_same(fit_many(X, k, backend=watched(), random_state=0), one_by_one(X, k, random_state=0))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BFLOAT16], ids=["float16", "bfloat16"])
def test_rows_on_the_device_are_read_in_place(dtype):
    backend = watched()
    X = problems(np.uint8, 3, 140, 5).astype(np.float32) / 7
    if dtype == BFLOAT16:
        stored = (X.view(np.uint32) >> 16).astype(np.uint16)
        wide = (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    else:
        stored = X.astype(np.float16)
        wide = stored.astype(np.float64)
    device = backend._device
    array = device.upload(stored)
    before = device.bytes_in_use
    if dtype == np.float16:
        got = fit_many(array, 4, backend=backend, random_state=0)
        assert_same(got, one_by_one(wide, 4, random_state=0))
        assert all(type(model.labels_) is type(array) for model in got)  # arrays in, arrays out
        assert all(type(model.cluster_centers_) is type(array) for model in got)
        got = fit_many(array, 4, backend=backend, random_state=0, n_init=3)
        assert_same(got, one_by_one(wide, 4, random_state=0, n_init=3))
    rows = backend.load_many(DeviceInput(array, array.shape, dtype, 0))
    assert device.bytes_in_use - before < stored.nbytes + 20 * 3 * 140
    assert rows.variances().tolist() == [mean_variance(NumpyBackend().load(x)) for x in wide]


def test_sequences_may_mix_shapes_dtypes_and_weights():
    local = np.random.default_rng(3)
    X = [
        *problems(np.float32, 2),
        *problems(np.float64, 2, 90, 3),
        problems(np.uint8, 1, 50, 2)[0],
        *problems(np.float32, 2, seed=7),
        local.standard_normal((30, 2)).tolist(),
    ]
    weights = [None, local.random(70), None, np.ones(90), None, None, local.random(70), None]
    got = fit_many(X, 4, sample_weight=weights, backend=emulated(), random_state=1, n_init=2)
    assert_same(got, one_by_one(X, 4, weights, random_state=1, n_init=2))


def test_sparse_rows_are_fitted_as_they_are_alone():
    """On a backend that reads none, the error is that of a fit."""
    X = [*problems(np.float32, 2), sparse.csr_matrix(problems(np.float32, 1)[0])]
    got = fit_many(X, 4, backend="numpy", random_state=1)
    assert_same(got, one_by_one(X, 4, random_state=1))
    backend = emulated()
    try:
        want = KMeans(4, backend=backend, random_state=1).fit(X[2])
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error), match=re.escape(f"problem 2: {error}")):
            fit_many(X, 4, backend=backend, random_state=1)
    else:
        assert_same(fit_many(X, 4, backend=backend, random_state=1)[2:], [want])


@pytest.mark.parametrize("init", ["k-means++", "random", "k-means||"])
def test_a_random_state_is_used_by_one_problem_after_another(init):
    X = [*problems(np.float32, 2), *problems(np.float64, 2, 60, 3), *problems(np.float32, 2, seed=5)]
    states = [np.random.RandomState(8) for _ in range(2)]
    got = fit_many(X, 5, backend=emulated(), random_state=states[0], n_init=2, init=init)
    assert_same(got, one_by_one(X, 5, random_state=states[1], n_init=2, init=init))
    assert states[0].random_sample() == states[1].random_sample()


def test_starts_may_be_given_for_all_or_for_each():
    X = problems(np.float64, 3, 80, 4)
    each = X[:, :5].copy()
    assert_same(fit_many(X, 5, init=each, backend=emulated()), one_by_one(X, 5, init=each))
    assert_same(fit_many(X, 5, init=[*each], backend=emulated()), one_by_one(X, 5, init=each))
    X = problems(np.uint8, 3, 80, 4)
    assert_same(fit_many(X, 5, init=X[0, :5], backend=emulated()), one_by_one(X, 5, init=X[0, :5]))
    with pytest.warns(RuntimeWarning, match="performing only one init"):
        fit_many(X, 5, init=X[0, :5], n_init=3, backend=emulated())


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("case", ["equal centers", "empty cluster", "near ties"])
def test_a_problem_that_goes_on_alone_takes_no_other_along(case):
    X = problems(np.float64, 4, 60, 5)
    init = X[:, ::10].copy()
    if case == "equal centers":
        X[2] = np.repeat(X[2, :3], 20, axis=0)
        init[2] = X[2, :6]
    elif case == "empty cluster":
        init[2, 3] += 1e12
    else:
        X[2], init[2] = near_ties(60, 6, 5, seed=1, dtype=np.float64)
    got = fit_many(X, 6, init=init, backend=emulated())
    assert_same(got, one_by_one(X, 6, init=init))
    if case == "empty cluster":
        assert [any(i.n_relocated for i in model.fit_report_.iterations) for model in got] == [
            False,
            False,
            True,
            False,
        ]
    got = fit_many(X, 6, random_state=3, n_init=2, backend=emulated())
    assert_same(got, one_by_one(X, 6, random_state=3, n_init=2))


def test_distinct_clusters_that_are_too_few_are_warned_of():
    X = problems(np.float32, 3)
    X[1] = X[1, :1]
    with pytest.warns(ConvergenceWarning, match=r"Number of distinct clusters \(1\)") as caught:
        got = fit_many(X, 3, random_state=0, backend=emulated())
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert (got[1].labels_ == 0).all()


def test_the_cpu_goes_through_them_one_by_one():
    X, seen = problems(np.float32, 3), []
    assert_same(fit_many(X, 4, backend="numpy", random_state=0), one_by_one(X, 4, random_state=0))
    for backend in ("numpy", emulated()):
        fit_many(X, 4, backend=backend, random_state=0, callback=lambda *told: seen.append(told[0]))
    assert seen.count(1) == 6

    def first_rows(X, k, random_state):
        return X[:k]

    got = fit_many(X, 4, backend=emulated(), init=first_rows, n_init=1)
    assert_same(got, one_by_one(X, 4, init=first_rows, n_init=1))


def test_nothing_in_nothing_out():
    assert fit_many([], 3) == []
    assert fit_many(np.empty((0, 5, 2)), 3, backend="numpy") == []


def test_models_are_whole():
    X = problems(np.float32, 3)
    got = fit_many(X, 4, backend=emulated(), random_state=0)
    model = pickle.loads(pickle.dumps(got[1].set_params(backend="numpy")))
    assert np.array_equal(model.predict(X[1]), got[1].labels_)
    assert story(model) == story(got[1])
    assert model.get_params()["n_clusters"] == 4
    assert set(model.fit_report_.stages) == {"load", "seed", "lloyd", "inertia"}
    assert got[1].fit_report_.stages["lloyd"] > 0
    assert len(model.fit_report_.iterations) == model.n_iter_


# ---- the parts ------------------------------------------------------------------------------------------------------


@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_found_out_of_problems_is_found_out_of_each(dtype, weighted):
    X, weights = problems(dtype, 3, 150, 7), weights_of(3, 150) if weighted else None
    if dtype != np.uint8:
        X[1] = np.rint(X[1] / X[1].max() * 100)  # one limb is enough, float64 exact
    backend = watched()
    together = backend.load_many(X, weights)
    for number, x in enumerate(X):
        alone = backend.load(x, weights[number] if weighted else None).table
        view = together.problem(number).table
        for name in ("norms", "rests", "offsets", "scales", "scale", "unit"):
            one, other = (backend._device.download(getattr(table.facts, name)) for table in (alone, view))
            assert np.array_equal(one, other), name
        assert np.array_equal(alone.facts.table, view.facts.table)
        assert (alone.grid.bits, alone.grid.n_limbs) == (view.grid.bits, view.grid.n_limbs)
        assert np.array_equal(alone.grid.scale, view.grid.scale)
        assert alone.weight_grid.n_limbs == view.weight_grid.n_limbs
        assert np.array_equal(alone.weight_grid.scale, view.weight_grid.scale)
        assert (alone.largest_integer, alone.largest) == (view.largest_integer, view.largest)
        assert np.array_equal(view.take(np.array([3, 149])), x[[3, 149]])
    assert together.grid.n_limbs == max(together.problem(number).grid.n_limbs for number in range(3))
    assert np.array_equal(together.take(np.array([0, 151, 449])), X.reshape(-1, 7)[[0, 151, 449]])


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("dtype", "weighted", "k", "n", "n_problems"),
    [(dtype, weighted, 3, 300, 3) for dtype in DTYPES for weighted in (False, True)]
    + [(np.uint8, False, 36, 140, 2), (np.float32, True, 36, 140, 2), (np.float64, False, 36, 140, 2)],
)
def test_seeds_of_problems_are_those_of_each(dtype, weighted, k, n, n_problems):
    """From 32 seeds on rows are left out by their distances to seeds."""
    X, weights = problems(dtype, n_problems, n, 6), weights_of(n_problems, n) if weighted else None
    local = np.random.default_rng(4)
    n_runs = 2 if k < 32 else 1
    seeds, draws = local.integers(n, size=(n_problems * n_runs, 1)), local.random((n_problems * n_runs, k - 1, 3))
    backend = watched()
    together = backend.load_many(X, weights).plusplus(seeds, draws)
    assert together.n_certain.min() > k / 2
    for number, x in enumerate(X):
        runs = slice(n_runs * number, n_runs * (number + 1))
        alone = backend.load(x, weights[number] if weighted else None).plusplus(seeds[runs], draws[runs])
        for run in range(n_runs):
            certain = min(alone.n_certain[run], together.n_certain[runs][run])
            assert np.array_equal(alone.rows[run, :certain], together.rows[runs][run, :certain])


@pytest.mark.parametrize("dtype", DTYPES)
def test_variances_are_those_of_each(dtype):
    X, weights = problems(dtype, 3), weights_of(3, 70)
    want = [mean_variance(NumpyBackend().load(x)) for x in X]
    assert watched().load_many(X).variances().tolist() == want
    assert watched().load_many(X, weights).variances().tolist() == want  # weights do not enter


@pytest.mark.parametrize("on_device", [False, True])
def test_more_centers_than_share_launches_go_one_by_one(on_device):
    X = problems(np.float32, 2, 150, 4)
    backend = CupyBackend(EmulatorDevice())
    k = tuning.FEW_CENTERS + 1
    got = fit_many(backend._device.upload(X) if on_device else X, k, backend=backend, random_state=0, max_iter=3)
    assert_same(got, one_by_one(X, k, random_state=0, max_iter=3))


# ---- what cannot be done --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "emulated"])
@pytest.mark.parametrize("weighted", [False, True])
def test_errors_name_the_problem(backend, weighted):
    backend = emulated() if backend == "emulated" else backend
    for bad, message in ((np.nan, "problem 2: Input X contains NaN"), (np.inf, "problem 2: Input X contains infinity")):
        X = problems(np.float64, 4, 30, 2)
        X[2, 7, 1] = bad
        weights = np.ones((4, 30)) + np.arange(30) if weighted else None
        with pytest.raises(ValueError, match=message):
            fit_many(X, 3, backend=backend, sample_weight=weights)
        with pytest.raises(ValueError, match=message):
            fit_many([*X], 3, backend=backend, sample_weight=weights)
    X = [*problems(np.float64, 3, 30, 2), np.zeros((2, 2))]
    with pytest.raises(ValueError, match="problem 3: n_samples=2 should be >= n_clusters=3"):
        fit_many(X, 3, backend=backend)
    weights = np.ones((3, 30))
    weights[1, 2] = -1
    with pytest.raises(ValueError, match="problem 1: Negative values in data passed to `sample_weight`"):
        fit_many(X[:3], 3, backend=backend, sample_weight=weights)


def test_words_for_what_is_not_allowed():
    X = problems(np.float64, 3, 30, 2)
    with pytest.raises(ValueError, match=r"problems has shape \(30, 2\); a 3-D array .* For a single problem call"):
        fit_many(X[0], 3)
    with pytest.raises(ValueError, match="sample_weight has 2 entries for 3 problems; give one for each"):
        fit_many(X, 3, sample_weight=np.ones((2, 30)))
    with pytest.raises(ValueError, match="init has 2 entries for 3 problems"):
        fit_many(X, 3, init=X[:2, :3])
    with pytest.raises(ValueError, match="The 'tol' parameter of KMeans"):
        fit_many(X, 3, tol=-1)
    with pytest.raises(ValueError, match="problem 0: The shape of the initial centers"):
        fit_many(X, 3, init=X[:, :4], backend=emulated())
