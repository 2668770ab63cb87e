#!/usr/bin/env bash
# pandas and scikit-learn: estimators that take one-hot columns dense, and take CSR, fail on get_dummies(sparse=True).
#
# Versions: scikit-learn 1.9.1 with pandas 3.1.1, SciPy and NumPy as pip resolves them.
# Behaviour: `pd.get_dummies(..., sparse=True)` gives columns of Sparse[bool, False].  KMeans raises a UFuncTypeError on
#   them ("Cannot cast ufunc 'add' output from dtype('float64') to dtype('int64')"), MaxAbsScaler an AttributeError
#   ("'numpy.dtypes.BoolDType' object has no attribute 'dtype'"); TruncatedSVD takes them.  All three take the same
#   columns dense (bool), and KMeans the same CSR matrix of bool.
# Output seen: the lines printed below.
# Why a good guess is wrong: check_array has a branch of its own for frames whose columns are all sparse, and makes CSR of
#   them; one-hot columns are what such frames are mostly made for, and neither error names the frame, its dtype or a way
#   out (`.astype(pd.SparseDtype(float, 0))` is one).
# Why it matters here: gpukmeans.KMeans takes the place of scikit-learn's, also for these frames: intake/ reads their
#   columns itself instead of handing them to check_array, and has its own tests for bool ones.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'scikit-learn==1.9.1' 'pandas==3.1.1'
"$folder/venv/bin/python" - <<'PYTHON'
import pandas as pd
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import MaxAbsScaler

letters = pd.Series(list("abcabcaabb"))
dense, frame = (pd.get_dummies(letters, sparse=sparse) for sparse in (False, True))
tables = {"dense frame": dense, "sparse frame": frame, "CSR": sparse.csr_array(dense.to_numpy())}
tables["sparse frame of float64"] = frame.astype(pd.SparseDtype(float, 0))
found = {}
for name, table in tables.items():
    for estimator in (KMeans(2, n_init=1, random_state=0), MaxAbsScaler(), TruncatedSVD(2)):
        try:
            estimator.fit(table)
            outcome = "fits"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        found[name, type(estimator).__name__] = outcome
        print(f"{name:24}{type(estimator).__name__:14}{outcome}")
failed = {key: outcome.partition(":")[0] for key, outcome in found.items() if outcome != "fits"}
assert failed == {
    ("sparse frame", "KMeans"): "UFuncTypeError",
    ("sparse frame", "MaxAbsScaler"): "AttributeError",
}, failed
PYTHON
