"""``python -m gpukmeans``: the command line; with a script (or ``-m module``), run it with scikit-learn patched."""

import sys
from pathlib import Path

from gpukmeans.cli import EXIT_ERROR, main
from gpukmeans.patching import run_script


def run(arguments: list[str]) -> int:
    """Run the command line or a script; returns the exit status."""
    is_module = arguments[:1] == ["-m"]
    if not is_module and not (arguments and arguments[0].endswith((".py", ".pyw"))):
        return main(arguments)
    wrong = None
    if is_module and len(arguments) == 1:
        wrong = "-m needs the name of a module; see python -m gpukmeans --help"
    elif not is_module and not Path(arguments[0]).is_file():
        wrong = f"there is no script {arguments[0]!r} to run"
    if wrong:
        print(f"gpukmeans: error: {wrong}", file=sys.stderr)
        return EXIT_ERROR
    run_script(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
