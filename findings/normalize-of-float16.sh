#!/usr/bin/env bash
# scikit-learn: float16 rows longer than 256 are normalized to zeros, without a warning.
#
# Version: scikit-learn 1.9.1 (NumPy 2.4.6).
# Behaviour: `normalize` and `Normalizer` accept float16 and take the squares and their sum in float16, whose largest number is
#   65,504; a norm above 256 is infinite, and the row divided by it zero.  The same rows are right in StandardScaler (float64
#   sums), cosine_similarity, euclidean_distances and KMeans, which convert.  NumPy's overflow warning is not raised, since
#   einsum raises none.
# Output seen: the row [200, 200, 200, 200]: [0, 0, 0, 0] in float16, [0.5, 0.5, 0.5, 0.5] in float32; cosine_similarity 1.0.
# Why a good guess is wrong: float16 is in the function's list of accepted types, its neighbours of the same library handle it,
#   and the result is finite and of the right shape.
# Why it matters here: vectors are stored in float16, and spherical k-means in scikit-learn is a Normalizer before KMeans: rows
#   of pixels would all fall on the origin.  Convert to float32 first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'scikit-learn==1.9.1'
"$folder/venv/bin/python" -W error - <<'PYTHON'
import numpy as np
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import Normalizer, StandardScaler, normalize

half = np.full((1, 4), 200, np.float16)
single = half.astype(np.float32)
print("float16", normalize(half), "float32", normalize(single), "cosine_similarity of float16", cosine_similarity(half))
assert (normalize(half) == 0).all()
assert (Normalizer().fit_transform(half) == 0).all()
assert normalize(half).dtype == np.float16
assert (normalize(single) == 0.5).all()
assert abs(cosine_similarity(half)[0, 0] - 1) < 1e-6
tall = np.full((1000, 1), 200, np.float16)
assert StandardScaler().fit(tall).mean_ == 200
PYTHON
