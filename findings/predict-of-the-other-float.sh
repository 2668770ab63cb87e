#!/usr/bin/env bash
# scikit-learn: a KMeans fitted on float64 does not predict float32 rows, nor the other way round; it transforms them.
#
# Version: scikit-learn 1.9.1 (NumPy 2.4.6).
# Behaviour: `predict` and `score` of KMeans, MiniBatchKMeans and BisectingKMeans raise "Buffer dtype mismatch" where rows and
#   centers are of different float types; whole numbers count as float64.  `transform` of the same model and rows works.
# Output seen: fitted on float64: predict of float32 raises "Buffer dtype mismatch, expected 'const float' but got 'double'",
#   transform gives distances, uint8 is predicted; fitted on float32: the types exchanged, and uint8 raises as float64 does.
# Why a good guess is wrong: both types are accepted by fit, the check of rows in predict accepts both, and transform, whose
#   argmin is the label, takes them; a conversion of a few centers is to be expected.
# Why it matters here: fitting on float64 and predicting rows stored in float32 is the ordinary way to deploy; a drop-in that
#   takes both is no different bit where scikit-learn works, and code that was written around the error keeps working.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'scikit-learn==1.9.1'
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from sklearn.cluster import BisectingKMeans, KMeans, MiniBatchKMeans

X = np.random.default_rng(0).integers(0, 256, (60, 3))
for kind in (KMeans, MiniBatchKMeans, BisectingKMeans):
    for own, other in (("float64", "float32"), ("float32", "float64")):
        model = kind(3, random_state=0).fit(X.astype(own))
        assert model.transform(X.astype(other)).shape == (60, 3)
        for method in (model.predict, model.score):
            try:
                method(X.astype(other))
            except ValueError as error:
                message = str(error)
            else:
                raise SystemExit(f"{kind.__name__} fitted on {own} takes {other} now")
            assert "Buffer dtype mismatch" in message, message
        print(f"{kind.__name__} fitted on {own}: {message}")
        if own == "float64":
            assert len(model.predict(X.astype(np.uint8))) == 60
PYTHON
