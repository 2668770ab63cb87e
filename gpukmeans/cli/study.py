"""`gpukmeans mnist`, `digits`, `fit` and `resume`: cluster images of digits, or rows of a file, and write it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from gpukmeans.cli.options import add_options, chosen
from gpukmeans.study.streams import emit, require_stdout, say
from gpukmeans.study.values import some_path

#: The exit status of `run` where scikit-learn's clustering is another one.
EXIT_DIFFERS = 1


def add_commands(commands: Any) -> None:
    """Add the commands to the subparsers of `gpukmeans`."""
    _add(
        commands,
        "fit",
        255,
        help="cluster your own data: a table, an array, a folder of pictures",
        description="Cluster the rows of a file, or the pictures in a folder. Names of columns are listed with commas "
        "between; 'none' stands for no label or no id.",
    )
    _add(
        commands,
        "mnist",
        255,
        help="cluster the 70,000 MNIST images",
        description="Cluster the 70,000 MNIST images, compare the clusters with the digits, and draw both.",
    )
    command = _add(
        commands,
        "report",
        255,
        help="the same as mnist, digits or fit, by the name of the data",
        description="Cluster mnist, digits or the rows of a file and write report.html, a page that shows it all and "
        "needs no network, beside the files of the other commands. A file that is called mnist is ./mnist.",
    )
    command.set_defaults(report=True)
    command = commands.add_parser(
        "explore",
        help="the page of report, served to this machine's browser, with other fits while you look",
        description="Serve the page of report on this machine only, until Ctrl-C; it fits again as its slider moves.",
    )
    add_options(command, "explore", 255)
    command.set_defaults(run=explore, quiet=False)
    _add(
        commands,
        "digits",
        16,
        help="the same in a second, with scikit-learn's 1,797 digits of 8 x 8 pixels",
        description="Cluster scikit-learn's 1,797 digits of 8 x 8 pixels: what `gpukmeans mnist` does, in a second.",
    )

    command = commands.add_parser(
        "resume",
        help="go on with a fit from its checkpoint",
        description="Go on with `gpukmeans fit PATH --checkpoint FILE` where it was killed or interrupted: to the same "
        "bits, with the same options, into the same folder.",
    )
    command.add_argument("checkpoint", type=some_path, metavar="FILE", help="the file that --checkpoint named")
    command.add_argument("--backend", choices=["auto", "numpy", "cupy"], help="default: that of the fit")
    command.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask cluster, or none: here; default: where the fit was"
    )
    _add_shown(command)


def _add(commands: Any, name: str, largest_pixel: int, **texts: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, **texts)
    add_options(command, name, largest_pixel)
    _add_shown(command)
    return command


def _add_shown(command: argparse.ArgumentParser) -> None:
    show = command.add_argument_group("what is printed")
    show.add_argument("--iterations", action="store_true", help="print a line for every iteration")
    show.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
    show.add_argument("--quiet", action="store_true", help="no report, no progress, no warnings; errors only")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do the study and print its outcome; returns the exit status."""
    from gpukmeans.study import job
    from gpukmeans.study.fitting import options_of
    from gpukmeans.study.progress import Progress
    from gpukmeans.study.streaming import run_stream, stream_report, streams
    from gpukmeans.study.text_report import report

    if arguments.command == "resume":
        options = options_of(arguments.checkpoint, arguments.backend, arguments.scheduler)
    else:
        options = chosen(arguments)
    progress = Progress(None if arguments.quiet else sys.stderr)
    if arguments.json or not arguments.quiet:
        require_stdout()
    streamed = streams(options)
    try:
        if streamed:
            result = run_stream(options, progress)
        else:
            job.check_ahead(options)
            result = job.run_job(options, progress)
    finally:
        progress.clear()
    if not arguments.quiet:
        for warning in result["warnings"]:
            say(f"gpukmeans: warning: {warning}")
    if arguments.json:
        tables = ("metric_table", "compared_table", "sweep_table", "train_test_table")
        result = {key: value for key, value in result.items() if key not in tables}
        emit(json.dumps(result, allow_nan=False) + "\n")
    elif not arguments.quiet:
        emit((stream_report(result) if streamed else report(result, iterations=arguments.iterations)) + "\n")
    if not streamed and result["check"] and not result["check"]["agrees"]:
        say(
            "gpukmeans: --check: not scikit-learn's clustering: "
            f"{result['check']['n_different_labels']:,} labels differ, "
            f"{result['check']['n_iter'][0]} iterations against {result['check']['n_iter'][1]}"
        )
        return EXIT_DIFFERS
    return 0


def explore(arguments: argparse.Namespace) -> int:
    """Fit once and serve the page; returns the exit status."""
    from gpukmeans.study.data import load
    from gpukmeans.study.explorer.server import require_server, serve
    from gpukmeans.study.explorer.session import Session

    options = chosen(arguments)
    require_server()
    require_stdout()
    say("loading and fitting ...")
    session = Session(options, load(options))
    session.fit(session.checked({"clusters": options.clusters}))
    serve(session, lambda address: emit(f"open {address}\nCtrl-C ends\n"))
    return 0
