#!/usr/bin/env bash
# ptxas: an atomic sum of 64-bit integers is one instruction in global memory, and a loop of compare-and-swap in shared memory.
#
# Versions: NVRTC 13.5 (nvidia-cuda-nvrtc 13.5.37), nvdisasm 13.5.37; no GPU is needed.
# Behaviour: `atomicAdd` of unsigned long long in shared memory is the one instruction red.shared.add.u64 (or atom.shared) of
#   PTX, and becomes a load, an add and ATOMS.CAST.SPIN.64 in a loop on every architecture from sm_75 to sm_120; so do
#   atomicMin of 64 bits and sums of float and double.  In global memory each of them is one RED, that of 32-bit integers in
#   shared memory one ATOMS.  Neither a warning nor PTX tells.
# Output seen: the table printed below.
# Why a good guess is wrong: shared memory is where atomics are cheap: that is why sums are made there first; integers are
#   what it is known to add by itself, floats what it is not; and the same sum of 64 bits is native in slower memory.
# Why it matters here: exact sums of clusters are integers of 64 bits.  Gathered by atomics in shared memory, which the habit
#   of private histograms suggests, each would wait for every other thread that hits the same cluster, of which there are few.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'nvidia-cuda-nvrtc==13.5.37' 'nvidia-cuda-nvdisasm==13.5.37'
"$folder/venv/bin/python" - "$folder/kernel.cubin" <<'PYTHON'
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

SHARED = """
extern "C" __global__ void kernel(T* sums, const T* values, const int* cluster) {
  __shared__ T own[32];
  own[threadIdx.x & 31] = 0;
  __syncthreads();
  OP(own + (cluster[threadIdx.x] & 31), values[threadIdx.x]);
  __syncthreads();
  sums[threadIdx.x] = own[threadIdx.x & 31];
}
"""
GLOBAL = """
extern "C" __global__ void kernel(T* sums, const T* values, const int* cluster) {
  OP(sums + cluster[threadIdx.x], values[threadIdx.x]);
}
"""
OPERATIONS = {
    "add, 32-bit integers": ("atomicAdd", "unsigned"),
    "add, 64-bit integers": ("atomicAdd", "unsigned long long"),
    "min, 64-bit integers": ("atomicMin", "unsigned long long"),
    "add, float64": ("atomicAdd", "double"),
}


def atomics(source, operation, dtype, architecture):
    """The names of the atomic instructions that one operation becomes."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    text = source.replace("OP", operation).replace("T*", f"{dtype}*").replace("T own", f"{dtype} own").encode()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"kernel.cu", 0, None, None)
    options = (ctypes.c_char_p * 1)(f"-arch=sm_{architecture}".encode())
    assert nvrtc.nvrtcCompileProgram(program, 1, options) == 0
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, code)
    Path(sys.argv[1]).write_bytes(code.raw)
    listing = subprocess.run([disassembler, "-c", sys.argv[1]], capture_output=True, text=True, check=True).stdout
    return sorted(set(re.findall(r"\s((?:ATOM|RED)[\w.]*)", listing)))


for name, (operation, dtype) in OPERATIONS.items():
    for architecture in (75, 80, 90, 100, 120):
        shared = atomics(SHARED, operation, dtype, architecture)
        distant = atomics(GLOBAL, operation, dtype, architecture)
        print(f"{name:21} sm_{architecture}: shared {' '.join(shared):20} global {' '.join(distant)}")
        assert len(distant) == 1 and distant[0].startswith("RED")
        assert shared == (["ATOMS.ADD"] if dtype == "unsigned" else ["ATOMS.CAST.SPIN.64"])
PYTHON
