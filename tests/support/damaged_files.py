"""Files in MNIST's layout: sound ones in every container, ways to damage them, and a law for whatever comes of it."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np

from gpukmeans.datasets import load_mnist
from gpukmeans.datasets.mnist_files import IDX_STEMS

STEMS = {name: stems[0] for name, stems in IDX_STEMS.items()}
rng = np.random.default_rng(0)
ARRAYS = {
    "x_train": rng.integers(0, 256, (6, 5, 4), np.uint8),
    "y_train": np.arange(6, dtype=np.uint8),
    "x_test": rng.integers(0, 256, (4, 5, 4), np.uint8),
    "y_test": np.arange(4, dtype=np.uint8),
}
HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }\n"
BUFFERS = 4 << 20
"""Bytes that a load may take beside `max_bytes`: a table of contents, chunks, messages."""


def npy(header, data=b"", version=1):
    text = header.encode("latin1")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def saved(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz(method=zipfile.ZIP_DEFLATED, comment=b"", extra=(), force_zip64=False, **members):
    """An archive of `ARRAYS`, where a member given as bytes (None: left out) takes the place of an array."""
    out = io.BytesIO()
    bodies = [(f"{name}.npy", members.get(name, saved(array))) for name, array in ARRAYS.items()]
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, body in [*bodies, *extra]:
            if body is not None:
                with archive.open(name, "w", force_zip64=force_zip64) as member:
                    member.write(body)
        archive.comment = comment
    return out.getvalue()


def idx(array, shape=None):
    shape = array.shape if shape is None else shape
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(array)


def patched(data, signature, offset, value):
    """Every record of this signature with `value` written at `offset` in it."""
    out, at = bytearray(data), data.find(signature)
    while at >= 0:
        out[at + offset : at + offset + len(value)] = value
        at = data.find(signature, at + 1)
    return bytes(out)


def gz(data, pieces=1):
    """`data` in gzip, in one member or several."""
    step = -(-len(data) // pieces)
    return b"".join(gzip.compress(data[at : at + step], mtime=0) for at in range(0, len(data), step))


SOUND_NPZ = {
    "deflated": npz(),
    "stored": npz(zipfile.ZIP_STORED),
    "zip64": npz(force_zip64=True),
    "with a comment": npz(comment=b"Zalando"),
    "with another array": npz(extra=[("weights.npy", saved(np.ones(3)))]),
    "behind other data": b"#!/bin/sh\n" + npz(),
    "npy version 2": npz(x_train=npy(HEADER % "(6, 5, 4)", ARRAYS["x_train"].tobytes(), version=2)),
    "npy version 3": npz(x_train=npy(HEADER % "(6, 5, 4)", ARRAYS["x_train"].tobytes(), version=3)),
    "written by Python 2": npz(x_train=npy(HEADER % "(6L, 5L, 4L)", ARRAYS["x_train"].tobytes())),
    "keys in another order": npz(
        x_train=npy("{'shape':(6,5,4),'fortran_order':False,'descr':'|u1'}", ARRAYS["x_train"].tobytes())
    ),
    "in Fortran order": npz(x_train=saved(np.asfortranarray(ARRAYS["x_train"]))),
    "members without .npy": npz(**dict.fromkeys(ARRAYS), extra=[(name, saved(ARRAYS[name])) for name in ARRAYS]),
}
_IDX = {name: idx(array) for name, array in ARRAYS.items()}
SOUND_IDX = {
    "plain": _IDX,
    "gzip": {name: gz(data) for name, data in _IDX.items()},
    "gzip of several members": {name: gz(data, 3) for name, data in _IDX.items()},
    "gzip with padding": {name: gz(data) + bytes(700) for name, data in _IDX.items()},
    "gzip with a name": {
        name: gz(data)[:3] + b"\x08" + gz(data)[4:10] + b"x\0" + gz(data)[10:] for name, data in _IDX.items()
    },
}


def write(folder, files):
    """Write an npz file (bytes) or a folder of IDX files (a dict), and return what is given to `load_mnist`."""
    if isinstance(files, bytes):
        path = Path(folder, "bad.npz")
        path.write_bytes(files)
        return path
    for name, data in files.items():
        Path(folder, STEMS[name]).write_bytes(data)
    return Path(folder)


def outcome(path, name="bad.npz", max_bytes=1 << 24):
    """Load a file, and check what holds for every file: images, or a short ValueError with the file's name.

    Memory is traced: at most `max_bytes`, and 1,032 times the bytes of the files, besides buffers.

    Returns
    -------
    Bunch, or str (the message)
    """
    files = [path] if path.is_file() else list(path.iterdir())
    size = sum(file.stat().st_size for file in files)
    found = error = None
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = load_mnist(path, checksum=False, max_bytes=max_bytes)
    except ValueError as caught:
        error = caught
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= min(max_bytes, 1032 * size) + BUFFERS, f"{peak:,} bytes for a file of {size:,}"
    if found is not None:
        n_images, height, width = found.images.shape
        assert found.images.dtype == np.uint8
        assert found.data.shape == (n_images, height * width)
        assert found.target.shape == (n_images,)
        return found
    assert type(error) is ValueError
    assert name in str(error)
    assert len(str(error)) <= 300
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return str(error)


CORPUS = {
    "10**12 bytes": npz(x_train=npy(HEADER % "(1000000000000,)")),
    "a shape beyond int64": npz(x_train=npy(HEADER % "(18446744073709551616, 28, 28)")),
    "a product of 2**96": npz(x_train=npy(HEADER % "(4294967296, 4294967296, 4294967296)")),
    "no images of 9 million pixels": npz(
        x_train=npy(HEADER % "(0, 3000, 3000)"),
        y_train=npy(HEADER % "(0,)"),
        x_test=npy(HEADER % "(0, 3000, 3000)"),
        y_test=npy(HEADER % "(0,)"),
    ),
    "images without pixels": npz(x_train=npy(HEADER % "(6, 0, 4)")),
    "5,000 digits in a shape": npz(x_train=npy(HEADER % f"({'9' * 5000}, 5, 4)")),
    "a negative size": npz(x_train=npy(HEADER % "(-6, -5, 4)", ARRAYS["x_train"].tobytes())),
    "True as a size": npz(x_train=npy(HEADER % "(True, 5, 4)", ARRAYS["x_train"].tobytes())),
    "a float as a size": npz(x_train=npy(HEADER % "(6.0, 5, 4)", ARRAYS["x_train"].tobytes())),
    "a shape that is a number": npz(y_train=npy(HEADER % "6", bytes(6))),
    "no shape": npz(x_train=npy("{'descr': '|u1', 'fortran_order': False, }")),
    "a key twice": npz(x_train=npy("{'descr': '|u1', 'shape': (6, 5, 4), 'shape': (6, 5, 4), }")),
    "a header cut short": npz(x_train=npy("{'descr': \n")),
    "an escape in the header": npz(x_train=npy("{'descr': '\\d', 'fortran_order': False, 'shape': (6, 5, 4), }")),
    "9,000 brackets": npz(x_train=npy("(" * 9000)),
    "9,000 signs": npz(x_train=npy("-" * 9000 + "1")),
    "9,000 blanks": npz(x_train=npy("{'descr': '|u1'" + " " * 9000)),
    "a header of 60,000 bytes": npz(x_train=npy(HEADER % "(6, 5, 4)" + " " * 60000, ARRAYS["x_train"].tobytes())),
    "a header of 4 GB": npz(x_train=b"\x93NUMPY\2\0\xff\xff\xff\xff{"),
    "version 9": npz(x_train=npy(HEADER % "(6, 5, 4)", ARRAYS["x_train"].tobytes(), version=9)),
    "an empty member": npz(x_train=b""),
    "members that are text": npz(**dict.fromkeys(ARRAYS), extra=[(name, b"hello") for name in ARRAYS]),
    "objects": npz(y_test=saved(np.arange(4).astype(object))),
    "a structured dtype": npz(y_test=saved(np.zeros(4, "u1,u1"))),
    "a dtype of 5,000 characters": npz(
        y_test=npy("{'descr': '%s', 'fortran_order': False, 'shape': (4,), }" % ("u1," * 1500))
    ),
    "float64": npz(x_test=saved(ARRAYS["x_test"].astype(float))),
    "data after the array": npz(x_train=saved(ARRAYS["x_train"]) + b"more"),
    "data cut short": npz(x_train=saved(ARRAYS["x_train"])[:-1]),
    "an array missing": npz(y_test=None),
    "an array missing among 1,000": npz(y_test=None, extra=[(f"{'x' * 50}{i}", b"") for i in range(1000)]),
    "an array twice": npz(extra=[("x_train.npy", saved(ARRAYS["x_train"]))]),
    "an array with and without .npy": npz(extra=[("x_train", saved(ARRAYS["x_train"]))]),
    "19 images and 6 labels": npz(x_train=saved(np.zeros((19, 5, 4), np.uint8))),
    "images of two sizes": npz(x_test=saved(np.zeros((4, 4, 4), np.uint8))),
    "flat images": npz(x_train=saved(ARRAYS["x_train"].reshape(6, 20))),
    "LZMA": npz(zipfile.ZIP_LZMA),
    "BZIP2": npz(zipfile.ZIP_BZIP2),
    "an unknown method": patched(npz(), b"PK\1\2", 10, b"\x63\0"),
    "an encrypted flag": patched(patched(npz(), b"PK\1\2", 8, b"\1"), b"PK\3\4", 6, b"\1"),
    "a flag for patches": patched(npz(), b"PK\1\2", 8, b"\x20"),
    "strong encryption": patched(npz(), b"PK\1\2", 8, b"\x40"),
    "names in no UTF-8": patched(patched(npz(), b"PK\1\2", 9, b"\x08"), b"PK\1\2", 46, b"\xff"),
    "names in no UTF-8 in front": patched(patched(npz(), b"PK\3\4", 7, b"\x08"), b"PK\3\4", 30, b"\xff"),
    "a version of the format to come": patched(npz(), b"PK\1\2", 6, b"\xff"),
    "members of 4 GB": patched(npz(), b"PK\1\2", 20, b"\xfe\xff\xff\xff\xfe\xff\xff\xff"),
    "members at 4 GB": patched(npz(), b"PK\1\2", 42, b"\xfe\xff\xff\xff"),
    "a table of contents of 4 GB": patched(npz(), b"PK\5\6", 12, b"\xfe\xff\xff\xff"),
    "a table of contents at 4 GB": patched(npz(), b"PK\5\6", 16, b"\xfe\xff\xff\xff"),
    "a long table of contents": npz(extra=[(f"{'x' * 200}{i}", b"") for i in range(1000)]),
    "no table of contents": npz()[:-60],
    "an empty archive": b"PK\5\6" + bytes(18),
    "an empty file": b"",
    "a single array": saved(ARRAYS["x_train"]),
    "a page": b"<html>404</html>",
}


_FEW = npz(
    x_train=npy(HEADER % "(1000, 100, 100)"),
    y_train=saved(np.zeros(1000, np.uint8)),
    x_test=saved(np.zeros((4, 100, 100), np.uint8)),
)
_AT = _FEW.index(b"PK\1\2") + 24  # where the archive gives the first member's size
_SIZE = struct.pack("<I", 10_000_000 + len(npy(HEADER % "(1000, 100, 100)")))
CORPUS["10 MB of pixels in a header"] = _FEW
CORPUS["10 MB of pixels in a header and in the archive"] = _FEW[:_AT] + _SIZE + _FEW[_AT + 4 :]


def _with_images(data):
    return {**_IDX, "x_train": data}


IDX_CORPUS = {
    "no images of 2**64 pixels": _with_images(idx(b"", (0, 2**32 - 1, 2**32 - 1))),
    "no images of 9 million pixels": {
        "x_train": idx(b"", (0, 3000, 3000)),
        "y_train": idx(b"", (0,)),
        "x_test": idx(b"", (0, 3000, 3000)),
        "y_test": idx(b"", (0,)),
    },
    "images without pixels": _with_images(idx(b"", (6, 0, 4))),
    "65 dimensions": _with_images(idx(b"\0", (1,) * 65)),
    "255 dimensions": _with_images(idx(b"", (2**32 - 1,) * 255)),
    "no dimensions": _with_images(idx(b"\0", ())),
    "four dimensions on three": _with_images(_IDX["x_train"][:3] + b"\4" + _IDX["x_train"][4:]),
    "one dimension": _with_images(idx(ARRAYS["x_train"], (120,))),
    "a shape of 2**96": _with_images(idx(ARRAYS["x_train"], (2**32 - 1,) * 3)),
    "a shape of 2**96 in gzip": _with_images(gz(idx(ARRAYS["x_train"], (2**32 - 1,) * 3))),
    "10 MB of pixels in a header in gzip": {
        "x_train": gz(idx(b"", (1000, 100, 100))),
        "y_train": gz(idx(np.zeros(1000, np.uint8))),
        "x_test": gz(idx(np.zeros((4, 100, 100), np.uint8))),
        "y_test": _IDX["y_test"],
    },
    "floats": _with_images(b"\0\0\x0d" + _IDX["x_train"][3:]),
    "an empty file": _with_images(b""),
    "a header cut short": _with_images(_IDX["x_train"][:7]),
    "data cut short": _with_images(_IDX["x_train"][:-1]),
    "data cut short in gzip": _with_images(gz(_IDX["x_train"][:-1])),
    "data after the array": _with_images(_IDX["x_train"] + b"m"),
    "data after the array in gzip": _with_images(gz(_IDX["x_train"] + b"m")),
    "16 MB after the array in gzip": _with_images(gz(_IDX["x_train"] + bytes(16 << 20))),
    "gzip cut short": _with_images(gz(_IDX["x_train"])[:-9]),
    "gzip with another checksum": _with_images(gz(_IDX["x_train"])[:-8] + bytes(4) + gz(_IDX["x_train"])[-4:]),
    "gzip and garbage": _with_images(gz(_IDX["x_train"]) + b"garbage"),
    "gzip by an unknown method": _with_images(b"\x1f\x8b\x09" + gz(_IDX["x_train"])[3:]),
    "gzip of gzip": _with_images(gz(gz(_IDX["x_train"]))),
    "two bytes of gzip": _with_images(b"\x1f\x8b"),
    "19 images and 6 labels": _with_images(idx(np.zeros((19, 5, 4), np.uint8))),
    "images of two sizes": _with_images(idx(np.zeros((6, 4, 4), np.uint8))),
}


def damaged(data, random, donors):
    """`data` after one to three blows: bits, numbers, cuts, insertions, repetitions, and ends of other files."""
    for _ in range(random.randint(1, 3)):
        signatures = [at for at in range(len(data)) if data[at : at + 2] in (b"PK", b"\x93N", b"\x1f\x8b")] or [0]
        near = random.choice(signatures) + random.randint(0, 60)
        at = min(random.choice([near, random.randint(0, len(data))]), max(len(data) - 1, 0))
        end = min(at + random.randint(1, 20), len(data))
        number = random.choice([0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, random.randint(0, 2**32)])
        as_bytes = number.to_bytes(8, random.choice(["little", "big"]))
        width = random.choice([1, 2, 4, 8])
        donor = random.choice(donors)
        data = random.choice(
            [
                data[:at] + bytes([data[at] ^ 1 << random.randint(0, 7)]) + data[at + 1 :] if data else b"\0",
                data[:at] + (as_bytes[:width] if random.random() < 0.5 else as_bytes[-width:]) + data[at + width :],
                data[:at],
                data[at:],
                data[:at] + random.randbytes(random.randint(1, 9)) + data[at:],
                data[:at] + data[end:],
                data[:end] + data[at:],
                data[:at] + donor[random.randint(0, len(donor)) :],
                data[:at] + data[at:end].upper() + data[end:],
            ]
        )
    return data


def damaged_case(random):
    """What `write` takes, and the name that a message must hold: damage outside, or inside sound containers."""
    name = random.choice(list(ARRAYS))
    inside = random.random() < 0.5
    if random.random() < 0.5:
        if inside:  # the archive itself and its checksums are sound
            body = damaged(saved(ARRAYS[name]), random, [saved(ARRAYS["y_test"])])
            return npz(random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), **{name: body}), "bad.npz"
        pool = [*SOUND_NPZ.values(), CORPUS["LZMA"], CORPUS["BZIP2"], saved(ARRAYS[name])]
        return damaged(random.choice(pool), random, pool), "bad.npz"
    if inside:
        data = gz(damaged(_IDX[name], random, list(_IDX.values())) or b"\0", random.randint(1, 3))
    else:
        pool = [files[name] for files in SOUND_IDX.values()]
        data = damaged(random.choice(pool), random, pool)
    return {**_IDX, name: data}, STEMS[name]
