"""Whatever a file holds: images, or a short ValueError that names the file, within the memory that is allowed."""

from __future__ import annotations

import os
import random
import tempfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpukmeans.cli import main
from gpukmeans.datasets import load_mnist
from gpukmeans.scale import files as datasets_files
from tests.support.damaged_files import (
    ARRAYS,
    BUFFERS,
    CORPUS,
    IDX_CORPUS,
    SOUND_IDX,
    SOUND_NPZ,
    STEMS,
    damaged_case,
    gz,
    idx,
    npz,
    outcome,
    saved,
    write,
)


@pytest.mark.parametrize("files", [*SOUND_NPZ.values(), *SOUND_IDX.values()], ids=[*SOUND_NPZ, *SOUND_IDX])
def test_sound_files_load_from_every_container(tmp_path, files):
    found = outcome(write(tmp_path, files))
    assert np.array_equal(found.images, np.concatenate([ARRAYS["x_train"], ARRAYS["x_test"]]))
    assert found.target.tolist() == [*range(6), *range(4)]
    assert found.images.flags.c_contiguous


@pytest.mark.parametrize("files", CORPUS.values(), ids=CORPUS)
def test_damaged_archives_are_named(tmp_path, files):
    assert isinstance(outcome(write(tmp_path, files)), str)


@pytest.mark.parametrize("files", IDX_CORPUS.values(), ids=IDX_CORPUS)
def test_damaged_idx_files_are_named(tmp_path, files):
    assert isinstance(outcome(write(tmp_path, files), STEMS["x_train"]), str)


@settings(max_examples=2000, derandomize=True, database=None, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_damage_is_named_or_harmless(seed):
    files, name = damaged_case(random.Random(seed))
    with tempfile.TemporaryDirectory() as folder:
        outcome(write(folder, files), name)


# ---- memory ----------------------------------------------------------------------------------------------------------


def many(n_images=2000, size=50):
    """Images of zeros, which compress about a thousandfold: 5 MB of pixels in 5 KB."""
    return {
        "x_train": np.zeros((n_images, size, size), np.uint8),
        "y_train": np.zeros(n_images, np.uint8),
        "x_test": np.zeros((1, size, size), np.uint8),
        "y_test": np.zeros(1, np.uint8),
    }


CONTAINERS = {
    "npz": lambda arrays: npz(**{name: saved(array) for name, array in arrays.items()}),
    "npz in Fortran order": lambda arrays: npz(
        **{name: saved(np.asfortranarray(array)) for name, array in arrays.items()}
    ),
    "gzip": lambda arrays: {name: gz(idx(array)) for name, array in arrays.items()},
    "idx": lambda arrays: {name: idx(array) for name, array in arrays.items()},
}


def traced(call):
    tracemalloc.start()
    try:
        result = call()
    except ValueError as error:
        result = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak


@pytest.mark.parametrize("container", CONTAINERS)
def test_pixels_are_held_once_while_they_are_read(tmp_path, container):
    path = write(tmp_path, CONTAINERS[container](many(8000)))
    n_bytes = 8001 * 2500 * (2 if "Fortran" in container else 1)
    found, peak = traced(lambda: load_mnist(path, checksum=False))
    assert found.data.nbytes == 8001 * 2500
    assert n_bytes <= peak <= n_bytes + BUFFERS
    refused, peak = traced(lambda: load_mnist(path, checksum=False, max_bytes=8001 * 2500))
    assert "8001 images of 50 x 50 pixels take " in refused
    assert "more than max_bytes=20,002,500" in refused
    assert peak < BUFFERS


def test_the_names_of_features_count(tmp_path):
    """Names of pixels take a hundred times the bytes of one image."""
    path = write(tmp_path, CONTAINERS["gzip"](many(1, 300)))
    found, peak = traced(lambda: load_mnist(path, checksum=False, max_bytes=9_200_000))
    assert len(found.feature_names) == 90_000
    assert 4_500_000 < peak <= 9_200_000
    refused, peak = traced(lambda: load_mnist(path, checksum=False, max_bytes=9_000_000))
    assert "2 images of 300 x 300 pixels take 9,180,066 bytes, more than max_bytes=9,000,000" in refused
    assert peak < 500_000


def test_half_of_the_free_memory_is_allowed_by_default(tmp_path, monkeypatch):
    path = write(tmp_path, CONTAINERS["npz"](many()))
    monkeypatch.setattr("gpukmeans.datasets.mnist_files.free_memory", lambda: 10_000_000)
    with pytest.raises(ValueError, match=r"bad\.npz: 2001 images .* more than max_bytes=5,000,000"):
        load_mnist(path, checksum=False)
    assert load_mnist(path, checksum=False, max_bytes=10_000_000).n_train == 2000


def test_memory_that_cannot_be_had_is_said_so(tmp_path, monkeypatch):
    def empty(*_):
        raise MemoryError

    path = write(tmp_path, CONTAINERS["idx"](many(1)))
    monkeypatch.setattr(np, "empty", empty)
    with pytest.raises(ValueError, match="bytes, which cannot be had") as caught:
        load_mnist(path, checksum=False)
    assert STEMS["x_train"] in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "free"),
    [
        ({"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   2000 kB\n"}, 2_048_000),
        ({"/proc/meminfo": "MemAvailable: 2000 kB\n", "/sys/fs/cgroup/memory.max": "max\n"}, 2_048_000),
        (
            {
                "/proc/meminfo": "MemAvailable: 2000 kB\n",
                "/sys/fs/cgroup/memory.max": "1500000\n",
                "/sys/fs/cgroup/memory.current": "500000\n",
            },
            1_000_000,
        ),
    ],
)
def test_free_memory_is_that_of_the_machine_or_of_the_container(monkeypatch, texts, free):
    def read_text(path):
        if str(path) in texts:
            return texts[str(path)]
        raise FileNotFoundError(path)

    monkeypatch.setattr(datasets_files.Path, "read_text", read_text)
    assert datasets_files.free_memory() == free


