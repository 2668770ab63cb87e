#!/usr/bin/env bash
# Dask: norms and weighted means of uint8 wrap around, where NumPy's functions of the same names convert first.
#
# Versions: Dask 2026.8.0, NumPy 2.4.6.
# Behaviour: `dask.array.linalg.norm` squares and adds in the type of the array, and `dask.array.average` multiplies uint8
#   values by uint8 weights in uint8; `numpy.linalg.norm` and `numpy.average` work in float64.  Both of Dask's return float64,
#   and neither warns.  Dask's sum, mean, var and cov of the same array are right.
# Output seen: the row [0, 200, 200] has the norm 282.84 (NumPy) and 11.31 (Dask); the mean of 200 and 100 with weights 1 and
#   3 is 125.0 (NumPy) and 61.0 (Dask).
# Why a good guess is wrong: Dask's array functions carry NumPy's names, signatures and documentation, its other reductions
#   widen as NumPy's do, and the result is float64 here, too.
# Why it matters here: pixels are uint8, and so are counts of duplicates that are used as weights: norms of image rows and
#   weighted means of a distributed array need a conversion to float64 first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'dask[array]==2026.8.0'
"$folder/venv/bin/python" - <<'PYTHON'
import dask.array as da
import numpy as np

row = np.array([[0, 200, 200]], np.uint8)
values, weights = np.array([200, 100], np.uint8), np.array([1, 3], np.uint8)
rows, column, shares = da.from_array(row), da.from_array(values), da.from_array(weights)
found = {
    "norm": (np.linalg.norm(row, axis=1)[0], float(da.linalg.norm(rows, axis=1).compute()[0])),
    "average": (np.average(values, weights=weights), float(da.average(column, weights=shares).compute())),
    "sum": (values.sum(), column.sum().compute()),
    "mean": (values.mean(), column.mean().compute()),
    "var": (values.var(), column.var().compute()),
}
for name, (numpy, dask) in found.items():
    print(f"{name:8} NumPy {numpy:8.2f}   Dask {dask:8.2f}")
differing = {name for name, (numpy, dask) in found.items() if abs(numpy - dask) > 1e-9}
assert differing == {"norm", "average"}, differing
assert abs(found["norm"][1] ** 2 - 80000 % 256) < 1e-9
assert found["average"][1] == (200 + 300 % 256) / 4
PYTHON
