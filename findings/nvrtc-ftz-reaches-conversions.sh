#!/usr/bin/env bash
# NVRTC: -ftz=true, which CuPy adds to every kernel, reaches conversions, comparisons, negation and the _rn intrinsics.
#
# Version: NVRTC 13.5 (nvidia-cuda-nvrtc 13.5.37); PTX for compute_90; no GPU is needed.
# Behaviour: with -ftz=true `__double2float_rn(y)`, `(double)x`, `-x`, `fabsf(x)` and `x == 0.0f` become cvt.rn.ftz.f32.f64,
#   cvt.ftz.f64.f32, neg.ftz.f32, abs.ftz.f32 and setp.eq.ftz.f32, which take subnormal float32 values for zero;
#   `__fmul_rn` becomes mul.rn.ftz.f32.  Only `rintf` (cvt.rni.f32.f32) stays as it was.
# Output seen: the lines of PTX printed below.
# Why a good guess is wrong: the names promise IEEE rounding to nearest, and a float32 is exact in float64, so that
#   widening it looks as if it could lose nothing; 1e-40f widened gives 0.0, and 1e-40f == 0.0f is true.
# Why it matters here: bits must agree with NumPy's.  A kernel that has to keep subnormals needs inline PTX without .ftz
#   (kernels/ptx.cuh), for conversions as well as for arithmetic.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'nvidia-cuda-nvrtc==13.5.37'
"$folder/venv/bin/python" - <<'PYTHON'
import ctypes
from pathlib import Path

import nvidia

library = sorted(file for folder in nvidia.__path__ for file in Path(folder).glob("*/lib/libnvrtc.so.*[0-9]"))[-1]
for builtins in library.parent.glob("libnvrtc-builtins.so.*"):
    ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
nvrtc = ctypes.CDLL(str(library))

SOURCE = r"""
extern "C" __global__ void kernel(float* x, double* y, int* u) {
  x[0] = __double2float_rn(y[0]);
  y[1] = (double)x[1];
  x[2] = -x[3];
  x[4] = fabsf(x[5]);
  u[0] = x[6] == 0.0f;
  x[7] = __fmul_rn(x[8], x[9]);
  x[10] = rintf(x[11]);
}
"""


def ptx(*options):
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), SOURCE.encode(), b"kernel.cu", 0, None, None)
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    assert nvrtc.nvrtcCompileProgram(program, len(options), array) == 0
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, text)
    words = ("cvt.", "neg.", "abs.", "setp.", "mul.rn")
    return [line.split()[0] for line in map(str.strip, text.value.decode().splitlines()) if line.startswith(words)]


plain, flushed = ptx("-arch=compute_90"), ptx("-arch=compute_90", "-ftz=true")
for without, with_ in zip(plain, flushed, strict=True):
    print(f"{without:20} {with_}")
want = {"cvt.rn.ftz.f32.f64", "cvt.ftz.f64.f32", "neg.ftz.f32", "abs.ftz.f32", "setp.eq.ftz.f32", "mul.rn.ftz.f32"}
assert want <= set(flushed), flushed
assert "cvt.rni.f32.f32" in flushed
assert not any("ftz" in word for word in plain), plain
PYTHON
