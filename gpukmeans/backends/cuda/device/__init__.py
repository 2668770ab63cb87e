"""The seam to a device: CuPy, kernel sources, and whether a device can be used."""
