"""Seeding on a CUDA device."""
