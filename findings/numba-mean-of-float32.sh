#!/usr/bin/env bash
# Numba: the mean of 2**26 float32 ones is 0.25, and their variance 0.5625.
#
# Versions: Numba 0.68.1, NumPy 2.4.6.
# Behaviour: compiled code adds a float32 array one value after another in float32, so that a sum stops at 2**24 and `mean` is
#   the stopped sum over the count; NumPy adds pairwise.  `var`, of type float64, takes its differences from that mean.
# Output seen: NumPy sum 67108864, mean 1.0, var 0.0; the same lines compiled: sum 16777216, mean 0.25, var 0.5625.
# Why a good guess is wrong: @njit is to change the speed of a function, not its results; the loss of a plain sum is known,
#   but a mean lies within the range of its values, and a variance of type float64 looks safe.
# Why it matters here: centers and inertia written by hand in Numba are such sums: a column of 70,000 images has 55 million
#   pixels together, and whole-number sums are already rounded above 2**24.  Add in float64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'numba==0.68.1'
"$folder/venv/bin/python" - <<'PYTHON'
import numba
import numpy as np


def moments(x):
    return x.sum(), x.mean(), x.var()


compiled = numba.njit(moments)
ones = np.ones(1 << 26, np.float32)
plain, fast = moments(ones), compiled(ones)
print("NumPy sum {:.0f}, mean {}, var {}".format(*plain))
print("Numba sum {:.0f}, mean {}, var {}".format(*fast))
print("types of the compiled results:", compiled.nopython_signatures[0].return_type)
assert plain == (2**26, 1, 0)
assert fast == (2**24, 0.25, 0.5625)
PYTHON
