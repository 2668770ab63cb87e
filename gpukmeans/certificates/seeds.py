"""Error radii of k-means++: of distances to candidates, of potentials, and of the gain of a candidate.

Notation as in rounding.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpukmeans.arrays.types import F64
from gpukmeans.certificates.rounding import SLACK, SQUARE_UNDERFLOW, TINY32, UNIT32, UNIT64, gamma
from gpukmeans.certificates.scores import exact_in_float64

#: A row is skipped if the squared distance from its seed to the nearest candidate is at least SKIP_FACTOR times its own
#: to the seed, plus SKIP_FLOOR: see `separated`.
SKIP_FACTOR = 4.0 * (1.0 + 2.0**-8)
SKIP_FLOOR = 2.0**-990

#: The most terms that are added in one float32 number, before the sum goes on in float64.
TERMS32 = 256


@dataclass(frozen=True)
class CandidateRadius:
    """``per_product * |x||c| + per_square * (|x|^2 + |c|^2 + v) + constant``: see `candidate_radius`."""

    per_product: float
    per_square: float
    constant: float


def candidate_radius(n_features: int, unit: float) -> CandidateRadius:
    """Radius of ``v + g`` as |x - c|^2, where ``g = fl(q + fl(fl(|x|^2) - v) + fl(|c|^2))`` and ``q = fl(-2 x.c)``.

    k-means++ compares a candidate c with the distance v of a row to its seed: if g < 0, the candidate is nearer, by -g.
    The product q is taken in an arithmetic of unit roundoff `unit` in which x and c are stored, and everything else in
    float64 (u below); v >= 0 is a given float64 number.

    Notes
    -----
    q is within 2 gamma(d) |x||c| of -2 x.c in any order of summation (Higham, eq. 3.5; the factor 2 is exact), and the
    squares are within gamma(d) in float64.  The three float64 operations round by at most

        u (|x|^2 + v) + u (|q| + |x|^2 + v) + u (|q| + |x|^2 + |c|^2 + v),    |q| <= (|x|^2 + |c|^2)(1 + gamma(d)),

    with less for roundings of roundings: 5 |x|^2 + 3 |c|^2 + 3 v, so gamma(d + 8) (|x|^2 + |c|^2 + v) bounds all
    float64 errors.  |x|^2 and |c|^2 may be the computed ones.  Products and sums that are flushed to zero add
    2 * 2**-126 for each of d terms in float32, and underflow in float64 less than `SQUARE_UNDERFLOW`.  Norms must stay
    below `LARGEST_NORM32` in float32.
    """
    d = float(n_features)
    tiny = 4.0 * (d + 4.0) * TINY32 if unit == UNIT32 else 0.0
    return CandidateRadius(
        SLACK * 2.0 * gamma(d + 2.0, unit),
        SLACK * gamma(d + 10.0, UNIT64),
        SLACK * (tiny + SQUARE_UNDERFLOW),
    )


def separated(reach: float, closest: float) -> bool:
    """Whether no candidate can be nearer to a row than its own seed.  kernels/seed_gain.cu does not read such rows.

    Parameters
    ----------
    reach : float
        The computed squared distance from the seed to the nearest candidate.
    closest : float
        The computed squared distance v' from the row to its seed.

    Notes
    -----
    For a row x, its seed s and a candidate c the triangle inequality gives |x - c| >= |c - s| - |x - s|, which is at
    least |x - s| where |c - s|^2 >= 4 |x - s|^2.  Computed squared distances are within a relative g of true ones, and
    U = `SQUARE_UNDERFLOW` besides.  Where ``reach >= 4 (1 + 2**-8) v' + 2**-990``,

        |c - s|^2 >= reach (1 - g) - U >= (4 (1 + 2**-8) v' + 2**-990) (1 - g) - U
                  >= 4 (v' (1 + g) + U) >= 4 |x - s|^2             for g <= 2**-11,

    as (1 + 2**-8) (1 - g) >= 1 + g there and 2**-990 (1 - g) >= 5 U.  Each of the two roundings of the right-hand side
    takes less of the slack than 2**-52.  Which g holds is `distance_roundings` of any number of features below 2**40.
    """
    return reach >= SKIP_FACTOR * closest + SKIP_FLOOR


def distance_roundings(n_features: int, lanes: int) -> float:
    """Roundings of a float64 squared distance that `lanes` lanes compute four columns at a time: kernels/seeding.cuh.

    A difference rounds once, which counts twice in its square; the square is added without a rounding of its own, by
    one fused operation for each of a lane's columns; sums of 256 of a lane's columns are added, and those of the lanes.
    """
    columns = 4 * -(-n_features // (4 * lanes))
    return 2.0 + columns + -(-columns // TERMS32) + 5.0


def terms_in_float32(n_features: int, lanes: int) -> int:
    """The most squares that a lane adds up in float32."""
    return min(TERMS32, 4 * -(-n_features // (4 * lanes)))


@dataclass(frozen=True)
class SumRadius:
    """``relative * P + floor`` bounds the error of a computed sum P; `zero_floor` where P is zero."""

    relative: float
    floor: float
    zero_floor: float

    @property
    def exact(self) -> bool:
        """Whether the sum carries no error at all."""
        return self.relative == self.floor == self.zero_floor == 0.0


@dataclass(frozen=True)
class GainRadius:
    """``per_far * far + per_near * near + floor`` bounds the error of far - near; `zero_floor` where far is zero.

    Row i may gain from a candidate at the computed distance d' only if ``shrink * d' < v' + margin``.
    """

    shrink: float
    margin: float
    per_far: float
    per_near: float
    floor: float
    zero_floor: float


@dataclass(frozen=True)
class SeedRadii:
    """The radii of one fit's rows: see the methods.

    Attributes
    ----------
    n_samples, n_features : int
    lanes : int
        How many lanes of a warp share a row.
    whole : float
        The largest magnitude if every value is a whole number, else infinity.
    spread : float
        The largest difference of two values if every value is a whole number, else infinity.
    weights : (float, float) or None
        The smallest and the largest of the positive sample weights; None where there are none.
    """

    n_samples: int
    n_features: int
    lanes: int
    whole: float
    spread: float
    weights: tuple[float, float] | None = None

    @property
    def exact_distances(self) -> bool:
        """Whether all float64 distances are exact whole numbers."""
        return exact_in_float64(self.n_features, self.whole)

    @property
    def exact_sums(self) -> bool:
        """Whether all sums of float64 distances are exact whole numbers."""
        return self.weights is None and exact_in_float64(self.n_features * self.n_samples, self.whole)

    @property
    def exact_in_float32(self) -> bool:
        """Whether float32 represents the sums of squares of whole numbers that a lane adds up."""
        terms = terms_in_float32(self.n_features, self.lanes)
        return self.exact_distances and self.spread * self.spread * terms <= 2.0**24

    def of_distance(self) -> float:
        """The relative error of a float64 distance; `SQUARE_UNDERFLOW` comes on top."""
        roundings = distance_roundings(self.n_features, self.lanes)
        return 0.0 if self.exact_distances else SLACK * gamma(roundings, UNIT64)

    def of_term(self) -> SumRadius:
        """The radius of the term weight * v' of one row."""
        if self.exact_distances and self.weights is None:
            return SumRadius(0.0, 0.0, 0.0)
        return self._of_sum(2.0, 1)

    def of_sum(self, roundings: float, n_rows: int) -> SumRadius:
        """The radius of a sum over `n_rows` rows, in which each term rounds `roundings` times.

        Each term is off by a relative `of_distance` and by its product with the weight; eight roundings more are left
        for the comparison of two sums.  Squares that underflow add `SQUARE_UNDERFLOW` to a row, times its
        weight, and so may a product with a weight.  A computed zero is a true one, as kernels/seeding.cuh lifts the
        distances of rows that differ to 2**-1000, unless weights are so small that products with them vanish.
        """
        if self.exact_sums:
            return SumRadius(0.0, 0.0, 0.0)
        return self._of_sum(roundings + 9.0, n_rows)

    def _of_sum(self, roundings: float, n_rows: int) -> SumRadius:
        distance = 0.0 if self.exact_distances else distance_roundings(self.n_features, self.lanes)
        smallest, largest = self.weights or (1.0, 1.0)
        floor = n_rows * 2.0 * SQUARE_UNDERFLOW * (1.0 + largest)
        vanishes = smallest < 2.0**-70
        return SumRadius(SLACK * gamma(distance + roundings, UNIT64), floor, floor if vanishes else 0.0)

    def of_gain(self, roundings: float, *, wide: bool) -> GainRadius:
        """The radius of a gain whose two sums round `roundings` times, with d' in float64 (`wide`) or in float32.

        Notes
        -----
        The true gain is the sum of w max(0, v - d).  It is compared with the sum of w (v' - min(v', d')) over the rows
        that are marked: ``shrink d' < v' + margin``.  Let r and g be the relative errors of v' and d', and a the
        absolute error of d' beyond them.  A row that is not marked gains nothing, as with shrink <= 1 - g - 2 r

            d >= d' (1 - g) - a >= d' (1 - g - 2 r) (1 + r) - a >= (v' + margin) (1 + r) - a >= v,

        where margin >= a + U.  A marked row's share is off by |v - v'| + |d - d'| at most: r v' + g d' + a + U, in
        which d' may be replaced by min(v', d') (1 + 2 g + 4 r) plus a multiple of the margin.  Summing up, the two
        sums round by a relative `roundings`, and so per_far is r with these and per_near g and r with these.

        In float32 a difference, and so its square, and the sums of `TERMS32` squares round in float32, the rest in
        float64.  Flushing to zero adds at most 2**-126 for each square, and as much for each operand, whose share is
        2**-125 of the difference: less than 2**-60 of its square or than 2**-180.
        """
        of_sum = self.of_sum(roundings, self.n_samples)
        if wide:
            error, flushed = self.of_distance(), 0.0
        elif self.exact_in_float32:
            error, flushed = 0.0, 0.0
        else:
            error = SLACK * (gamma(terms_in_float32(self.n_features, self.lanes) + 3.0, UNIT32) + self.of_distance())
            flushed = 4.0 * (self.n_features + 4.0) * TINY32
        distance = self.of_distance()
        if error == distance == 0.0:
            margin, shrink = 0.0, 1.0
        else:
            margin, shrink = (
                SLACK * (flushed + 4.0 * SQUARE_UNDERFLOW),
                1.0 - SLACK * (error + 2.0 * distance + 2.0**-50),
            )
        largest_weight = 1.0 if self.weights is None else self.weights[1]
        floor = of_sum.floor + SLACK * 2.0 * self.n_samples * largest_weight * margin
        near = of_sum.relative + SLACK * error
        return GainRadius(shrink, margin, of_sum.relative, near, floor, of_sum.zero_floor)


@dataclass(frozen=True)
class SparseSeedRadii:
    """The radii of k-means++ over rows in CSR: kernels/sparse_seed.cu.

    Attributes
    ----------
    n_samples, n_features : int
    n_entries : int
        The most stored entries of a row.
    whole : float
        The largest magnitude if every value is a whole number, else infinity.
    weights : (float, float) or None
        The smallest and the largest of the positive sample weights; None where there are none.

    Notes
    -----
    With m entries a row, x.s is within gamma(m) |x||s| of exact in any order, so twice that is within
    gamma(m) (|x|^2 + |s|^2); the squares are given within gamma(m); their sum and the last operation round three times
    at most, the latter by 2 |x.s| more.  So D is within g (|x|^2 + |s|^2) of the true distance D* for
    g = gamma(2 m + 8).  As |s|^2 <= 2 |x|^2 + 2 D*,

        |D - D*| <= g (3 |x|^2 + 2 D*) <= g (3 |x|^2 + 2 D) / (1 - 2 g).

    The same bounds the error of min(v, D) by the smaller of the two, where v is the distance to another row with this
    error: if D > v, then D* >= D (1 - 2 g) - 3 g |x|^2 >= v - g (3 |x|^2 + 2 v).  Distances from differences are within
    gamma(2 m + 4) of themselves: less.  They alone can be zero, and then are exact, as squares that underflow are
    lifted to 2**-1000.
    """

    n_samples: int
    n_features: int
    n_entries: int
    whole: float
    weights: tuple[float, float] | None = None

    @property
    def _n_terms(self) -> int:
        return max(1, min(self.n_features, 2 * self.n_entries))

    @property
    def _per_distance(self) -> float:
        """g of the notes; zero where float64 holds every step of a distance between whole numbers."""
        return 0.0 if exact_in_float64(self._n_terms, self.whole) else gamma(2.0 * self.n_entries + 8.0, UNIT64)

    def of_sums(self, sums: F64, squares: F64, roundings: float, n_rows: int) -> F64:
        """Error bounds of sums over at most `n_rows` rows, in which each term rounds `roundings` times.

        Parameters
        ----------
        sums : ndarray of float64
            Of weight * value.
        squares : ndarray of float64
            Of weight * |x|^2 over the rows whose value is not zero.
        """
        if self.weights is None and exact_in_float64(self._n_terms * n_rows, self.whole):
            return np.zeros(np.shape(sums))
        g = self._per_distance
        smallest, largest = self.weights or (1.0, 1.0)
        lost = n_rows * 2.0 * SQUARE_UNDERFLOW * (1.0 + largest)
        per_sum = gamma(roundings + 1.0, UNIT64)
        # Sums of squares are rounded, too: a relative 2**-10, by far, in the slack.
        errors = SLACK * ((2.0 * g + per_sum) * sums + 3.0 * g * squares)
        vanishes = smallest < 2.0**-70  # products with the weights do: a computed zero may be none
        return errors + np.where((sums > 0.0) | vanishes, lost, 0.0)
