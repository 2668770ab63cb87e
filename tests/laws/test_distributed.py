"""Rows on workers end in the bits of the same rows in memory, however they are cut and whatever is lost on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import KMeans, MiniBatchKMeans
from gpukmeans.distributed import WorkersLost, fit, parts, resume, seeding
from gpukmeans.distributed.executors import ExecutorEngine
from gpukmeans.distributed.rows_given import PartedInput
from tests.support.assertions import assert_same
from tests.support.toy_backend import ToyBackend

CUTS = [1, 50, 50, 400]
PARAMS = {"random_state": 1, "backend": "numpy"}


def blobs(dtype="float32", n=600):
    rng = np.random.default_rng(5)
    X = rng.integers(0, 5, (n, 1)) * 30.0 + rng.standard_normal((n, 6)) * 5 + 20.0
    return np.clip(X, 0, 255).astype(dtype)


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "two-level", "random"])
@pytest.mark.parametrize("backend", ["numpy", ToyBackend()], ids=["numpy", "toy"])
def test_draws_weights_and_restarts_are_those_of_rows_in_memory(threads, init, backend):
    """Also with few distinct rows, whose ties are decided exactly."""
    weight = np.random.default_rng(3).integers(0, 4, 600) / 3
    for dtype, distinct in (("uint8", 600), ("float32", 600), ("float64", 9)):
        X = blobs(dtype)[np.random.default_rng(2).integers(0, distinct, 600)]
        for w in (None, weight):
            params = {"init": init, "n_init": 2, "random_state": 4, "backend": backend}
            want = KMeans(4, **params).fit(X, sample_weight=w)
            assert_same(fit(np.split(X, CUTS), 4, executor=threads, sample_weight=w, **params), want)


def test_many_rows_have_blocks_that_lie_across_parts(threads, monkeypatch):
    monkeypatch.setattr("gpukmeans.distributed.seeding.MOST_BLOCKS", 64)
    X = blobs("float64", 5000)
    for init in ("k-means++", "k-means||"):
        want = KMeans(6, init=init, **PARAMS).fit(X)
        assert_same(fit(np.split(X, [1, 1000, 1100, 4999]), 6, executor=threads, init=init, **PARAMS), want)


@pytest.mark.parametrize("scale", [1e-160, 1.0])
def test_empty_clusters_and_far_units(threads, scale):
    X = np.round(blobs("float64"), 1) * scale
    start = np.concatenate([X[:3], np.full((2, 6), 900.0 * scale)])
    params = {"init": start, "n_init": 1, "tol": 0, "backend": "numpy"}
    want = KMeans(5, **params).fit(X)
    assert sum(record.n_relocated for record in want.fit_report_.iterations) > 0
    assert_same(fit(np.split(X, CUTS), 5, executor=threads, **params), want)


@pytest.mark.parametrize("init", ["k-means++", "k-means||"])
def test_what_parts_have_lost_is_computed_again(threads, init):
    """As of a worker that is lost between any two steps."""
    lost = np.random.default_rng(0)

    class Forgetful(ExecutorEngine):
        def _submit(self, *args):
            for held in self._held:
                if held._part is not None and lost.random() < 0.3:
                    held._part.kept.clear()
            return super()._submit(*args)

        def derived(self, *args, **named):
            return Forgetful(self._executor, super().derived(*args, **named)._held)

    X = blobs("float32")
    for _ in range(3):
        model = KMeans(6, init=init, **PARAMS).fit(PartedInput(Forgetful.of(np.split(X, CUTS), threads), "parts"))
        assert_same(model, KMeans(6, init=init, **PARAMS).fit(X))


def test_distances_to_other_seeds_are_not_taken_for_those_asked_for():
    X = blobs("float64")
    part, plan = parts.Part(0, X), seeding.Plan(parts.Job("numpy", "exact", False, None, np.inf, 6), 1)
    seeding.add(part, plan, b"", X[:1])
    known = seeding.checksum(b"", X[:1])
    assert seeding.propose(part, plan, known, X[1:3]) is not None
    assert seeding.propose(part, plan, seeding.checksum(b"", X[3:4]), X[1:3]) is None


def _dies():
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_make_parts_themselves_and_a_dead_one_is_named():
    X = blobs("uint8")
    want = KMeans(4, init="random", n_init=1, **PARAMS).fit(X)
    with ProcessPoolExecutor(2) as executor:
        assert_same(fit(np.split(X, CUTS), 4, executor=executor, init="random", n_init=1, **PARAMS), want)
        assert_same(
            fit([*map(sparse.csr_array, np.split(X, CUTS))], 4, executor=executor, init="random", n_init=1, **PARAMS),
            want,
        )
        with pytest.raises(WorkersLost, match="A process of ProcessPoolExecutor has died"):
            fit([X, _dies], 4, executor=executor, **PARAMS)


def test_bad_parts_end_in_one_sentence(threads):
    X = blobs()
    nan = X.copy()
    nan[7, 3] = np.nan
    for given, message in (
        ([X, nan], "part 1 contains NaN in its row 7"),
        ([X, X[:, :3]], "part 1 has float32 rows of 3 features, and part 0 float32 rows of 6 features"),
        ([X, X.astype("float64")], "part 1 has float64 rows .* and part 0 float32 rows"),
        ([X, X[0]], r"part 1: a block has shape \(6,\)"),
        ([X[:0]], "0 rows of 6 features"),
        ([], "at least one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(given, 2, executor=threads, backend="numpy")
    infinite = sparse.csr_array(np.where(np.arange(600)[:, None] == 31, np.inf, X)).astype("float32")
    for given, message in (
        ([X, infinite], "part 1 contains infinity in its row 31"),
        ([X, sparse.csr_array(X)], "part 1 has sparse float32 rows of 6 features, and part 0 float32 .* all dense or"),
        ([sparse.csr_array(X).astype(complex)], "part 0: a block has dtype complex128; rows are real numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(given, 2, executor=threads, backend="numpy")
    with pytest.raises(ValueError, match="should be 'dask', 'ray' or an Executor"):
        fit([X], 2, executor="spark")


# ---- Dask ------------------------------------------------------------------------------------------------------------


def assert_same_on_dask(got, want):
    """Labels lie where the rows do."""
    assert hasattr(got.labels_, "dask")
    got.labels_ = got.labels_.compute()
    assert_same(got, want)


@pytest.fixture(scope="module")
def array():
    return pytest.importorskip("dask.array", reason="Dask is not installed: pip install 'gpukmeans[dask]'")


def test_a_dask_array_without_a_client(array):
    X = blobs()
    D = array.from_array(X, chunks=((1, 99, 0, 500), (2, 4)))
    want = KMeans(5, **PARAMS).fit(X)
    model = KMeans(5, **PARAMS).fit(D)
    assert model.labels_.chunks == ((1, 99, 0, 500),)
    assert np.array_equal(model.predict(D).compute(), want.labels_)
    assert model.score(D) == want.score(X)
    assert np.array_equal(model.transform(D).compute().argmin(axis=1), want.labels_)
    assert_same_on_dask(model, want)
    unknown = D[D[:, 0] > 50]
    assert_same_on_dask(KMeans(5, **PARAMS).fit(unknown), KMeans(5, **PARAMS).fit(X[X[:, 0] > 50]))
    assert isinstance(MiniBatchKMeans(5, **PARAMS).fit(D).labels_, np.ndarray)
    with pytest.raises(ValueError, match="two dimensions"):
        KMeans(2).fit(D.ravel())


@pytest.fixture(scope="module")
def client(array):
    distributed = pytest.importorskip("distributed", reason="pip install 'gpukmeans[dask]'")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


def test_a_dask_array_on_processes(array, client):
    X = blobs("uint8")
    weight = np.random.default_rng(3).integers(0, 4, 600) / 3
    D = array.from_array(X, chunks=((1, 99, 0, 500), (2, 4)))
    params = {"init": "k-means||", **PARAMS}
    model = KMeans(4, **params).fit(D, sample_weight=array.from_array(weight))
    assert model.score(D) == KMeans(4, **params).fit(X, sample_weight=weight).score(X)
    assert_same_on_dask(model, KMeans(4, **params).fit(X, sample_weight=weight))
    with client.as_current():
        stopped = KMeans(4, callback=lambda number, *_: number == 2, init=X[:4], n_init=1, **PARAMS).fit(D)
    assert stopped.n_iter_ == 2


def counts(n=600):
    """Rows in CSR, with entries that are given twice, in the order that flags deny, and zeros that are stored."""
    rng = np.random.default_rng(7)
    size, rows = rng.integers(0, 9, n), rng.integers(0, 200, (n, 30))
    indptr = np.concatenate([[0], np.cumsum(size)])
    data = rng.integers(0, 200, indptr[-1]).astype("uint8")
    X = sparse.csr_array((data, np.concatenate([x[:m] for x, m in zip(rows, size, strict=True)]), indptr), (n, 200))
    X.has_canonical_format = True
    return X


@pytest.mark.parametrize("init", ["k-means++", "k-means||"])
def test_parts_in_csr(threads, array, client, tmp_path, init):
    X, w = counts(), np.random.default_rng(3).integers(0, 4, 600) / 3
    for unit, weight in ((1.0, None), (1e-40, w)):
        rows = X if unit == 1.0 else X.astype("float64") * unit
        params = {"init": init, "n_init": 1, **PARAMS}
        want = KMeans(5, **params).fit(rows, sample_weight=weight)
        cut = [rows[a:b] for a, b in pairwise([0, *CUTS, 600])]
        with gpukmeans.checkpoint(tmp_path / f"{unit}.ckpt"):
            assert_same(fit(cut, 5, executor=threads, sample_weight=weight, **params), want)
        assert_same(gpukmeans.resume(tmp_path / f"{unit}.ckpt", rows, sample_weight=weight, backend="numpy"), want)
        assert_same(KMeans(5, **params).fit(gpukmeans.open_rows(rows), sample_weight=weight), want)
    D = array.from_array(X.toarray(), chunks=(170, 200)).map_blocks(sparse.csr_array)
    model = KMeans(5, **params).fit(D)
    assert np.array_equal(model.transform(D).compute().argmin(axis=1), model.labels_.compute())
    assert_same_on_dask(model, KMeans(5, **params).fit(X.toarray().astype("float64")))


def test_kills_change_no_bit(array, client, monkeypatch):
    """SIGKILL in the seeding, the first and the last iteration."""
    from gpukmeans.distributed import dask_parts

    X = blobs("float64")
    want = KMeans(5, **PARAMS).fit(X)
    D = array.from_array(X, chunks=(150, 6))

    def kill():
        os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)

    begun = []
    before = dask_parts.DaskEngine.map

    def map_and_kill(self, work, *args, **named):
        begun.append(work.__name__)
        if begun.count("propose") == 2 and begun[-1] == "propose":
            kill()
        return before(self, work, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(dask_parts.DaskEngine, "map", map_and_kill)
        model = KMeans(5, **PARAMS).fit(D)
    assert begun.count("propose") > 2
    assert_same_on_dask(model, want)
    moments = [1, want.n_iter_]
    killed = []

    def at(record):
        if record.iteration in moments:
            killed.append(record.iteration)
            kill()

    assert_same_on_dask(KMeans(5, progress=at, **PARAMS).fit(D), want)
    assert killed == moments


def test_a_slow_transfer_arrives_and_a_cancelled_step_is_taken_again(array, client, monkeypatch):
    from gpukmeans.distributed import dask_parts

    gather, fetched = type(client)._gather_remote, []

    async def slow(self, *args):
        fetched.append(1)
        if len(fetched) == 4:
            await asyncio.sleep(0.3)
        return await gather(self, *args)

    X, calls, submit = blobs(), [], dask_parts.DaskEngine._submit

    def cancelled(self, work, *args, **named):
        future = submit(self, work, *args, **named)
        calls.append(work.__name__)
        if calls.count("_same") == 2 and calls[-1] == "_same":
            future.cancel()
        return future

    D = array.from_array(X, chunks=(300, 6))
    with monkeypatch.context() as patch:
        patch.setattr(dask_parts, "LOOK", 0.05)
        patch.setattr(type(client), "_gather_remote", slow)
        patch.setattr(dask_parts.DaskEngine, "_submit", cancelled)
        model = KMeans(3, init="random", **PARAMS).fit(D)
    assert len(fetched) > 4
    assert_same_on_dask(model, KMeans(3, init="random", **PARAMS).fit(X))


def test_workers_without_the_package_are_named(array, client, monkeypatch):
    from gpukmeans.distributed import dask_parts

    D = array.from_array(blobs(), chunks=(300, 6))
    dask_parts._asked.clear()
    monkeypatch.setattr("gpukmeans.__version__", "99.0")
    with pytest.raises(WorkersLost, match=r"\d of \d Dask workers have gpukmeans .*: install gpukmeans==99\.0 on all"):
        KMeans(2).fit(D)


@pytest.mark.weekly
def test_lost_workers_and_a_lost_scheduler_are_named(array, monkeypatch):
    distributed = pytest.importorskip("distributed")
    from gpukmeans.distributed import dask_parts

    monkeypatch.setattr(dask_parts, "PATIENCE", 3.0)
    for lose, message in (
        (lambda cluster: cluster.scale(0), "has no workers"),
        (lambda cluster: cluster.sync(cluster.scheduler.close), "scheduler .* (is gone|does not answer)"),
    ):
        options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
            D = array.from_array(blobs(), chunks=(300, 6))

            def at(record, lose=lose, cluster=cluster):
                if record.iteration == 2:
                    lose(cluster)

            with pytest.raises(WorkersLost, match=message):
                KMeans(5, progress=at, **PARAMS).fit(D)


# ---- Ray -------------------------------------------------------------------------------------------------------------


@pytest.mark.weekly
def test_parts_on_ray(tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'gpukmeans[ray]'")
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    try:
        import ray.data

        X = blobs("float64")
        want = KMeans(5, **PARAMS).fit(X)
        cut = np.split(X, CUTS)
        assert_same(fit([ray.put(part) for part in cut], 5, executor="ray", **PARAMS), want)
        assert_same(fit(ray.data.from_numpy(np.split(X, [200])), 5, executor="ray", **PARAMS), want)
        with pytest.raises(ValueError, match="part 1: a block has shape"):
            fit([X, X[0]], 5, executor="ray")
        marker = tmp_path / "died"

        def dying():
            """A part whose first process dies."""
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return X[300:]

        assert_same(fit([X[:300], dying], 5, executor="ray", **PARAMS), want)
        assert marker.exists()
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def interrupt(record):
            if record.iteration == 2:
                threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGINT)).start()

        with pytest.raises(KeyboardInterrupt), gpukmeans.checkpoint(tmp_path / "run.ckpt"):
            fit(cut, 5, executor="ray", progress=interrupt, **PARAMS)
        assert_same(resume(tmp_path / "run.ckpt", cut, executor="ray"), want)
    finally:
        ray.shutdown()
