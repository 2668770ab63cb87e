#!/usr/bin/env bash
# Norms of uint8 rows: scikit-learn's are wrong for an array and right for the same rows in CSR; SciPy's the other way round.
#
# Versions: scikit-learn 1.9.1, SciPy 1.17.1 (NumPy 2.4.6).
# Behaviour: `sklearn.utils.extmath.row_norms` of a uint8 array squares and adds in uint8; of a CSR array it works in float64.
#   `scipy.sparse.linalg.norm(S)` of the whole matrix is right, `norm(S, axis=1)` of its rows squares in uint8;
#   `numpy.linalg.norm(X, axis=1)` is right.
# Output seen: for the row [0, 200, 200], whose norm is 282.84, row_norms gives 11.31 (array) and 282.84 (CSR), and
#   scipy.sparse.linalg.norm gives 11.31 with axis=1 and 282.84 without.
# Why a good guess is wrong: one function, the same rows, and the answer depends on how they are stored, or on an axis.
# Why it matters here: euclidean_distances takes such norms as `X_norm_squared`, and who compares clusterings of images by
#   hand computes |x|^2 this way.  Convert rows to float64 first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'scipy==1.17.1' 'scikit-learn==1.9.1'
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import norm
from sklearn.utils.extmath import row_norms

X = np.array([[0, 200, 200]], np.uint8)
S = csr_array(X)
found = {
    "numpy.linalg.norm(X, axis=1)": np.linalg.norm(X, axis=1)[0],
    "row_norms(X)": row_norms(X)[0],
    "row_norms(csr_array(X))": row_norms(S)[0],
    "scipy.sparse.linalg.norm(S)": norm(S),
    "scipy.sparse.linalg.norm(S, axis=1)": norm(S, axis=1)[0],
}
true = np.sqrt(80000.0)
for name, value in found.items():
    print(f"{name:36} {value:8.2f}")
wrong = {name for name, value in found.items() if abs(value - true) > 1e-9}
assert wrong == {"row_norms(X)", "scipy.sparse.linalg.norm(S, axis=1)"}, wrong
PYTHON
