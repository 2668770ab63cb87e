#!/usr/bin/env bash
# mlpack: kmeans writes the centroids it ends with into the caller's array `initial_centroids`.
#
# Versions: mlpack 4.8.0, NumPy 2.4.6.
# Behaviour: a contiguous float64 array given as `initial_centroids` is taken without a copy (`copy_all_inputs=False`) and is
#   the matrix that the iterations move; afterwards it holds what `centroid` holds, or an earlier step of it.
# Output seen: 2,000 x 4 normal rows, 5 centroids, 2 iterations: the start has changed; a second call with it returns other centroids.
# Why a good guess is wrong: an initial value is an input, the result comes back under another key, and `input` is left alone.
# Why it matters here: a second run "from the same start" goes on from the end of the first, so a benchmark that repeats a
#   fit times a fit that has converged, and a test of reproducibility sees other labels.  Give each call a copy.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'mlpack==4.8.0'
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import mlpack
import numpy as np

rows = np.random.default_rng(0).standard_normal((2000, 4))
before, start = rows.copy(), rows[:5].copy()


def fit(start):
    return mlpack.kmeans(5, rows, initial_centroids=start, max_iterations=2, seed=1, labels_only=True)["centroid"]


first, again = fit(start.copy()), fit(start.copy())
assert np.array_equal(first, again)
assert np.array_equal(fit(start), first)
print("start is", "what it was" if np.array_equal(start, rows[:5]) else "changed")
assert np.array_equal(rows, before)
assert not np.array_equal(start, rows[:5])
assert not np.array_equal(fit(start), first)
PYTHON
