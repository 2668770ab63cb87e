"""What a GPU does first: ``python -m bench.first_contact compile PART PARTS``, then ``... fit NAME`` for each name.

`compile` fills CuPy's cache with every PARTS-th variant of the kernels; `fit` is one small fit that must end in
NumPy's bits, its exit status says whether it did.  ``--emulated`` rehearses a fit without a GPU.  `bench.gpu_check`
runs each in a process of its own.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

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
}
NAMES = (*(f"{shape}, {dtype}" for shape in SHAPES for dtype in ROWS), "sparse, few", "sparse, many")


def rows_of(name: str) -> tuple[Any, int, dict[str, Any]]:
    """Rows, n_clusters and parameters of a fit."""
    rng = np.random.default_rng(0)
    if name.startswith("sparse"):
        from scipy import sparse

        X = sparse.random_array((800, 300), density=0.05, rng=rng, format="csr")
        return X, 40 if name.endswith("many") else 8, {"max_iter": 30}
    shape, dtype = name.split(", ")
    n, d, k, params = SHAPES[shape]
    X = rng.standard_normal((n, d)) + 3 * rng.standard_normal((20, d))[rng.integers(0, 20, n)]
    X = (X * 20 + 128).clip(0, 255) if dtype == "uint8" else X
    return X.astype(dtype), k, {"n_init": 1, "max_iter": 30} | params


def fit(name: str, *, emulated: bool) -> list[str]:
    """The results of a fit that differ from NumPy's."""
    from gpukmeans import KMeans
    from gpukmeans.backends.cuda.backend import CupyBackend

    backend: Any = "cupy"
    if emulated:
        from tests.emulator import EmulatorDevice

        backend = CupyBackend(EmulatorDevice())
    X, k, params = rows_of(name)
    got, want = (KMeans(k, random_state=0, tol=0, backend=b, **params).fit(X) for b in (backend, "numpy"))
    results = ("labels_", "cluster_centers_", "inertia_", "n_iter_")
    return [result for result in results if not np.array_equal(getattr(got, result), getattr(want, result))]


def compile_part(part: int, parts: int) -> None:
    """Compile every `parts`-th variant, which leaves it in CuPy's cache on disk."""
    from gpukmeans.backends.cuda.device import nvrtc
    from gpukmeans.backends.cuda.device.cupy_device import CupyDevice

    device = CupyDevice()
    for file, constants in nvrtc.variants()[part::parts]:
        device.kernel(file, file, constants)


def main(argv: list[str] | None = None) -> int:
    """1 if a fit ends in other bits than NumPy's."""
    parser = argparse.ArgumentParser(prog="python -m bench.first_contact", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("compile", "fit"))
    parser.add_argument("which", nargs="+", help="PART PARTS, or the name of a fit")
    parser.add_argument("--emulated", action="store_true")
    options = parser.parse_args(argv)
    if options.what == "compile":
        compile_part(*map(int, options.which))
        return 0
    differ = fit(options.which[0], emulated=options.emulated)
    if differ:
        print(f"{options.which[0]}: {', '.join(differ)} differ from NumPy's")
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
