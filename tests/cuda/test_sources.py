"""Kernel sources as NVRTC receives them: inlined, with lines and files named, and found where they are installed."""

from __future__ import annotations

import pytest

from gpukmeans.backends.cuda.device import nvrtc

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
