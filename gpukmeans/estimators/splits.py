"""The splits of `BisectingKMeans`: a tree of nodes, of which those not split are the clusters."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import I64


@dataclass
class Tree:
    """The splits, node by node; node 0 is all rows."""

    centers: dict[int, NDArray] = field(default_factory=dict)
    children: dict[int, tuple[int, int]] = field(default_factory=dict)
    label: dict[int, int] = field(default_factory=dict)  # of the nodes that were not split

    def grow(self, node: int, centers: NDArray) -> tuple[int, int]:
        """Two new nodes below one."""
        first = 2 * len(self.children) + 1
        self.children[node] = pair = first, first + 1
        self.centers.update(zip(pair, centers, strict=True))
        return pair

    def arrays(self) -> dict[str, NDArray]:
        """For pickles: of each node the center (0 of all rows, if split), the first child and the label, or -1."""
        nodes = range(2 * len(self.children) + 1)
        nowhere = np.zeros_like(next(iter(self.centers.values())))
        return {
            "centers": np.stack([self.centers.get(node, nowhere) for node in nodes]),
            "first_child": np.array([self.children.get(node, (-1,))[0] for node in nodes]),
            "label": np.array([self.label.get(node, -1) for node in nodes]),
        }


@dataclass
class Cluster:
    """A node that is not split yet."""

    node: int
    rows: I64
    inertia: float
