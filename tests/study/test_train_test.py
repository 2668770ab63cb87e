"""Clusterings of training rows, judged on test rows: each entry is that of its own fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gpukmeans
from gpukmeans.cli import main
from gpukmeans.evaluation import train_test
from gpukmeans.study import job


@pytest.fixture(scope="module")
def part():
    """700 training and 300 test images in the order in which MNIST has them."""
    mnist = gpukmeans.load_mnist()
    rows = np.r_[:700, 60000:60300]
    return mnist.data[rows], mnist.target[rows]


def nearest(X, centers):
    """Squared distances to the nearest center, and which it is, in float64 without shortcuts."""
    squares = np.square(X[:, None].astype(np.float64) - centers).sum(axis=2)
    return squares.min(axis=1), squares.argmin(axis=1)


def test_entries_are_those_of_fits_to_the_training_rows_alone(part):
    (X, y), n = part, 700
    told = []
    found = train_test(X[:n], y[:n], X[n:], y[n:], [20, 10], random_state=3, progress=told.append)
    assert told == [f"{name}, {k} clusters" for name in ("k-means", "mini-batch k-means") for k in (10, 20)]
    assert (found.n_train, found.n_test, found.n_sampled) == (700, 300, 700)
    kinds = [gpukmeans.KMeans] * 2 + [gpukmeans.MiniBatchKMeans] * 2
    for entry, kind, k in zip(found.entries, kinds, (10, 20, 10, 20), strict=True):
        model = kind(k, random_state=3).fit(X[:n])
        assert np.array_equal(entry.model.cluster_centers_, model.cluster_centers_)
        (square, labels), (test_square, test_labels) = (
            nearest(rows, model.cluster_centers_) for rows in (X[:n], X[n:])
        )
        assert entry.train_inertia == pytest.approx(square.mean())
        assert entry.test_inertia == pytest.approx(test_square.mean())
        majority = np.array([np.bincount(y[:n][labels == j], minlength=10).argmax() for j in range(k)])
        assert entry.train.majority == (majority[labels] == y[:n]).mean()
        assert entry.test.majority == (majority[test_labels] == y[n:]).mean()
        assert entry.silhouette == pytest.approx(gpukmeans.silhouette(labels, X[:n]).mean)
    lines = repr(found).splitlines()
    assert len(lines) == 5
    assert len(set(map(len, lines))) == 1


def test_the_command_fits_the_training_images_alone(part, tmp_path, monkeypatch, capsys):
    X, y = (array[600:800] for array in part)
    images, digits = X.reshape(-1, 28, 28), y.astype(np.uint8)
    path = tmp_path / "part.npz"
    np.savez(path, x_train=images[:100], y_train=digits[:100], x_test=images[100:], y_test=digits[100:])
    load = job.DataSet("MNIST", lambda source: gpukmeans.load_mnist(source, checksum=False), 255)
    monkeypatch.setitem(job.DATA_SETS, "mnist", load)
    out = tmp_path / "out"
    command = ["mnist", "--source", str(path), "--train-test", "10,20", "--init", "random", "--n-init", "2"]
    assert main([*command, "-o", str(out), "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert '"about":"Fitted to 100 images, judged on 100 others."' in (out / "report.html").read_text(encoding="utf-8")
    estimators = {
        "k-means": gpukmeans.KMeans(init="random", n_init=2),
        "mini-batch k-means": gpukmeans.MiniBatchKMeans(init="random", n_init=2),
    }
    want = train_test(X[:100], y[:100], X[100:], y[100:], (10, 20), estimators=estimators).as_dict()
    got = result["train_test"]
    for entry in (*got["entries"], *want["entries"]):
        del entry["seconds"]
    assert got == want
    assert (out / "train-test.png").read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--scale", "standard"]) == 2
    assert "--train-test does not go with --scale" in capsys.readouterr().err


def test_errors_say_what_was_given():
    X, y = [[0.0], [1.0], [9.0]], [0, 0, 1]
    with pytest.raises(ValueError, match="2 estimators and 0 numbers of clusters; give at least one of each"):
        train_test(X, y, X, y, [])
    with pytest.raises(ValueError, match=r"y has shape \(2,\), expected \(3,\)"):
        train_test(X, y, X, y[:2], 2)
    found = train_test(X, y, [[5.1]], [1], 1)
    assert [entry.silhouette for entry in found.entries] == [None, None]
    assert found.entries[0].test.majority == 0.0  # the only cluster is named 0
