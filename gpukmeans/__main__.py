"""``python -m gpukmeans`` and ``gpukmeans``: the command line; given a script, Python with scikit-learn patched."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # nothing that is slow to import before interrupts are caught
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def run(arguments: list[str]) -> int:
    """Run the command line, or become the Python that runs a script; returns the exit status."""
    from gpukmeans.cli import COMMANDS, EXIT_ERROR, main
    from gpukmeans.patching import NAMES
    from gpukmeans.runner import is_script, script_command
    from gpukmeans.study.streams import say

    if not is_script(arguments, COMMANDS):
        return main(arguments)
    try:
        command, environment = script_command(arguments)
        say(f"gpukmeans: in place of scikit-learn's: {', '.join(f'sklearn.cluster.{name}' for name in NAMES)}")
        if os.name != "nt":
            os.execve(command[0], command, environment)
    except (OSError, ValueError) as error:
        say(f"gpukmeans: error: {error}")
        return EXIT_ERROR
    import subprocess  # Windows would return to the prompt while the script runs

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the script gets, too
    return subprocess.call(command, env=environment)


def console() -> int:
    """Run what `sys.argv` says; returns the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # neither ignored, nor another program's affair
        signal.signal(signal.SIGINT, _interrupted)
    return run(sys.argv[1:])


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """End the process: KeyboardInterrupt would be lost in code that catches all, as some modules do while imported.

    It is raised where a file is half written, or a checkpoint kept.
    """
    writing = sys.modules.get("gpukmeans.writing")
    if writing is not None and writing.n_untidy:
        raise KeyboardInterrupt
    try:
        if sys.stderr is not None:
            os.write(2, (b"\r\x1b[K" if os.isatty(2) else b"") + b"gpukmeans: interrupted\n")
    finally:
        os._exit(130)


if __name__ == "__main__":
    sys.exit(console())
