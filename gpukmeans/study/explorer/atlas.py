"""The map as a table for other viewers, such as Embedding Atlas: Parquet, with the pictures in it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.sources import require
from gpukmeans.study.explorer.content import Outcome
from gpukmeans.study.explorer.pictures import Pictures
from gpukmeans.writing import whole_file

#: Rows that are written at a time.
_TOGETHER = 10_000


def png(pixels: NDArray[np.uint8]) -> bytes:
    """An image (height, width, 1 or 3) as a PNG file."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter, 0: none
    lines[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines.tobytes())) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def write_points(path: Path, outcome: Outcome, points: NDArray[np.float64]) -> Path:
    """Write a row for each row: row or id, x, y, cluster, class, margin, thumbnail; the latter as ``{bytes, path}``.

    Parameters
    ----------
    path : Path
    outcome : Outcome
    points : ndarray of shape (n_samples, 2)
        Where rows lie on the map.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    """
    pa = require("pyarrow", "files", "Parquet files")
    import pyarrow.parquet as pq

    data = outcome.data
    columns: dict[str, Any] = {
        "row": data.rows,
        **({} if data.ids is None else {"id": [str(value) for value in data.ids]}),
        "x": points[:, 0],
        "y": points[:, 1],
        "cluster": np.asarray(outcome.model.labels_, np.int32),
        **({} if data.y is None else {"class": [str(value) for value in data.y]}),
        "margin": pa.array(outcome.margins.margin, from_pandas=True),
    }
    pictures = None if data.image_shape is None else Pictures(data.X, data.image_shape, data.preprocessing)
    table = pa.table(columns)
    form = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = table.schema if pictures is None else table.schema.append(pa.field("thumbnail", form))
    with whole_file(path) as file, pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(data.X), _TOGETHER):
            part = table.slice(start, _TOGETHER)
            if pictures is not None:
                small = pictures.small(data.X[start : start + _TOGETHER], 255).reshape(-1, *pictures.thumb_shape)
                part = part.append_column(
                    schema.field("thumbnail"), pa.array([{"bytes": png(image), "path": None} for image in small], form)
                )
            writer.write_table(part)
    return path
