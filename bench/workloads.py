"""The work that is timed: named data, one fixed start each, tol=0.

Every start is made of rows: ``np.random.RandomState(0).choice(n_samples, n_clusters, replace=False)``, so that all
systems begin from the same bits in whatever dtype they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from bench.data import blobs, china, digits, mnist, mnist_uint8, noise_as, pixels, texts

TO_CONVERGENCE = 1000  # max_iter of the fits that run until no label changes
Task = Literal["fit", "predict", "seed", "minibatch"]


@dataclass(frozen=True)
class Workload:
    """One piece of work.

    Attributes
    ----------
    name, title : str
        For the command line, and for the table.
    task : {"fit", "predict", "seed", "minibatch"}
        Lloyd's algorithm from the start; labels for given centers; k-means++ with ``random_state=0``; mini-batch
        k-means with ``random_state=0`` and else its defaults, labels of all rows included.
    n_clusters : int
    shape : tuple of int
        (n_samples, n_features)
    make : callable
        Returns the rows.
    dtype : str
        Of the rows as the systems get them.  "bfloat16", which NumPy lacks, is float32 rounded to it.
    max_iter : int
    batch_size : int
        Of mini-batches.
    n_init : int
        Above 1, and where `seeded`: restarts from k-means++ with ``random_state=0``, seeding included in the time.
    suites : frozenset of str
        "cpu", "gpu".
    from_host : bool
        In the GPU suite: the time includes the transfer of a NumPy array.  Otherwise the rows lie on the device.
    cpu_too : bool
        In the GPU suite: CPU systems run as well, for the comparison of CPU and GPU.
    distinct_start : bool
        Draw the start among distinct rows (pixels repeat).
    """

    name: str
    title: str
    task: Task
    n_clusters: int
    shape: tuple[int, int]
    make: Callable[[], NDArray]
    dtype: str = "float32"
    max_iter: int = TO_CONVERGENCE
    batch_size: int = 1024
    n_init: int = 1
    seeded: bool = False
    suites: frozenset[str] = frozenset({"cpu"})
    from_host: bool = False
    cpu_too: bool = False
    distinct_start: bool = False

    @property
    def converges(self) -> bool:
        """Whether it runs until no label changes."""
        return self.task == "fit" and self.max_iter == TO_CONVERGENCE

    def load(self) -> Problem:
        """Make the rows, the starts and, to predict with, the centers."""
        X = self.make()
        assert X.shape == self.shape, (self.name, X.shape)
        if self.seeded:
            starts = kmeans_plusplus_starts(X, self.n_clusters, self.n_init)
        elif self.task in ("seed", "minibatch"):
            starts = []
        else:
            starts = [first_rows(X, self.n_clusters, distinct=self.distinct_start)]
        if self.task == "predict" and "mnist" in self.name:
            starts = [_after_three_iterations(X, starts[0])]
        return Problem(self, X, starts)


@dataclass
class Problem:
    """A workload with its data.

    Attributes
    ----------
    X : ndarray, or csr_array, of shape (n_samples, n_features)
    starts : list of ndarray of shape (n_clusters, n_features)
        One per restart; to predict, the centers.  float32 for rows of at most 32 floating bits, else float64.
    iterations : list of int
        Per start, how many iterations an exact fit takes: given to systems that cannot stop when labels stop changing.
    """

    workload: Workload
    X: NDArray
    starts: list[NDArray]
    iterations: list[int] = field(default_factory=list)

    def fixed_iterations(self) -> list[int]:
        """Iterations per start; found by an exact fit on NumPy the first time."""
        w = self.workload
        if not w.converges:
            return [w.max_iter] * len(self.starts)
        if not self.iterations:
            from gpukmeans import KMeans

            for start in self.starts:
                model = KMeans(w.n_clusters, init=start, n_init=1, max_iter=w.max_iter, tol=0.0, backend="numpy")
                self.iterations.append(int(model.fit(self.X).n_iter_))
        return self.iterations


def first_rows(X: NDArray, n_clusters: int, *, distinct: bool = False) -> NDArray:
    """The start: rows drawn by ``RandomState(0).choice`` without replacement."""
    pool = np.unique(X, axis=0) if distinct else X
    start = pool[np.random.RandomState(0).choice(pool.shape[0], n_clusters, replace=False)]
    if issparse(start):
        start = start.toarray()
    return np.ascontiguousarray(start, dtype=np.float32 if X.dtype in (np.float32, np.float16) else np.float64)


def kmeans_plusplus_starts(X: NDArray, n_clusters: int, n_init: int) -> list[NDArray]:
    """The starts that scikit-learn draws with ``random_state=0``, for systems that have no k-means++ of their own."""
    from sklearn.cluster import kmeans_plusplus

    random_state = np.random.RandomState(0)
    dtype = np.float32 if X.dtype == np.float32 else np.float64
    rows = X.astype(dtype)
    picks = [kmeans_plusplus(rows, n_clusters, random_state=random_state)[1] for _ in range(n_init)]
    return [rows[pick] for pick in picks]


@lru_cache(maxsize=2)
def _mnist_centers(n_clusters: int) -> NDArray:
    from gpukmeans import KMeans

    X = mnist()
    start = first_rows(X, n_clusters)
    model = KMeans(n_clusters, init=start, n_init=1, max_iter=3, tol=0.0, backend="numpy", precision="fast")
    return model.fit(X).cluster_centers_


def _after_three_iterations(X: NDArray, start: NDArray) -> NDArray:
    return _mnist_centers(len(start))


BOTH = frozenset({"cpu", "gpu"})
GPU = frozenset({"gpu"})
M = (70_000, 784)
_ALL = [
    Workload("mnist-k10", "MNIST 70k x 784, k=10", "fit", 10, M, mnist, suites=BOTH, cpu_too=True),
    Workload("mnist-k100", "MNIST 70k x 784, k=100", "fit", 100, M, mnist, suites=BOTH),
    Workload("mnist-k1000", "MNIST 70k x 784, k=1000, 20 iterations", "fit", 1000, M, mnist, max_iter=20, suites=BOTH),
    Workload("mnist-uint8-k10", "uint8 MNIST straight in, k=10", "fit", 10, M, mnist_uint8, "uint8", suites=BOTH),
    Workload(
        "digits-k10",
        "digits 1797 x 64, k=10, k-means++, n_init=10",
        "fit",
        10,
        (1797, 64),
        digits,
        "float64",
        n_init=10,
        seeded=True,
        suites=BOTH,
        from_host=True,
        cpu_too=True,
    ),
    Workload(
        "china-k64", "china.jpg, 273,280 x 3, k=64", "fit", 64, (273_280, 3), china, suites=BOTH, distinct_start=True
    ),
    Workload(
        "china-uint8-k64",
        "china.jpg as bytes, k=64, random pixels as start",
        "fit",
        64,
        (273_280, 3),
        lambda: pixels("china.jpg"),
        "uint8",
    ),
    Workload(
        "flower-uint8-k128",
        "flower.jpg as bytes, k=128, random pixels as start",
        "fit",
        128,
        (273_280, 3),
        lambda: pixels("flower.jpg"),
        "uint8",
    ),
    Workload(
        "noise-k256",
        "white noise 100k x 128, k=256, 20 iterations",
        "fit",
        256,
        (100_000, 128),
        noise_as(100_000, 128, "float32"),
        max_iter=20,
        suites=BOTH,
    ),
    Workload(
        "blobs-k16",
        "make_blobs 1M x 16, k=16",
        "fit",
        16,
        (1_000_000, 16),
        lambda: blobs(1_000_000, 16, 16),
        suites=BOTH,
    ),
    Workload(
        "line-k16",
        "1M x 1, k=16",
        "fit",
        16,
        (1_000_000, 1),
        lambda: np.random.RandomState(0).standard_normal((1_000_000, 1)).astype(np.float32),
    ),
    *(
        Workload(
            f"texts-k{k}",
            f"sparse texts 20,000 x 30,000 in CSR, k={k}",
            "fit",
            k,
            (20_000, 30_000),
            lambda: texts(20_000, 30_000, 150, 20),
            "float64",
        )
        for k in (20, 100)
    ),
    Workload("predict-k10", "predict MNIST 70k x 784, k=10", "predict", 10, M, mnist, suites=BOTH),
    Workload("predict-k1000", "predict MNIST 70k x 784, k=1000", "predict", 1000, M, mnist, suites=BOTH),
    Workload("seed-k10", "k-means++ on MNIST 70k x 784, k=10", "seed", 10, M, mnist, suites=BOTH, cpu_too=True),
    Workload("seed-k100", "k-means++ on MNIST 70k x 784, k=100", "seed", 100, M, mnist, suites=BOTH),
    Workload("seed-k1000", "k-means++ on MNIST 70k x 784, k=1000", "seed", 1000, M, mnist, suites=BOTH),
    *(
        Workload(
            f"minibatch-k{k}-b{size}",
            f"mini-batches of {size} of MNIST 70k x 784, k={k}",
            "minibatch",
            k,
            M,
            mnist,
            batch_size=size,
            suites=BOTH,
        )
        for k in (10, 100)
        for size in (1024, 4096)
    ),
    Workload(
        "mnist-uint8-host",
        "uint8 MNIST from the host, transfer and k-means++ included, k=10",
        "fit",
        10,
        M,
        mnist_uint8,
        "uint8",
        seeded=True,
        suites=GPU,
        from_host=True,
        cpu_too=True,
    ),
    *(
        Workload(
            f"fit-{n}x{d}-k{k}-{dtype}",
            f"{n:,} x {d} {dtype}, k={k}, {iterations} iterations",
            "fit",
            k,
            (n, d),
            noise_as(n, d, dtype),
            dtype,
            max_iter=iterations,
            suites=GPU,
        )
        for n, d, k, iterations, dtypes in (
            (1_000_000, 64, 64, 20, ("bfloat16", "float32")),
            (200_000, 256, 256, 20, ("bfloat16", "float32")),
            (100_000, 512, 512, 20, ("bfloat16", "float32")),
            (1_000_000, 768, 1000, 5, ("float32",)),
            (1_000_000, 768, 4000, 5, ("float32",)),
        )
        for dtype in dtypes
    ),
    *(
        Workload(
            f"assign-{n}x{d}-k{k}-{dtype}",
            f"assign {n:,} x {d} {dtype}, k={k}",
            "predict",
            k,
            (n, d),
            noise_as(n, d, dtype),
            dtype,
            suites=GPU,
        )
        for n, d, k in ((65_536, 1024, 4096), (1_048_576, 128, 65_536))
        for dtype in ("float16", "float32")
    ),
    Workload(
        "blobs-10M-k16",
        "make_blobs 10M x 16, k=16, at most 50 iterations",
        "fit",
        16,
        (10_000_000, 16),
        lambda: blobs(10_000_000, 16, 16),
        max_iter=50,
        suites=GPU,
    ),
]
WORKLOADS: dict[str, Workload] = {w.name: w for w in _ALL}


def workloads_of(suite: str, names: list[str] | None = None) -> list[Workload]:
    """The workloads of a suite, or those named; in the GPU suite those made for it come first, should time run out.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    unknown = sorted(set(names or ()) - set(WORKLOADS))
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no such workload; there are {', '.join(WORKLOADS)}.")
    chosen = [w for w in WORKLOADS.values() if (w.name in names if names else suite in w.suites)]
    if suite == "gpu":
        chosen.sort(key=lambda w: w.suites == BOTH and w.name not in ("mnist-k10", "mnist-k1000"))
    return chosen
