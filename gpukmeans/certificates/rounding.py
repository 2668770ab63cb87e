"""The notation of all certificates: unit roundoffs, `gamma`, and radii that grow with the norm of a row.

If the score of the best center differs from all others by more than the errors of the scores, the best center is proved
to be the nearest.  Every function of this folder states what it bounds and why; tests compare each with rational
arithmetic on adversarial data.

Notation: u is the unit roundoff (2**-24 in float32, 2**-53 in float64) and gamma(m) = m*u / (1 - m*u), which bounds the
relative error of m roundings (N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., lemma 3.1).
|v| is the Euclidean norm of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Unit roundoffs of float32 and float64.
UNIT32 = 2.0**-24
UNIT64 = 2.0**-53

#: Smallest normal float32: flush-to-zero arithmetic loses at most this much per operation.
TINY32 = 2.0**-126

#: Rows and centers with larger norms are not screened in float32: their products could overflow on the way.
LARGEST_NORM32 = 2.0**60

#: Below this norm float32 scores may underflow, so they certify nothing.
SMALLEST_NORM32 = 2.0**-50

#: Room for the rounding of the bound itself and of the comparison made with it.
SLACK = 1.0 + 2.0**-10

#: Absolute error that underflow of the squares can add to a float64 squared distance, for up to 2**40 features.
SQUARE_UNDERFLOW = 2.0**-1000

#: Absolute error of each of up to 2**31 tiny terms in `gpukmeans.exact.sums.exact_total`, whose grid ends there.
TOTAL_UNDERFLOW = 2.0**-960


def gamma(m: float, unit: float) -> float:
    """Bound of the relative error of m roundings in arithmetic of unit roundoff `unit`.

    Infinite where m*u reaches 1/2, so that nothing is certified.
    """
    mu = m * unit
    return mu / (1.0 - mu) if mu < 0.5 else float("inf")


def screened_norm(norm: float) -> float:
    """The norm of a center, or infinity where float32 scores of that center could overflow."""
    return float(norm) if norm < LARGEST_NORM32 else float("inf")


@dataclass(frozen=True)
class ScoreRadius:
    """``radius_i = per_norm * |x_i| + constant`` bounds the error of each score of row i."""

    per_norm: float
    constant: float

    def of(self, norms: NDArray[np.float64]) -> NDArray[np.float64]:
        """The radii of rows with these norms."""
        return norms * self.per_norm + self.constant
