"""The options of a study on the command line, made from the fields of `gpukmeans.study.options.Options`."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from gpukmeans.study.options import DIGITS, OWN, Options

#: Commands that take digits by their name, or a path.
EITHER = ("report", "explore")


def add_options(parser: argparse.ArgumentParser, command: str, largest_pixel: int) -> None:
    """Add every option that a command has, each in the group that its field names."""
    groups: dict[str, Any] = {"": parser}
    for field in fields(Options):
        commands = field.metadata.get("commands", ())
        if not commands or (command not in EITHER and command not in commands):
            continue
        if command == "explore" and not field.metadata["explore"]:
            continue
        declared, names = field.metadata, {"command": command, "largest": largest_pixel}
        if declared["group"] not in groups:
            groups[declared["group"]] = parser.add_argument_group(declared["group"])
        kwargs = dict(declared["kwargs"])
        if field.metadata["flags"] == ("path",):  # a positional argument
            if command == "explore":
                kwargs |= {"nargs": "?", "default": Path(DIGITS[0])}
            either = "mnist, digits, " if command in EITHER else ""
            groups[""].add_argument("path", help=f"{either}{declared['help']}", **kwargs)
            continue
        if kwargs.get("action") not in ("store_true", "store_false"):
            default = field.default
            kwargs["default"] = default.format(**names) if isinstance(default, str) else default
        groups[declared["group"]].add_argument(
            *(declared["flags"] or [f"--{field.name.replace('_', '-')}"]),
            dest=field.name,
            help=declared["help"].replace("{largest}", str(largest_pixel)).replace("{command}", command),
            **kwargs,
        )


def chosen(arguments: argparse.Namespace) -> Options:
    """The options that were given, and the defaults of those that were not.

    Raises
    ------
    ValueError
        An option is not one of the data that `report` was given.
    """
    given = {field.name: getattr(arguments, field.name) for field in fields(Options) if hasattr(arguments, field.name)}
    if arguments.command in EITHER:
        named = str(given["path"])
        given["command"] = named if named in DIGITS else OWN[0]
        for field in fields(Options)[1:]:
            if given["command"] in field.metadata["commands"]:
                continue
            if given.pop(field.name, field.default) != field.default and field.name != "path":
                raise ValueError(f"--{field.name.replace('_', '-')} is no option of {arguments.command} {named}")
    return Options(**given)
