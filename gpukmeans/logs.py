"""The logger "gpukmeans", which says nothing unless a program asks for it: ``logging.basicConfig(level="INFO")``."""

from __future__ import annotations

import logging

logger = logging.getLogger("gpukmeans")
logger.addHandler(logging.NullHandler())
