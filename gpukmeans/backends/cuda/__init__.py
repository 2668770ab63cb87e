"""The CUDA backend: raw kernels, launched through the seam in `device`."""
