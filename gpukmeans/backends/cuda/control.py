"""Layout of the control array: flags and counters that each kernel passes to the next kernels and to the host.

Also of the other small arrays that kernels and the host share.  The names are those of kernels/control.cuh.
"""

from __future__ import annotations

from enum import IntEnum, auto

#: Records of iterations that the device keeps until the host downloads them.
HISTORY = 64


class _Element(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count


class Control(_Element):
    """int32 elements of the control array of a run."""

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


#: The first of the elements that are not cleared before an assignment.
LASTING = Control.HAS_EQUAL


class Reason(_Element):
    """Values of `Control.STOP`: why launches have no effect."""

    GO_ON = auto()
    LABELS_STAYED = auto()
    CENTERS_STAYED = auto()
    EMPTY_CLUSTER = auto()
    EQUAL_CENTERS = auto()
    ROWS_LEFT_OPEN = auto()
    ITERATIONS_DONE = auto()


class Fact(_Element):
    """float32 elements of the facts about the centers of a run, which the next assignment reads."""

    PER_REST = auto()
    PER_NORM = auto()
    CONSTANT = auto()
    WHOLE = auto()


class Scale(_Element):
    """float64 elements of the scales of a problem."""

    HALF_SCALE = auto()
    WEIGHT_SCALE = auto()
    LARGEST_WHOLE = auto()
    LARGEST_ANY = auto()
    FINER = auto()


class History(_Element):
    """float64 elements of the record of an iteration."""

    MOVED = auto()
    SKIPPED = auto()
    UNDECIDED = auto()
    UNCERTAIN = auto()
    SHIFT = auto()
    EMPTY = auto()


class Measure(_Element):
    """float64 rows of the measures of the centers, which update_centers.cu writes: one value for each center."""

    WEIGHT = auto()
    SHIFT_SQUARE = auto()
    NORM = auto()
    REST = auto()
    LARGEST = auto()
