"""Saved models: every bit comes back, and a file that is torn, foreign, newer, altered or hostile is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.estimators.saved import CLASSES
from tests.support.assertions import assert_same
from tests.support.small_fits import rows

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]
PREPROCESSING = {"columns": ["height", "größe"], "scale": [1.0, 1e-300], "label": None, "drop": {"rows": 3}}


@pytest.fixture(params=ESTIMATORS)
def model(request):
    return request.param(4, random_state=0, backend="numpy").fit(rows())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


def with_members(path, change=lambda members: None, **saving):
    """The file's arrays changed, with the checksum that an attacker would compute."""
    members = {name: np.array(array) for name, array in np.load(path).items() if name != "checksum"}
    change(members)
    digest = hashlib.sha256()
    for name, array in sorted(members.items()):
        digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode() + array.tobytes())
    np.savez(path, checksum=np.frombuffer(digest.digest(), np.uint8), **members)


def with_json(path, change):
    def in_head(members):
        head = json.loads(members["gpukmeans_model"].tobytes())
        change(head)
        members["gpukmeans_model"] = np.frombuffer(json.dumps(head).encode(), np.uint8)

    with_members(path, in_head)


def test_every_bit_comes_back_and_equal_models_have_equal_files(model, path):
    model.preprocessing_ = PREPROCESSING
    model.cluster_centers_[0, 0] = -0.0
    assert model.save(path, labels=True) == path
    again = gpukmeans.load_model(path)
    assert type(again) is type(model)
    assert_same(again, model)
    assert again.preprocessing_ == PREPROCESSING
    assert again.get_params() == model.get_params()
    assert vars(again).keys() == vars(model).keys()
    assert np.array_equal(again.predict(rows()), model.predict(rows()))
    assert again.transform(rows()).tobytes() == model.transform(rows()).tobytes()
    first = path.read_bytes()
    again.save(path, labels=True)
    assert path.read_bytes() == first
    model.save(path)
    assert not hasattr(gpukmeans.load_model(path), "labels_")
    assert len(np.load(path, allow_pickle=False)["gpukmeans_model"]) > 100  # NumPy reads it
    assert [each.name for each in path.parent.iterdir()] == ["model.npz"]


def test_names_of_features_and_frames_as_output_come_back(path):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rows(), columns=[f"ä{i}" for i in range(rows().shape[1])])
    model = KMeans(3, random_state=0, init=X[:3]).set_output(transform="pandas").fit(X)
    model.save(path)
    again = gpukmeans.load_model(path)
    assert again.feature_names_in_.tolist() == model.feature_names_in_.tolist()
    assert again.transform(X).equals(model.transform(X))
    assert again.init.tobytes() == X[:3].to_numpy().tobytes()
    assert_same(again.fit(X), model)


@pytest.mark.parametrize("start", ["fit", "partial_fit"])
def test_partial_fit_goes_on_as_if_nothing_had_been_saved(start, path):
    model = MiniBatchKMeans(4, random_state=0, backend="numpy", reassignment_ratio=0.5)
    getattr(model, start)(rows())
    model.partial_fit(rows()[:20])
    model.save(path)
    again = gpukmeans.load_model(path)
    for part in (rows()[20:50], rows()[:40]):
        assert_same(again.partial_fit(part), model.partial_fit(part))
    assert again._random_state.randint(1 << 30) == model._random_state.randint(1 << 30)


def test_what_is_no_json_is_left_out_and_named(path):
    model = KMeans(
        3, random_state=np.random.RandomState(0), callback=lambda *_: False, tol=np.float32(0.25), n_init=np.int64(2)
    ).fit(rows())
    model.note = "mine"
    with pytest.warns(
        UserWarning, match=r"leaves out callback, random_state, note \(RandomState, function, str\)"
    ) as told:
        model.save(path)
    assert told[0].filename == __file__
    again = gpukmeans.load_model(path)
    assert (again.callback, again.random_state, again.tol, again.n_init) == (None, None, 0.25, 2)
    assert not hasattr(again, "note")


