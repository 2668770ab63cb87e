"""Arrays in HDF5 files and Zarr 3 folders, sliced by h5py and zarr: local ones only, without objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpukmeans.scale.files import shown, unreadable
from gpukmeans.scale.readers import SlicedRows, Unchanged
from gpukmeans.scale.sources import require

#: Filters that HDF5 and h5py have built in: deflate, shuffle, fletcher32, nbit, scaleoffset, lzf.
_FILTERS = {1, 2, 3, 5, 6, 32000}
_CODECS = {"bytes", "transpose", "blosc", "gzip", "zstd", "crc32c", "sharding_indexed"}
_MOST_JSON = 1 << 20


def open_hdf5(path: Path, name: str | None, columns: list[int] | None) -> SlicedRows:
    """A dataset of an HDF5 file: the one of that name, or the only one of two dimensions.

    Raises
    ------
    ValueError
        There is no such dataset; it lies in another file (external links and storage, virtual datasets), or takes a
        filter that is not built in.
    ImportError
        h5py is not installed.
    """
    h5py = require("h5py", "stores", "HDF5 files")
    where = shown(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise unreadable(where, f"damaged, or no HDF5 file ({error})") from None
    if name is None:
        names = [key for key in file if isinstance(_held(h5py, file, key, where), h5py.Dataset)]
        names = [key for key in names if file[key].ndim == 2]
        if len(names) != 1:
            raise unreadable(where, f"datasets of two dimensions: {', '.join(names) or 'none'}; name one as columns")
        name = names[0]
    dataset = file
    for part in name.strip("/").split("/"):
        dataset = _held(h5py, dataset, part, where)
    if not isinstance(dataset, h5py.Dataset):
        raise unreadable(where, f"{name!r:.80} is a group, not a dataset")
    return SlicedRows(
        _checked_dataset(dataset, f"{where}: {name:.80}"), f"{where}: {name:.80}", columns, Unchanged(path)
    )


def _held(h5py: Any, group: Any, part: str, where: str) -> Any:
    """A member of a group, if it lies in this very file."""
    if not isinstance(group, h5py.Group) or part not in group:
        raise unreadable(where, f"no dataset {part!r:.80}")
    link = group.get(part, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise unreadable(where, f"{part!r:.80} is a link into another file, which is not followed; open that file")
    return group[part]


def _checked_dataset(dataset: Any, where: str) -> Any:
    if dataset.external or dataset.is_virtual:
        raise unreadable(where, "its values lie in other files, which are not opened; copy them into one")
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    if unknown := filters - _FILTERS:
        raise unreadable(where, f"filter {min(unknown)}, which is not built into HDF5; write it with gzip or lzf")
    return dataset


def open_zarr(path: Path, columns: list[int] | None) -> SlicedRows:
    """An array of Zarr 3 in a folder.

    Raises
    ------
    ValueError
        It is of another version, has a type, codec or storage that is not numbers in this very folder, or is damaged.
    ImportError
        zarr is not installed.
    """
    where = shown(path)
    text = (path / "zarr.json").read_bytes()[: _MOST_JSON + 1]
    try:
        meta = json.loads(text)
        node, kind = meta["node_type"], meta.get("data_type")
        names = _codec_names(meta.get("codecs", []))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise unreadable(where, "its zarr.json is damaged, or none of Zarr 3") from None
    if node != "array":
        raise unreadable(where, "a group of Zarr arrays; give the folder of one array in it")
    if not isinstance(kind, str) or not kind.startswith(("bool", "int", "uint", "float")):
        raise unreadable(where, f"data type {kind!r:.60}; rows are numbers, and objects are never read")
    if unknown := sorted(names - _CODECS):
        raise unreadable(where, f"codec {unknown[0]!r:.60}; {', '.join(sorted(_CODECS))} are read")
    if meta.get("storage_transformers"):
        raise unreadable(where, "its chunks are kept by a storage transformer, which is not read")
    zarr = require("zarr", "stores", "Zarr arrays")
    try:
        array = zarr.open_array(zarr.storage.LocalStore(path, read_only=True), mode="r", zarr_format=3)
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable(where, f"damaged, or no Zarr array ({error})") from None
    return SlicedRows(array, where, columns, Unchanged(path))


def _codec_names(codecs: Any) -> set[str]:
    """The names of codecs and of those within them (shards)."""
    found = set()
    for codec in codecs:
        found.add(str(codec["name"]))
        inner = codec.get("configuration") or {}
        for key in ("codecs", "index_codecs"):
            found |= _codec_names(inner.get(key, []))
    return found
