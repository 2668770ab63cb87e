"""The largest accepted value, and the errors for values that are rejected."""

from __future__ import annotations

import numpy as np

#: Largest magnitude of a value: its square, summed over any number of features, must stay finite in float64.
LARGEST_VALUE = 2.0**480
#: Between which the largest weight lies.
WEIGHT_RANGE = (2.0**-400, 2.0**50)


#: What the advice of scikit-learn for NaN calls the estimator, where its class is not known.
ALGORITHM = "k-means"


def refuse_nan(name: str = "X") -> None:
    """Raise scikit-learn's ValueError for NaN, which for X advises what to do."""
    from sklearn.utils import assert_all_finite

    assert_all_finite(np.array([np.nan]), estimator_name=ALGORITHM, input_name=name)


def refuse_values(largest: float, dtype: object, name: str = "X") -> None:
    """Raise unless the largest magnitude of an array is allowed; messages are those of scikit-learn where it has one.

    Parameters
    ----------
    largest : float
        The largest magnitude; NaN if the array contains NaN.
    dtype : object
        Of the array, for the message.
    name : str
        Of the array, for the message.

    Raises
    ------
    ValueError
        If it is NaN or infinite, or above `LARGEST_VALUE`.
    """
    if np.isnan(largest):
        refuse_nan(name)
    if np.isinf(largest):
        raise ValueError(f"Input {name} contains infinity or a value too large for {dtype!r}.")
    if largest > LARGEST_VALUE:
        raise ValueError(
            f"{name} has values up to {largest:.3g} in magnitude; squared distances need at most 2**480 "
            f"({LARGEST_VALUE:.3g}). Scale the data down first."
        )


def refuse_weights(largest: float) -> None:
    """Raise a ValueError unless the largest weight of all rows is allowed."""
    if not largest:
        raise ValueError("sample_weight is zero everywhere; at least one row needs a positive weight.")
    lowest, highest = WEIGHT_RANGE
    if not lowest <= largest <= highest:
        raise ValueError(
            f"The largest sample_weight is {largest:.3g}; it should lie between {lowest:.3g} and {highest:.3g}. "
            "Scale the weights, which changes no cluster."
        )