def test_what_cannot_be_saved_says_so(path):
    with pytest.raises(NotFittedError):
        KMeans(2).save(path)
    mine = type("Mine", (KMeans,), {})(2).fit(rows())
    with pytest.raises(TypeError, match="Mine is none of the classes that a file can name, KMeans, MiniBatchKMeans"):
        mine.save(path)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        KMeans(2).fit(rows()).save(path.parent)
    assert list(path.parent.iterdir()) == []


def test_a_link_is_replaced_and_its_target_is_left_alone(path):
    target = path.with_name("target")
    target.write_bytes(b"precious")
    path.symlink_to(target)
    KMeans(2).fit(rows()).save(path)
    assert target.read_bytes() == b"precious"
    assert not path.is_symlink()


def test_a_disk_that_is_full_leaves_the_old_file(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        KMeans(2).fit(rows()).save(path)
    assert path.read_bytes() == b"old"
    assert len(list(path.parent.iterdir())) == 1


def test_a_damaged_file_is_refused_or_the_same_model(path):
    """At many cuts, and at a byte in 11; what is still read, since only a date or a padding changed, is the model."""
    model = BisectingKMeans(4, random_state=0, backend="numpy").fit(rows())
    model.save(path)
    whole = path.read_bytes()
    cuts = [whole[:n] for n in range(0, len(whole), 97)]
    flips = [whole[:n] + bytes([whole[n] ^ 0x55]) + whole[n + 1 :] for n in range(0, len(whole), 11)]
    n_read = 0
    for damaged in [*cuts, *flips]:
        path.write_bytes(damaged)
        try:
            again = gpukmeans.load_model(path)
        except ValueError as refused:
            error = str(refused)
        else:
            n_read, error = n_read + 1, ""
        assert not error or ("model.npz" in error and len(error) <= 300)
        assert error or again.cluster_centers_.tobytes() == model.cluster_centers_.tobytes()
    assert n_read < len(flips) / 5


FOREIGN = {
    "empty": (b"", "not a readable npz file"),
    "text": (b"height;weight\n1,5;2\n" * 100, "not a readable npz file"),
    "pickle": (pickle.dumps({"gpukmeans_model": 1}), "not a readable npz file"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_file_is_refused(case, path):
    content, message = FOREIGN[case]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        gpukmeans.load_model(path)


def test_other_arrays_places_and_paths_are_refused(path):
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(ValueError, match="no array gpukmeans_model; it holds x_train"):
        gpukmeans.load_model(path)
    with pytest.raises(FileNotFoundError):
        gpukmeans.load_model(path.with_name("none"))
    with pytest.raises(ValueError, match="no regular file"):
        gpukmeans.load_model(path.parent)
    if hasattr(os, "mkfifo"):
        os.mkfifo(path.with_name("pipe"))
        with pytest.raises(ValueError, match="no regular file"):
            gpukmeans.load_model(path.with_name("pipe"))


def set_in_tree(name, values):
    return lambda members: members[f"_tree.{name}"].__setitem__(slice(None), values)


#: By class: a change of the arrays with the right checksum, and what the error says.
CRAFTED = [
    (KMeans, lambda m: m.update(labels_=np.array([0, 7], np.int32)), "labels_"),
    (KMeans, lambda m: m.update(labels_=np.array([-1], np.int32)), "labels_"),
    (KMeans, lambda m: m.update(cluster_centers_=np.zeros((3, 2))), "cluster_centers_"),
    (KMeans, lambda m: m.update(cluster_centers_=np.zeros(6, np.int64)), "cluster_centers_"),
    (KMeans, lambda m: m.update(__class__=np.zeros(3)), "__class__"),
    (KMeans, lambda m: m.update(predict=np.zeros(3)), "predict"),
    (KMeans, lambda m: m.update({"fit_report_.more": np.zeros(1)}), "altered"),
    (KMeans, lambda m: m.update({"parameters.tol": np.zeros(1)}), "altered"),
    (KMeans, lambda m: m.update({"nothing.tol": np.zeros(1)}), "altered"),
    (KMeans, lambda m: m.pop("cluster_centers_"), "altered"),
    (KMeans, lambda m: m.update(cluster_centers_=np.array(["a"])), "dtype '<U1', expected float64"),
    (KMeans, lambda m: m.update(gpukmeans_model=np.frombuffer(b"[" * 100_000, np.uint8)), "its JSON is none"),
    (MiniBatchKMeans, lambda m: m.update(_counts=np.array([np.nan] * 4)), "_counts"),
    (MiniBatchKMeans, lambda m: m.pop("_counts"), "altered"),
    (MiniBatchKMeans, lambda m: m.update({"_random_state.words": np.zeros(3, np.uint32)}), "_random_state"),
    (BisectingKMeans, set_in_tree("first_child", 0), "_tree"),  # a circle
    (BisectingKMeans, set_in_tree("first_child", 6), "_tree"),
    (BisectingKMeans, set_in_tree("label", 4), "_tree"),
    (BisectingKMeans, lambda m: m.pop("_tree.label"), "altered"),
]


@pytest.mark.parametrize(("cls", "change", "message"), CRAFTED)
def test_a_crafted_file_is_refused(cls, change, message, path):
    model = cls(4, random_state=0, backend="numpy").fit(rows())
    if cls is MiniBatchKMeans:
        model.partial_fit(rows())
    model.save(path)
    with_members(path)
    gpukmeans.load_model(path)  # so that it is the change that is refused
    with_members(path, change)
    with pytest.raises(ValueError, match=message):
        gpukmeans.load_model(path)


CRAFTED_JSON = [
    (
        lambda head: head.update(version=2, written_by="3.1"),
        "by gpukmeans 3.1 in format 2; gpukmeans .* update",
    ),
    (lambda head: head.update(version=True), "version True"),
    (lambda head: head.update(format="another"), "format 'another'"),
    (lambda head: head.update({"class": "os.system"}), "class 'os.system', expected one of KMeans"),
    (lambda head: head.update(model=[]), "altered"),
    (lambda head: head["model"]["parameters"].update(n_clusters=-1), "n_clusters"),
    (lambda head: head["model"]["parameters"].update(shell="rm"), "shell"),
    (lambda head: head["model"].update(_n_features_out=1 << 40), "cluster_centers_"),
    (lambda head: head["model"].update(n_features_in_="2"), "n_features_in_"),
    (lambda head: head["model"].update(feature_names_in_=["a"]), "feature_names_in_"),
    (lambda head: head["model"].update(__dict__={}), "__dict__"),
    (lambda head: head["model"]["_random_state"].update(place=1 << 30), "_random_state"),
    (lambda head: head["model"].update(_batch_size=0), "_counts"),
]


@pytest.mark.parametrize(("change", "message"), CRAFTED_JSON)
def test_crafted_json_is_refused(change, message, path):
    MiniBatchKMeans(4, random_state=0, backend="numpy").partial_fit(rows()).save(path)
    with_json(path, change)
    with pytest.raises(ValueError, match=message):
        gpukmeans.load_model(path)


def test_memory_is_bounded_by_the_size_of_the_file(path):
    KMeans(2, backend="numpy").fit(rows()).save(path)
    members = dict(np.load(path)) | {"labels_": np.zeros(30_000_000, np.int32)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    del members
    tracemalloc.start()
    with pytest.raises(ValueError, match="`save` does not compress"):
        gpukmeans.load_model(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_pickle_of_another_version_warns(monkeypatch):
    written = pickle.dumps(KMeans(2).fit(rows()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(written)
    monkeypatch.setattr(gpukmeans, "__version__", "9.9")
    with pytest.warns(UserWarning, match="A pickled KMeans of gpukmeans 0.1.0 is read by gpukmeans 9.9") as told:
        pickle.loads(written)
    assert told[0].filename == __file__


def test_the_table_of_classes_is_that_of_the_package():
    assert {cls.__name__: cls.__module__ for cls in ESTIMATORS} == CLASSES
