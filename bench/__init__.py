"""Benchmarks: gpukmeans beside its peers, in one run on the same work.

``python -m bench.run cpu --out bench/results/NAME.json`` measures; ``python -m bench.table`` writes the README's
tables; ``python -m bench.gpu_check --out DIR`` does everything worth doing on a machine with an NVIDIA GPU.
"""
