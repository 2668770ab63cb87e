"""The words of kernels/control.cuh: by them launches speak to those that follow, and to the host."""

from __future__ import annotations

from enum import IntEnum, auto

#: Iterations that the device keeps a record of until the host looks.
HISTORY = 64


class _Word(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count


class Control(_Word):
    """int32 words of the device's control."""

    STOP = auto()
    N_SKIPPED = auto()
    N_UNDECIDED = auto()
    N_UNCERTAIN = auto()
    N_OPEN = auto()
    N_MOVED = auto()
    N_ACTIVE = auto()
    N_DONE = auto()
    N_LIMIT = auto()
    HAS_EQUAL = auto()
    TICKETS = auto()
    EPOCH = auto()


#: The first of the words that outlive an assignment.
LASTING = Control.HAS_EQUAL


class Reason(_Word):
    """Why launches do nothing."""

    GO_ON = auto()
    LABELS_STAYED = auto()
    CENTERS_STAYED = auto()
    EMPTY_CLUSTER = auto()
    EQUAL_CENTERS = auto()
    ROWS_LEFT_OPEN = auto()
    ITERATIONS_DONE = auto()


class Fact(_Word):
    """float32 words that the next assignment reads."""

    PER_REST = auto()
    PER_NORM = auto()
    CONSTANT = auto()
    WHOLE = auto()


class Scale(_Word):
    """float64 words of a problem, that the host has written."""

    HALF_SCALE = auto()
    WEIGHT_SCALE = auto()
    LARGEST_WHOLE = auto()


class History(_Word):
    """float64 words of the record of an iteration."""

    MOVED = auto()
    SKIPPED = auto()
    UNDECIDED = auto()
    UNCERTAIN = auto()
    SHIFT = auto()
    EMPTY = auto()


class Measure(_Word):
    """float64 rows of what update_centers.cu measures of each center."""

    WEIGHT = auto()
    SHIFT_SQUARE = auto()
    NORM = auto()
    REST = auto()
    LARGEST = auto()
