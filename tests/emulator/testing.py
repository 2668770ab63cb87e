"""What the emulator's own tests share: sources from tests/emulator/cu, and the skip where there is no compiler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from .build import EmulatorUnavailable, require_compiler

CU = Path(__file__).resolve().parent / "cu"


def own_source(file: str, constants: Mapping[str, int | str]) -> str:
    """The text of tests/emulator/cu/<file>.cu with the constants defined; line numbers are the file's."""
    defines = "".join(f"#define {name} {value}\n" for name, value in constants.items())
    return f'{defines}#line 1 "{file}.cu"\n{(CU / f"{file}.cu").read_text()}'


def skip_without_compiler() -> None:
    """Skip the running test (or module), with the reason, where kernels cannot be compiled."""
    try:
        require_compiler()
    except EmulatorUnavailable as error:
        pytest.skip(str(error))
