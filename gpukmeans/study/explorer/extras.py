"""Sections of the page beside those of every clustering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

#: Clusters of a side of a diagram; of more the table says where rows go.
MOST_DRAWN = 64


@dataclass(frozen=True)
class Extra:
    """Something more for the page, in a section of its own.

    Attributes
    ----------
    title, about : str
    picture : bytes
        PNG; or empty.
    table : sequence of sequences of str
        The first is the head; or empty.
    flow : dict or None
        ``{"from": [name, ...], "clusters": [number, ...], "to": [name, ...], "counts": [[...], ...], "titles": [left,
        right]}``: how many rows go from each cluster of one clustering, the numbers of which choose its colours, to
        each of another.
    """

    title: str
    about: str = ""
    picture: bytes = b""
    table: Sequence[Sequence[str]] = ()
    flow: dict[str, Any] | None = None


def flow_between(
    before: ArrayLike, names: Sequence[str] | None, title: str, after: ArrayLike, other_title: str
) -> Extra:
    """Where the rows of each cluster are in another clustering, as a section.

    Parameters
    ----------
    before, after : array-like of shape (n_samples,)
        Labels.
    names : sequence of str, or None
        Of the clusters before.
    title, other_title : str
        What the clusterings are called.
    """
    from gpukmeans.evaluation import flow

    found = flow(before, after)
    drawn = None
    if max(found.counts.shape) <= MOST_DRAWN:
        sides = found.order_before.tolist(), found.order_after.tolist()
        drawn = {
            "from": [str(c) if names is None else f"{c} · {names[c]}" for c in sides[0]],
            "clusters": sides[0],
            "to": list(map(str, sides[1])),
            "counts": found.counts[found.order_before][:, found.order_after].tolist(),
            "titles": [title, other_title],
        }
    about = (
        f"{found.stayed:.1%} of the rows are in two clusters that belong together, one to one; adjusted Rand index "
        f"{found.adjusted_rand:.3f}."
    )
    return Extra(f"From {title} to {other_title}", about, table=[found.head, *found.rows()], flow=drawn)
