#!/usr/bin/env bash
# scipy.spatial.distance wraps around for uint8 vectors, but not for every metric, and not in cdist.
#
# Version: SciPy 1.17.1 (NumPy 2.4.6).
# Behaviour: of the functions of two vectors, `sqeuclidean` and `canberra` convert uint8 to float64 first; `euclidean`,
#   `cityblock`, `chebyshev` and `cosine` subtract or multiply in uint8, which wraps around.  `cdist` converts always.
# Output seen: [0, 10] against [1, 5] in uint8 gives euclidean 255.049..., cityblock 260, chebyshev 255, cosine 0.0,
#   and sqeuclidean 26.0; cdist gives 5.099..., 6, 5, 0.0194... and 26.0.
# Why a good guess is wrong: the square of `euclidean` is not `sqeuclidean` of the same two vectors, and the metric of a
#   name differs from cdist's of that name; the reference says only that input is an array_like of length N.
# Why it matters here: images are uint8.  Who checks the distance of an image to another by these functions gets a
#   number that looks like a distance; convert to float64 first, or use cdist.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'scipy==1.17.1'
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
from scipy.spatial import distance

warnings.simplefilter("ignore")  # one of them warns of an overflow
u, v = np.array([0, 10], np.uint8), np.array([1, 5], np.uint8)
differ = set()
for name in ("euclidean", "cityblock", "chebyshev", "cosine", "sqeuclidean", "canberra"):
    alone, table = float(getattr(distance, name)(u, v)), float(distance.cdist([u], [v], name)[0, 0])
    print(f"{name:12} of two vectors {alone:10.4f}   cdist {table:10.4f}")
    if abs(alone - table) > 1e-9:
        differ.add(name)
assert differ == {"euclidean", "cityblock", "chebyshev", "cosine"}, differ
PYTHON
