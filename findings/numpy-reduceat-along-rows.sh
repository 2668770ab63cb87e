#!/usr/bin/env bash
# NumPy: add.reduceat along the first axis takes many times as long as sum along it, and ends in other bits.
#
# Version: NumPy 2.4.6.
# Behaviour: for a C-contiguous table of 512 x 512 float64, np.add.reduceat(t, [0], axis=0) takes 5 to 20 times as long as
#   t.sum(axis=0), with eight runs of rows still several times as long as eight sums of slices.  The sums differ in their
#   last bits, and reduceat's are the nearer ones: it adds each column by itself, in pairs, where sum adds row to row.
#   Along the last axis reduceat is as fast as sum, and differs in its bits as well.
# Output seen: the table printed below; the errors are against math.fsum.
# Why a good guess is wrong: one run over all rows is the same reduction under another name.  Adding rows to a row of sums
#   would be as fast as memory allows, and reduceat is documented as the way to add runs.
# Why it matters here: sums of distances by cluster (evaluation/silhouettes.py) took more time than the distances' square
#   roots.  Few long runs are sums of slices there; either way's bits depend on nothing but the shape.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import math
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


print("axis  runs  reduceat / slices  same bits  largest error of slices, reduceat")
found = {}
for axis in (0, 1):
    for runs in (1, 8):
        starts = np.arange(0, 512, 512 // runs)
        parts = [slice(s, s + 512 // runs) for s in starts]
        pieces = [table[part] if axis == 0 else table[:, part] for part in parts]
        exact = np.stack([[math.fsum(v) for v in (p.T if axis == 0 else p).tolist()] for p in pieces], axis=axis)

        def slices():
            return np.stack([piece.sum(axis=axis) for piece in pieces], axis=axis)

        def reduceat():
            return np.add.reduceat(table, starts, axis=axis)

        errors = [float(np.abs(way() - exact).max()) for way in (slices, reduceat)]
        same, ratio = np.array_equal(slices(), reduceat()), seconds(reduceat) / seconds(slices)
        found[axis, runs] = ratio, same, *errors
        print(f"{axis:4d}  {runs:4d}  {ratio:17.1f}  {same!s:9}  {errors[0]:.1e} {errors[1]:.1e}")
assert found[0, 1][0] > 3 and found[0, 8][0] > 1.5 and found[1, 1][0] < 3, found
assert not found[0, 1][1] and not found[1, 1][1], found
assert found[0, 1][3] < found[0, 1][2], found
PYTHON
