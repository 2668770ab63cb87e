"""The pictures show what they say, leave pyplot alone, and are written whole or not at all."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import gpukmeans
from gpukmeans.evaluation import Accuracy, Compared, Comparison, Judged, TrainTest, flow
from gpukmeans.plots import (
    centroid_grid,
    comparison_figure,
    confusion_heatmap,
    feature_heatmap,
    flow_figure,
    point_map,
    require_matplotlib,
    save_png,
    train_test_figure,
)
from gpukmeans.plots.points import cluster_style

image_module = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")

to_rgb = pytest.importorskip("matplotlib.colors").to_rgb
Text = pytest.importorskip("matplotlib.text").Text

# Clusters by most frequent class, then size: 2 (class 7), 0 and 3 (class 8), 1 is empty.
COUNTS = np.array([[1, 9], [0, 0], [1000, 234], [2, 3]])


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def images(figure):
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def cut_or_overlapping(picture, monkeypatch):
    """Texts that leave the picture, and pairs that lie on each other."""
    shown = []
    monkeypatch.setattr(Text, "draw", lambda self, *_: shown.append(self) if self.get_text().strip() else None)
    picture.draw_without_rendering()
    monkeypatch.undo()
    renderer = picture.canvas.get_renderer()
    extents = [text.get_window_extent(renderer) for text in shown]
    boxes = np.array([[box.x0, box.y0, box.x1, box.y1] for box in extents])
    width, height = picture.get_size_inches() * picture.dpi
    out = (boxes[:, :2] < -0.5).any(axis=1) | (boxes[:, 2] > width + 0.5) | (boxes[:, 3] > height + 0.5)
    low, high = boxes[:, None], boxes[None]
    across = np.minimum(low[..., 2], high[..., 2]) - np.maximum(low[..., 0], high[..., 0])
    up = np.minimum(low[..., 3], high[..., 3]) - np.maximum(low[..., 1], high[..., 1])
    pairs = np.argwhere(np.triu((across > 1.0) & (up > 1.0), 1))
    said = [text.get_text() for text in shown]
    return [said[i] for i in np.flatnonzero(out)] + [(said[i], said[j]) for i, j in pairs]


def test_the_grid_shows_each_centroid_with_class_size_and_share_sorted_by_class():
    centers = np.arange(4 * 6, dtype=float).reshape(4, 6)
    figure = centroid_grid(centers, image_shape=(2, 3), counts=COUNTS, classes=[7, 8], title="Four centroids")
    assert [image.ravel().tolist() for image in images(figure)] == centers[[2, 0, 3, 1]].tolist()
    shown = texts(figure)
    assert shown[:4] == ["digit 7", "1,234 (81%)", "digit 8", "10 (90%)"]
    assert shown[4:8] == ["digit 8", "5 (60%)", "empty", "0 (0%)"]
    assert "Four centroids" in shown
    assert figure.axes[-1].get_ylabel() == "mean pixel value"


def test_large_values_of_photographs_are_bright():
    for large, ends in (("dark", (1.0, 0.0)), ("bright", (0.0, 1.0))):
        image = centroid_grid(np.array([[0.0, 9.0]]), image_shape=(1, 2), large=large).axes[0].images[0]
        assert tuple(image.to_rgba(image.get_array(), norm=True)[0, :, 0]) == ends
    with pytest.raises(ValueError, match="large='black' should be 'dark' or 'bright'"):
        centroid_grid(np.eye(4), image_shape=(2, 2), large="black")


def test_all_centroids_are_drawn_on_one_scale():
    figure = centroid_grid([[0, 0], [0, 5], [200, 3]], image_shape=(1, 2))
    assert {image.get_clim() for image in figure.axes[0].images} == {(0.0, 200.0)}
    signed = centroid_grid([[0, 0], [0, 5], [-200, 3]], image_shape=(1, 2))
    assert {image.get_clim() for image in signed.axes[0].images} == {(-200.0, 200.0)}
    assert {image.get_cmap().name for image in signed.axes[0].images} == {"RdBu_r"}


def test_without_counts_the_order_is_the_clusters_own():
    figure = centroid_grid(np.eye(3), image_shape=(1, 3), sizes=[5, 1000, 7])
    assert [image.argmax() for image in images(figure)] == [0, 1, 2]
    assert texts(figure)[:3] == ["5", "1,000", "7"]


def test_of_many_clusters_the_largest_are_drawn_and_the_picture_says_so(monkeypatch):
    centers = np.arange(120, dtype=float)[:, None]
    sizes = np.random.default_rng(0).permutation(120) + 1
    assert len(images(centroid_grid(centers, image_shape=(1, 1), sizes=sizes))) == 120
    monkeypatch.setattr("gpukmeans.plots.centroids._MOST_IMAGES", 100)
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


WORDS = ["T-shirt/top with a description that does not end", "costs $5 or $6", "Ankleboot" * 9, "<b>", "e"]
RANDOM = np.random.default_rng(0)
MANY = RANDOM.integers(0, 30_000, (31, 40))


def judged(names, numbers):
    both = Accuracy(0.5, 0.25, 10)
    entries = (Judged(name, k, 1e-3 * k, 1e7 / k, 2e7 / k, both, both, None, None) for name in names for k in numbers)
    return TrainTest(tuple(entries), 60_000, 10_000, 5_000)


def compared(names):
    """Labels with noise, and with as many clusters as the place of the name."""
    entries = []
    for i, name in enumerate(names):
        labels = MANY[i] % (i + 2) - 1
        evaluation = gpukmeans.evaluate(labels[labels >= 0], MANY[:6].T[labels >= 0], MANY[2, labels >= 0] % 3)
        entries.append(Compared(name, 10.0 ** (i - 3), int((labels < 0).sum()), evaluation, labels, None))
    return Comparison(tuple(entries))


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "draw",
    [
        lambda: centroid_grid(np.eye(5), image_shape=(1, 5), counts=MANY[:5, :5] // 7, classes=WORDS, title="T " * 99),
        lambda: centroid_grid(np.eye(1), image_shape=(1, 1), sizes=[123_456_789], title="One"),
        lambda: centroid_grid(
            RANDOM.normal(size=(101, 6)), image_shape=(3, 2), counts=RANDOM.integers(0, 9**6, (101, 5))
        ),
        lambda: centroid_grid(RANDOM.normal(size=(4, 12)), image_shape=(2, 2, 3), sizes=[5] * 4, title="Colours"),
        lambda: confusion_heatmap(MANY[:5, :5], classes=WORDS, class_name="product with a name", title="T"),
        lambda: confusion_heatmap(np.eye(70), classes=[f"class number {i}" for i in range(70)], title="Many classes"),
        lambda: confusion_heatmap([[123_456_789]], title="One"),
        lambda: feature_heatmap(
            RANDOM.normal(size=(5, 5)) * 1e5, feature_names=WORDS, counts=MANY[:5, :5], classes=WORDS
        ),
        lambda: feature_heatmap(RANDOM.normal(size=(70, 62)), title="Many features"),
        lambda: feature_heatmap([[-0.5]], sizes=[3], title="One"),
        lambda: point_map(RANDOM.normal(size=(600, 2)), np.arange(600) % 120, names=WORDS * 24, title="Many clusters"),
        lambda: point_map([[1, 2]], [0], title="One"),
        lambda: train_test_figure(judged([f"{w} {i}" for i, w in enumerate(WORDS)], range(10, 40)), title="T " * 99),
        lambda: train_test_figure(judged(["one"], [2]), title="One"),
        lambda: flow_figure(flow(RANDOM.integers(0, 90, 400), RANDOM.integers(0, 5, 400)), before="T " * 99),
        lambda: flow_figure(flow(*MANY[:2, :9] % 5), names_before=WORDS, names_after=WORDS, title="T " * 99),
        lambda: flow_figure(flow([0], [0]), title="One"),
        lambda: comparison_figure(compared(WORDS * 2), points=RANDOM.normal(size=(40, 2)), title="T " * 99),
        lambda: comparison_figure(compared(["one"]), title="One"),
        lambda: point_map(RANDOM.normal(size=(40, 2)), MANY[0] % 5, names=WORDS, values=MANY[1], title="Values"),
    ],
)
def test_no_text_is_cut_or_lies_on_another(draw, monkeypatch):
    assert cut_or_overlapping(draw(), monkeypatch) == []


def test_colours_are_drawn_as_they_are():
    pixels = RANDOM.integers(0, 256, (2, 4, 3, 3)).astype(float)
    for unit in (1.0, 255.0):
        figure = centroid_grid((pixels / unit).reshape(2, -1), image_shape=(4, 3, 3))
        assert np.array_equal(images(figure), pixels / 255)
        assert len(figure.axes) == 1  # no bar
    beyond = centroid_grid(pixels.reshape(2, -1) - 300, image_shape=(4, 3, 3), title="Beyond")
    assert (np.min(images(beyond)), np.max(images(beyond))) == (0, 1)
    assert f"colours from {pixels.min() - 300:.4g} to {pixels.max() - 300:.4g}" in texts(beyond)[-1]


def test_centers_that_are_no_images_are_a_map_of_their_features():
    centers = np.array([[1.0, 100.0, 5.0], [3.0, 300.0, 5.0], [2.0, 200.0, 5.0]])
    figure = centroid_grid(centers, feature_names=["length", "mass", "constant"], sizes=[7, 8, 9])
    deviations = np.array([-1.0, 1.0, 0.0]) * np.sqrt(1.5)
    assert np.allclose(images(figure)[0], [deviations, deviations, [0, 0, 0]])
    assert {"length", "mass", "constant", "0: 7", "300", "200", "5"} <= set(texts(figure))
    variances = np.linspace(1, 2, 70)
    many = feature_heatmap(np.stack([variances, -variances]), title="Many")
    assert "feature 9" not in texts(many)
    assert {"feature 10", "feature 69", "the 60 features of 70 whose centers differ most"} <= set(texts(many))


def test_clusters_of_a_map_have_hue_and_mark_and_name():
    assert len({cluster_style(cluster) for cluster in range(100)}) == 100
    points = [[0, 0], [0, 2], [5, 5], [9, 9], [9.01, 9]]
    figure = point_map(points, [0, 0, 2, 11, 3], names=[f"n{i}" for i in range(12)], title="Map")
    axes = figure.axes[0]
    assert [len(found.get_offsets()) for found in axes.collections] == [2, 1, 1, 1]
    assert [text.get_text() for text in axes.texts] == ["n0", "n2", "n3"]  # n11 lies on n3
    assert "5 rows in 4 clusters; 1 name is left out, where larger clusters have theirs" in texts(figure)
    with pytest.raises(ValueError, match=r"points has shape \(5, 2\), expected \(2, 2\)"):
        point_map(points, [0, 1])
    with pytest.raises(ValueError, match="names has 1 entries, expected one for each of 2 clusters"):
        point_map(points[:2], [0, 1], names=["a"])


def test_a_map_shows_classes_noise_and_values():
    points = [[0, 0], [0, 2], [5, 5], [9, 9]]
    figure = point_map(points, ["b", "a", "b", "c"], title="Map")
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["a", "b", "c"]
    assert "4 rows in 3 classes" in texts(figure)
    figure = point_map(points, [-1, -1, 0, 1], title="Map")
    assert figure.axes[0].collections[0].get_facecolor()[0, :3] == pytest.approx([0xC8 / 255] * 3)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "1"]
    assert "4 rows in 2 clusters; 2 of them noise (grey)" in texts(figure)
    figure = point_map(points, [0, 0, 1, 1], values=[3, 1, 4, 2], values_name="distance")
    assert figure.axes[0].collections[0].get_array().tolist() == [4, 3, 2, 1]
    assert figure.axes[1].get_ylabel() == "distance"
    with pytest.raises(ValueError, match=r"values has shape \(3,\), expected \(4,\)"):
        point_map(points, [0, 0, 1, 1], values=[1, 2, 3])


def test_maps_of_a_comparison_colour_matching_clusters_alike():
    found = compared(["one", "two"])
    entries = [
        replace(entry, labels=labels)
        for entry, labels in zip(found.entries, [[0, 0, 1, 1, -1], [2, 2, 0, 0, 1]], strict=True)
    ]
    entries = [replace(entry, labels=np.array(entry.labels)) for entry in entries]
    figure = comparison_figure(Comparison(tuple(entries)), points=np.eye(5, 2))
    drawn = [[tuple(c.get_facecolor()[0, :3]) for c in axes.collections] for axes in figure.axes[-2:]]
    hues = [to_rgb(cluster_style(cluster)[0]) for cluster in (0, 1, 2)]
    assert drawn[0] == [*hues[:2], to_rgb("#c8c8c8")]
    assert drawn[1] == hues
    table = np.asarray(figure.axes[-3].images[0].get_array())
    assert table[0, 1] == table[1, 0] == 1.0  # noise is left out


def test_classes_that_name_no_cluster_are_said():
    figure = centroid_grid(np.eye(2), image_shape=(1, 2), counts=[[5, 4, 0], [0, 1, 1]], classes=[3, 4, 9], title="Two")
    assert "no cluster is named digit 9" in " ".join(texts(figure)[-3:])
    figure = confusion_heatmap([[5, 4], [5, 1]], classes=["cat", "dog"], title="Two")
    assert "no cluster is named dog" in texts(figure)[-1]


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
    assert "(50 clusters)" in figure.axes[0].get_xlabel().replace("\n", " ")


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
    with pytest.raises(ValueError, match=r"image_shape=\(2, 2, 2\) should be \(height, width\), or"):
        centroid_grid(np.eye(8), image_shape=(2, 2, 2))
    with pytest.raises(ValueError, match="feature_names has 1 names, expected one for each of 3 features"):
        centroid_grid(np.eye(3), feature_names=["a"])
    with pytest.raises(ValueError, match="centers contain NaN or infinity"):
        centroid_grid([[np.nan]])
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
