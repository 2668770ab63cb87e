"""Rows that stream end in the bits of the same rows in memory, whatever they come from and however they are cut."""

from __future__ import annotations

import os
import re
import tempfile

import numpy as np
import pytest
from scipy import sparse

from gpukmeans import KMeans, MiniBatchKMeans, open_rows, read_table
from gpukmeans.backends import NumpyBackend
from gpukmeans.backends.cpu.seeding.screen import Shadow
from gpukmeans.scale import readers
from tests.support.assertions import assert_same
from tests.support.toy_backend import ToyBackend

#: So small that a few hundred rows are many blocks.
SMALL = {"device_memory_limit": 8192}


def blobs(dtype="float32", n=600):
    rng = np.random.default_rng(5)
    X = rng.integers(0, 5, (n, 1)) * 30.0 + rng.standard_normal((n, 6)) * 5 + 20.0
    return np.clip(X, 0, 255).astype(dtype)


class Blocks:
    """An iterable that begins anew."""

    def __init__(self, *blocks):
        self.blocks = blocks

    def __iter__(self):
        return iter(self.blocks)


def cut(X, *ends):
    return Blocks(*(X[a:b] for a, b in zip((0, *ends), (*ends, X.shape[0]), strict=True)), X[:0])


def saved(X, folder):
    np.save(folder / "rows.npy", X)
    return folder / "rows.npy"


def parquet(X, folder):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    names = [f"f{i}" for i in range(X.shape[1])]
    pq.write_table(pa.table(dict(zip(names, X.T, strict=True))), folder / "rows.parquet", row_group_size=130)
    return folder / "rows.parquet"


def csv(X, folder):
    pytest.importorskip("pyarrow")
    np.savetxt(folder / "rows.csv", X, delimiter=",", header="a,b,c,d,e,f", comments="", fmt="%d")
    return folder / "rows.csv"


