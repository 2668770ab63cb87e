"""The pictures show what they say, leave pyplot alone, and are written whole or not at all."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys

import numpy as np
import pytest

from gpukmeans.plots import centroid_grid, confusion_heatmap, require_matplotlib, save_png

image_module = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")

# Clusters by most frequent class, then size: 2 (class 7), 0 and 3 (class 8), 1 is empty.
COUNTS = np.array([[1, 9], [0, 0], [1000, 234], [2, 3]])


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def images(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_the_grid_shows_each_centroid_with_class_size_and_share_sorted_by_class():
    centers = np.arange(4 * 6, dtype=float).reshape(4, 6)
    figure = centroid_grid(centers, image_shape=(2, 3), counts=COUNTS, classes=[7, 8], title="Four centroids")
    assert [image.ravel().tolist() for image in images(figure)] == centers[[2, 0, 3, 1]].tolist()
    shown = texts(figure)
    assert shown[:4] == ["digit 7", "1,234  (81%)", "digit 8", "10  (90%)"]
    assert "Four centroids" in shown
    assert figure.axes[-1].get_ylabel() == "mean pixel value"


def test_all_centroids_are_drawn_on_one_scale():
    figure = centroid_grid([[0, 0], [0, 5], [200, 3]], image_shape=(1, 2))
    scales = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    assert scales == {(0.0, 200.0)}


def test_without_counts_the_order_is_the_clusters_own():
    figure = centroid_grid(np.eye(3), image_shape=(1, 3), sizes=[5, 1000, 7])
    assert [image.argmax() for image in images(figure)] == [0, 1, 2]
    assert texts(figure)[:3] == ["5", "1,000", "7"]


def test_of_many_clusters_the_largest_are_drawn_and_the_picture_says_so():
    centers = np.arange(120, dtype=float)[:, None]
    sizes = np.random.default_rng(0).permutation(120) + 1
    figure = centroid_grid(centers, image_shape=(1, 1), sizes=sizes, title="Many")
    drawn = {int(image[0, 0]) for image in images(figure)}
    assert drawn == set(np.flatnonzero(sizes > 20).tolist())
    assert "the 100 largest of 120 clusters" in texts(figure)[-1]


def test_the_heat_map_holds_every_count_in_its_cell():
    figure = confusion_heatmap(COUNTS, classes=[7, 8], title="Where they went")
    axes, bar = figure.axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    want = COUNTS[[2, 0, 3, 1]].T
    assert cells == {(column, row): f"{want[row, column]:,}" for row in range(2) for column in range(4)}
    assert np.array_equal(images(figure)[0], want / want.sum(axis=1, keepdims=True))
    assert axes.get_xlabel() == "cluster, named after its most frequent digit"
    assert axes.get_ylabel() == "true digit"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["7", "8"]
    assert bar.get_ylabel() == "share of the true digit"
    assert "framed: counted as right (81.0% of 1,249)" in texts(figure)  # 1000 + 9 + 3 of 1249


def test_frames_mark_the_most_frequent_class_of_each_column():
    figure = confusion_heatmap(COUNTS, classes=[7, 8])
    centers = [tuple(np.round(np.add(patch.get_xy(), 0.47), 9)) for patch in figure.axes[0].patches]
    assert centers == [(0, 0), (1, 1), (2, 1), (3, 0)]


def test_many_clusters_share_the_column_of_their_class():
    counts = np.random.default_rng(0).integers(0, 9, (50, 3))
    figure = confusion_heatmap(counts)
    want = np.zeros((3, 3), dtype=int)
    for row in counts.tolist():
        want[row.index(max(row))] += row
    assert [int(text.get_text()) for text in figure.axes[0].texts] == want.T.ravel().tolist()
    assert "50 clusters" in figure.axes[0].get_xlabel()


def test_a_saved_png_is_whole_and_the_same_each_time(tmp_path):
    path = save_png(confusion_heatmap(COUNTS), tmp_path / "map.png")
    pixels = image_module.imread(path)
    assert pixels.shape[0] > 200
    assert pixels.shape[1] > 400
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20  # something is drawn
    first = path.read_bytes()
    save_png(confusion_heatmap(COUNTS), path)
    assert path.read_bytes() == first
    assert os.listdir(tmp_path) == ["map.png"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_the_old_picture_and_no_part(tmp_path, monkeypatch, error):
    path = tmp_path / "map.png"
    path.write_bytes(b"old")

    def replace(source, target):
        raise error

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(error):
        save_png(confusion_heatmap(COUNTS), path)
    assert os.listdir(tmp_path) == ["map.png"]
    assert path.read_bytes() == b"old"


def test_pyplot_is_not_loaded_and_settings_stay(tmp_path):
    code = (
        "import sys, gpukmeans.plots as plots\n"
        "assert 'matplotlib' not in sys.modules, 'import alone'\n"
        "import matplotlib; before = repr(list(dict.items(matplotlib.rcParams)))\n"
        "plots.save_png(plots.confusion_heatmap([[5, 1], [0, 4]]), sys.argv[1])\n"
        "assert repr(list(dict.items(matplotlib.rcParams))) == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "map.png")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for make in (
        require_matplotlib,
        lambda: confusion_heatmap([[1]]),
        lambda: centroid_grid([[1]], image_shape=(1, 1)),
    ):
        with pytest.raises(ImportError, match=r'pip install "gpukmeans\[plots\]"'):
            make()


def test_shapes_that_do_not_fit_are_explained():
    with pytest.raises(ValueError, match=r"centers has shape \(3, 3\), expected \(n_clusters, 2 \* 2\)"):
        centroid_grid(np.eye(3), image_shape=(2, 2))
    with pytest.raises(ValueError, match="sizes has 2 values, expected one for each of 3 centers"):
        centroid_grid(np.eye(3), image_shape=(1, 3), sizes=[1, 2])
    with pytest.raises(ValueError, match="counts has 4 rows, expected one for each of 3 centers"):
        centroid_grid(np.eye(3), image_shape=(1, 3), counts=COUNTS)
    with pytest.raises(ValueError, match=r"classes has shape \(1,\), expected \(2,\)"):
        confusion_heatmap(COUNTS, classes=[7])
    with pytest.raises(ValueError, match=r"counts has shape \(3,\), expected \(n_clusters, n_classes\)"):
        confusion_heatmap([1, 2, 3])


def test_a_picture_shows_itself_and_saves_itself(tmp_path):
    picture = confusion_heatmap(COUNTS, title="Where they went")
    assert picture._repr_png_().startswith(b"\x89PNG")
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")):
        path = picture.save(tmp_path / f"map{suffix}")
        first = path.read_bytes()
        assert first.startswith(start)
        assert len(first) > 3000
        assert picture.save(path).read_bytes() == first
    with pytest.raises(ValueError, match=r"'map.jpg' ends in '.jpg'; pictures are written as .png, .svg or .pdf"):
        picture.save(tmp_path / "map.jpg")
    assert sorted(os.listdir(tmp_path)) == ["map.PDF", "map.png", "map.svg"]


@pytest.mark.weekly
def test_a_notebook_shows_the_last_value_of_a_cell_as_a_picture():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    source = "from gpukmeans.plots import confusion_heatmap\nconfusion_heatmap([[5, 1], [0, 4]])"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert len(output["data"]["image/png"]) > 1000
