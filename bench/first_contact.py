"""What a GPU does first, each part in a process of its own (`bench.gpu_check` starts them).

==========================================================  ========================================================
``python -m bench.first_contact compile PART PARTS``        every PARTS-th variant of the kernels, into CuPy's cache
``python -m bench.first_contact kernel NAME``               a kernel, beside NumPy (`bench.kernel_contacts`)
``python -m bench.first_contact rounding FILE``             how the tensor cores add, written to FILE in JSON
``python -m bench.first_contact fit NAME``                  a small fit, which must end in NumPy's bits
==========================================================  ========================================================

The exit status is 0 where all is as it should be, and 3 where results differ.  ``--emulated`` rehearses a part
without a GPU, and ``--plant GOOD BAD`` with a fault in the sources of the kernels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

DIFFER = 3  # an exit status; 1 is that of an error
ROWS = ("uint8", "float32", "float64")
#: n_samples, n_features, n_clusters and further parameters; kernels of dense fits, of seeding and of restarts.
SHAPES: dict[str, tuple[int, int, int, dict[str, Any]]] = {
    "few": (2000, 64, 10, {}),
    "single elements": (1000, 33, 10, {}),
    "64 centers": (3000, 48, 64, {}),
    "many": (4000, 64, 130, {}),
    "many columns": (1500, 1600, 80, {"max_iter": 5}),
    "restarts": (500, 16, 5, {"n_init": 4}),
    "parallel starts": (2000, 20, 12, {"init": "k-means||"}),
    "two-level starts": (2000, 20, 40, {"init": "two-level"}),
}
#: Fits of the rows of a shape by other ways: batches that are copied while the device computes, rows that stream to it.
WAYS = {"mini-batches": "few", "streamed": "few", "many problems": "few"}
NAMES = (*(f"{shape}, {dtype}" for shape in (*SHAPES, *WAYS) for dtype in ROWS), "sparse, few", "sparse, many")


def rows_of(name: str) -> tuple[Any, int, dict[str, Any]]:
    """Rows, n_clusters and parameters of a fit."""
    rng = np.random.default_rng(0)
    if name.startswith("sparse"):
        from scipy import sparse

        X = sparse.random_array((800, 300), density=0.05, rng=rng, format="csr")
        return X, 40 if name.endswith("many") else 8, {"max_iter": 30}
    shape, dtype = name.split(", ")
    n, d, k, params = SHAPES[WAYS.get(shape, shape)]
    X = rng.standard_normal((n, d)) + 3 * rng.standard_normal((20, d))[rng.integers(0, 20, n)]
    X = (X * 20 + 128).clip(0, 255) if dtype == "uint8" else X
    return X.astype(dtype), k, {"n_init": 1, "max_iter": 30} | params


def device_of(emulated: bool, plant: tuple[str, str] | None = None) -> Any:
    """The GPU, or an emulated one."""
    if not emulated:
        from gpukmeans.backends.cuda.device.cupy_device import current_device

        return current_device()
    from gpukmeans.backends.cuda.device import nvrtc
    from tests.emulator import EmulatorDevice

    def planted(file: str, constants: Any) -> str:
        text = nvrtc.source(file, constants)
        return text.replace(*plant) if plant else text

    return EmulatorDevice(source=planted)


def fit(name: str, device: Any) -> list[str]:
    """The results of a fit that differ from NumPy's."""
    from gpukmeans.backends.cuda.backend import CupyBackend

    X, k, params = rows_of(name)
    way = name.split(", ")[0]
    got, want = (fitted(way, X, k, {"random_state": 0, "backend": b} | params) for b in (CupyBackend(device), "numpy"))
    results = ("labels_", "cluster_centers_", "inertia_", "n_iter_")
    pairs = [*zip(got, want, strict=True)]
    return [x for x in results if any(not np.array_equal(getattr(a, x), getattr(b, x)) for a, b in pairs)]


def fitted(way: str, X: Any, k: int, params: dict[str, Any]) -> list[Any]:
    """The models of a fit by one of `WAYS`, or as usual."""
    from gpukmeans import KMeans, MiniBatchKMeans, fit_many, open_rows

    if way == "mini-batches":
        return [MiniBatchKMeans(k, batch_size=300, **params | {"max_iter": 8}).fit(X)]
    if way == "many problems":
        return fit_many([X[:700], X[700:1400], X[1300:]], k, **params | {"tol": 0})
    if way == "streamed" and params["backend"] != "numpy":
        rows = open_rows(
            lambda start, stop: X[start:stop], n_samples=len(X), dtype=X.dtype, device_memory_limit="100KB"
        )
        return [KMeans(k, **params | {"tol": 0}).fit(rows)]
    return [KMeans(k, **params | {"tol": 0}).fit(X)]


def kernel(name: str, device: Any) -> list[str]:
    """The results of a kernel that differ from NumPy's."""
    from bench.kernel_contacts import contact

    return contact(name, device)


def rounding(file: str, device: Any) -> list[str]:
    """What the table says of the tensor cores that is not so on this device; writes both to a file."""
    from bench.results import write_json
    from gpukmeans.backends.cuda.device.tensor_rounding import MODELS, device_sums, measured, model_sums, vectors
    from gpukmeans.certificates.halves import tensor_cores_of

    sums, (a, b, starts) = device_sums(device), vectors()
    found, known = measured(sums), tensor_cores_of(device.capability)
    off = {str(tuple(cores)): int((model_sums(cores, starts, a, b) != sums).sum()) for cores in MODELS}
    report = {"device": device.name, "capability": device.capability, "fields": ["products", "guard_bits"]}
    report |= {"table": known, "measured": found, "trusted": device.tensor_cores, "vectors": len(sums)}
    write_json(Path(file), {**report, "sums_off_by_model": off, "sums": [float(x).hex() for x in sums]})
    return [] if found == known else [f"tensor cores, which were measured as {found} and are {known} in the table,"]


def compile_part(part: int, parts: int) -> None:
    """Compile every `parts`-th variant, which leaves it in CuPy's cache on disk."""
    from gpukmeans.backends.cuda.device import nvrtc
    from gpukmeans.backends.cuda.device.cupy_device import CupyDevice

    device, failed = CupyDevice(), []
    for file, constants in nvrtc.variants()[part::parts]:
        try:
            device.kernel(file, file, constants)
        except Exception as error:  # of one: the others are compiled all the same
            failed.append(f"{file} {constants}: {error}")
    if failed:
        raise RuntimeError("\n".join(failed))


def main(argv: list[str] | None = None) -> int:
    """`DIFFER` if results differ from NumPy's, or from what is known."""
    parser = argparse.ArgumentParser(prog="python -m bench.first_contact", description=__doc__.splitlines()[0])
    parts = {"kernel": kernel, "rounding": rounding, "fit": fit}
    parser.add_argument("what", choices=("compile", *parts))
    parser.add_argument("which", nargs="+", help="PART PARTS, a FILE, or the NAME of a kernel or of a fit")
    parser.add_argument("--emulated", action="store_true")
    parser.add_argument("--plant", nargs=2, metavar=("GOOD", "BAD"))
    options = parser.parse_args(argv)
    if options.what == "compile":
        compile_part(*map(int, options.which))
        return 0
    differ = parts[options.what](options.which[0], device_of(options.emulated, options.plant))
    if differ:
        print(f"{options.which[0]}: {', '.join(differ)} differ")
    return DIFFER if differ else 0


if __name__ == "__main__":
    sys.exit(main())
