"""Cheap scores with proved radii on the CPU, and bounds that skip rows."""
