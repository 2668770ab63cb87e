"""K-means without rounding: whole numbers of unlimited size, and no formula shared with the engine.

Floats are whole multiples of a power of two.  All values of a problem are put on one such grid as Python integers, so
squared distances, comparisons and sums are exact; the two roundings that the package documents (the weighted sum to
2**-72 of the column's largest magnitude, the mean to the center dtype) are made where it documents them.
"""

from __future__ import annotations

import bisect
import functools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

GRID_BITS = 72


def whole(*tables):
    """Each table as Python integers on one common grid, and the grid's unit (a Fraction)."""
    ratios = [[v.as_integer_ratio() for v in np.asarray(t).ravel().astype(np.float64).tolist()] for t in tables]
    denominator = max((d for table in ratios for _, d in table), default=1)
    integers = []
    for table, ratio in zip(tables, ratios, strict=True):
        flat = np.empty(len(ratio), object)
        flat[:] = [numerator * (denominator // d) for numerator, d in ratio]
        integers.append(flat.reshape(np.shape(table)))
    return *integers, Fraction(1, denominator)


def square_distances(X, C):
    """|x - c|^2, (n_samples, n_clusters) Python integers, and their unit (a Fraction)."""
    x, c, unit = whole(X, C)
    distances = np.empty((len(x), len(c)), object)
    for j, center in enumerate(c):
        difference = x - center
        distances[:, j] = (difference * difference).sum(axis=1)
    return distances, unit * unit


def nearest(X, C):
    """The index of the nearest center of each row; the lowest of equal ones.

    Only centers within one part in 10**9 of the nearest by float64 distances, whose relative error is far below that,
    are compared exactly; all of them where squares could overflow or underflow.
    """
    X, C = np.asarray(X, np.float64), np.asarray(C, np.float64)
    magnitudes = np.abs(np.concatenate([X.ravel(), C.ravel()]))
    magnitudes = magnitudes[magnitudes != 0]
    if magnitudes.size and not 1e-100 < magnitudes.min() <= magnitudes.max() < 1e100:
        candidates = np.ones((len(X), len(C)), bool)
    else:
        rough = np.stack([((X - center) ** 2).sum(axis=1) for center in C], axis=1)
        candidates = rough <= rough.min(axis=1, keepdims=True) * (1 + 1e-9)
    labels = candidates.argmax(axis=1).astype(np.int32)
    for i in np.flatnonzero(candidates.sum(axis=1) > 1):
        js = np.flatnonzero(candidates[i])
        distances = square_distances(X[[i]], C[js])[0][0]
        labels[i] = js[min(range(len(js)), key=distances.__getitem__)]
    return labels


def inertia(X, C, labels, sample_weight=None):
    """Summed weight times |x - own center|^2, a Fraction."""
    x, c, unit = whole(X, C)
    distances = ((x - c[np.asarray(labels)]) ** 2).sum(axis=1)
    weights = [1] * len(x) if sample_weight is None else [Fraction(w) for w in np.asarray(sample_weight).tolist()]
    return sum((w * d for w, d in zip(weights, distances, strict=True)), Fraction(0)) * unit**2


def on_grid(table):
    """The columns of a float64 table rounded to 2**-72 of their largest magnitude, ties to even, as Fractions."""
    values = np.empty(table.shape, object)
    for f in range(table.shape[1]):
        column = [Fraction(v) for v in table[:, f].tolist()]
        largest = max(abs(v) for v in column)
        exponent = max(-900, int(np.frexp(float(largest))[1]))
        unit = Fraction(2) ** (exponent - GRID_BITS)
        values[:, f] = [round(v / unit) * unit for v in column]
    return values


def summands(X, sample_weight=None):
    """The summands: rows times weights (one float64 product), on the grid; and the weights, as Fractions."""
    table = np.asarray(X, np.float64)
    if sample_weight is None:
        return on_grid(table), np.array([Fraction(1)] * len(table))
    weight = np.asarray(sample_weight, np.float64)[:, None]
    return on_grid(table * weight), on_grid(weight)[:, 0]


def mean(total, weight, dtype):
    """A center from its exact sum, rounded as the package documents: the quotient, then the center dtype."""
    return dtype(float(Fraction(total) / Fraction(float(weight))))


def warp_order_square(x, c):
    """|x - c|^2 in float64: 32 lanes, each adding its columns from the left, then halves onto halves; no vectors."""
    lanes = [0.0] * 32
    for column, (a, b) in enumerate(zip(x.tolist(), c.tolist(), strict=True)):
        lanes[column % 32] += (float(a) - float(b)) * (float(a) - float(b))
    for half in (16, 8, 4, 2, 1):
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
    return lanes[0]


@dataclass
class Result:
    labels: np.ndarray
    centers: np.ndarray
    n_iter: int
    n_relocated: int


def rational_lloyd(X, C, *, max_iter=300, tol=0.0, sample_weight=None):
    """Lloyd's algorithm from centers C until the labels stay; scikit-learn's relocation of empty clusters.

    The rows given to empty clusters are the farthest by float64 distances in warp order, as documented.
    `tol` is absolute, as in gpukmeans.engine.lloyd.
    """
    dtype = np.float32 if X.dtype == np.float32 else np.float64
    centers = np.array(C, dtype)
    k, d = centers.shape
    values, weights = summands(X, sample_weight)
    labels = np.full(len(X), -1)
    n_iter = n_relocated = 0
    while n_iter < max_iter:
        n_iter += 1
        new = nearest(X, centers)
        sums = np.full((k, d), Fraction(0), object)
        cluster_weights = [Fraction(0)] * k
        for value, weight, j in zip(values, weights, new, strict=True):
            sums[j] += value
            cluster_weights[j] += weight
        empty = [j for j in range(k) if cluster_weights[j] == 0]
        own = [warp_order_square(x, centers[j]) for x, j in zip(X, new, strict=True)] if empty else []
        if empty and any(own):
            farthest = sorted(range(len(X)), key=lambda i: (-own[i], i))[: len(empty)]
            for j, i in zip(empty, farthest, strict=True):
                sums[new[i]] -= values[i]
                sums[j] = values[i].copy()
                cluster_weights[new[i]] -= weights[i]
                cluster_weights[j] = weights[i]
                n_relocated += 1
        heaviest = max(range(k), key=lambda j: (float(cluster_weights[j]), -j))  # by rounded weights
        before = centers
        means = [
            [mean(sums[s, f], cluster_weights[s], dtype) for f in range(d)]
            for s in (j if cluster_weights[j] else heaviest for j in range(k))
        ]
        centers = np.array(means, dtype).reshape(k, d)
        moved = not np.array_equal(new, labels)
        labels = new
        a, b, unit = whole(centers, before)
        shift = Fraction(int(((a - b) ** 2).sum())) * unit * unit
        if not moved or shift <= Fraction(tol):
            break
    return Result(nearest(X, centers), centers, n_iter, n_relocated)


@functools.lru_cache(maxsize=1)
def _distances_to_row(content, shape, dtype):
    """i -> |x - x[i]|^2 of all rows in whole numbers, each made once, and the rows themselves."""
    x, _ = whole(np.frombuffer(content, dtype).reshape(shape))
    return functools.cache(lambda i: ((x - x[i]) ** 2).sum(axis=1)), x


def rational_plusplus(X, k, seed, sample_weight=None):
    """Indices drawn by greedy k-means++ with scikit-learn's draws, every decision in whole numbers.

    Also the margin of the closest decision: the smallest relative distance between two compared numbers.
    """
    n = len(X)
    weight = np.ones(n) if sample_weight is None else np.asarray(sample_weight, np.float64)
    to, x = _distances_to_row(X.tobytes(), X.shape, X.dtype)
    w, _ = whole(weight)
    state = np.random.RandomState(seed)
    chosen = [int(state.choice(n, p=weight / weight.sum()))]
    closest, margin = to(chosen[0]), 1.0
    for _ in range(1, k):
        running = np.cumsum(w * closest)
        total = int(running[-1])
        trials = []
        for u in state.uniform(size=2 + int(np.log(k))):
            numerator, denominator = Fraction(u).as_integer_ratio()
            target = total * numerator
            trial = bisect.bisect_left(running, target, key=lambda sum, times=denominator: sum * times)
            edges = [int(running[i]) * denominator for i in (trial - 1, trial) if i >= 0]
            margin = min([margin, *(abs(edge - target) / max(1, target) for edge in edges)])
            trials.append(trial)
        potentials = [int((w * np.minimum(closest, to(i))).sum()) for i in trials]
        winner = trials[potentials.index(min(potentials))]
        others = [p for i, p in zip(trials, potentials, strict=True) if (x[i] != x[winner]).any()]
        margin = min([margin, *((p - min(potentials)) / max(1, p) for p in others)])
        chosen.append(winner)
        closest = np.minimum(closest, to(winner))
    return chosen, margin


def long_double_nearest(X, C):
    """Nearest centers by plain differences in extended precision, for data too large for whole numbers."""
    labels = np.empty(len(X), np.int32)
    wide = np.asarray(C, np.longdouble)
    step = max(1, (1 << 20) // wide.size)
    for start in range(0, len(X), step):
        difference = np.asarray(X[start : start + step], np.longdouble)[:, None] - wide
        labels[start : start + step] = (difference * difference).sum(axis=2).argmin(axis=1)
    return labels


def float64_nearest(X, C):
    """Nearest centers by float64 differences, one center at a time, for data sets of any size."""
    wide = np.asarray(C, np.float64)
    labels = np.empty(len(X), np.int32)
    for start in range(0, len(X), 2000):
        x = np.asarray(X[start : start + 2000], np.float64)
        distances = np.stack([((x - c) ** 2).sum(axis=1) for c in wide], axis=1)
        labels[start : start + 2000] = distances.argmin(axis=1)
    return labels
