"""Sums and comparisons whose results do not depend on rounding or on the order of operations."""
