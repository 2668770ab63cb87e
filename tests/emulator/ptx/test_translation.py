"""Every kernel translates, with every set of constants that the package uses; what is unknown is refused by its line.

All variants, for all architectures:  python -m pytest -m weekly tests/emulator/ptx/test_translation.py
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpukmeans.backends.cuda.device import nvrtc
from tests.emulator.ptx import PtxDevice, PtxError, translate
from tests.emulator.ptx.opcodes import ROWS, table
from tests.emulator.ptx.parse import Instruction, parse
from tests.emulator.ptx.testing import HEAD
from tests.emulator.testing import skip_without_compiler
from tests.support import nvrtc_compiler
from tests.support.nvrtc_compiler import compile_ptx

ROOT = Path(__file__).resolve().parents[3]
#: NVRTC has another front end from sm_100 on, and sm_75 another matrix product.
ARCHITECTURES = (75, 80, 90, 100, 120)
VARIANTS = nvrtc.variants()


@pytest.fixture(scope="module", autouse=True)
def _library():
    nvrtc_compiler.skip_without_nvrtc()


def ptx_of(file, constants, arch):
    return compile_ptx(nvrtc.source(file, constants), arch, nvrtc.OPTIONS, file=f"{file}.cu")


def instructions(ptx):
    return [s for function in parse(ptx).functions for s in function.statements if isinstance(s, Instruction)]


def test_a_variant_of_each_kernel_translates():
    """The last of each, for an architecture in turn; one statement an instruction."""
    for number, (file, constants) in enumerate(dict(VARIANTS).items()):
        ptx = ptx_of(file, constants, ARCHITECTURES[number % len(ARCHITECTURES)])
        cpp = translate(ptx, f"{file}.ptx")
        assert cpp.count(";") >= len(instructions(ptx)) > 20
        assert f"void __launch_bounds__({most_threads(ptx)}) {file}(" in cpp


def most_threads(ptx):
    return math.prod(map(int, re.search(r"\.maxntid ([\d, ]+)", ptx)[1].split(",")))


@pytest.mark.weekly
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_variant_translates(arch):
    for file, constants in VARIANTS:
        translate(ptx_of(file, constants, arch), f"{file}.ptx")


@pytest.mark.weekly
def test_every_row_of_the_table_is_of_some_instruction():
    used = set()
    for arch in ARCHITECTURES:
        for file, constants in VARIANTS:
            used |= {instruction.name for instruction in instructions(ptx_of(file, constants, arch))}
    needed = {opcode.row for name in used for opcode in table().get(name, ())}
    assert [row[0] for row in ROWS if row not in needed] == []


# ---- what is refused ----------------------------------------------------------------------------------------------


def body(text):
    registers = ".reg .b32 %r<9>; .reg .f32 %f<9>; .reg .pred %p<2>;"
    return f"{HEAD}.visible .entry k(.param .u64 k_param_0)\n{{\n{registers}\n{text}\n}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sqrt.approx.ftz.f32 %f1, %f2;", r"line 7: sqrt\.approx\.ftz\.f32 %f1, %f2: there is no such instruction"),
        ("\nadd.s32 %r1, %r2;", r"line 8: add\.s32 %r1, %r2: there is no such instruction"),
        ("add.s32 %r1, %r2, %r9;", r"line 7: .*%r9 is no register"),
        ("add.s32 %r1, %r2, somewhere;", r"line 7: .*somewhere is not known"),
        ("bar.sync 1;", r"line 7: bar\.sync 1: only 0 is known, not 1"),
        ("mov.u32 %r1, %clock;", r"line 7: .*%clock is no register"),
        ("and.pred %p0, %p1, %r1;", r"line 7: .*%r1 is of type u32, which is not pred"),
        ("ld.global.u32 %r1, %r2;", r"line 7: .*%r2 is no address"),
        (".local .b32 %r77;", r"line 7: '\.local \.b32 %r77' is not known"),
        ("ret", r"line 7: a statement without end"),
    ],
)
def test_what_is_not_known_is_refused_by_its_line(text, message):
    with pytest.raises(PtxError, match=message):
        translate(body(text), "k.ptx")


def test_a_text_that_is_no_ptx_is_refused():
    with pytest.raises(PtxError, match=r"line 4: '\.surprise' is not known"):
        translate(f"{HEAD}.surprise\n", "k.ptx")


def test_an_unknown_instruction_of_a_kernel_is_refused():
    skip_without_compiler()
    source = 'extern "C" __global__ void root(float* x) { *x = rsqrtf(*x); }'
    with pytest.raises(PtxError, match=r"line \d+: rsqrt\.approx.*: there is no such instruction in opcodes\.py"):
        PtxDevice(source=lambda file, constants: source).kernel("root", "root", {})


def test_flushing_cannot_be_chosen():
    skip_without_compiler()
    with pytest.raises(TypeError, match=r"flush_subnormals is not for a PtxDevice: PTX says by \.ftz"):
        PtxDevice(flush_subnormals=True)


def test_the_plugin_turns_every_device_to_ptx():
    skip_without_compiler()
    code = """
import tests.emulator.ptx.everywhere
from tests.emulator import EmulatorDevice
text = 'extern "C" __global__ void one(int* x) { *x = 1; }'
for device in (EmulatorDevice(), EmulatorDevice(flush_subnormals=True)):
    print(device._load('one', text).file, device.launch.flush_subnormals)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert found.split() == ["one.ptx", "False"] * 2
