"""A pytest plugin: scikit-learn patched before its tests are imported."""

import gpukmeans

gpukmeans.patch_sklearn()
