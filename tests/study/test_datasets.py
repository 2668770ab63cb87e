"""MNIST and digits arrive whole and identical from every source; broken files are named and explained."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets
from sklearn.utils import Bunch

import gpukmeans
from gpukmeans.datasets import load_digits, load_mnist, mnist_files

BUNDLED = Path(gpukmeans.__file__).parent / "data" / "mnist.npz"

# The well-known MD5 sums of the authors' uncompressed IDX files.
IDX_MD5 = {
    "x_train": "6bbc9ace898e44ae57da46a324031adb",
    "y_train": "a25bea736e30d166cdddb491f175f624",
    "x_test": "2646ac647ad5339dbf082846283269ea",
    "y_test": "27ae3e4e09519cfbb04c329615203637",
}


@pytest.fixture(scope="module")
def mnist():
    return load_mnist()


@pytest.fixture(scope="module")
def arrays(mnist):
    """The four arrays of Keras' layout, cut from the loaded data."""
    images, target = mnist.images, mnist.target.astype(np.uint8)
    return {
        "x_train": images[:60000],
        "y_train": target[:60000],
        "x_test": images[60000:],
        "y_test": target[60000:],
    }


@pytest.fixture
def few(arrays):
    """The same layout with a handful of images."""
    return {name: array[: 20 if name.endswith("train") else 10] for name, array in arrays.items()}


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


def write_idx_folder(folder, arrays, *, compress=False):
    for name, array in arrays.items():
        stem = mnist_files.IDX_STEMS[name][0]
        raw = idx_bytes(array)
        (folder / (stem + ".gz" * compress)).write_bytes(gzip.compress(raw, 1) if compress else raw)


def assert_same(got, want):
    assert np.array_equal(got.data, want.data)
    assert np.array_equal(got.target, want.target)
    assert got.data.dtype == np.uint8
    assert got.target.dtype == np.int64


def test_bundled_mnist_is_whole_and_training_images_come_first(mnist):
    assert mnist.data.shape == (70000, 784)
    assert mnist.data.dtype == np.uint8
    assert mnist.data.flags.c_contiguous
    assert mnist.images.shape == (70000, 28, 28)
    assert np.shares_memory(mnist.images, mnist.data)
    assert mnist.target.shape == (70000,)
    assert mnist.n_train == 60000
    # Counts published with the data set: per digit, in the training and in the test images.
    assert np.bincount(mnist.target[:60000]).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert np.bincount(mnist.target[60000:]).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    assert "Attribution-Share Alike 3.0" in mnist.DESCR
    assert len(mnist.feature_names) == 784
    assert mnist.target_names.tolist() == list(range(10))


def test_the_idx_files_made_of_the_bundled_arrays_have_the_well_known_md5_sums(arrays):
    for name, array in arrays.items():
        assert hashlib.md5(idx_bytes(array)).hexdigest() == IDX_MD5[name], name


def test_return_x_y_gives_the_same_arrays(mnist):
    X, y = load_mnist(return_X_y=True)
    assert np.array_equal(X, mnist.data)
    assert np.array_equal(y, mnist.target)


def test_the_licence_lies_beside_the_data_with_the_checksums_that_are_checked():
    text = (BUNDLED.parent / "LICENSE.md").read_text()
    assert "creativecommons.org/licenses/by-sa/3.0" in text
    for name, (shape, sha256) in mnist_files.LAYOUT.items():
        assert f"| {name} " in text
        assert str(shape) in text
        assert sha256 in text


def test_npz_path_gives_the_same_bits(mnist, tmp_path):
    copy = tmp_path / "mnist.npz"
    shutil.copyfile(BUNDLED, copy)
    assert_same(load_mnist(copy), mnist)
    assert_same(load_mnist(str(copy)), mnist)


def test_idx_folder_gives_the_same_bits(mnist, arrays, tmp_path):
    write_idx_folder(tmp_path, arrays)
    assert_same(load_mnist(tmp_path), mnist)
    assert_same(load_mnist(tmp_path / "t10k-labels-idx1-ubyte"), mnist)


@pytest.mark.parametrize("compress", [False, True])
def test_other_images_in_the_same_layout_load_without_the_checksum(few, tmp_path, compress):
    write_idx_folder(tmp_path, few, compress=compress)
    got = load_mnist(tmp_path, checksum=False)
    assert got.n_train == 20
    assert np.array_equal(got.images[20:], few["x_test"])
    assert got.target.tolist() == [*few["y_train"], *few["y_test"]]
    assert "checksum" in got.DESCR
    with pytest.raises(ValueError, match=r"x_train has shape \(20, 28, 28\), expected \(60000, 28, 28\)"):
        load_mnist(tmp_path)


