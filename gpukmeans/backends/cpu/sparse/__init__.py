"""Rows in CSR on the CPU."""
