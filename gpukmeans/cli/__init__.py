"""The command line: ``gpukmeans fit``, ``report``, ``explore``, ``predict`` and others; see ``gpukmeans --help``."""

from gpukmeans.cli.entry import COMMANDS, EXIT_ERROR, EXIT_INTERRUPTED, main
from gpukmeans.cli.study import EXIT_DIFFERS

__all__ = ["COMMANDS", "EXIT_DIFFERS", "EXIT_ERROR", "EXIT_INTERRUPTED", "main"]
