"""Exact k-means at the speed of the machine, the same bits everywhere."""

__version__ = "0.1.0"
