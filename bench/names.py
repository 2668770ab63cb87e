"""Names on the command lines of the benches."""

from __future__ import annotations

import argparse
from collections.abc import Collection


def chosen(parser: argparse.ArgumentParser, text: str | None, known: Collection[str], what: str) -> list[str]:
    """The names in `text`, with commas between; all that are `known` where there is no text.

    An unknown one ends the program with a line that says what there is.
    """
    names = [name for part in text.split(",") if (name := part.strip())] if text else list(known)
    unknown = sorted(set(names) - set(known))
    if unknown or not names:
        parser.error(f"{', '.join(unknown) or text}: no such {what}; there are {', '.join(known)}")
    return names