def test_idx_files_under_the_unpackers_names_load(few, tmp_path):
    for name, array in few.items():
        (tmp_path / mnist_files.IDX_STEMS[name][1]).write_bytes(idx_bytes(array))
    assert load_mnist(tmp_path, checksum=False).data.shape == (30, 784)


def test_one_changed_pixel_is_found(arrays, tmp_path):
    changed = arrays["x_test"].copy()
    changed[1234, 5, 6] ^= 1
    path = tmp_path / "changed.npz"
    np.savez(path, **{**arrays, "x_test": changed})
    with pytest.raises(ValueError, match=r"changed\.npz: x_test does not hold MNIST's bytes.*checksum=False"):
        load_mnist(path)
    assert load_mnist(path, checksum=False).images[61234, 5, 6] == changed[1234, 5, 6]


def test_a_broken_zip_is_named(tmp_path):
    path = tmp_path / "cut.npz"
    path.write_bytes(BUNDLED.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"cut\.npz: not a readable npz file"):
        load_mnist(path)


def test_a_file_that_is_no_zip_is_named(tmp_path):
    path = tmp_path / "page.npz"
    path.write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"page\.npz: not a readable npz file"):
        load_mnist(path)


def test_a_damaged_array_is_named(few, tmp_path):
    path = tmp_path / "flipped.npz"
    np.savez(path, **few)
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        raw[archive.getinfo("x_train.npy").header_offset + 1000] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"flipped\.npz: x_train: damaged or cut short"):
        load_mnist(path, checksum=False)


def test_a_single_npy_array_is_refused(few, tmp_path):
    path = tmp_path / "single.npz"
    with open(path, "wb") as file:
        np.save(file, few["x_train"])
    with pytest.raises(ValueError, match=r"single\.npz: a single array"):
        load_mnist(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": None}, r"no array x_train; it holds y_train, x_test, y_test, expected x_train"),
        ({"x_train": "short"}, r"19 images in x_train, but 20 labels in y_train"),
        ({"x_train": "float64"}, r"x_train: dtype '<f8', expected uint8"),
        ({"y_test": "int64"}, r"y_test: dtype '<i8', expected uint8"),
        ({"x_test": "flat"}, r"x_test has shape \(10, 784\), expected 3 dimensions"),
        ({"x_test": "crop"}, r"images of \(28, 28\) pixels in x_train, but of \(14, 28\) in x_test"),
        ({"y_test": "object"}, r"y_test: dtype '\|O', expected uint8"),
    ],
)
def test_wrong_arrays_are_named(few, tmp_path, change, message):
    how = {
        "short": lambda a: a[:-1],
        "flat": lambda a: a.reshape(len(a), -1),
        "crop": lambda a: a[:, :14],
    }
    for name, what in change.items():
        array = few.pop(name)
        if what is not None:
            few = {**few, name: how[what](array) if what in how else array.astype(what)}
    path = tmp_path / "wrong.npz"
    np.savez(path, **few)
    with pytest.raises(ValueError, match=rf"wrong\.npz: {message}"):
        load_mnist(path, checksum=False)


def test_a_short_array_is_told_from_the_full_one(arrays, tmp_path):
    path = tmp_path / "short.npz"
    np.savez(path, **{**arrays, "y_train": arrays["y_train"][:59999]})
    with pytest.raises(ValueError, match=r"short\.npz: y_train has shape \(59999,\), expected \(60000,\)"):
        load_mnist(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-1], r"7839 data bytes after the header, expected 7840 .* cut short"),
        (lambda raw: raw + b"\0", r"7841 data bytes after the header, expected 7840 .* too long"),
        (lambda raw: raw[:7], r"7 bytes long, but its header alone takes 16"),
        (lambda raw: b"", r"starts with the bytes \(none\)"),
        (lambda raw: b"\0\0\x0d" + raw[3:], r"starts with the bytes 00 00 0d 03"),
        (lambda raw: gzip.compress(raw)[:-9], r"damaged or cut short"),
    ],
)
def test_broken_idx_files_are_named(few, tmp_path, damage, message):
    write_idx_folder(tmp_path, few)
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"t10k-images-idx3-ubyte: {message}"):
        load_mnist(tmp_path, checksum=False)


def test_a_missing_idx_file_is_named(few, tmp_path):
    write_idx_folder(tmp_path, few)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="no file train-labels-idx1-ubyte"):
        load_mnist(tmp_path, checksum=False)


def test_unknown_sources_say_what_is_allowed(tmp_path):
    with pytest.raises(ValueError, match=r"source='kears' should be 'bundled', 'keras', 'openml' or the path"):
        load_mnist("kears")
    with pytest.raises(TypeError, match=r"source=3 should be"):
        load_mnist(3)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz: no such file or folder; expected an npz file"):
        load_mnist(tmp_path / "nowhere.npz")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"picture\.png: neither an npz file nor one of MNIST's IDX files"):
        load_mnist(tmp_path / "picture.png")


