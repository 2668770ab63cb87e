"""Data sets: the 70,000 MNIST images, scikit-learn's digits, and rows that are close to or on a tie."""

from gpukmeans.datasets.loaders import exact_ties, load_digits, load_mnist, near_ties

__all__ = ["exact_ties", "load_digits", "load_mnist", "near_ties"]
