"""A script run by Python itself, with scikit-learn's k-means replaced by ours in it and in the processes it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

STARTUP = Path(__file__).parent / "startup"
"""The folder of the `sitecustomize` that patches."""


def is_script(arguments: Sequence[str], commands: Sequence[str]) -> bool:
    """Whether arguments name something for Python to run: -m, -c, - or a path, rather than a command of ours."""
    first = arguments[0] if arguments else ""
    if first in ("-m", "-c", "-") or first.endswith((".py", ".pyw")):
        return True
    return not first.startswith("-") and first not in commands and os.path.exists(first)


def script_command(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that run a script with scikit-learn patched.

    Parameters
    ----------
    arguments : sequence of str
        As for Python itself: a path, ``-m module``, ``-c code`` or ``-``, and what the script gets.  They are the end
        of `sys.orig_argv`; options for Python in front of them are taken over.

    Returns
    -------
    command : list of str
    environment : dict

    Raises
    ------
    ValueError
        There is nothing to run, or an option of Python's keeps the patch out.
    """
    if list(arguments) == ["-m"]:
        raise ValueError("-m needs the name of a module; see python -m gpukmeans --help")
    if arguments[0] not in ("-m", "-c", "-") and not os.path.exists(arguments[0]):
        raise ValueError(f"there is no script {arguments[0]!r} to run")
    if sys.flags.ignore_environment or sys.flags.no_site:
        raise ValueError("python -I, -E and -S keep scikit-learn from being patched: leave them out")
    environment = {**os.environ, "GPUKMEANS_RUNNER": sys.prefix}
    paths = os.environ.get("PYTHONPATH", "")
    if paths.split(os.pathsep)[0] != str(STARTUP):
        environment["PYTHONPATH"] = f"{STARTUP}{os.pathsep}{paths}" if paths else str(STARTUP)
    return [sys.executable, *_options(arguments), *arguments], environment


def _options(arguments: Sequence[str]) -> list[str]:
    """Python's own options in front of a script's arguments and of ``-m gpukmeans``, or of the console script."""
    n_ahead = len(sys.orig_argv) - len(arguments)
    if n_ahead < 2 or sys.orig_argv[n_ahead:] != list(arguments):  # started by other code
        return []
    *options, last = sys.orig_argv[1:n_ahead]
    if last == "gpukmeans":
        options[-1] = options[-1].removesuffix("m")
    elif last.startswith("-"):
        options.append(last.removesuffix("mgpukmeans"))
    return [option for option in options if option != "-"]
