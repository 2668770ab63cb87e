"""NVRTC accepts every kernel, with every set of constants, for every architecture; and none spills registers.

The other half of the emulator's proof: the emulator accepts what NVRTC may reject, and sees no registers.
"""

from __future__ import annotations

import pytest

from gpukmeans.backends.cuda.device import nvrtc
from tests.emulator.testing import own_source
from tests.support import nvrtc_compiler
from tests.support.nvrtc_compiler import (
    ARCHITECTURES,
    KernelResources,
    NvrtcError,
    compile_cubin,
    resources,
)

VARIANTS = nvrtc.variants()


@pytest.fixture(scope="module", autouse=True)
def _library():
    nvrtc_compiler.skip_without_nvrtc()


def name_of(variant) -> str:
    file, constants = variant
    return "-".join([file, *(f"{name}={value}".replace(" ", "_") for name, value in constants.items())])


def spilling(rows: list[KernelResources]) -> list[str]:
    return [
        f"{row.kernel} ({row.file}) on sm_{row.arch}: {row.registers} registers, "
        f"{row.spill_stores} bytes of spill stores and {row.spill_loads} of loads"
        for row in rows
        if row.spills
    ]


def architectures_of(variant) -> tuple[int, ...]:
    """That of an H100 for each, and for every fifth the oldest or the newest as well."""
    place = VARIANTS.index(variant)
    return (90,) if place % 5 else (90, 75 if place % 2 else 120)


def check(variant, architectures):
    file, constants = variant
    source = nvrtc.source(file, constants)
    rows = [row for arch in architectures for row in resources(source, arch, nvrtc.OPTIONS, file=f"{file}.cu")]
    assert [(row.kernel, row.arch) for row in rows] == [(file, arch) for arch in architectures]
    log = compile_cubin(source, architectures[0], nvrtc.OPTIONS, file=f"{file}.cu").log
    assert "warning" not in log, log
    assert not spilling(rows), "smaller tiles, or fewer blocks in __launch_bounds__:\n" + "\n".join(spilling(rows))


def often():
    """All, but of the two types of rows of 16 bits, which differ by a conversion, one or the other; the rest weekly."""
    for place, variant in enumerate(VARIANTS):
        rarely = variant[1].get("ROW") == ("Half", "BFloat16")[place % 2]
        yield pytest.param(variant, id=name_of(variant), marks=pytest.mark.weekly if rarely else ())


@pytest.mark.one_in(6)
@pytest.mark.parametrize("variant", [*often()])
def test_every_kernel_compiles_and_never_spills(variant):
    check(variant, architectures_of(variant))


@pytest.mark.weekly
@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_so_it_does_everywhere(variant):
    check(variant, ARCHITECTURES)


def test_every_source_has_its_variants():
    files = {path.stem for path in nvrtc.kernels_folder().glob("*.cu")}
    assert files == {file for file, _ in VARIANTS}


# ---- the checks can fail ------------------------------------------------------------------------------------

SPILLING = """
extern "C" __global__ void greedy(float* x) {
  float a[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) a[i] = x[i * 32 + threadIdx.x];
  __syncthreads();  // loads may not move below
#pragma unroll
  for (int i = 0; i < 64; ++i) x[i * 32 + threadIdx.x] = a[i] * a[63 - i] + a[(i + 7) % 64];
}
"""
FUSED = 'extern "C" __global__ void fused(float* x) { x[0] = x[0] * x[1] + x[2]; }'
UNFUSED = 'extern "C" __global__ void fused(float* x) { x[0] = __fadd_rn(__fmul_rn(x[0], x[1]), x[2]); }'


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_kernel_that_spills_is_caught(arch):
    roomy = resources(SPILLING, arch, file="greedy.cu")
    tight = resources(SPILLING, arch, ["--maxrregcount=24"], file="greedy.cu")
    assert spilling(roomy) == []
    assert len(spilling(tight)) == 1
    assert tight[0].registers <= 24
    assert f"greedy (greedy.cu) on sm_{arch}" in spilling(tight)[0]
    assert "(spills)" in nvrtc_compiler.table(tight)
    assert "(spills)" not in nvrtc_compiler.table(roomy)


def test_a_syntax_error_names_file_and_line():
    source = '#define N 4\n#line 1 "broken.cu"\n\nextern "C" __global__ void broken(int* x) { *x = unknown; }\n'
    with pytest.raises(NvrtcError, match=r'broken\.cu\(2\): error: identifier "unknown" is undefined'):
        compile_cubin(source, 90, file="whole.cu")


def test_too_much_shared_memory_is_caught():
    source = 'extern "C" __global__ void big(int* x) { __shared__ int s[13000]; s[*x] = 1; *x = s[x[1]]; }'
    with pytest.raises(NvrtcError, match=r"big\.cu does not compile (.|\n)*52000 bytes smem"):
        compile_cubin(source, 90, file="big.cu")


def test_the_options_leave_no_fusing_to_the_compiler():
    """On a GPU x * y + z is fused by default, in the emulator never: where it is meant, fma is written."""

    def code(source, options):
        return nvrtc_compiler.instructions(compile_cubin(source, 90, options).cubin)

    assert code(FUSED, nvrtc.OPTIONS) == code(UNFUSED, nvrtc.OPTIONS) == code(UNFUSED, ()) != code(FUSED, ())


@pytest.mark.parametrize("file", ["arithmetic", "cooperation", "faults"])
def test_the_words_the_emulator_knows_are_words_of_cuda(file):
    """The emulator's own test kernels, intrinsics, atomics and all, are CUDA to NVRTC."""
    for arch in (75, 90):
        resources(own_source(file, {"assert(e)": "((void)(e))"} if file == "faults" else {}), arch, file=f"{file}.cu")