def test_openml_gives_the_same_bits(mnist, monkeypatch):
    """The answer has the form that scikit-learn documents: numbers in one table, digits as strings."""
    asked = {}

    def fetch_openml(name, **options):
        asked.update(options, name=name)
        return Bunch(data=mnist.data.astype(np.int64), target=mnist.target.astype(str).astype(object))

    monkeypatch.setattr(sklearn_datasets, "fetch_openml", fetch_openml)
    assert_same(load_mnist("openml"), mnist)
    assert asked["name"] == "mnist_784"
    assert asked["as_frame"] is False


def test_openml_out_of_reach_points_to_the_bundled_file(monkeypatch):
    def fetch_openml(name, **options):
        raise OSError("no route")

    monkeypatch.setattr(sklearn_datasets, "fetch_openml", fetch_openml)
    with pytest.raises(ConnectionError, match=r"no route.*source='bundled' needs no network"):
        load_mnist("openml")


def test_openml_with_fractions_is_refused(mnist, monkeypatch):
    def fetch_openml(name, **options):
        return Bunch(data=mnist.data + np.float32(0.5), target=mnist.target.astype(str))

    monkeypatch.setattr(sklearn_datasets, "fetch_openml", fetch_openml)
    with pytest.raises(ValueError, match=r"OpenML's mnist_784: .* expected \(70000, 784\) whole numbers"):
        load_mnist("openml")


KERAS_RUN = """
import hashlib, json, os, sys
from gpukmeans.datasets.mnist_download import keras_backend_chosen
from gpukmeans.datasets import load_mnist
with keras_backend_chosen():
    import keras
    from keras.src.datasets import mnist
real, found = mnist.get_file, []
for change in json.loads(sys.argv[1]):
    mnist.get_file = lambda **options: real(**{**options, **change})
    try:
        got = load_mnist("keras")
    except Exception as error:
        found.append({"error": type(error).__name__, "message": str(error)})
    else:
        found.append({"data": hashlib.sha256(got.data).hexdigest(), "target": got.target[:5].tolist()})
print(json.dumps(found))
"""


def run_keras(keras_home, *changes):
    """Run Keras itself in a process of its own, its download replaced only as each of the changes says."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    if not any(importlib.util.find_spec(name) for name in ("jax", "tensorflow", "torch", "openvino")):
        pytest.skip("no backend for Keras is installed")
    env = {**os.environ, "KERAS_HOME": str(keras_home), "PYTHONPATH": os.pathsep.join(sys.path)}
    env.pop("KERAS_BACKEND", None)  # so that ours is chosen
    command = [sys.executable, "-c", KERAS_RUN, json.dumps(changes)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # the result and nothing of Keras' own


@pytest.mark.weekly
def test_keras_gives_the_same_bits_and_points_to_the_bundled_file_when_out_of_reach(mnist, tmp_path):
    """Keras' file and ours are different zips of the same arrays, so its expected hash is replaced, no more.

    One process for both: to import Keras and its backend takes longer than the rest.
    """
    (tmp_path / "datasets").mkdir()
    shutil.copyfile(BUNDLED, tmp_path / "datasets" / "mnist.npz")
    elsewhere = {"cache_dir": str(tmp_path / "empty"), "origin": (tmp_path / "nowhere.npz").as_uri()}
    got, failed = run_keras(tmp_path, {"file_hash": hashlib.sha256(BUNDLED.read_bytes()).hexdigest()}, elsewhere)
    assert got == {"data": hashlib.sha256(mnist.data).hexdigest(), "target": [5, 0, 4, 1, 9]}
    assert failed["error"] == "ConnectionError"
    assert "keras.datasets.mnist could not deliver MNIST (URL fetch failure" in failed["message"]
    assert "source='bundled' needs no network" in failed["message"]


def test_keras_missing_says_what_to_install(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "keras" else find_spec(name))
    with pytest.raises(ImportError, match=r'Keras 3, which is not installed: pip install "gpukmeans\[mnist\]"'):
        load_mnist("keras")


def test_keras_without_a_backend_says_what_to_install(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "keras" or None)
    with pytest.raises(ImportError, match=r"one of jax, tensorflow, torch, openvino; none is installed"):
        load_mnist("keras")


def test_digits_equal_scikit_learns():
    digits, want = load_digits(), sklearn_datasets.load_digits()
    assert digits.data.dtype == np.uint8
    assert np.array_equal(digits.data, want.data)
    assert np.array_equal(digits.images, want.images)
    assert np.array_equal(digits.target, want.target)
    assert digits.feature_names == want.feature_names
    X, y = load_digits(return_X_y=True)
    assert np.array_equal(X, digits.data)
    assert np.array_equal(y, digits.target)
