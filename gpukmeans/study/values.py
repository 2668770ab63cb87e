"""Values of options: parsers, which raise an argparse.ArgumentTypeError that says what is allowed, and their names."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

_PARAMETER = re.compile(
    r"\b(columns|label|id|drop|one_hot|missing|scale|image_size|image_mode)=('[^']*'|\"[^\"]*\"|\(\d+, \d+\))"
)


def whole(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers within these limits; it raises argparse.ArgumentTypeError for other texts."""
    allowed = f"a whole number from {lowest} to {highest}" if highest else f"a whole number, at least {lowest}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest or (highest is not None and value > highest):
            raise argparse.ArgumentTypeError(f"{text!r} should be {allowed}")
        return value

    return parse


def runs(text: str) -> int | str:
    """A number of restarts, or "auto"."""
    if text == "auto":
        return text
    try:
        return whole(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or 'auto'") from None


def tolerance(text: str) -> float:
    """A finite number, at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} should be a finite number, at least 0")
    return value


def some_path(text: str) -> Path:
    """A path that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("'' should be a path")
    return Path(text)


def image_size(text: str) -> tuple[int, int]:
    """Height and width, as 28 or 28x20."""
    parts = text.lower().split("x")
    try:
        height, width = (whole(1)(part) for part in (parts if len(parts) > 1 else parts * 2))
    except (argparse.ArgumentTypeError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} should be a height and a width in pixels, as 28 or 28x20") from None
    return height, width


def numbers(text: str) -> tuple[int, ...]:
    """Numbers of clusters, with commas between."""
    return tuple(map(whole(1), text.split(",")))


def as_options(message: str) -> str:
    """An error or a note of a function with its parameters written as the options that the command line has for them.

    Examples
    --------
    >>> from gpukmeans.study.values import as_options
    >>> as_options("2 missing values; missing='drop' leaves these rows out, image_size=(28, 14) is what they have")
    '2 missing values; --missing drop leaves these rows out, --image-size 28x14 is what they have'
    """

    def option(found: re.Match[str]) -> str:
        name, value = found.groups()
        text = value[1:-1]
        if value[0] == "(":
            text = text.replace(", ", "x")
        return f"--{name.replace('_', '-')} {text if re.fullmatch(r'[^ ]+', text) else value}"

    return _PARAMETER.sub(option, message)
