"""The command line: ``gpukmeans mnist``, ``gpukmeans digits``, ``gpukmeans info``; see ``gpukmeans --help``."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import gpukmeans

EXIT_DIFFERS, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130

_PACKAGES = {
    "numpy": ["numpy"],
    "scikit-learn": ["scikit-learn"],
    "scipy": ["scipy"],
    "cupy": ["cupy-cuda13x", "cupy-cuda12x", "cupy"],
    "matplotlib": ["matplotlib"],
    "keras": ["keras"],
}


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
        The exit status: 0; 1 if ``--check`` found another clustering than scikit-learn; 2 after an error, told in
        one line on standard error; 130 after Ctrl-C.

    Examples
    --------
    >>> from gpukmeans.cli import main
    >>> main(["digits", "--backend", "numpy", "--no-plots", "--quiet"])
    0
    """
    try:
        status = _run(argv)
        sys.stdout.flush()  # here, where a reader that went away can still be handled
        return status
    except SystemExit as stop:  # argparse: --help, --version and wrong options
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("gpukmeans: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"gpukmeans: error: {message}", file=sys.stderr)
        return EXIT_ERROR


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.command == "info":
        found = _info()
        print(json.dumps(found, indent=2) if arguments.json else _info_text(found))
        return 0

    from gpukmeans.study.job import Options, check_ahead, report, run_job
    from gpukmeans.study.progress import Progress

    options = Options(
        command=arguments.command,
        clusters=arguments.clusters,
        backend=arguments.backend,
        precision=arguments.precision,
        init=arguments.init,
        n_init=arguments.n_init,
        max_iter=arguments.max_iter,
        tol=arguments.tol,
        seed=arguments.seed,
        dtype=arguments.dtype,
        source=getattr(arguments, "source", ""),
        out=arguments.out,
        plots=not arguments.no_plots,
        check=arguments.check,
    )
    progress = Progress(None if arguments.quiet else sys.stderr)
    check_ahead(options)
    try:
        result = run_job(options, progress)
    finally:
        progress.clear()
    if not arguments.quiet:
        for warning in result["warnings"]:
            print(f"gpukmeans: warning: {warning}", file=sys.stderr)
    if arguments.json:
        del result["metric_table"]
        print(json.dumps(result, allow_nan=False))
    elif not arguments.quiet:
        print(report(result, iterations=arguments.iterations))
    if result["check"] and not result["check"]["agrees"]:
        print(
            "gpukmeans: --check: not scikit-learn's clustering: "
            f"{result['check']['n_different_labels']:,} labels differ, "
            f"{result['check']['n_iter'][0]} iterations against {result['check']['n_iter'][1]}",
            file=sys.stderr,
        )
        return EXIT_DIFFERS
    return 0


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
    mnist = commands.add_parser(
        "mnist",
        help="cluster the 70,000 MNIST images",
        description="Cluster the 70,000 MNIST images, compare the clusters with the digits, and draw both.",
    )
    mnist.add_argument(
        "--source",
        default="bundled",
        help="bundled (needs no network), keras, openml, or the path of an npz file or a folder of IDX files; "
        "default: %(default)s",
    )
    digits = commands.add_parser(
        "digits",
        help="the same in a second, with scikit-learn's 1,797 digits of 8 x 8 pixels",
        description="Cluster scikit-learn's 1,797 digits of 8 x 8 pixels: what `gpukmeans mnist` does, in a second.",
    )
    for command, largest, out in ((mnist, 255, "gpukmeans-mnist"), (digits, 16, "gpukmeans-digits")):
        _add_fit_options(command)
        _add_output_options(command, largest, out)
    info = commands.add_parser(
        "info",
        help="versions, processors, and why which backend is used",
        description="Show versions, processors, which backends can be used here, and which one `auto` chooses and why.",
    )
    info.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_fit_options(command: argparse.ArgumentParser) -> None:
    fit = command.add_argument_group("clustering")
    fit.add_argument("-k", "--clusters", type=_whole(1), default=10, metavar="K", help="default: %(default)s")
    fit.add_argument("--backend", choices=["auto", "numpy", "cupy"], default="auto", help="default: %(default)s")
    fit.add_argument(
        "--precision",
        choices=["exact", "fast"],
        default="exact",
        help="fast leaves rows that are too close to call to rounding; default: %(default)s",
    )
    fit.add_argument(
        "--init", choices=["k-means++", "k-means||", "random"], default="k-means++", help="default: %(default)s"
    )
    fit.add_argument(
        "--n-init",
        type=_n_init,
        default="auto",
        metavar="N",
        help="runs, of which the best is kept; auto: 1 for k-means++, 10 for random; default: %(default)s",
    )
    fit.add_argument("--max-iter", type=_whole(1), default=300, metavar="N", help="default: %(default)s")
    fit.add_argument(
        "--tol",
        type=_tolerance,
        default=1e-4,
        metavar="T",
        help="stop when the centers move less, relative to the pixels' variance; 0: when no label changes; "
        "default: %(default)s",
    )
    fit.add_argument("--seed", type=_whole(0, 2**32 - 1), default=0, metavar="S", help="default: %(default)s")


def _add_output_options(command: argparse.ArgumentParser, largest: int, out: str) -> None:
    work = command.add_argument_group("data and output")
    work.add_argument(
        "--dtype",
        choices=["uint8", "float32", "float64"],
        default="uint8",
        help=f"uint8: pixels as they are, 0 to {largest}; float32, float64: pixels / {largest}; inertia is in squared "
        "units of these; default: %(default)s",
    )
    work.add_argument(
        "--check",
        action="store_true",
        help="also fit with scikit-learn in float64, from the same starting centers with tol 0, and compare",
    )
    work.add_argument(
        "--out",
        type=Path,
        default=Path(out),
        metavar="DIR",
        help="where to write centroids.png and confusion.png; default: ./%(default)s",
    )
    work.add_argument("--no-plots", action="store_true", help="write no pictures (needs no matplotlib)")
    work.add_argument("--iterations", action="store_true", help="print a line for every iteration")
    work.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
    work.add_argument("--quiet", action="store_true", help="no report, no progress, no warnings; errors only")


def _whole(lowest: int, highest: int | None = None) -> Callable[[str], int]:
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


def _n_init(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return _whole(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or 'auto'") from None


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} should be a finite number, at least 0")
    return value


def _info() -> dict[str, Any]:
    from threadpoolctl import threadpool_info

    from gpukmeans.backends.choice import explain

    backends = explain()  # loads what the backends use, so that their threads are seen
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "gpukmeans": gpukmeans.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(candidates) for name, candidates in _PACKAGES.items()},
        "cpu_threads": len(affinity(0)) if affinity else os.cpu_count(),
        "thread_pools": [
            {"library": pool["internal_api"], "version": pool["version"], "threads": pool["num_threads"]}
            for pool in threadpool_info()
        ],
        "backends": backends,
    }


def _version(candidates: list[str]) -> str | None:
    from importlib import metadata

    for name in candidates:
        try:
            return metadata.version(name) + (f" ({name})" if name != candidates[-1] else "")
        except metadata.PackageNotFoundError:
            continue
    return None


def _info_text(found: dict[str, Any]) -> str:
    lines = [f"gpukmeans {found['gpukmeans']}, Python {found['python']}, {found['platform']}", ""]
    lines += [f"{name:<13} {version or 'not installed'}" for name, version in found["packages"].items()]
    lines += [f"{'CPU threads':<13} {found['cpu_threads']}"]
    lines += [
        f"{'' if position else 'thread pools':<13} {pool['library']} {pool['version'] or ''}, {pool['threads']} threads"
        for position, pool in enumerate(found["thread_pools"])
    ]
    lines += ["", "backends"]
    for name, backend in found["backends"].items():
        if name == "auto":
            lines.append(f"  auto   chooses {backend['chosen']}: {backend['reason']}")
        else:
            lines.append(f"  {name:<6} {'usable' if backend['usable'] else 'not usable'}: {backend['reason']}")
    return "\n".join(lines)
