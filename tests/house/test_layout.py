"""Tests share helpers through tests/support, no file is long, and no module only hands on names of another."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gpukmeans

ROOT = Path(__file__).resolve().parents[2]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PACKAGE = Path(gpukmeans.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
SOURCES = [
    path
    for folder in ("tests", "bench", "kernels")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".cu", ".cuh", ".h"}
]
MOST_LINES = 400


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_tests(tree):
    """Names of modules below `tests`, as imported anywhere in the file, which no test may import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "") + f".{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            private = parts[0] == "tests" and parts[1:2] not in (["support"], ["emulator"])
            if private or any(part.startswith("test_") for part in parts[:3]):
                yield name


def test_tests_import_no_other_test():
    found = {name_of(path): list(imported_tests(parsed(path))) for path in TESTS}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from tests.kernels import test_sums", ["tests.kernels.test_sums"]),
        ("def late():\n    import tests.laws.test_seeding", ["tests.laws.test_seeding"]),
        ("from tests.laws.test_same_bits import case", ["tests.laws.test_same_bits.case"]),
        ("from tests.emulator.test_device import case", ["tests.emulator.test_device.case"]),
        ("from . import test_sums", ["..test_sums"]),
        ("from tests.support.launches.common import watched\nfrom tests.emulator import EmulatorDevice", []),
    ],
)
def test_an_import_of_a_test_is_found(code, found):
    assert list(imported_tests(ast.parse(code))) == found


def test_no_file_is_longer_than_400_lines():
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def only_hands_on(tree):
    """Whether a module imports names and defines none of its own."""
    imports = defines = False
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports |= not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        elif isinstance(node, ast.Assign):
            is_list = ast.unparse(node.targets[0]) == "__all__"
            is_alias = isinstance(node.value, (ast.Name, ast.Attribute))
            defines |= not (is_list or is_alias)
        elif isinstance(node, ast.If):
            defines |= "TYPE_CHECKING" not in ast.unparse(node.test)
        else:
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            defines |= not is_docstring
    return imports and not defines


def test_no_module_only_hands_on_names():
    assert [path.relative_to(PACKAGE).as_posix() for path in MODULES if only_hands_on(parsed(path))] == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('"""Old path."""\nfrom gpukmeans.engine.lloyd import lloyd\n__all__ = ["lloyd"]', True),
        ("from gpukmeans.engine import lloyd as module\nlloyd = module.lloyd", True),
        ("from gpukmeans.arrays import types\nif TYPE_CHECKING:\n    from numpy import ndarray", True),
        ("import numpy as np\nF64 = np.ndarray[int]", False),
        ("from gpukmeans.cli import main\nif __name__ == '__main__':\n    main()", False),
        ("import math\ndef f():\n    return math.pi", False),
        ("from __future__ import annotations", False),
    ],
)
def test_a_module_that_only_hands_on_is_found(code, found):
    assert only_hands_on(ast.parse(code)) == found
