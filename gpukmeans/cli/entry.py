"""The command line: ``gpukmeans mnist``, ``gpukmeans digits``, ``gpukmeans info``; see ``gpukmeans --help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import gpukmeans
from gpukmeans.cli import info, study

EXIT_ERROR, EXIT_INTERRUPTED = 2, 130


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_ERROR, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        The exit status: 0; 1 if ``--check`` found another clustering than scikit-learn; 2 after an error, with
        one line on standard error; 130 after Ctrl-C.

    Examples
    --------
    >>> from gpukmeans.cli import main
    >>> main(["digits", "--backend", "numpy", "--no-plots", "--quiet"])
    0
    """
    try:
        status = _run(argv)
        sys.stdout.flush()  # here, where a closed pipe can still be handled
        return status
    except SystemExit as stop:  # argparse: --help, --version and wrong options
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("gpukmeans: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"gpukmeans: error: {message}", file=sys.stderr)
        return EXIT_ERROR


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    return arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gpukmeans",
        description="Exact k-means: raw CUDA kernels on an NVIDIA GPU, NumPy elsewhere, the same bits everywhere.",
        epilog="`python -m gpukmeans script.py ...` (or -m module) runs a script with scikit-learn's k-means replaced "
        "by this one. Exit status: 0; 1 if --check found another clustering than scikit-learn; 2 after an error; "
        "130 after Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"gpukmeans {gpukmeans.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{mnist,digits,info}")
    study.add_commands(commands)
    info.add_command(commands)
    return parser
