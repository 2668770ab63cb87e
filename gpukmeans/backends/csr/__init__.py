"""Rows in CSR on the host: what the CPU and the CUDA backend both need."""
