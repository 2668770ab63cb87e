"""Rows of a path on the workers of a Dask cluster, for ``gpukmeans fit --scheduler ADDRESS``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpukmeans.scale.sources import require

#: Seconds in which a scheduler must answer.
PATIENCE = 10


@contextmanager
def on_cluster(address: str, rows: Any, n_clusters: int) -> Iterator[Any]:
    """The rows of `gpukmeans.open_rows` as a fit on the cluster's workers takes them; the client is closed at the end.

    Raises
    ------
    ImportError
        Dask is not installed.
    OSError
        The scheduler does not answer.
    RuntimeError
        It is lost, or has no workers.
    """
    from gpukmeans.distributed import WorkersLost
    from gpukmeans.distributed.fitting import parted

    distributed = require("distributed", "dask", "Fits on a cluster (--scheduler)")
    for name in ("distributed", "distributed.client", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is raised
    try:
        client = distributed.Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        why = "it does not answer" if isinstance(error, TimeoutError) else str(error).splitlines()[0]
        raise OSError(
            f"--scheduler {address}: {why}; give the address that the scheduler prints, as tcp://10.0.0.1:8786"
        ) from error
    try:
        yield parted(rows, "dask", n_clusters)
        rows.unchanged()
    except WorkersLost:
        raise
    except Exception as error:
        if client.status == "running":
            raise
        raise WorkersLost(f"--scheduler {address}: the scheduler is gone ({type(error).__name__}).") from error
    finally:
        client.close(timeout=PATIENCE)
