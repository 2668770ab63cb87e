"""Every kernel once, each where its results can be compared with NumPy's: `CONTACTS`, by the kernel's name.

A contact launches what its kernel needs beforehand, too.  `Traced` prints each launch before it is made and waits for
it, so the last line of a process that hangs or faults names the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import DeviceInput
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.device.tensor_rounding import device_sums, measured
from gpukmeans.engine.seeding.plusplus import many_kmeans_plusplus
from gpukmeans.exact.unit_rows import unit_rows

FEW, MANY = 4, 70  # centers of either way to assign
#: Whether results differ, by their names.
Differ = Mapping[str, bool]


class Traced:
    """A device that prints the names of the kernels that it launches, and waits for each launch."""

    def __init__(self, device: Any, launched: list[str] | None = None) -> None:
        self._device = device
        self.launched: list[str] = [] if launched is None else launched

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def own_order(self) -> Traced:
        """The same with an order of its own."""
        return Traced(self._device.own_order(), self.launched)

    def kernel(self, file: str, name: str, constants: Mapping[str, int | str]) -> Callable[..., None]:
        """See `gpukmeans.backends.cuda.device.seam.Device`."""
        launch = self._device.kernel(file, name, constants)

        def traced(*args: Any, **options: Any) -> None:
            print(f"launch {name}", flush=True)
            self.launched.append(name)
            launch(*args, **options)
            self._device.synchronize()

        return traced

    def record(self, launches: Callable[[], None]) -> Callable[[], None]:
        """The launches themselves: a graph would not wait for each."""
        return launches


def _data(k: int) -> tuple[NDArray, NDArray]:
    """Rows about centers, some halfway between two of them, which screens leave open."""
    rng = np.random.default_rng(0)
    C = rng.standard_normal((k, 9)).astype(np.float32)
    X = (C[rng.integers(0, k, 600)] + 0.2 * rng.standard_normal((600, 9))).astype(np.float32)
    X[100:200] = (C[rng.integers(0, k, 100)] + C[rng.integers(0, k, 100)]) / 2
    return X, C


def _sparse() -> tuple[Any, NDArray]:
    from scipy import sparse

    X = sparse.random_array((500, 60), density=0.1, rng=np.random.default_rng(0), format="csr")
    return X, X[:FEW].toarray()


def _both(device: Any, X: Any) -> tuple[Any, Any]:
    return CupyBackend(device).load(X), NumpyBackend().load(X)


def _there(device: Any, X: NDArray) -> DeviceInput:
    array = device.upload(X)
    device.synchronize()  # backends have orders of their own
    return DeviceInput(array, X.shape, X.dtype, device.index)


def _loaded(device: Any) -> Differ:
    X = _data(FEW)[0]
    got, want = _both(device, X)
    facts, table = got.table.facts, got.table
    offsets = device.download(facts.offsets)[0, :9]
    z = X * np.float64(table.half_scale) + offsets
    norms, rests = (device.download(array).astype(np.float64) for array in (facts.norms, facts.rests))
    sizes = np.sqrt((z**2).sum(axis=1))
    return {
        "grid": not np.array_equal(got.grid.scale, want.grid.scale) or got.grid.n_limbs != want.grid.n_limbs,
        "largest": table.largest != abs(X).max(),
        "offsets": not np.allclose(offsets, -X.mean(axis=0) * table.half_scale, rtol=1e-5, atol=1e-3),
        "norms": bool(((norms < sizes) | (norms > 1.01 * sizes + 1)).any()),
        "rests": bool(((rests < 0) | (rests > 0.002 * sizes + 1)).any()),
    }


def _assigned(device: Any, X: Any, C: NDArray) -> Differ:
    runs = [rows.start(C) for rows in _both(device, X)]
    differ = {}
    for turn in ("first", "second"):  # the second skips rows
        for run in runs:
            run.assign()
        got, want = runs
        differ[f"{turn} labels"] = not np.array_equal(got.labels(), want.labels())
        differ[f"{turn} sums"] = any(not np.array_equal(a, b) for a, b in zip(got.sums(), want.sums(), strict=True))
        differ[f"{turn} inertia"] = got.inertia() != want.inertia()
        for run in runs:
            run.update()
        differ[f"{turn} centers"] = not np.array_equal(got.centers(), want.centers(), equal_nan=True)
        for run in runs:  # where a cluster ran empty
            run.set_centers(np.nan_to_num(want.centers()))
    return differ


def _few(device: Any) -> Differ:
    return _assigned(device, *_data(FEW))


def _bytes(device: Any) -> Differ:
    """Images of bytes, some halfway between two centers that are whole numbers."""
    X, C = (np.rint(40 * np.tile(M, 6)[:, :48] + 128).clip(0, 255) for M in _data(FEW))
    X[:40], C[1] = 100, 200 - C[0]
    return _assigned(device, X.astype(np.uint8), C)


def _ties(device: Any) -> Differ:
    """Rows as far from one center as from another, which float64 leaves open."""
    X, C = _data(FEW)
    X[:40], C[1] = 0.0, -C[0]
    C[2:] += 9
    return _assigned(device, X, C)


def _many(device: Any) -> Differ:
    return _assigned(device, *_data(MANY))


def _taken(device: Any) -> Differ:
    X, indices = _data(FEW)[0], np.array([5, 3, 599])
    found = CupyBackend(device).load(_there(device, X)).take(indices)
    return {"rows": not np.array_equal(found, X[indices])}


def _distances(device: Any) -> Differ:
    X, C = _data(FEW)
    found = CupyBackend(device).load(_there(device, X)).center_distances(C)
    return {"distances": not np.array_equal(device.download(found), NumpyBackend().load(X).center_distances(C))}


def _used(device: Any) -> Differ:
    X, labels = _data(FEW)[0], np.full(600, 2, np.int32)
    labels[9] = 33
    return {"count": CupyBackend(device).load(X).n_used(_there(device, labels).array, MANY) != 2}


def _unit(device: Any) -> Differ:
    X = _data(FEW)[0]
    got, largest = CupyBackend(device).unit_rows(_there(device, X))
    want, norms = unit_rows(X)
    return {
        "rows": not np.array_equal(device.download(got.array), want),
        "norms": not np.array_equal(largest, norms),
    }


def _drawn(device: Any) -> Differ:
    """From as many seeds as make seed_reach worth a launch."""
    X = _data(FEW)[0]
    p = np.full(len(X), 1 / len(X))
    got, want = (many_kmeans_plusplus(rows, 34, 2, np.random.RandomState(0), p) for rows in _both(device, X))
    return {"rows": not np.array_equal(got, want)}


def _seeded(device: Any, X: Any) -> Differ:
    """Potentials are within the errors that come with them."""
    got, want = (rows.seeding() for rows in _both(device, X))
    differ = {}
    for name, verb, rows in (("sums", "add", [0, 5]), ("gains", "propose", [9, 200, 41])):
        (a, a_errors), (b, b_errors) = (getattr(seeding, verb)(np.array(rows)) for seeding in (got, want))
        total, error = (a.sum(), a_errors.sum()) if verb == "add" else (a, a_errors)
        other, other_error = (b.sum(), b_errors.sum()) if verb == "add" else (b, b_errors)
        differ[name] = bool((abs(total - other) > error + other_error + 1e-12 * abs(other)).any())
    return differ


def _rounding(device: Any) -> Differ:
    return {"the table": measured(device_sums(device)) != device.tensor_cores}


def _sparse_assigned(device: Any) -> Differ:
    return _assigned(device, *_sparse())


CONTACTS: dict[str, Callable[[Any], Differ]] = {
    **dict.fromkeys(("column_facts", "column_means", "row_facts"), _loaded),
    "tensor_rounding": _rounding,
    **dict.fromkeys(("nearest_of_few", "move_sums", "update_centers", "row_distance", "exact_total"), _few),
    "nearest_of_few_bytes": _bytes,
    **dict.fromkeys(("skip_rows", "nearest_of_many", "candidates", "resolve"), _many),
    "settle_rows": _ties,
    "gather_rows": _taken,
    "center_distances": _distances,
    "used_clusters": _used,
    "unit_rows": _unit,
    **dict.fromkeys(("seed_locate", "seed_reach", "seed_gain", "seed_choose", "seed_accept"), _drawn),
    "seed_add": lambda device: _seeded(device, _data(FEW)[0]),
    **dict.fromkeys(("sparse_nearest", "sparse_move_sums", "sparse_row_distance"), _sparse_assigned),
    **dict.fromkeys(("sparse_lookup", "sparse_seed"), lambda device: _seeded(device, _sparse()[0])),
}


def contact(kernel: str, device: Any) -> list[str]:
    """What differs from NumPy's results, or is missing, when a kernel is launched on a device."""
    traced = Traced(device)
    differ = [name for name, differs in CONTACTS[kernel](traced).items() if differs]
    return differ if kernel in traced.launched else [*differ, "there was no launch"]
