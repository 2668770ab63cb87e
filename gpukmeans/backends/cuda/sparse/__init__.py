"""Rows in CSR on a CUDA device."""
