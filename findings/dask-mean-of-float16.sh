#!/usr/bin/env bash
# Dask: the mean of float16 is infinite where NumPy's is right, and small chunks do not help.
#
# Versions: Dask 2026.8.0, NumPy 2.4.6.
# Behaviour: `numpy.mean` of float16 adds in float32 and rounds the result to float16; `dask.array.mean` asks for sums of the
#   result's type, float16, chunk by chunk and then over the chunks.  They overflow at 65,504, so the mean of 1,000 pixels of
#   200 is infinite; where they do not, whole numbers above 2,048 are rounded at every step.
# Output seen: 1,000 values 200: NumPy 200.0, Dask inf, in one chunk and in chunks of 10.
# Why a good guess is wrong: both are float16 in and float16 out, and a chunk of 10 such values adds up to 2,000; a mean lies
#   within the range of its values.
# Why it matters here: rows in float16 are half of the memory of a distributed array, and means of columns are what one
#   scales by; ask for `mean(dtype="float32")`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'dask[array]==2026.8.0'
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import dask.array as da
import numpy as np

values = np.full(1000, 200, np.float16)
one, many = (da.from_array(values, chunks=rows) for rows in (1000, 10))
print("NumPy", values.mean(), "Dask", one.mean().compute(), many.mean().compute(), "Dask in float32", many.mean(dtype="float32").compute())
assert values.mean() == many.mean(dtype="float32").compute() == 200
assert one.mean().dtype == values.mean().dtype == np.float16
assert np.isinf(one.mean().compute())
assert np.isinf(many.mean().compute())
PYTHON
