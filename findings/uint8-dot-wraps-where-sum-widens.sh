#!/usr/bin/env bash
# Polars, pandas and JAX widen a sum of uint8, and wrap a dot product of uint8 around.
#
# Versions: Polars 2.1.0, pandas 3.1.1, JAX 0.10.2 (NumPy 2.4.6).
# Behaviour: `sum` of a uint8 column is taken in 32 or 64 bits; `dot` of the same column with itself stays in uint8, and so
#   does Polars' `sum_horizontal`.  None of them warns.
# Output seen: two values 200: Polars sum 400, dot 128, sum_horizontal 144; pandas sum 400, dot 128; JAX sum 400, dot 128.
# Why a good guess is wrong: a dot product is a sum of products, and the sums of these libraries are known to widen.
# Why it matters here: |x|^2 of an image is the dot product of its pixels with themselves; taken this way it is a number
#   from 0 to 255.  Convert rows first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'polars==2.1.0' 'pandas==3.1.1' 'jax==0.10.2'
"$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl

values = np.array([200, 200], np.uint8)
column, series, array = pl.Series(values), pd.Series(values), jnp.array(values)
row = pl.DataFrame({"a": values[:1], "b": values[1:]})
found = {
    "Polars": (column.sum(), column.dot(column)),
    "pandas": (int(series.sum()), int(series.dot(series))),
    "JAX": (int(array.sum()), int(jnp.dot(array, array))),
}
for name, (total, dot) in found.items():
    print(f"{name}: sum {total}, dot {dot}")
print("Polars: sum_horizontal", row.sum_horizontal()[0])
assert all(got == (400, 80000 % 256) for got in found.values()), found
assert row.sum_horizontal()[0] == 400 % 256
PYTHON
