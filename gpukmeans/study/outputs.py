"""What a fit leaves in its folder: labels, centers, the model; each file whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.evaluation.margins import Margins
from gpukmeans.writing import whole_file

#: Lines of a table in text that are put together at a time.
_LINES = 10_000


def check_folder(folder: Path, *, force: bool) -> None:
    """Find out before the work whether files can be written in a folder, which need not exist.

    Raises
    ------
    OSError
        It is a file, has no permission, or holds files already and `force` is False.
    """
    existing = folder.absolute()
    while not existing.exists() and not existing.is_symlink():
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(f"--out {folder}: {existing} is a file, not a folder")
    if not _may_write(existing):
        raise PermissionError(f"--out {folder}: no permission to write in {existing}")
    if existing == folder.absolute() and not force and any(existing.iterdir()):
        raise FileExistsError(f"--out {folder}: the folder holds files; give another one, or --force to replace them")


def check_file(path: Path, *, force: bool) -> None:
    """The same for a file: that of labels."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ValueError(f"--out {path}: labels are written as .csv or .parquet")
    if (path.exists() or path.is_symlink()) and not force:
        raise FileExistsError(f"--out {path}: the file exists; give another name, or --force to replace it")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--out {path}: there is no folder {path.parent}")
    if not _may_write(path.absolute().parent):
        raise PermissionError(f"--out {path}: no permission to write in {path.parent}")


def _may_write(folder: Path) -> bool:
    """Whether files can be written in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def write_labels(
    path: Path, labels: NDArray[Any], found: Margins, rows: NDArray[Any], ids: NDArray[Any] | None
) -> Path:
    """Write a line for each row: id or row, cluster, distance, second nearest center, margin.

    Parameters
    ----------
    path : Path
        Ends in .csv or .parquet.
    labels : ndarray of shape (n_samples,)
    found : Margins
    rows : ndarray of shape (n_samples,)
        The place of each row in its file, from 0 on; written where there are no ids.
    ids : ndarray of shape (n_samples,), or None

    Returns
    -------
    Path
        `path`.
    """
    there = found.second >= 0
    columns: dict[str, Any] = {"row": rows} if ids is None else {"id": ids}
    columns |= {"cluster": labels, "distance": found.distance, "second": found.second, "margin": found.margin}
    if path.suffix.lower() == ".parquet":
        from gpukmeans.scale.sources import require

        pa = require("pyarrow", "files", "Parquet files")
        import pyarrow.parquet as pq

        arrays = {
            name: pa.array(
                values.tolist() if values.dtype.kind in "TO" else values,
                mask=~there if name in ("second", "margin") else None,
            )
            for name, values in columns.items()
        }
        with whole_file(path) as file:
            pq.write_table(pa.table(arrays), file)
        return path
    lines = [values.tolist() for values in columns.values()]
    if not there.all():
        lines[-2:] = [[value if ok else "" for value, ok in zip(line, there, strict=True)] for line in lines[-2:]]
    return write_csv(path, list(columns), zip(*lines, strict=True))


def write_centers(path: Path, centers: NDArray[Any], sizes: Sequence[int], feature_names: Sequence[str]) -> Path:
    """Write a line for each center: cluster, size, and its features in the units of the columns."""
    lines = ([j, size, *center] for j, (size, center) in enumerate(zip(sizes, centers.tolist(), strict=True)))
    return write_csv(path, ["cluster", "size", *feature_names], lines)


def write_csv(path: Path, names: Sequence[str], lines: Iterable[Sequence[Any]]) -> Path:
    """Write a table as CSV in UTF-8, whole or not at all.

    Texts that a spreadsheet would take for a formula get an apostrophe in front: those that begin with =, +, -, @, a
    tab or a new line.
    """
    with whole_file(path) as file:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(_cell, names))
        for count, line in enumerate(lines, 1):
            writer.writerow(map(_cell, line))
            if count % _LINES == 0:
                file.write(text.getvalue().encode("utf-8", "backslashreplace"))
                text.seek(0)
                text.truncate()
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))
    return path


def _cell(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


def write_all(
    folder: Path,
    labels_format: str,
    model: Any,
    found: Margins,
    centers: NDArray[Any],
    feature_names: Sequence[str],
    rows: NDArray[Any],
    ids: NDArray[Any] | None,
) -> dict[str, str]:
    """Write labels, centers and model into a folder, which is made.

    Returns
    -------
    dict
        What -> path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = np.bincount(model.labels_, minlength=len(centers)).tolist()
    written = {
        "labels": write_labels(folder / f"labels.{labels_format}", model.labels_, found, rows, ids),
        "centers": write_centers(folder / "centers.csv", centers, sizes, feature_names),
        "model": model.save(folder / "model.npz"),
    }
    return {what: str(path) for what, path in written.items()}
