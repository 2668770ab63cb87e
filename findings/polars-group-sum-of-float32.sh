#!/usr/bin/env bash
# Polars: the sum of a float32 column within a group can be half of the sum of that column, or less.
#
# Version: Polars 2.1.0 (NumPy 2.4.6).
# Behaviour: `Series.sum` of float32 adds in blocks; `group_by(...).agg(pl.col(...).sum())` adds one value after another in
#   float32, one running sum for each thread's share, so that it stops growing at 2**24 a share.  `mean` of the same group
#   is taken in float64 and is right.
# Output seen: 2**26 ones in one group: Series.sum 67108864, mean within the group 1.0, sum within the group 16777216 on one
#   thread and 33554432 on two.
# Why a good guess is wrong: the group is the whole column, the mean times the count is right, and only the sum is not.
# Why it matters here: sums of clusters are `group_by("label").agg(sum)`: centers made of them and counts are wrong, those
#   of `mean` are not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'polars==2.1.0'
cat > "$folder/sums.py" <<'PYTHON'
import numpy as np
import polars as pl

n = 1 << 26
frame = pl.DataFrame({"label": np.zeros(n, np.int8), "value": np.ones(n, np.float32)})
whole = frame["value"].sum()
groups = frame.group_by("label").agg(pl.col("value").sum().alias("sum"), pl.col("value").mean().alias("mean"))
print(f"threads {pl.thread_pool_size()}: Series.sum {whole:.0f}, in the group: mean {groups['mean'][0]}, sum {groups['sum'][0]:.0f}")
assert whole == n
assert groups["mean"][0] == 1.0
assert groups["sum"][0] < 0.95 * n
PYTHON
for threads in 1 2; do
  POLARS_MAX_THREADS=$threads "$folder/venv/bin/python" "$folder/sums.py"
done
