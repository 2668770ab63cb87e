"""Warnings that name the line of the caller's own code, however deep in the package they are raised."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

#: Packages whose functions call ours on behalf of the caller: validation wrappers, pipelines, searches, their workers.
PASSED_THROUGH = ("gpukmeans", "sklearn", "joblib")


def warn_caller(message: str, category: type[Warning]) -> None:
    """Issue a warning for the innermost line outside the packages `PASSED_THROUGH`.

    Python shows a warning once for each line, so a warning that named a line of a library would hide all later ones.
    A subclass of an estimator in another package is a caller, too: its line is named.  In a thread of a pool the
    caller is not on the stack; then a line of the pool is named.

    Parameters
    ----------
    message : str
    category : type of Warning
    """
    frame = _caller(sys._getframe(1))
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__", "<unknown>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _caller(frame: FrameType) -> FrameType:
    while frame.f_back is not None and _root(frame) in PASSED_THROUGH:
        frame = frame.f_back
    return frame


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
