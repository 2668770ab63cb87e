"""What a user installs: wheels and source archives hold the kernels, images and licences, and work elsewhere."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = {path.name for path in (ROOT / "kernels").iterdir() if path.suffix in {".cu", ".cuh"}}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed (pip install 'gpukmeans[dev]')"
)


def build(source: Path, target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as an index would get it: built from the source archive, not from the checkout."""
    archive = build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))
    unpacked = tmp_path_factory.mktemp("source")
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_kernels_images_and_licences(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"gpukmeans/kernels/{name}" for name in KERNELS} <= names
    assert {"gpukmeans/data/mnist.npz", "gpukmeans/data/LICENSE.md", "gpukmeans/py.typed"} <= names
    assert "gpukmeans/startup/sitecustomize.py" in names
    assert any(name.endswith("dist-info/licenses/gpukmeans/LICENSE") for name in names)
    top = {name.split("/")[0] for name in names}
    assert top == {"gpukmeans", next(name for name in top if name.endswith(".dist-info"))}


def test_the_installed_package_finds_its_files_away_from_the_checkout(wheel, tmp_path):
    """Unpacked where no kernels/ folder stands beside it, and run from yet another folder."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    program = """
import gpukmeans
from gpukmeans.backends.cuda.device import nvrtc
assert "site" in gpukmeans.__file__, gpukmeans.__file__
assert nvrtc.kernels_folder().parent.name == "gpukmeans", nvrtc.kernels_folder()
for file, constants in nvrtc.variants():
    assert "__global__" in nvrtc.source(file, constants)
X, y = gpukmeans.load_mnist(return_X_y=True)
print(X.shape, gpukmeans.fit(X[:500], 10, random_state=0, backend="numpy").labels_.shape)
"""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "(70000, 784) (500,)"