def test_free_memory_is_known_where_there_is_no_proc(monkeypatch):
    def read_text(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(datasets_files.Path, "read_text", read_text)
    assert datasets_files.free_memory() > 2**26


# ---- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("./" + "x" * 300, OSError, "File name too long: '"),
        ("./" + "x/" * 3000, OSError, "File name too long: '"),
        ("./no\0thing", ValueError, "no possible path"),
        ("./\ud800", ValueError, "no possible path"),
        ("./" + "x" * 200, FileNotFoundError, "no such file or folder"),
        (os.devnull, OSError, "neither a file nor a folder"),
        ("", ValueError, "source='' should be 'bundled'"),
        ("w" * 5000, ValueError, "should be 'bundled'"),
        (3, TypeError, "source=3 should be"),
        (b"bytes", TypeError, "source=b'bytes' should be"),
        ("~nobody-of-this-name/x", FileNotFoundError, "~nobody-of-this-name/x: no such file"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="what a path may hold is the system's affair")
def test_paths_that_lead_nowhere_are_said_so_in_short(path, error, message):
    with pytest.raises(error, match=message) as caught:
        load_mnist(path)
    assert len(str(caught.value)) <= 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(OSError, match=r"pipe\.npz: neither a file nor a folder"):
        load_mnist(tmp_path / "pipe.npz")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that cannot be read at its start")
@pytest.mark.parametrize("name", ["unreadable.npz", STEMS["x_train"]])
def test_a_file_that_the_system_cannot_read_is_an_os_error_with_its_name(tmp_path, name):
    write(tmp_path, SOUND_IDX["plain"])
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match=name):
        load_mnist(tmp_path / name)


@pytest.mark.parametrize("max_bytes", [0, -1, 1.5, "1 GB"])
def test_a_limit_that_is_none_is_refused(max_bytes):
    with pytest.raises(ValueError, match=r"max_bytes=.* should be a whole number, at least 1, or None"):
        load_mnist(max_bytes=max_bytes)


def test_the_command_line_ends_in_one_line(tmp_path, capsys):
    for what, files in {**CORPUS, **IDX_CORPUS}.items():
        folder = tmp_path / what.replace("/", " ")
        folder.mkdir()
        assert main(["mnist", "--source", str(write(folder, files)), "--no-plots", "--quiet"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("gpukmeans: error: ")
        assert err.count("\n") == 1
