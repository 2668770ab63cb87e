"""Sums and comparisons that rounding cannot change."""
