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
    """Run the command line or a script; returns the exit status."""
    from pathlib import Path

    from gpukmeans.cli import EXIT_ERROR, main
    from gpukmeans.patching import run_script
    from gpukmeans.study.streams import say

    is_module = arguments[:1] == ["-m"]
    if not is_module and not (arguments and arguments[0].endswith((".py", ".pyw"))):
        return main(arguments)
    wrong = None
    if is_module and len(arguments) == 1:
        wrong = "-m needs the name of a module; see python -m gpukmeans --help"
    elif not is_module and not Path(arguments[0]).is_file():
        wrong = f"there is no script {arguments[0]!r} to run"
    if wrong:
        say(f"gpukmeans: error: {wrong}")
        return EXIT_ERROR
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_script(arguments)
    return 0


def console() -> int:
    """Run what `sys.argv` says; returns the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # neither ignored, nor another program's affair
        signal.signal(signal.SIGINT, _interrupted)
    return run(sys.argv[1:])


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """End the process: KeyboardInterrupt would be lost in code that catches all, as some modules do while imported."""
    try:
        if sys.stderr is not None:
            os.write(2, (b"\r\x1b[K" if os.isatty(2) else b"") + b"gpukmeans: interrupted\n")
    finally:
        os._exit(130)


if __name__ == "__main__":
    sys.exit(console())
