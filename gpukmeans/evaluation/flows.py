"""Where the rows of each cluster go in another clustering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import adjusted_rand_score

from gpukmeans.evaluation.classes import checked_labels, cluster_class_counts, matched_classes
from gpukmeans.tables import Table

_SHOWN = 3  # clusters that one row of the table names


@dataclass(frozen=True, repr=False)
class Flow(Table):
    """How the rows of the clusters before spread over the clusters after.

    Attributes
    ----------
    counts : ndarray of shape (n_before, n_after), int64
        Rows that are in both clusters.
    matches : ndarray of shape (n_matches, 2), int64
        Clusters before and after that belong together: paired one to one, so that most rows stay; only pairs that
        share rows.
    order_before, order_after : ndarray of shape (n_before,), (n_after,), int64
        The clusters in an order in which few flows cross.
    stayed : float
        Share of the rows that are in two clusters that belong together.
    adjusted_rand : float
        The adjusted Rand index of the clusterings: 1 for the same, 0 for chance.
    """

    counts: NDArray[np.int64]
    matches: NDArray[np.int64]
    order_before: NDArray[np.int64]
    order_after: NDArray[np.int64]
    stayed: float
    adjusted_rand: float
    _align = "<>>><"

    @property
    def head(self) -> tuple[str, ...]:
        """The names of the columns of `rows`."""
        return ("cluster", "rows", "matched", "share", "goes to")

    def rows(self) -> list[tuple[str, ...]]:
        """Formatted values, one row for each cluster before that has rows, and where most of its rows go."""
        partner = dict(self.matches.tolist())
        found = list[tuple[str, ...]]()
        for cluster, (counts, size) in enumerate(zip(self.counts, self.counts.sum(axis=1).tolist(), strict=True)):
            if not size:
                continue
            goals = [int(goal) for goal in np.argsort(-counts, kind="stable") if counts[goal]]
            texts = [f"{goal} ({counts[goal] / size:.0%})" for goal in goals[:_SHOWN]]
            texts += [f"{len(goals) - _SHOWN} more"] if len(goals) > _SHOWN else []
            match = partner.get(cluster)
            share = "-" if match is None else f"{counts[match] / size:.1%}"
            found.append((str(cluster), f"{size:,}", "-" if match is None else str(match), share, ", ".join(texts)))
        return found

    def as_dict(self) -> dict[str, Any]:
        """All, as plain Python values, ready for JSON."""
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in vars(self).items()}


def flow(before: ArrayLike, after: ArrayLike) -> Flow:
    """Compare two clusterings of the same rows: which clusters belong together, and where the other rows go.

    Parameters
    ----------
    before, after : array-like of shape (n_samples,), int
        The cluster of each row, as of two seeds or two numbers of clusters.

    Returns
    -------
    Flow
        :func:`gpukmeans.plots.flow_figure` draws it.

    Raises
    ------
    ValueError
        Lengths differ, or labels are no whole numbers from 0.

    Examples
    --------
    >>> from gpukmeans.evaluation import flow
    >>> found = flow([0, 0, 0, 1, 1, 1], [2, 2, 0, 0, 1, 1])
    >>> found.matches.tolist(), round(found.stayed, 3)
    ([[0, 2], [1, 1]], 0.667)
    >>> print(found)
    cluster  rows  matched  share  goes to
    0           3        2  66.7%  2 (67%), 0 (33%)
    1           3        1  66.7%  1 (67%), 0 (33%)
    """
    first, n_before = checked_labels(before, None)
    second, n_after = checked_labels(after, None)
    if len(first) != len(second):
        raise ValueError(f"the clusterings have {len(first)} and {len(second)} rows; they should be of the same rows")
    table, used = cluster_class_counts(first, second, n_before)
    counts = np.zeros((n_before, n_after), np.int64)
    counts[:, used] = table
    matches = np.stack(matched_classes(counts), axis=1).astype(np.int64)
    matches = matches[counts[tuple(matches.T)] > 0]
    return Flow(
        counts,
        matches,
        *_untangled(counts),
        float(counts[tuple(matches.T)].sum() / len(first)),
        float(adjusted_rand_score(first, second)),
    )


def _untangled(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Orders of both sides in which few flows cross: each cluster at the mean place of where its rows are, in turns.

    K. Sugiyama, S. Tagawa and M. Toda, IEEE Transactions on Systems, Man, and Cybernetics 11:109-125, 1981.
    """
    order = [np.arange(counts.shape[0]), np.arange(counts.shape[1])]
    best, fewest = (order[0], order[1]), np.inf
    for _ in range(2 * max(counts.shape)):
        for side, table in ((1, counts.T), (0, counts)):
            place = np.argsort(order[1 - side])
            order[side] = np.argsort(table @ place / np.maximum(table.sum(axis=1), 1), kind="stable")
        crossings = _crossings(counts[np.ix_(*order)])
        if crossings >= fewest:
            break
        best, fewest = (order[0], order[1]), crossings
    return best


def _crossings(table: NDArray[np.int64]) -> float:
    """Pairs of rows whose flows cross, where clusters lie in the order of the table."""
    above = np.cumsum(table[::-1], axis=0)[::-1].astype(np.float64)  # of this row of the table and those below it
    below = above - table
    left = np.cumsum(below, axis=1) - below
    return float((table * left).sum())
