"""Rows of one feature, which are sorted once."""
