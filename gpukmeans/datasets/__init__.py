"""Data to cluster: MNIST from several sources, 8 x 8 digits, and rows that are hard to label exactly."""

from gpukmeans.datasets.digits import load_digits
from gpukmeans.datasets.mnist import load_mnist
from gpukmeans.datasets.ties import exact_ties, near_ties

__all__ = ["exact_ties", "load_digits", "load_mnist", "near_ties"]
