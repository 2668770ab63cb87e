"""Data to cluster: MNIST from several sources or deformed without end, 8 x 8 digits, rows hard to label exactly."""

from gpukmeans.datasets.digits import load_digits
from gpukmeans.datasets.infinite_mnist import make_infinite_mnist
from gpukmeans.datasets.mnist import load_mnist
from gpukmeans.datasets.ties import exact_ties, near_ties

__all__ = ["exact_ties", "load_digits", "load_mnist", "make_infinite_mnist", "near_ties"]
