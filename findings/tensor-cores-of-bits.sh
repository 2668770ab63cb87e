#!/usr/bin/env bash
# ptxas: one tensor-core instruction of PTX for single bits is one machine instruction up to Hopper, and over 90 on Blackwell.
#
# Versions: NVRTC 13.5 (nvidia-cuda-nvrtc 13.5.37), nvdisasm 13.5.37; no GPU is needed.
# Behaviour: mma.m16n8k256 of bits (and / xor, popc) becomes BMMA on sm_80 to sm_90, but xor on sm_90 two BMMAs of `and`; on
#   sm_100 and sm_120 it becomes eight IMMAs of bytes after 24 MOVMs that spread the bits.  mma.m16n8k64 of 4-bit numbers is
#   one IMMA up to sm_89, and from sm_90 on two IMMAs of bytes after some 180 instructions of unpacking.  That of bytes,
#   m16n8k32, is one IMMA everywhere.  Neither a warning nor PTX itself tells.
# Output seen: the table printed below.
# Why a good guess is wrong: PTX lists one instruction for all these shapes, it compiles for every architecture from sm_80 on,
#   and the smaller type has four to eight times the throughput where it is native.
# Why it matters here: rows of one or four bits look like the next step below uint8 for the assignment; on current GPUs they
#   would be slower than bytes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'nvidia-cuda-nvrtc==13.5.37' 'nvidia-cuda-nvdisasm==13.5.37'
"$folder/venv/bin/python" - "$folder/kernel.cubin" <<'PYTHON'
import collections
import ctypes
import re
import subprocess
import sys
from pathlib import Path

import nvidia

roots = [Path(root) for root in nvidia.__path__]
library = sorted(file for root in roots for file in root.glob("*/lib/libnvrtc.so.*[0-9]"))[-1]
disassembler = next(file for root in roots for file in root.glob("*/bin/nvdisasm"))
for builtins in library.parent.glob("libnvrtc-builtins.so.*"):
    ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
nvrtc = ctypes.CDLL(str(library))

KERNEL = r"""
extern "C" __global__ void kernel(int* c, const unsigned* a) {
  int d[4] = {0, 0, 0, 0};
  unsigned x[6];
  for (int i = 0; i < 6; ++i) x[i] = a[threadIdx.x * 6 + i];
  asm volatile("mma.sync.aligned.%s {%%0,%%1,%%2,%%3}, {%%4,%%5,%%6,%%7}, {%%8,%%9}, {%%0,%%1,%%2,%%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(x[4]), "r"(x[5]));
  for (int i = 0; i < 4; ++i) c[threadIdx.x * 4 + i] = d[i];
}
"""
SHAPES = {
    "bytes": "m16n8k32.row.col.s32.u8.s8.s32",
    "4 bits": "m16n8k64.row.col.s32.s4.s4.s32",
    "bits, and": "m16n8k256.row.col.s32.b1.b1.s32.and.popc",
    "bits, xor": "m16n8k256.row.col.s32.b1.b1.s32.xor.popc",
}


def machine_code(instruction, architecture):
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source = (KERNEL.replace("%s", instruction).replace("%%", "%")).encode()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernel.cu", 0, None, None)
    options = (ctypes.c_char_p * 1)(f"-arch=sm_{architecture}".encode())
    assert nvrtc.nvrtcCompileProgram(program, 1, options) == 0
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, code)
    Path(sys.argv[1]).write_bytes(code.raw)
    text = subprocess.run([disassembler, "-c", sys.argv[1]], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"/\*[0-9a-f]{4}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", text)
    return collections.Counter(name.split(".")[0] for name in names if name != "NOP")


found = {}
for shape, instruction in SHAPES.items():
    for architecture in (80, 89, 90, 100, 120):
        counts = machine_code(instruction, architecture)
        products = tuple(counts[name] for name in ("IMMA", "BMMA", "MOVM"))
        found[shape, architecture] = (*products, counts.total())
        print(f"{shape:10} sm_{architecture}: IMMA {products[0]}, BMMA {products[1]}, MOVM {products[2]}, in all {counts.total()}")
for architecture in (80, 89, 90, 100, 120):
    old = architecture < 90
    assert found["bytes", architecture][:3] == (1, 0, 0)
    assert found["4 bits", architecture][0] == (1 if old else 2)
    assert old == (found["4 bits", architecture][3] < 100)
    assert found["bits, and", architecture][:3] == ((0, 1, 0) if architecture <= 90 else (8, 0, 24))
    assert found["bits, xor", architecture][:3] == ((0, 1, 0) if old else (0, 2, 0) if architecture == 90 else (8, 0, 24))
PYTHON
