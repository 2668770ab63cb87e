#!/usr/bin/env bash
# Pillow: in Image.quantize(colors, kmeans=n) a larger n means fewer steps of k-means and a worse picture.
#
# Versions: Pillow 12.3.0, NumPy 2.4.6.
# Behaviour: n - 1 is how many pixels may change their color in a step that is the last one, not a number of steps.  0, the
#   default, is no k-means at all, 1 runs until no pixel changes, and an n above the number of pixels is one
#   step.  The documentation says "integer greater than or equal to zero".
# Output seen: mean squared error of 64 x 64 random pixels in 16 colors: kmeans=0 6512.6, 1 2680.4, 100 2718.5, 1000 3391.9,
#   10,000 5712.4.
# Why a good guess is wrong: an integer beside the name of an iterative method, 0 for "off", reads as its number of steps; 100
#   is then the careful choice, and does less than 1.
# Why it matters here: colors of a picture are the example of k-means that most users have seen; who sets a quantization of
#   Pillow beside another k-means compares with one that was stopped early.  kmeans=1 is the whole fit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'pillow==12.3.0'
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from PIL import Image

pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
image = Image.fromarray(pixels)


def error(kmeans):
    """The mean squared distance of the pixels from their colors, of 16."""
    quantized = image.quantize(16, method=Image.Quantize.MEDIANCUT, kmeans=kmeans, dither=Image.Dither.NONE)
    return float(((np.asarray(quantized.convert("RGB"), float) - pixels) ** 2).sum(axis=-1).mean())


errors = {kmeans: error(kmeans) for kmeans in (0, 1, 100, 1000, 10_000)}
for kmeans, value in errors.items():
    print(f"kmeans={kmeans:<6} mean squared error {value:.1f}")
assert errors[1] < errors[100] < errors[1000] < errors[10_000] < errors[0]
PYTHON
