#!/usr/bin/env bash
# NumPy: add.reduceat along the first axis takes many times as long as sum along it, for the same sums.
#
# Version: NumPy 2.4.6.
# Behaviour: for a C-contiguous table of 512 x 512 float64, np.add.reduceat(t, [0], axis=0) takes 5 to 20 times as long as
#   t.sum(axis=0), with the same bits; with eight runs of rows still several times as long as eight sums of slices.  Along
#   the last axis reduceat is as fast as sum.
# Output seen: the table printed below.
# Why a good guess is wrong: sum(axis=0) adds whole rows to a row of sums, as fast as memory allows.  reduceat could do the
#   same for each run, and is documented as the fast way to add runs; it walks down the columns one by one instead.
# Why it matters here: sums of distances by cluster (evaluation/silhouettes.py) took more time than the distances'
#   square roots.  Few long runs are sums of slices there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import time

import numpy as np

table = np.random.default_rng(0).random((512, 512))


def seconds(run):
    best = np.inf
    for _ in range(200):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


print("axis  runs  reduceat / slices  same bits")
ratios = {}
for axis in (0, 1):
    for runs in (1, 8):
        starts = np.arange(0, 512, 512 // runs)
        parts = [slice(s, s + 512 // runs) for s in starts]

        def slices():
            if axis == 0:
                return np.stack([table[part].sum(axis=0) for part in parts])
            return np.stack([table[:, part].sum(axis=1) for part in parts], axis=1)

        def reduceat():
            return np.add.reduceat(table, starts, axis=axis)

        same = np.array_equal(slices(), reduceat())
        ratios[axis, runs] = seconds(reduceat) / seconds(slices)
        print(f"{axis:4d}  {runs:4d}  {ratios[axis, runs]:17.1f}  {same}")
assert np.array_equal(table.sum(axis=0), np.add.reduceat(table, [0], axis=0)[0])
assert ratios[0, 1] > 3 and ratios[0, 8] > 1.5, ratios
assert ratios[1, 1] < 3, ratios
PYTHON
