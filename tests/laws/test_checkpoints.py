"""A fit that goes on from a checkpoint ends in the bits of the fit that was never interrupted, wherever that was."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans, open_rows
from gpukmeans.backends import NumpyBackend
from gpukmeans.scale import checkpoints
from tests.support.assertions import assert_same
from tests.support.toy_backend import ToyBackend

RNG = np.random.default_rng(8)
X = (RNG.integers(0, 4, (500, 1)) + RNG.standard_normal((500, 5))).astype(np.float32)
WEIGHT = RNG.integers(0, 3, 500) / 3


class Stopped(BaseException):
    """Neither an error nor Ctrl-C."""


def stop_at(number, raised=Stopped):
    """A `progress` that raises at this call."""
    left = iter(range(1, number))

    def progress(record):
        if next(left, None) is None:
            raise raised

    return progress


def interrupted(path, model, X, number, *, every=3, raised=Stopped, **fit):
    """Fit until the iteration of this number; True if it was reached."""
    model.set_params(progress=stop_at(number, raised))
    try:
        with gpukmeans.checkpoint(path, every=every):
            model.fit(X, **fit)
    except raised:
        return True
    return False


KINDS = {
    "restarts": lambda: KMeans(4, n_init=3, random_state=3, tol=0),
    "random": lambda: KMeans(4, n_init=2, init="random", random_state=3),
    "k-means||": lambda: KMeans(4, n_init=2, init="k-means||", random_state=3, max_iter=7),
    "empty clusters": lambda: KMeans(4, init=np.vstack([X[:2], np.full((2, 5), 90.0)]), tol=0),
    "spherical": lambda: SphericalKMeans(4, n_init=2, random_state=3),
    "batches": lambda: MiniBatchKMeans(4, random_state=3, batch_size=40, max_no_improvement=None, max_iter=3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_goes_on_to_the_same_bits_from_any_iteration_on_any_backend(kind, tmp_path):
    backends = [NumpyBackend(), ToyBackend()]
    weight = WEIGHT if kind in ("random", "empty clusters", "batches") else None
    want = KINDS[kind]().set_params(backend=backends[0]).fit(X, sample_weight=weight)
    path, number, reached = tmp_path / "run.ckpt", 1, True
    while reached:
        model = KINDS[kind]().set_params(backend=backends[number % 2])
        reached = interrupted(path, model, X, number, every=5, sample_weight=weight)
        got = gpukmeans.resume(path, X, sample_weight=weight, backend=backends[number % 2 - 1])
        assert_same(got, want)
        assert got.n_features_in_ == 5
        if kind != "batches":  # which keep one record of all steps before
            assert [r.n_moved for r in got.fit_report_.iterations] == [r.n_moved for r in want.fit_report_.iterations]
        number = 2 * number + 3
    assert number > 5
    assert_same(gpukmeans.resume(path, X, sample_weight=weight), want)  # of a fit that has ended


def test_a_bisection_goes_on_after_its_last_split(tmp_path, monkeypatch):
    from gpukmeans.estimators.splits import Splitter

    want = BisectingKMeans(7, random_state=2, n_init=2).fit(X, sample_weight=WEIGHT)
    best, n_splits = Splitter._best, []

    def few(self, *args):
        n_splits.append(1)
        if len(n_splits) == 4:
            raise Stopped
        return best(self, *args)

    monkeypatch.setattr(Splitter, "_best", few)
    with pytest.raises(Stopped), gpukmeans.checkpoint(tmp_path / "run.ckpt", every=1):
        BisectingKMeans(7, random_state=2, n_init=2).fit(X, sample_weight=WEIGHT)
    got = gpukmeans.resume(tmp_path / "run.ckpt", X, sample_weight=WEIGHT)
    assert_same(got, want)
    assert len(n_splits) == 4 + 3  # three splits were known


def test_rows_may_come_from_elsewhere_and_in_far_units(tmp_path):
    """In memory, then streamed, then in memory; CSR with unused columns; values whose squares are no floats."""
    path, wide = tmp_path / "run.ckpt", np.zeros((500, 3000))
    wide[:, ::700] = X
    np.save(tmp_path / "X.npy", X)
    cases = [
        (X, open_rows(tmp_path / "X.npy")),
        (open_rows(lambda a, b: X[a:b], n_samples=500, device_memory_limit=4096), X),
        (sparse.csr_array(wide), open_rows(sparse.csr_array(wide))),
        (X * np.float64(1e-170), X * np.float64(1e-170)),
    ]
    for before, after in cases:
        rows = np.asarray(before.todense()) if sparse.issparse(before) else after if before is after else before
        want = KMeans(4, random_state=3, tol=0).fit(rows)
        assert interrupted(path, KMeans(4, random_state=3, tol=0), before, 5)
        assert_same(gpukmeans.resume(path, after), want)


def test_a_run_on_a_device_goes_on_elsewhere(backend, tmp_path):
    small = X[:80]
    want = KMeans(3, random_state=1, tol=0, backend="numpy").fit(small)
    assert interrupted(tmp_path / "run.ckpt", KMeans(3, random_state=1, tol=0, backend=backend), small, 4, every=2)
    assert_same(gpukmeans.resume(tmp_path / "run.ckpt", small, backend=backend), want)


# ---- interruptions ---------------------------------------------------------------------------------------------------


def n_kept(path):
    return len(checkpoints.Checkpoint.read(path).resumed["iterations"]["n_moved"])


def test_ctrl_c_and_errors_leave_where_the_fit_stood(tmp_path):
    for raised in (KeyboardInterrupt, ZeroDivisionError):
        path = tmp_path / f"{raised.__name__}.ckpt"
        assert interrupted(path, KMeans(4, random_state=3, tol=0), X, 6, every=100, raised=raised)
        assert n_kept(path) == 5
    path = tmp_path / "plain.ckpt"
    assert interrupted(path, KMeans(4, random_state=3, tol=0), X, 6, every=4)
    assert n_kept(path) == 5


def written_at(path):
    """When the file was written last."""
    return os.stat(path).st_mtime_ns if path.exists() else None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here, which spares their imports")
@pytest.mark.parametrize("n_kills", [5, pytest.param(50, marks=pytest.mark.weekly)])
def test_kills_at_any_time_lose_the_last_iterations_at_most(n_kills, tmp_path):
    """Children write without end, are killed at moments drawn in time, and go on where the last one was."""
    rng, path = np.random.default_rng(n_kills), tmp_path / "run.ckpt"
    make = lambda: KMeans(5, n_init=20, random_state=3, tol=0)  # noqa: E731
    whole = make().fit(X)
    last, torn = 0, 0
    for kill in range(n_kills):
        before, child = written_at(path), os.fork()
        if not child:
            try:
                if kill:
                    gpukmeans.resume(path, X, backend="numpy")
                else:
                    with gpukmeans.checkpoint(path, every=2):
                        make().set_params(backend="numpy").fit(X)
            finally:
                os._exit(0)
        deadline = time.monotonic() + 60  # each fifth may be killed before it writes, the others have written once
        while kill % 5 != 1 and written_at(path) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert n_kept(path) >= last, "the checkpoint went back"
        last = n_kept(path)
        torn += len(list(tmp_path.glob(".*.part")))
    assert last > 0
    assert_same(gpukmeans.resume(path, X), whole)
    assert os.listdir(tmp_path) == ["run.ckpt"]  # parts of files are removed
    print(f"{n_kills} kills, {torn} of them during a write, {last} iterations kept")


def test_a_full_disk_leaves_the_last_checkpoint_and_the_fit(tmp_path):
    resource = pytest.importorskip("resource")
    path, limits = tmp_path / "run.ckpt", resource.getrlimit(resource.RLIMIT_FSIZE)
    want = KMeans(4, random_state=3, tol=0).fit(X)

    def full(record):
        if record.iteration == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))

    try:
        with pytest.warns(RuntimeWarning, match="could not be written"), gpukmeans.checkpoint(path, every=2):
            got = KMeans(4, random_state=3, tol=0, progress=full).fit(X)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_same(got, want)
    assert n_kept(path) == 4
    assert os.listdir(tmp_path) == ["run.ckpt"]
    assert_same(gpukmeans.resume(path, X), want)


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    assert interrupted(tmp_path / "run.ckpt", KMeans(4, random_state=3, tol=0), X, 5, sample_weight=WEIGHT)
    return tmp_path / "run.ckpt"


def test_other_rows_and_weights_are_refused(path):
    one = X.copy()
    one[317, 4] = np.nextafter(one[317, 4], 9)
    swapped = X.copy()
    swapped[[7, 8]] = X[[8, 7]]
    for rows, weight, why in (
        (one, WEIGHT, "of other rows than those given"),
        (swapped, WEIGHT, "of other rows than those given"),
        (X[:-1], WEIGHT[:-1], r"500 dense rows of 5 features, float32, with weights, and given were 499"),
        (X.astype(float), WEIGHT, "given were 500 dense rows of 5 features, float64"),
        (sparse.csr_array(X), WEIGHT, "given were 500 sparse"),
        (X, None, "without weights"),
        (X, WEIGHT[::-1], "of other weights"),
    ):
        with pytest.raises(ValueError, match=why) as caught:
            gpukmeans.resume(path, rows, sample_weight=weight)
        assert str(caught.value).count(". ") == 0
    assert gpukmeans.resume(path, X, sample_weight=WEIGHT).n_iter_ > 4


def test_torn_foreign_and_newer_files_are_refused(path, tmp_path, monkeypatch):
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-30], b"", b"no checkpoint", whole[:900] + b"?" + whole[901:]):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged: "):
            gpukmeans.resume(tmp_path / "damaged", X)
    model = KMeans(3, random_state=0).fit(X).save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="no array gpukmeans_checkpoint"):
        gpukmeans.resume(model, X)
    with pytest.raises(ValueError, match="no array gpukmeans_model"):
        gpukmeans.load_model(path)
    with pytest.raises(FileNotFoundError, match="nothing"):
        gpukmeans.resume(tmp_path / "nothing", X)
    monkeypatch.setattr(checkpoints, "FORMAT", checkpoints.FORMAT._replace(version=2))
    assert interrupted(tmp_path / "newer", KMeans(3, random_state=0), X, 3)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"in format 2; gpukmeans .* reads formats up to 1: update it"):
        gpukmeans.resume(tmp_path / "newer", X)


def test_values_that_no_fit_has_are_refused(path):
    """With the right checksum: a file that was made by hand."""
    for spoil in (
        lambda values: values["run"].update(centers=np.zeros((3, 5), np.float32)),
        lambda values: values["run"].update(assigned=np.full((4, 5), np.nan, np.float32)),
        lambda values: values["run"].update(n_iter=99),
        lambda values: values["random_state"].update(place=9999),
        lambda values: values.pop("iterations"),
        lambda values: values["parameters"].update(colour="red"),
    ):
        kept = checkpoints.Checkpoint.read(path)
        values = {"parameters": kept.head["parameters"], **kept.resumed}
        spoil(values)
        kept.head["parameters"] = values.pop("parameters")
        bad = checkpoints.Checkpoint(path.with_name("bad"), 3)
        bad.head = kept.head
        bad.first(lambda values=values: values)
        with pytest.raises(ValueError, match=r"bad: not as `gpukmeans.checkpoint` writes it"):
            gpukmeans.resume(bad.path, X, sample_weight=WEIGHT)


def test_a_path_keeps_what_is_there(path, tmp_path):
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"a fit that has not ended: go on with gpukmeans.resume, or delete it"):
        interrupted(path, KMeans(3), X, 2)
    assert path.read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes.txt is there and no checkpoint"):
        interrupted(tmp_path / "notes.txt", KMeans(3), X, 2)
    with pytest.raises(FileNotFoundError, match="its folder does not exist"):
        interrupted(tmp_path / "no" / "run", KMeans(3), X, 2)
    gpukmeans.resume(path, X, sample_weight=WEIGHT)
    assert interrupted(path, KMeans(3), X, 2), "the checkpoint of a fit that has ended makes room"


def test_what_keeps_no_checkpoint_is_refused(tmp_path):
    class Own(KMeans):
        pass

    def inside(call, **options):
        with gpukmeans.checkpoint(tmp_path / "run.ckpt", **options):
            call()

    for call, why in (
        (lambda: [KMeans(2).fit(X), KMeans(2).fit(X)], "A second fit while .*run.ckpt is kept"),
        (lambda: gpukmeans.fit_many([X[:9], X[:9]], 2), "fit_many keeps no checkpoint"),
        (lambda: MiniBatchKMeans(2).partial_fit(X), "partial_fit keeps no checkpoint"),
        (lambda: Own(2).fit(X), "none of the classes"),
        (lambda: inside(lambda: None), "not ended|within another one"),
    ):
        (tmp_path / "run.ckpt").unlink(missing_ok=True)
        with pytest.raises((RuntimeError, FileExistsError), match=why):
            inside(call)
    (tmp_path / "run.ckpt").unlink(missing_ok=True)
    for call, why in (
        (lambda: KMeans(2, init=lambda X, k, random_state: X[:k]).fit(X), "init is a callable"),
        (lambda: KMeans(2, random_state=np.random.RandomState(np.random.PCG64(1))).fit(X), "another generator"),
    ):
        with pytest.raises(ValueError, match=why):
            inside(call)
    with pytest.raises(ValueError, match="every=0 should be a whole number"):
        inside(lambda: None, every=0)
    with pytest.warns(UserWarning, match="No fit of gpukmeans ran"):
        inside(lambda: None)
    assert os.listdir(tmp_path) == []
