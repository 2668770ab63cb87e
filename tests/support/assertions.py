"""Assertions that explain a failure: labels against exact distances, and fitted models bit by bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy import sparse

from gpukmeans.arrays.on_device import host_copy
from gpukmeans.certificates.scores import score_radius
from tests.support.oracles import nearest, square_distances

# ---- labels ----------------------------------------------------------------------------------------------------------


def float32_screen(X, C):
    """A screen for `assert_labels`: float32 scores |c|^2 - 2 x.c of whole rows, and their certified radius."""
    largest = max(float(np.linalg.norm(c)) for c in np.asarray(C, np.float64)) * (1 + 2.0**-40)
    radius = score_radius(X.shape[1], largest)

    def screen(i):
        x = dense_row(X, i)
        norm = np.array([float(np.linalg.norm(x.astype(np.float64))) * (1 + 2.0**-40)])
        with np.errstate(all="ignore"):
            squares = (np.asarray(C, np.float64) ** 2).sum(axis=1).astype(np.float32)
            scores = squares - np.float32(2) * (np.asarray(C, np.float32) @ x.astype(np.float32))
            return scores.astype(np.float64), float(radius.of(norm)[0])

    screen.name = "float32 scores"
    return screen


def half_screen(z, centers, radii):
    """A screen for `assert_labels`: scores of rows and centers rounded to half precision, as in kernels/screen.cuh.

    Parameters
    ----------
    z, centers : ndarray of float64
        Rows and centers, scaled and shifted alike.
    radii : ndarray of shape (n_rows,)
        The radius of each row's scores.
    """

    def halves(values):
        return values.astype(np.float32).astype(np.float16).astype(np.float64)

    def screen(i):
        with np.errstate(all="ignore"):
            return (centers**2).sum(axis=1) / 2 - halves(centers) @ halves(z[i]), float(radii[i])

    screen.name = "half-precision scores in scaled units"
    return screen


def assert_labels(got, X, C, *, rows=None, want=None, dead=(), screen=None):
    """Each label is that of the nearest center in real arithmetic; of centers equally near, the lowest index.

    A failure names the first wrong row, its exact squared distances to both centers, the margin of its screening
    scores and their radius.

    Parameters
    ----------
    got : array of shape (n_rows,)
        Labels of all rows of X, on any device.
    X : ndarray or CSR array of shape (n_rows, n_features)
        Rows as their values (bfloat16 widened).
    C : ndarray of shape (n_clusters, n_features)
    rows : slice, or array of int or bool, optional
        The rows to compare; all by default.
    want : ndarray of shape (n_rows,), optional
        The true labels of all rows where they are known already, or where rational arithmetic would take too long.
    dead : sequence of int
        Centers that do not compete.
    screen : callable, optional
        ``screen(i)`` returns a score of row i for each center, the lowest for the nearest, and their radius;
        ``screen.name`` is for the message.  `float32_screen` by default.
    """
    got, C = np.asarray(host_copy(got)), np.asarray(host_copy(C))
    rows = np.arange(X.shape[0])[slice(None) if rows is None else rows]
    if got.shape != (X.shape[0],):
        raise AssertionError(f"{X.shape[0]} rows have labels of shape {got.shape}")
    if want is None:
        living = np.setdiff1d(np.arange(len(C)), dead)
        known = living[nearest(dense(X[rows]), C[living])]
    else:
        known = np.asarray(want)[rows]
    wrong = np.flatnonzero(got[rows] != known)
    if len(wrong):
        first = wrong[np.argmin(rows[wrong])]
        row, label, true = int(rows[first]), int(got[rows[first]]), int(known[first])
        raise AssertionError(
            f"{len(wrong)} of {len(rows)} labels are wrong. "
            + explain_label(X, C, row, label, true, screen or float32_screen(X, C))
        )


def explain_label(X, C, row, label, true, screen):
    """Why `label` of a row is wrong and `true` is right, in exact distances, scores and their radius."""
    first = f"The first is row {row}: label {label} instead of {true}.\n"
    if not 0 <= label < len(C):
        return f"{first}  {label} is not one of the {len(C)} centers."
    x = dense_row(X, row)
    if not (np.isfinite(x.astype(np.float64)).all() and np.isfinite(C[[label, true]]).all()):
        return f"{first}  The row or a center has values that are not finite."
    squares, unit = square_distances(x[None], C[[label, true]])
    given, least = (int(square) * unit for square in squares[0])
    scores, radius = screen(row)
    margin = float(scores[label]) - float(scores[true])
    return (
        f"{first}  {compared(label, given, true, least)}\n"
        f"  exact |x - c[{label}]|^2 = {given} = {approximately(given)}\n"
        f"  exact |x - c[{true}]|^2 = {least} = {approximately(least)}\n"
        f"  {screen.name}: margin of center {true} over center {label} {margin:.6g} (negative: the other one wins), "
        f"radius {radius:.6g}\n"
        f"  {judged(margin, radius, label, true)}"
    )


def compared(label, given, true, least):
    if given == least and label > true:
        return f"Both centers are equally near; {true} is the lower index."
    if given <= least:
        return f"Center {label} is as near or nearer, or {true} is a higher index: the expected label is wrong."
    return f"Center {true} is nearer, by {approximately(given - least)} in squared distance."


def judged(margin, radius, label, true):
    """What scores with this margin and radius allow to conclude."""
    if margin > 2 * radius:
        return f"The margin exceeds two radii, so the scores certify center {true}: label {label} has another cause."
    if margin < -2 * radius:
        return f"The scores prefer center {label} by more than two radii: a score or the radius is wrong."
    return "The margin is within two radii, so the scores certify neither: exact distances must decide this row."


def approximately(value: Fraction):
    """A Fraction to 17 digits; its exponent where float64 has no such number."""
    try:
        return f"{float(value):.17g}"
    except OverflowError:
        return f"about 2**{value.numerator.bit_length() - value.denominator.bit_length()}"


def dense(X):
    return X.toarray() if sparse.issparse(X) else np.asarray(X)


def dense_row(X, i):
    return dense(X[[i]])[0]


# ---- fitted models ---------------------------------------------------------------------------------------------------

#: What a fit leaves, of all estimators; those compare that the second model has.
RESULTS = ("labels_", "cluster_centers_", "inertia_", "n_iter_", "n_steps_", "n_features_in_")


def equal(one, other):
    """Whether two arrays, on any device, have the same values."""
    return np.array_equal(host_copy(one), host_copy(other))


def difference(got, want, *, history=False):
    """In which result two fitted models differ, in a sentence; None if they have the same bits and dtypes.

    With `history`, also in the iterations of their reports: moved rows, shifts and relocated clusters.
    """
    for name in RESULTS:
        if hasattr(got, name) != hasattr(want, name):
            return f"{name}: only one of the models has it"
        if not hasattr(want, name):
            continue
        a, b = (np.asarray(host_copy(getattr(model, name))) for model in (got, want))
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{name}: {a.dtype} of shape {a.shape} instead of {b.dtype} of shape {b.shape}"
        if a.tobytes() != b.tobytes():
            differs = bytes_of(a) != bytes_of(b)
            place = np.flatnonzero(differs)[0]
            index = tuple(int(i) for i in np.unravel_index(place, a.shape)) if a.shape else ""
            values = f"{a.reshape(-1)[place]!r} instead of {b.reshape(-1)[place]!r}"
            return f"{name}: {int(differs.sum())} of {a.size} values differ, first {name}{list(index) or ''}: {values}"
    if history:
        for a, b in zip(story(got), story(want), strict=False):
            if a != b:
                return f"fit_report_: iteration {a} instead of {b}"
        if len(story(got)) != len(story(want)):
            return f"fit_report_: {len(story(got))} iterations instead of {len(story(want))}"
    return None


def bytes_of(array):
    """Each element as its bytes, so that NaN equals itself and zeros of different sign differ."""
    return np.ascontiguousarray(array).reshape(-1).view(f"V{array.dtype.itemsize}")


def story(model):
    """What happened in each iteration of a fit, without how rows were settled."""
    return [(i.init, i.iteration, i.n_moved, i.shift, i.n_relocated) for i in model.fit_report_.iterations]


def same(got, want, **options):
    """Whether two fitted models have the same bits; see `difference`."""
    return difference(got, want, **options) is None


def assert_same(got, want, **options):
    """Two fitted models have the same bits; a failure names the first result and value that differ."""
    found = difference(got, want, **options)
    if found is not None:
        raise AssertionError(f"The models differ in {found}.")