def hdf5(X, folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "rows.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(100, 4), compression="gzip")
    return folder / "rows.h5"


def zarr(X, folder):
    zarr = pytest.importorskip("zarr", minversion="3")
    zarr.create_array(folder / "rows.zarr", data=X, chunks=(90, 6))
    return folder / "rows.zarr"


def dask(X, folder):
    return pytest.importorskip("dask.array").from_array(X, chunks=(77, 4))


SOURCES = {
    "npy": saved,
    "npy in Fortran order": lambda X, folder: saved(np.asfortranarray(X), folder),
    "memmap": lambda X, folder: np.load(saved(X, folder), mmap_mode="r"),
    "Parquet": parquet,
    "CSV": csv,
    "HDF5": hdf5,
    "Zarr": zarr,
    "Dask": dask,
    "iterable": lambda X, folder: cut(X, 0, 1, 50, 50, 400),
    "CSR": lambda X, folder: cut(sparse.csr_array(X), 3, 300),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_ends_in_the_bits_of_rows_in_memory(source, tmp_path):
    X = blobs("uint8" if source in (SOURCES["Parquet"], SOURCES["CSV"]) else "float32")
    want = KMeans(6, random_state=1, backend="numpy").fit(X)
    rows = open_rows(source(X, tmp_path), **SMALL)
    got = KMeans(6, random_state=1, backend="numpy").fit(rows)
    assert_same(got, want)
    assert rows.dtype == X.dtype
    assert got.data_range_ == want.data_range_
    assert got.fit_report_.bytes_read > X.nbytes
    assert np.array_equal(got.predict(rows), want.labels_)
    assert got.score(rows) == want.score(X)


@pytest.mark.parametrize(
    "backend", [NumpyBackend(), ToyBackend(), NumpyBackend(skip=False)], ids=["numpy", "toy", "plain"]
)
@pytest.mark.parametrize("init", ["k-means++", "k-means||", "two-level", "random"])
def test_draws_weights_and_relocations_are_the_same(backend, init, tmp_path):
    """Also with few distinct rows, whose ties are decided exactly, and with more clusters than these."""
    for dtype, distinct in (("float64", 600), ("float16", 9)):
        X = blobs(dtype)[np.random.default_rng(2).integers(0, distinct, 600)]
        weight = np.random.default_rng(3).integers(0, 4, 600) / 3
        params = {"init": init, "n_init": 1, "random_state": 4, "backend": backend}
        k = 6 if distinct > 9 or init == "k-means++" else 4
        want = KMeans(k, **params).fit(X, sample_weight=weight)
        called = open_rows(lambda a, b, X=X: X[a:b], n_samples=600, sample_weight=weight, **SMALL)
        np.save(tmp_path / "weights.npy", weight)
        for rows in (called, open_rows(saved(X, tmp_path), sample_weight=tmp_path / "weights.npy", **SMALL)):
            assert_same(KMeans(k, **params).fit(rows), want)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_every_backend_labels_blocks(every_backend, kind):
    if kind is not np.asarray and not every_backend.reads_sparse:
        pytest.skip("reads dense rows only")
    X = kind(blobs()[:90])
    start = X[:3].toarray() if sparse.issparse(X) else X[:3]
    params = {"init": start, "n_init": 1, "max_iter": 2}
    rows = open_rows(cut(X, 50), device_memory_limit=4096)
    assert_same(KMeans(3, backend=every_backend, **params).fit(rows), KMeans(3, backend="numpy", **params).fit(X))


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("scale", [1e-160, 1.0, 1e-9])
def test_empty_clusters_and_far_units(kind, scale):
    X = kind(np.round(blobs("float64"), 1) * scale)
    start = np.concatenate([kind(X)[:3].toarray() if sparse.issparse(X) else X[:3], np.full((2, 6), 900.0 * scale)])
    model = KMeans(5, init=start, n_init=1, tol=0, backend="numpy")
    want = KMeans(5, init=start, n_init=1, tol=0, backend="numpy").fit(X)
    assert sum(record.n_relocated for record in want.fit_report_.iterations) > 0
    assert_same(model.fit(open_rows(cut(X, 100, 250), **SMALL)), want)
    assert np.array_equal(model.transform(open_rows(X, **SMALL)), want.transform(X))


def least_limit(rows, k, init, **options):
    """What the error names as enough."""
    with pytest.raises(ValueError, match="is too little for") as error:
        open_rows(rows, memory_limit="1MB", **options).stream(k, init)
    return int(re.search(r"at least ([\d,]+)", str(error.value))[1].replace(",", ""))


@pytest.mark.parametrize("n_bytes", [0, 12, 80, 5000], ids=["labels in a file", "plain", "bounds", "tables"])
def test_what_is_kept_by_a_limit_changes_no_bit(n_bytes, tmp_path):
    """Bytes a row beyond what a fit needs at least."""
    X = blobs("uint8", 20_000)
    want = KMeans(6, init=X[:6], n_init=1, backend="numpy").fit(X)
    path = saved(X, tmp_path)
    rows = open_rows(path, memory_limit=least_limit(path, 6, X[:6]) + n_bytes * 20_000)
    assert tuple(rows.stream(6, X[:6]).room)[:3] == (not n_bytes, n_bytes > 60, n_bytes > 1000)
    assert_same(KMeans(6, init=X[:6], n_init=1, backend="numpy").fit(rows), want)


def test_seeds_are_drawn_within_a_limit(tmp_path, monkeypatch):
    """Distances to seeds lie in files, and no components of the rows are kept as they are without a limit."""
    X = np.random.default_rng(0).integers(0, 256, (8192, 256), np.uint8)
    weight = np.random.default_rng(3).integers(1, 4, len(X)) / 3
    params = {"n_init": 1, "random_state": 5, "max_iter": 1, "backend": "numpy"}
    want = KMeans(16, **params).fit(X, sample_weight=weight)
    path, made = saved(X, tmp_path), []
    monkeypatch.setattr("gpukmeans.backends.cpu.seeding.screen.Shadow", lambda *args: made.append(1) or Shadow(*args))
    least = least_limit(path, 16, "k-means++", sample_weight=weight)
    rows = open_rows(path, sample_weight=weight, memory_limit=least)
    assert rows.stream(16, "k-means++").room[3:] == (True, False)
    assert_same(KMeans(16, **params).fit(rows), want)
    assert not made
    assert_same(KMeans(16, **params).fit(open_rows(path, sample_weight=weight)), want)
    assert made


def test_limits_are_told_before_the_first_pass():
    def never(start, stop):
        assert stop - start <= 1, "the first pass"
        return np.zeros((stop - start, 8), np.float32)

    rows = open_rows(never, n_samples=10**9, memory_limit="8GB")
    with pytest.raises(
        ValueError, match=r"memory_limit=8,000,000,000 bytes is too little .*: at least [\d,]+ are needed"
    ):
        KMeans(100).fit(rows)
    with pytest.raises(ValueError, match="memory_limit='4 apples' is no number of bytes"):
        open_rows(never, n_samples=5, memory_limit="4 apples")


def test_blocks_are_batches():
    X = blobs("uint8")
    rows = open_rows(cut(X, 7, 400), **SMALL)
    one, other = MiniBatchKMeans(4, random_state=0), MiniBatchKMeans(4, random_state=0)
    for number, block in enumerate(rows.blocks(100)):
        assert np.array_equal(block, X[100 * number : 100 * (number + 1)])
        one.partial_fit(block)
        other.partial_fit(X[100 * number : 100 * (number + 1)])
    assert_same(one, other)
    with pytest.raises(TypeError, match=r"KMeans takes them; MiniBatchKMeans.partial_fit takes the blocks"):
        one.fit(rows)
    with pytest.raises(TypeError, match="stream and are no array"):
        np.asarray(rows)


# ---- bad input -------------------------------------------------------------------------------------------------------


def bad(X):
    nan, inf = X.copy(), X.copy()
    nan[555, 3], inf[100, 1] = np.nan, np.inf
    return {
        "NaN": (cut(nan, 200, 500), r"iterable Blocks: block 2 \(from row 500 on\) contains NaN in row 555"),
        "infinity": (inf, r"the ndarray: block 0 .* contains infinity in row 100"),
        "width": (
            Blocks(X[:9], X[9:, :3]),
            r"Blocks: block 1 \(from row 9 on\) has dense rows of 3 features, the first",
        ),
        "form": (Blocks(X[:9], sparse.csr_array(X[9:])), "block 1 .* has sparse rows of 6 features"),
        "dtype": (Blocks(X[:9], X[9:].astype(np.float64)), "block 1 .* has float64 rows that are not all float32"),
        "axes": (Blocks(X[:9], X[9]), "block 1 .*: a block has shape"),
        "objects": (Blocks(X[:9].astype(object)), "dtype object; rows are real numbers"),
        "column": (X, {"columns": [6]}, "ndarray: no column 6; there are 6"),
        "columns": (lambda start, stop: X[start:stop], {"columns": [0], "n_samples": 9}, "takes no columns"),
        "n_samples": (lambda start, stop: X[start:stop], {"n_samples": -1}, "needs n_samples, .* not -1"),
        "no block": ([1, 2], "the iterable list: a block has shape"),
        "bytes": (X + np.float32(0.5), {"dtype": "uint8"}, "has float32 rows that are not all uint8"),
        "empty": (Blocks(X[:0]), "no rows"),
        "nothing": (Blocks(), "no rows"),
        "once": ((block for block in [X]), "can be walked once only"),
        "number": (5, "open_rows of a int; a path, an array"),
        "address": ("s3://bucket/rows.zarr", "is an address, and only files of this machine"),
    }


@pytest.mark.parametrize("case", bad(blobs()).keys())
def test_bad_rows_end_in_one_sentence(case):
    source, *params, message = bad(blobs())[case]
    with pytest.raises((ValueError, TypeError), match=message):
        KMeans(2, backend="numpy").fit(open_rows(source, **dict(*params)))


def test_a_source_that_changes_is_refused(tmp_path):
    X = blobs()
    path = saved(X, tmp_path)
    init = X[:2].copy()
    rows = open_rows(path)
    os.utime(path, ns=(5, 5))
    with pytest.raises(ValueError, match=r"rows\.npy has changed since it was opened"):
        KMeans(2, init=init).fit(rows)
    rows = open_rows(path)
    rows.stream()
    os.truncate(path, path.stat().st_size - 100)
    rows._reader.check = lambda: None  # it is cut short between the look and the read
    with pytest.raises(ValueError, match="the file ends before row 600 of 600; it was cut short"):
        KMeans(2, init=init, backend="numpy").fit(rows)
    lengths = iter([600, 600, 600, 599])

    class Shrinking(Blocks):
        def __iter__(self):
            return iter([X[: next(lengths)]])

    with pytest.raises(ValueError, match="ended after 599 rows, and had 600 before"):
        KMeans(2, init=init, backend="numpy").fit(open_rows(Shrinking()))
    with pytest.raises(ValueError, match="rows 0 to 599 were asked for, 600 of them, and 10 came"):
        KMeans(2).fit(open_rows(lambda a, b: X[a : min(b, 10)], n_samples=600))
    with pytest.raises(ValueError, match="needs n_samples"):
        open_rows(lambda a, b: X[a:b])
    with pytest.raises(ValueError, match=r"n_samples=5, but .*rows.npy has 600"):
        open_rows(saved(X, tmp_path), n_samples=5)


def change_in_place(path):
    with open(path, "r+b") as file:
        file.seek(-100, 2)
        file.write(bytes(40))
    os.utime(path, ns=(5, 5))


@pytest.mark.parametrize("change", [change_in_place, os.remove, lambda path: os.truncate(path, 500)])
def test_a_file_that_changes_between_iterations_is_refused(change, tmp_path):
    """Also where a fit asks for single rows, and of mapped pages: to read beyond their end would kill the process."""
    X = blobs()
    for source in ("npy", "npy in Fortran order", "memmap"):
        rows = open_rows(SOURCES[source](X, tmp_path))

        def at(record):
            if record.iteration == 2:
                change(tmp_path / "rows.npy")

        with pytest.raises(ValueError, match=r"rows\.npy (has changed since|was removed after)"):
            KMeans(6, init=X[:6], n_init=1, tol=0, progress=at, backend="numpy").fit(rows)
    store = pytest.importorskip("zarr", minversion="3").open_array(zarr(X, tmp_path), mode="r+")
    rows = open_rows(tmp_path / "rows.zarr")

    def write(record):
        store[100:200] = 1.0

    with pytest.raises(ValueError, match=r"rows\.zarr has changed since it was opened"):
        KMeans(6, init=X[:6], n_init=1, progress=write, backend="numpy").fit(rows)


def test_a_full_disk_is_found_before_its_pages_are_written(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    X = blobs("uint8", 20_000)
    rows = open_rows(X, memory_limit=least_limit(X, 6, "k-means++"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"no room for a temporary file of 80,000 bytes .*: name another folder by"):
            KMeans(6, random_state=0, n_init=1, backend="numpy").fit(rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_predict_reads_a_file_once_and_still_names_a_bad_block(tmp_path):
    X = blobs(n=3000)
    model = KMeans(5, init=X[:5], n_init=1, backend="numpy").fit(X)
    rows = open_rows(saved(X, tmp_path), **SMALL)
    assert np.array_equal(model.predict(rows), model.predict(X))
    assert not rows.surveys
    X[2500, 3] = np.nan
    with pytest.raises(ValueError, match=r"rows\.npy: block \d+ .* contains NaN in row 2,500"):
        model.predict(open_rows(saved(X, tmp_path), **SMALL))


def test_rows_are_gathered_from_spans_of_windows(tmp_path, monkeypatch):
    """Single rows, near ones, and windows of which so much is wanted that they are read whole."""
    monkeypatch.setattr(readers, "WINDOW_BYTES", 40 * 24)
    monkeypatch.setattr(readers, "GAP_BYTES", 3 * 24)
    X = blobs(n=2000)
    rng = np.random.default_rng(0)
    wanted = np.unique(np.concatenate([rng.integers(0, 2000, 90), np.arange(400, 470), np.arange(900, 1000, 5)]))
    got, n_read = readers.open_npy_rows(saved(X, tmp_path), None).gather(wanted)
    assert np.array_equal(got, X[wanted])
    assert len(wanted) * 24 < n_read < X.nbytes / 2


def test_stores_are_read_where_they_lie_only(tmp_path):
    h5py = pytest.importorskip("h5py")
    X = blobs()
    hdf5(X, tmp_path)
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["far"] = h5py.ExternalLink("rows.h5", "X")
        file.create_dataset("raw", (600, 6), "f4", external=[(str(tmp_path / "raw"), 0, 14400)])
        layout = h5py.VirtualLayout((600, 6), "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "rows.h5", "X", (600, 6))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("text", data=np.array([[b"a"]], "S1"))
    for name, message in (
        ("far", "'far' is a link into another file"),
        ("raw", "its values lie in other files"),
        ("virtual", "its values lie in other files"),
        ("text", r"an array of \|S1; rows are real numbers"),
        ("none", "no dataset 'none'"),
    ):
        with pytest.raises(ValueError, match=message):
            open_rows(tmp_path / "links.h5", columns=name)
    assert open_rows(tmp_path / "rows.h5", columns=[0, 5]).shape == (600, 2)
    (tmp_path / "objects").mkdir()
    for meta, message in (
        ('{"node_type": "array", "data_type": "float32", "codecs": [{"name": "pickle"}]}', "codec 'pickle'"),
        ('{"node_type": "array", "data_type": {"name": "object"}}', "objects are never read"),
        ('{"node_type": "group"}', "a group of Zarr arrays"),
        ("{", "its zarr.json is damaged"),
    ):
        (tmp_path / "objects" / "zarr.json").write_text(meta)
        with pytest.raises(ValueError, match=message):
            open_rows(tmp_path / "objects")


def test_columns_and_weights_of_tables(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    X, weight = blobs("float64"), np.random.default_rng(0).integers(1, 9, 600)
    names = ["a", "b", "c", "d", "e", "f"]
    table = {**dict(zip(names, X.T, strict=True)), "w": weight, "name": ["x"] * 600}
    pq.write_table(pa.table(table), tmp_path / "t.parquet", row_group_size=200)
    want = KMeans(3, random_state=0, backend="numpy").fit(X[:, [4, 1]], sample_weight=weight)
    rows = open_rows(tmp_path / "t.parquet", columns=["e", 1], sample_weight="w", **SMALL)
    assert_same(KMeans(3, random_state=0, backend="numpy").fit(rows), want)
    (tmp_path / "ids.csv").write_text("id,x,y\n7,1,2\n8,3,4\n9,5,7\n")
    assert open_rows(tmp_path / "ids.csv").n_features == read_table(tmp_path / "ids.csv").X.shape[1] == 2
    (block,) = open_rows(tmp_path / "ids.csv", columns="y").blocks()
    assert block.tolist() == read_table(tmp_path / "ids.csv", columns="y").X.tolist() == [[2], [4], [7]]
    with pytest.raises(ValueError, match="column 'name' holds text such as 'x', no numbers"):
        open_rows(tmp_path / "t.parquet", sample_weight="w")
    with pytest.raises(ValueError, match="no column 'v' for sample_weight"):
        open_rows(tmp_path / "t.parquet", sample_weight="v")
