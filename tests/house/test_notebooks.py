"""The notebooks run as they stand, and are kept without outputs; their pictures are those of the README."""

from __future__ import annotations

import re

import pytest

from bench import gallery

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (pip install 'gpukmeans[dev]')")

README = (gallery.ROOT / "README.md").read_text(encoding="utf-8")


def test_they_are_kept_without_outputs():
    assert sorted(path.stem for path in gallery.FOLDER.iterdir()) == sorted(gallery.NAMES)
    for name in gallery.NAMES:
        notebook = gallery.read(name)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell for cell in code if cell.outputs or cell.execution_count is not None] == []


def test_their_pictures_are_those_of_the_readme():
    made = {
        cell.metadata["gallery"]
        for name in gallery.NAMES
        for cell in gallery.read(name).cells
        if "gallery" in cell.metadata
    }
    shown = re.findall(r"\]\(bench/results/gallery/([\w-]+)\.png\)", README)
    assert sorted(shown) == sorted(made) == sorted(path.stem for path in gallery.PICTURES.iterdir())
    assert sum(path.stat().st_size for path in gallery.PICTURES.iterdir()) < 1_500_000


def test_they_run_and_make_their_pictures():
    """All in one kernel, which takes longer to start than they to run; names are forgotten in between."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    short = {"mnist": {"ROWS": 700, "NUMBERS": [10, 20], "METHOD": "pca"}, "own-pictures": {"CLUSTERS": 4}}
    notebook = nbformat.v4.new_notebook()
    for name in gallery.NAMES:
        notebook.cells += [*gallery.read(name, **short.get(name, {})).cells, nbformat.v4.new_code_cell("%reset -f")]
    gallery.execute(notebook)
    made = gallery.pictures_of(notebook)
    assert len(made) == sum("gallery" in cell.metadata for cell in notebook.cells)
    assert all(content.startswith(b"\x89PNG") for content in made.values())
