"""What an iteration of k-means costs where rows lie on many workers: bytes, operations, and seconds by given rates.

Each worker labels its rows and sums them; sums go to one place over its link, one worker after the other, are added,
and new centers go back.  No row is skipped: that is the first iteration, and the most that any takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

#: Bytes of a limb of a sum.
LIMB = 8


@dataclass(frozen=True)
class Work:
    """Rows, features and clusters, and over what they are spread.

    Attributes
    ----------
    n, d, k : int
        All rows.
    workers : int
        Rows are spread evenly.
    link : float
        Bytes a second of the link of the place where sums meet; infinity: no limit.
    limbs : int
        Of each sum: 1 or 2.
    itemsize : int
        Bytes of a value of a row, and of a center.
    """

    n: int
    d: int
    k: int
    workers: int = 1
    link: float = math.inf
    limbs: int = 2
    itemsize: int = 4

    @property
    def rows(self) -> int:
        """Of a worker, the most."""
        return -(-self.n // self.workers)

    @property
    def row_bytes(self) -> int:
        """Of a worker's rows."""
        return self.rows * self.d * self.itemsize

    @property
    def operations(self) -> int:
        """Multiplications and additions of a worker's scores."""
        return 2 * self.rows * self.k * self.d

    @property
    def down(self) -> int:
        """Bytes to a worker: centers."""
        return self.k * self.d * self.itemsize

    @property
    def up(self) -> int:
        """Bytes from a worker: sums, weights and counts."""
        return LIMB * self.k * (self.limbs * self.d + 2)


def terms(work: Work) -> list[float]:
    """What a worker's seconds are a sum of multiples of: a step, rows, values, scores, products."""
    n = float(work.rows)
    return [1.0, n, n * work.d, n * work.k, n * work.k * work.d]


@dataclass(frozen=True)
class Rates:
    """What was measured of the parts of an iteration.

    Attributes
    ----------
    worker : tuple of float
        Seconds of each of `terms`.
    root : float
        Seconds for each value of a table of centers: new centers from sums.
    add : float
        Seconds for each limb that a partial adds.
    wire : float
        Seconds for each byte through an unlimited link: packing, copying, unpacking.
    cores : int
        Workers beyond these take turns.
    """

    worker: tuple[float, ...]
    root: float
    add: float
    wire: float
    cores: int


def fitted_rates(works: Sequence[Work], seconds: Sequence[float]) -> tuple[float, ...]:
    """The multiples of `terms`, none negative, that lie nearest to measured seconds, relative to these."""
    table: NDArray[np.float64] = np.array([terms(work) for work in works]) / np.array(seconds)[:, None]
    scale = table.max(axis=0)
    return tuple((nnls(table / scale, np.ones(len(works)))[0] / scale).tolist())


def seconds(work: Work, rates: Rates) -> dict[str, float]:
    """Seconds of the parts of an iteration, and `total`.

    Centers go to one worker after the other, the first of which labels meanwhile; so the link hides behind the work of
    others but for one way down, and the ways up, or down where these are longer.
    """
    one = float(np.dot(terms(work), rates.worker)) * max(1.0, work.workers / rates.cores)
    cost = rates.wire + 1.0 / work.link
    network = cost * (work.down + work.up + (work.workers - 1) * max(work.down, work.up))
    root = rates.root * work.k * work.d + rates.add * work.workers * work.limbs * work.k * work.d
    return {"compute": one, "network": network, "root": root, "total": one + network + root}


# ---- many GPUs: predicted --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cluster:
    """GPUs of one kind; rates are assumptions, from data sheets unless said otherwise.

    Attributes
    ----------
    gpus, of_node : int
    memory : float
        Bytes of a GPU.
    bandwidth : float
        Bytes a second of its memory.
    assign : float
        Seconds for each row, cluster and feature: labels, predicted (`bench.prediction`).
    atomics : float
        Sums that a GPU adds to in a second.
    inside, between : float
        Bytes a second, each way, of a GPU's link within its node, and of its share of the node's network.
    latency : float
        Seconds of a step of a reduction.
    """

    gpus: int
    assign: float
    of_node: int = 8
    memory: float = 141e9
    bandwidth: float = 4.3e12
    atomics: float = 2.0e11
    inside: float = 450e9
    between: float = 50e9
    latency: float = 2.0e-5


def reduced(work: Work, cluster: Cluster) -> float:
    """Seconds of an all-reduce of the sums by rings, within nodes and between them."""
    size = float(work.up)
    inside = min(cluster.gpus, cluster.of_node)
    nodes = -(-cluster.gpus // cluster.of_node)
    ways = 2.0 * size * (inside - 1) / inside / cluster.inside + 2 * (inside - 1) * cluster.latency
    return ways + 2.0 * size / inside * (nodes - 1) / nodes / cluster.between + 2 * (nodes - 1) * cluster.latency


def on_gpus(work: Work, cluster: Cluster, root: float | None = None) -> dict[str, float]:
    """Seconds of an iteration's parts; every GPU makes the new centers.

    With `root`, seconds for a value, they are made on the host and one after the other instead, from partials that the
    engines of `gpukmeans.distributed` add in a tree over the network of hosts, 1.25e9 bytes a second.
    """
    if work.workers != cluster.gpus:
        raise ValueError(f"work is spread over {work.workers} workers, and there are {cluster.gpus} GPUs")
    labels = max(cluster.assign * work.rows * work.k * work.d, work.row_bytes / cluster.bandwidth)
    sums = max(work.row_bytes / cluster.bandwidth, work.limbs * work.rows * work.d / cluster.atomics)
    values = work.k * work.d
    if root is None:
        network = reduced(work, cluster)
        new = (LIMB * work.limbs + 2 * work.itemsize) * values / cluster.bandwidth
    else:
        network = math.ceil(math.log2(cluster.gpus)) * (work.up + work.down) / 1.25e9
        new = root * values
    total = labels + sums + network + new
    share = work.row_bytes / cluster.memory
    return {"labels": labels, "sums": sums, "network": network, "centers": new, "total": total, "memory": share}
