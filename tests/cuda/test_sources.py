"""Kernel sources as NVRTC receives them: inlined, with lines and files named, and found where they are installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gpukmeans
from gpukmeans.backends.cuda.device import nvrtc
from tests.support.kernel_sources import KERNELS, body_of, parameters, unread_fields, without_comments

# ---- sources --------------------------------------------------------------------------------------------------


def test_headers_are_inlined_once_and_lines_stay_true():
    text = nvrtc.source("nearest_of_few", {"ROW": "float", "CENTER": "float"})
    assert text.startswith("#define ROW float\n#define CENTER float\n#line 1 ")
    assert "#include" not in text
    assert "#pragma once" not in text
    assert text.count("double float_to_double(") == 1
    file, number = None, 0
    for line in text.splitlines():
        if line.startswith("#line "):
            _, start, name = line.split()
            file, number = name.strip('"'), int(start) - 1
            continue
        number += 1
        if file and line and "pragma" not in line:
            assert (nvrtc.kernels_folder() / file).read_text().splitlines()[number - 1] == line


def test_every_kernel_begins_with_its_header():
    for path in nvrtc.kernels_folder().glob("*.cu"):
        first, text = path.read_text().splitlines()[0], path.read_text()
        assert first.startswith(f"/* {path.name} -- ")
        assert "Launch grid" in text
        assert f"\n{path.stem}(" in text  # file and function have one name


ROOT = Path(__file__).resolve().parents[2]


def files_named_by(path):
    """The files that the header of a kernel says to run."""
    command = re.search(r"^ \* Tests: python -m pytest (.+)$", path.read_text(), re.MULTILINE)
    return command[1].split() if command else []


def launched_by(file):
    """What a test file and the modules of tests/support that it imports say."""
    text = (ROOT / file).read_text()
    modules = re.findall(r"^from (tests\.support[\w.]*) import", text, re.MULTILINE)
    support = [ROOT / (module.replace(".", "/") + ".py") for module in modules]
    return text + "".join(path.read_text() for path in support if path.is_file())


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_every_header_names_the_tests_that_run_its_kernel(path):
    files = files_named_by(path)
    assert files, "the header needs a line ` * Tests: python -m pytest FILE ...`"
    for file in files:
        assert (ROOT / file).is_file(), file
        assert re.search(rf"\b{path.stem}\b", launched_by(file)), f"{file} does not launch {path.stem}"


def kernel_body(path):
    text = without_comments(path.read_text())
    return body_of(text, text.index(") {", text.index(f"\n{path.stem}(")))


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_every_parameter_is_read(path):
    """A parameter, or a field of a struct, that no variant of the kernel reads is not passed."""
    body, names = kernel_body(path), [parameter.name for parameter in parameters(path)]
    assert len(names) == len(set(names))
    assert [name for name in names if not re.search(rf"\b{name}\b", body)] == []
    for parameter in parameters(path):
        if parameter.struct:
            assert unread_fields(path.stem, body, parameter.name, parameter.struct) == set(), parameter


@pytest.mark.parametrize(
    ("file", "good", "bad", "parameter", "unread"),
    [
        ("sparse_nearest", "of_columns.n_padded", "of_columns.k", "of_columns", {"n_padded"}),
        (
            "nearest_of_few",
            "moves_of(moves_of_all, run, problem, n)",
            "{moves_of_all.labels}",
            "moves_of_all",
            {"rows"},
        ),
        ("settle_rows", "known ? decided[e] : 0, moves)", "known ? decided[e] : 0)", "moves", {"labels", "control"}),
    ],
)
def test_a_field_that_is_not_read_is_seen(file, good, bad, parameter, unread):
    path = nvrtc.kernels_folder() / f"{file}.cu"
    struct = next(p.struct for p in parameters(path) if p.name == parameter)
    body = kernel_body(path)
    assert good in body
    assert unread <= unread_fields(file, body.replace(good, bad), parameter, struct)


def test_modules_that_sources_name_exist():
    package = Path(gpukmeans.__file__).parent
    named = [
        (path.name, module)
        for path in sorted(nvrtc.kernels_folder().glob("*.*"))
        for module in re.findall(r"\b(?:gpukmeans/)?((?:\w+/)*\w+\.py)\b", path.read_text())
    ]
    assert len(named) > 30
    homes = (package, package / "backends", package / "backends" / "cuda", ROOT)
    assert [(file, module) for file, module in named if not any((home / module).is_file() for home in homes)] == []


def test_sources_that_are_missing_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(nvrtc, "__file__", str(tmp_path / "gpukmeans" / "backends" / "cuda" / "device" / "nvrtc.py"))
    nvrtc.kernels_folder.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match=r"neither .*gpukmeans/kernels nor .*/kernels"):
            nvrtc.kernels_folder()
        for folder in (tmp_path / "kernels", tmp_path / "gpukmeans" / "kernels"):  # a checkout; an installed package
            folder.mkdir(parents=True)
            (folder / "common.cuh").touch()
            nvrtc.kernels_folder.cache_clear()
            assert nvrtc.kernels_folder() == folder
    finally:
        nvrtc.kernels_folder.cache_clear()
