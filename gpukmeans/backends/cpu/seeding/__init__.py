"""Distances to seeds on the CPU."""
