"""Fits of rows that lie in many places: on the workers of an executor, a Dask cluster or Ray.

`fit` takes parts; a Dask array or data frame goes to `gpukmeans.KMeans.fit` itself.
"""

from gpukmeans.distributed.engine import WorkersLost
from gpukmeans.distributed.fitting import fit, resume

__all__ = ["WorkersLost", "fit", "resume"]
