#!/usr/bin/env bash
# NumPy: a binary search for one Python float in a float32 array copies the whole array to float64 first.
#
# Version: NumPy 2.4.6.
# Behaviour: `np.searchsorted(a, 0.5)` with a float32 `a` of n values allocates 8 n bytes; with `np.float32(0.5)` nothing.
# Output seen: for 2**22 values a peak of 8.0 bytes a value for 0.5, and 0.0 for np.float32(0.5).
# Why a good guess is wrong: since NumPy 2 a Python float takes the dtype of the array it meets (NEP 50: a + 0.5 is
#   float32), and a search of log2(n) = 22 steps looks as if it cost nothing.
# Why it matters here: k-means++ draws a row by searching a running sum.  With the sum in float32 every draw costs a pass
#   over all rows and twice their running sum in memory, unless the value is converted before.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import tracemalloc

import numpy as np

n = 1 << 22
running = np.arange(n, dtype=np.float32) / n
peaks = {}
for name, value in {"0.5": 0.5, "np.float32(0.5)": np.float32(0.5)}.items():
    tracemalloc.start()
    found = np.searchsorted(running, value)
    peaks[name] = tracemalloc.get_traced_memory()[1] / n
    tracemalloc.stop()
    print(f"searchsorted(float32, {name}): {found}, {peaks[name]:.1f} bytes for each value of the array")
assert (running[:1] + 0.5).dtype == np.float32  # NEP 50
assert peaks["0.5"] >= 8.0
assert peaks["np.float32(0.5)"] < 0.1
PYTHON
