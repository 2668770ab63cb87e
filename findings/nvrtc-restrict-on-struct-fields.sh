#!/usr/bin/env bash
# NVRTC: __restrict__ on a field of a struct parameter does nothing; on a local copy it ends at a fence or a vote.
#
# Version: NVRTC 13.5 (nvidia-cuda-nvrtc 13.5.37); PTX for compute_90; no GPU is needed.
# Behaviour: `const float* __restrict__ x` as a kernel's parameter is read by ld.global.nc, whatever stands between the
#   loads.  The same declaration as a field of a struct passed by value gives plain ld.global, with __grid_constant__
#   too.  A local `const float* __restrict__ x = a.x` is read by ld.global.nc again, also over a __syncthreads, but not
#   in a kernel that has a __threadfence or an __any_sync: there the load before it is plain as well.
# Output seen: the table printed below.
# Why a good guess is wrong: the qualifier is the same promise in all three places, every pointer of the kernel carries
#   it, and compilers read it from fields elsewhere; nothing warns that it was dropped.
# Why it matters here: kernels whose parameters became structs would lose the read-only path of their loads without a
#   word.  Fields that are read only are therefore of a type whose operator[] calls __ldg (kernels/).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'nvidia-cuda-nvrtc==13.5.37'
"$folder/venv/bin/python" - <<'PYTHON'
import ctypes
import re
from pathlib import Path

import nvidia

library = sorted(file for folder in nvidia.__path__ for file in Path(folder).glob("*/lib/libnvrtc.so.*[0-9]"))[-1]
for builtins in library.parent.glob("libnvrtc-builtins.so.*"):
    ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
nvrtc = ctypes.CDLL(str(library))

CASES = {
    "plain": "y[0] = x[0]; y[1] = x[1];",
    "barrier": "y[0] = x[0]; __syncthreads(); y[1] = x[1];",
    "fence": "y[0] = x[0]; __threadfence(); y[1] = x[1];",
    "vote": "y[0] = x[0]; if (__any_sync(~0u, threadIdx.x > 3)) y[1] = x[1];",
}
POINTERS = "const float* __restrict__ x; float* __restrict__ y;"
FORMS = {
    "parameter": "void kernel(const float* __restrict__ x, float* __restrict__ y) {",
    "field": "void kernel(const Rows a) {",
    "field, __grid_constant__": "void kernel(const __grid_constant__ Rows a) {",
    "local copy": "void kernel(const Rows a) { const float* __restrict__ x = a.x; float* __restrict__ y = a.y;",
}


def loads(source):
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    assert nvrtc.nvrtcCompileProgram(program, 1, (ctypes.c_char_p * 1)(b"-arch=compute_90")) == 0
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, text)
    lines = map(str.strip, text.value.decode().splitlines())
    return [line.split()[0].removesuffix(".f32") for line in lines if line.startswith("ld.global")]


found = {}
for form, head in FORMS.items():
    for case, body in CASES.items():
        if form.startswith("field"):
            body = re.sub(r"\b[xy]\[", r"a.\g<0>", body)
        source = f'struct Rows {{ {POINTERS} }}; extern "C" __global__ {head} {body} }}'
        found[form, case] = loads(source)
        print(f"{form:26}{case:9}{' '.join(found[form, case])}")
read_only = {key for key, words in found.items() if words == ["ld.global.nc"] * 2}
plain = {key for key, words in found.items() if words == ["ld.global"] * 2}
assert read_only == {("parameter", case) for case in CASES} | {("local copy", "plain"), ("local copy", "barrier")}
assert plain == found.keys() - read_only
PYTHON
