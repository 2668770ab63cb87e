"""Run the notebooks in ``bench/notebooks`` and write the README's gallery: ``python -m bench.gallery [NAME ...]``.

Notebooks are kept without outputs.  A cell whose metadata has ``"gallery": NAME`` makes
``bench/results/gallery/NAME.png`` (in 128 colours, so that it stays small); the cell tagged ``parameters`` holds what a
shorter run replaces.  Needs ``pip install '.[dev,maps]'``; a run of all takes some minutes.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import time
from collections.abc import Mapping
from typing import Any

from bench.machine import ROOT

FOLDER = ROOT / "bench" / "notebooks"
PICTURES = ROOT / "bench" / "results" / "gallery"
NAMES = ("digits", "mnist", "own-pictures")


def read(name: str, **parameters: Any) -> Any:
    """A notebook, in which parameters follow the cell that has their defaults."""
    import nbformat

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    if parameters:
        (place,) = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
        assert all(parameter in notebook.cells[place].source for parameter in parameters)
        lines = "\n".join(f"{parameter} = {value!r}" for parameter, value in parameters.items())
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines))
    return notebook


def execute(notebook: Any) -> None:
    """Run all cells, with the repository's package and the notebooks' folder."""
    import nbclient

    resources = {"metadata": {"path": str(FOLDER)}}
    nbclient.NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=resources).execute()


def pictures_of(notebook: Any) -> Mapping[str, bytes]:
    """The PNG of each cell that is part of the gallery; an AssertionError where a cell made none."""
    found = {}
    for cell in notebook.cells:
        if name := cell.metadata.get("gallery"):
            made = [out.data["image/png"] for out in cell.outputs if "image/png" in out.get("data", {})]
            assert len(made) == 1, f"{name}: the cell made {len(made)} pictures"
            found[name] = base64.b64decode(made[0])
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gallery", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    from PIL import Image

    for name in parser.parse_args(arguments).names or NAMES:
        started = time.perf_counter()
        notebook = read(name)
        execute(notebook)
        PICTURES.mkdir(exist_ok=True)
        for picture, content in pictures_of(notebook).items():
            path = PICTURES / f"{picture}.png"
            Image.open(io.BytesIO(content)).convert("RGB").quantize(128).save(path, optimize=True)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
