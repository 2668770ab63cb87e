"""The command line: ``gpukmeans fit``, ``report``, ``explore``, ``predict`` and others; see ``gpukmeans --help``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

import gpukmeans
from gpukmeans.cli import info, predict, study
from gpukmeans.study.streams import emit, say
from gpukmeans.study.values import as_options

COMMANDS = ("fit", "resume", "predict", "mnist", "digits", "report", "explore", "info")
EXIT_ERROR, EXIT_INTERRUPTED = 2, 130


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, and a help or version that could not be written as any other output."""

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: error: {message}; see {self.prog} --help")
        raise SystemExit(EXIT_ERROR)

    def _print_message(self, message: str, file: object = None) -> None:
        emit(message)  # argparse itself ignores a write that fails, and takes standard error for a closed output


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
        arguments = _parser().parse_args(argv)
        return arguments.run(arguments)
    except SystemExit as stop:  # argparse: --help, --version and wrong options
        return int(stop.code or 0)
    except KeyboardInterrupt:
        say("gpukmeans: interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has gone, as `| head` does
        return EXIT_ERROR
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        say(f"gpukmeans: error: {as_options(str(error)) or type(error).__name__}")
        return EXIT_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gpukmeans",
        description="Exact k-means: raw CUDA kernels on an NVIDIA GPU, NumPy elsewhere, the same bits everywhere.",
        epilog="`python -m gpukmeans script.py ...` (or -m module, -c code, -) runs a script as Python does, with "
        "scikit-learn's k-means replaced by this one, also in the processes that it starts. Exit status: 0; 1 if "
        "--check found another clustering than scikit-learn; 2 after an error; 130 after Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"gpukmeans {gpukmeans.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar=f"{{{','.join(COMMANDS)}}}")
    study.add_commands(commands)
    predict.add_command(commands)
    info.add_command(commands)
    return parser
