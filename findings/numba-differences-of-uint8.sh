#!/usr/bin/env bash
# Numba: the difference of two uint8 values is an unsigned number of 64 bits; of two uint8 arrays, one of 8 bits.
#
# Versions: Numba 0.68.1, NumPy 2.4.6.
# Behaviour: in compiled code 3 - 5 of scalars in uint8 is 2**64 - 2.  Its square wraps to 4, the right number; its
#   conversion to float is 1.8e19, and the square of that in float32 is infinite.  `a - b` of whole arrays is in uint8, as
#   NumPy's; `(a - b) ** 2` of whole arrays is in int64 and does not wrap, where NumPy's is in uint8 and does.
# Output seen: scalars 3 - 5: 18446744073709551614, squared 4, squared after conversion to float32 inf.  Arrays 3 - 5: 254 in
#   uint8 (both); (0 - 200) ** 2: 64 in uint8 (NumPy), 40000 in int64 (Numba).
# Why a good guess is wrong: either NumPy's rule (uint8, 254) or C's (int, -2) is expected, and the same expression is expected
#   to follow one rule.
# Why it matters here: distances of image rows are loops of (x - c)**2 over uint8: whether they are right depends on squaring
#   before or after the conversion to float.  Convert each value first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'numba==0.68.1'
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numba
import numpy as np


@numba.njit
def scalars(a, b):
    difference = a[0] - b[0]
    late = np.float32(difference)
    return difference, difference * difference, late * late


def difference(a, b):
    return a - b


def square(a, b):
    return (a - b) ** 2


small, large = np.array([3], np.uint8), np.array([5], np.uint8)
zero, bright = np.array([0], np.uint8), np.array([200], np.uint8)
got = scalars(small, large)
print("scalars 3 - 5:", *got)
assert got[:2] == (2**64 - 2, 4)
assert np.isinf(got[2])
for name, function, a, b in (("3 - 5", difference, small, large), ("(0 - 200) ** 2", square, zero, bright)):
    plain, fast = function(a, b), numba.njit(function)(a, b)
    print(f"arrays {name}: NumPy {plain[0]} {plain.dtype}, Numba {fast[0]} {fast.dtype}")
    same = function is difference
    assert bool(plain.dtype == fast.dtype and plain[0] == fast[0]) == same
    assert same or (plain[0], fast[0]) == (40000 % 256, 40000)
PYTHON
