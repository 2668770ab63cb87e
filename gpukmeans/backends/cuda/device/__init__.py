"""The seam to a device, its implementation by CuPy, kernel sources, and whether a device can be used."""
