"""Instructions of memory and of threads together, against the definitions in PTX's manual."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.emulator import EmulatorDevice, EmulatorError
from tests.emulator.ptx.opcodes import table
from tests.emulator.ptx.parse import PtxError
from tests.emulator.ptx.testing import is_plain, kernel_around, module, run
from tests.emulator.testing import skip_without_compiler

NAMES = [opcode.name for rows in table().values() for opcode in rows if not is_plain(opcode)]
MEMORY = np.random.default_rng(0).integers(0, 256, 64).astype(np.uint8)
FULL = 2**32 - 1


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def only(name):
    return table()[name][0]


def launch(program, name, *args, threads=32, shared=0):
    """Run a kernel of a text or module; arguments are uploaded, and copied back."""
    device = EmulatorDevice()
    given = [device.upload(arg) if arg.dtype.kind != "V" else arg for arg in args]
    kernel = (module(program) if isinstance(program, str) else program).get_function(name)
    kernel(1, threads, given, shared_mem=shared, shared_limit=1 << 20)  # names of all kernels' parameters count, too
    return [device.download(arg) if hasattr(arg, "address") else arg for arg in given]


def entry(name, body, *parameters):
    """The text of a kernel with registers of each kind, its pointers in %a0, %a1 and so on, and %r8 the thread."""
    declared = ", ".join(parameter or f".param .u64 {name}_param_{i}" for i, parameter in enumerate(parameters))
    loads = [f"ld.param.u64 %a{i}, [{name}_param_{i}];" for i, parameter in enumerate(parameters) if not parameter]
    kinds = {"h": "b16", "r": "b32", "d": "b64", "a": "b64", "f": "f32", "g": "f64", "p": "pred"}
    registers = [f".reg .{kind} %{letter}<9>;" for letter, kind in kinds.items()]
    lines = [*registers, *loads, "mov.u32 %r8, %tid.x;", body, "ret;"]
    return f".visible .entry {name}({declared})\n{{\n" + "\n".join(lines) + "\n}\n"


def kernel_name(name):
    return re.sub(r"[.:]+", "_", name)


@pytest.fixture(scope="module")
def kernels():
    """All loads, stores and atomics, each in a kernel of its own: compiling one by one takes long."""
    makers = {"ld.": load_kernels, "st.": store_kernel, "atom.": atomic_kernel}
    texts = [make(name) for name in NAMES for start, make in makers.items() if name.startswith(start)]
    return module("".join(texts))


# ---- loads and stores ---------------------------------------------------------------------------------------------

REGISTERS = {"f32": "f", "f64": "g", "8": "h", "16": "h", "32": "r", "64": "d"}
STORES = {"f": "f32", "g": "f64", "h": "u16", "r": "u32", "d": "u64"}
WIDTHS = {"h": 2, "r": 4, "f": 4, "d": 8, "g": 8}
LOADS = [name for name in NAMES if name.startswith("ld.")]
STORED = [name for name in NAMES if name.startswith("st.") and "param" not in name]


def shape(name):
    """Letter of the registers, the element's bytes, and how many there are."""
    type_ = name.split(".")[-1]
    vector = re.search(r"\.v([24])\.", name)
    return REGISTERS.get(type_) or REGISTERS[type_[1:]], int(type_[1:]) // 8, int(vector[1]) if vector else 1


def registers_of(letter, count):
    return f"%{letter}0" if count == 1 else "{" + ", ".join(f"%{letter}{i}" for i in range(count)) + "}"


def load_kernels(name):
    """One kernel; two for a parameter, read by its name and by its address."""
    (letter, _, count), kernel = shape(name), kernel_name(name)
    stores = "".join(f"st.global.{STORES[letter]} [%a0+{WIDTHS[letter] * i}], %{letter}{i};\n" for i in range(count))
    load = f"{name} {registers_of(letter, count)}, [BASE+16];\n{stores}"
    if "param" in name:
        given, moved = f".param .align 8 .b8 {kernel}_param_1[64]", f"mov.b64 %d8, {kernel}_by_address_param_1;\n"
        by_address = entry(
            f"{kernel}_by_address",
            moved + load.replace("BASE", "%d8"),
            "",
            given.replace("_param_1", "_by_address_param_1"),
        )
        return by_address + entry(kernel, load.replace("BASE", f"{kernel}_param_1"), "", given)
    if "shared" not in name:
        return entry(kernel, load.replace("BASE", "%a1"), "", "")
    here = f"{kernel}_here"
    copy = "".join(f"ld.global.u8 %h0, [%a1+{i}];\nst.shared.u8 [{here}+{i}], %h0;\n" for i in range(16, 48))
    return entry(kernel, f".shared .align 16 .b8 {here}[64];\n{copy}{load.replace('BASE', here)}", "", "")


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", [*LOADS, *(f"{name}_by_address" for name in LOADS if "param" in name)])
def test_a_load_extends_with_zeros(kernels, name):
    letter, size, count = shape(name.removesuffix("_by_address"))
    given = MEMORY.view("V64") if "param" in name else MEMORY
    got = launch(kernels, kernel_name(name), np.zeros(64, np.uint8), given, threads=1)[0]
    want = MEMORY[16 : 16 + size * count].view(f"u{size}").tolist()
    assert got[: WIDTHS[letter] * count].view(f"u{WIDTHS[letter]}").tolist() == want
    assert not got[WIDTHS[letter] * count :].any()


def store_kernel(name):
    if name not in STORED:
        return ""
    (letter, _, count), kernel = shape(name), kernel_name(name)
    loads = "".join(f"ld.global.{STORES[letter]} %{letter}{i}, [%a1+{WIDTHS[letter] * i}];\n" for i in range(count))
    if "global" in name:
        return entry(kernel, f"{loads}{name} [%a0+16], {registers_of(letter, count)};", "", "")
    here = f"{kernel}_here"
    clear = "".join(f"mov.u16 %h8, 0;\nst.shared.u8 [{here}+{i}], %h8;\n" for i in range(48))
    back = "".join(f"ld.shared.u8 %h8, [{here}+{i}];\nst.global.u8 [%a0+{i}], %h8;\n" for i in range(48))
    body = (
        f".shared .align 16 .b8 {here}[64];\n{clear}{loads}{name} [{here}+16], {registers_of(letter, count)};\n{back}"
    )
    return entry(kernel, body, "", "")


@pytest.mark.parametrize("name", STORED)
def test_a_store_writes_its_bytes_and_no_other(kernels, name):
    letter, size, count = shape(name)
    got = launch(kernels, kernel_name(name), np.zeros(64, np.uint8), MEMORY, threads=1)[0]
    given = MEMORY[: WIDTHS[letter] * count].view(f"u{WIDTHS[letter]}").astype(f"u{size}").view(np.uint8)
    assert np.array_equal(got[16 : 16 + size * count], given)
    assert not got[:16].any()
    assert not got[16 + size * count :].any()


def test_addresses_in_shared_memory():
    """Of two variables and of the launch's own memory: none twice, and a generic address is not null."""
    body = """.shared .align 4 .u32 one;
        .shared .align 8 .b8 two[20];
        mov.u32 %r0, one; mov.u32 %r1, two; mov.u32 %r2, beyond;
        st.shared.u32 [one], 1; st.shared.u32 [two], 2; st.shared.u32 [two+16], 3; st.shared.u32 [beyond+60], 4;
        st.shared.u32 [%r0], 5; ld.shared.u32 %r3, [one]; ld.shared.u32 %r4, [%r1+16]; ld.shared.u32 %r5, [%r2+60];
        st.global.u32 [%a0], %r3; st.global.u32 [%a0+4], %r4; st.global.u32 [%a0+8], %r5;
        cvt.u64.u32 %d0, %r0; cvta.shared.u64 %d1, %d0; setp.eq.s64 %p0, %d1, 0; selp.u32 %r6, 1, 0, %p0;
        st.global.u32 [%a0+12], %r6;"""
    text = ".extern .shared .align 16 .b8 beyond[];\n" + entry("k", body, "")
    assert launch(text, "k", np.ones(4, np.uint32), threads=1, shared=64)[0].tolist() == [5, 3, 4, 0]


@pytest.mark.parametrize(("address", "message"), [("two+18", "misaligned"), ("two+4096", "address behind")])
def test_a_wrong_access_of_shared_memory_is_reported(address, message):
    body = f".shared .align 8 .b8 two[32];\nst.shared.u32 [{address}], 1;"
    with pytest.raises(EmulatorError, match=rf"instructions\.ptx:\d+: {message}"):
        launch(entry("k", body), "k")


# ---- atomics ------------------------------------------------------------------------------------------------------

ATOMIC = {
    "add": lambda old, b: old + b,
    "max": max,
    "min": min,
    "or": lambda old, b: old | b,
    "exch": lambda old, b: b,
    "cas": lambda old, b: b ^ 1 if old == b else old,
}


def atomic_shape(name):
    """Space, operation, dtype, letter of the registers and bytes."""
    space, operation, type_ = name.split(".")[-3:]
    letter, width = ("d", 8) if "64" in type_ else ("r", 4)
    return space, operation, f"{type_[0].replace('b', 'u').replace('s', 'i')}{width}", letter, width


def atomic_kernel(name):
    space, operation, _, letter, width = atomic_shape(name)
    kernel, bits = kernel_name(name), 8 * width
    swap = f", %{letter}3" if operation == "cas" else ""
    body = f"""mul.wide.s32 %d7, %r8, {width}; add.s64 %a3, %a0, %d7; add.s64 %a4, %a1, %d7;
        ld.global.u{bits} %{letter}1, [%a4]; xor.b{bits} %{letter}3, %{letter}1, 1;"""
    if space == "shared":
        body += f""".shared .align 8 .b8 {kernel}_here[8];
            setp.ne.s32 %p0, %r8, 0; @%p0 bra $filled;
            ld.global.u{bits} %{letter}2, [%a2]; st.shared.u{bits} [{kernel}_here], %{letter}2;
            $filled: bar.sync 0;
            {name} %{letter}0, [{kernel}_here], %{letter}1{swap}; bar.sync 0;
            ld.shared.u{bits} %{letter}2, [{kernel}_here]; @!%p0 st.global.u{bits} [%a2], %{letter}2;"""
    else:
        body += f"{name} %{letter}0, [%a2], %{letter}1{swap};"
    return entry(kernel, body + f"st.global.u{bits} [%a3], %{letter}0;", "", "", "")


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("atom.")])
def test_an_atomic_returns_the_old_value(kernels, name):
    _, operation, dtype, _, width = atomic_shape(name)
    values = np.random.default_rng(1).integers(-9 if dtype[0] == "i" else 0, 9, 32).astype(dtype)
    values[5], start = 2.0**-55 if dtype[0] == "f" else np.iinfo(dtype).max, np.array([3], dtype)
    got, _, end = launch(kernels, kernel_name(name), np.zeros(32, dtype), values, start)
    olds, cell = [], start[0].item()
    for value in values.tolist():
        olds.append(cell)
        cell = ATOMIC[operation](cell, value)
        if dtype[0] != "f":
            cell = int(np.array(cell % 2 ** (8 * width), f"u{width}").astype(dtype))
    assert got.tolist() == olds
    assert end.tolist() == [cell]


# ---- a warp -------------------------------------------------------------------------------------------------------


def shuffled(mode, a, b, c, lane):
    """The ISA's pseudocode, for one lane."""
    operand, segment, clamp = b & 31, c >> 8 & 31, c & 31
    last, first = lane & segment | clamp & ~segment, lane & segment
    source = {"up": lane - operand, "down": lane + operand, "bfly": lane ^ operand, "idx": first | operand & ~segment}
    inside = source[mode] >= last if mode == "up" else source[mode] <= last
    return a[source[mode] if inside else lane], int(inside)


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffles_of_every_segment(mode):
    opcode = only(f"shfl.sync.{mode}.b32")
    a = np.random.default_rng(2).integers(0, 2**32, 32).tolist()
    clamps = [(0 if mode == "up" else 31) | (32 - width) << 8 for width in (1, 2, 4, 8, 16, 32)]
    given = [(a[lane], b, c, lane) for c in [*clamps, 0x1F07] for b in (0, 1, 3, 16, 31, 33) for lane in range(32)]
    operands = [[(a_,) for a_, *_ in given], [(b,) for _, b, *_ in given], [(c,) for *_, c, _ in given]]
    values, insides = run(module(kernel_around("k", opcode)), "k", opcode, [*operands, [(FULL,)] * len(given)])
    want = [shuffled(mode, a, b, c, lane) for _, b, c, lane in given]
    assert list(zip(np.ravel(values).tolist(), np.ravel(insides).tolist(), strict=True)) == want


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("vote.")])
def test_votes_of_a_warp_and_of_its_halves(name):
    opcode = only(name)
    given = []
    for pattern in (0, FULL, 1, 0x80000000, 0x0000FFFF, 0xFFFF0000, 0xFFFEFFFF, 0x12345678):
        given += [(pattern, lane, FULL) for lane in range(32)]
        given += [(pattern, lane, 0xFFFF if lane < 16 else 0xFFFF0000) for lane in range(32)]
    (got,) = run(
        module(kernel_around("k", opcode)),
        "k",
        opcode,
        [[(pattern >> lane & 1,) for pattern, lane, _ in given], [(mask,) for *_, mask in given]],
    )
    answer = {
        "any": lambda votes, mask: int(votes & mask != 0),
        "all": lambda votes, mask: int(votes & mask == mask),
        "ballot": lambda votes, mask: votes & mask,
    }[name.split(".")[2]]
    assert np.ravel(got).tolist() == [answer(pattern, mask) for pattern, _, mask in given]


@pytest.mark.parametrize("depth", [8, 16])
def test_a_matrix_product_reads_its_fragments(depth):
    """Lane 4 g + t holds of A the rows g and g + 8, of B and the sums as the ISA's figures show."""
    rng = np.random.default_rng(3)
    A, B, C = rng.integers(-30, 30, (16, depth)), rng.integers(-30, 30, (depth, 8)), rng.integers(-99, 99, (16, 8))
    halves = [M.astype(np.float16).view(np.uint16).astype(np.uint32) for M in (A, B)]
    sums = C.astype(np.float32).view(np.uint32)
    a, b, c = [], [], []
    for lane in range(32):
        g, t = divmod(lane, 4)
        columns = range(2 * t, depth, 8)
        a.append([halves[0][r, k] | halves[0][r, k + 1] << 16 for k in columns for r in (g, g + 8)])
        b.append([halves[1][k, g] | halves[1][k + 1, g] << 16 for k in columns])
        c.append([sums[r, 2 * t + i] for r in (g, g + 8) for i in (0, 1)])
    opcode = only(f"mma.sync.aligned.m16n8k{depth}.row.col.f32.f16.f16.f32")
    (got,) = run(module(kernel_around("k", opcode)), "k", opcode, [a, b, c])
    want = (A @ B + C).astype(np.float32).view(np.uint32)
    assert got == [
        [want[r, 2 * (lane % 4) + i] for r in (lane // 4, lane // 4 + 8) for i in (0, 1)] for lane in range(32)
    ]


@pytest.mark.parametrize(("rows", "depth"), [(16, 32), (8, 16)])
def test_a_product_of_bytes_reads_its_fragments(rows, depth):
    """Four neighbours along k in a register; the ends of both types, and sums that wrap around."""
    rng = np.random.default_rng(4)
    A, B = rng.integers(-128, 128, (rows, depth)), rng.integers(0, 256, (depth, 8))
    A[0], A[1], B[:, 0], B[:, 1] = -128, 127, 255, 0
    C = rng.integers(-(2**31), 2**31, (rows, 8))
    C[:2, 0] = -(2**31), 2**31 - 1
    parts = range(rows // 8)

    def packed(numbers):
        return sum((int(v) & 255) << 8 * i for i, v in enumerate(numbers))

    a, b, c = [], [], []
    for lane in range(32):
        g, t = divmod(lane, 4)
        columns = range(4 * t, depth, 16)
        a.append([packed(A[g + 8 * part, k : k + 4]) for k in columns for part in parts])
        b.append([packed(B[k : k + 4, g]) for k in columns])
        c.append([int(C[g + 8 * part, 2 * t + i]) % 2**32 for part in parts for i in (0, 1)])
    opcode = only(f"mma.sync.aligned.m{rows}n8k{depth}.row.col.s32.s8.u8.s32")
    (got,) = run(module(kernel_around("k", opcode)), "k", opcode, [a, b, c])
    want = (A @ B + C) % 2**32
    assert got == [
        [want[lane // 4 + 8 * part, 2 * (lane % 4) + i] for part in parts for i in (0, 1)] for lane in range(32)
    ]


# ---- barriers, asynchronous copies, calls -------------------------------------------------------------------------

NEIGHBOUR = """.shared .align 16 .b8 here[1024];
    shl.b32 %r0, %r8, 2; xor.b32 %r1, %r8, 1; shl.b32 %r1, %r1, 2;
    st.shared.u32 [%r0], %r8; BARRIER ld.shared.u32 %r2, [%r1];
    cvt.u64.u32 %d0, %r0; add.s64 %d1, %a0, %d0; st.global.u32 [%d1], %r2; membar.gl;"""


@pytest.mark.parametrize("barrier", ["bar.sync 0;", "bar.warp.sync -1;"])
def test_barriers(barrier):
    out = np.zeros(64, np.uint32)
    got = launch(entry("k", NEIGHBOUR.replace("BARRIER", barrier), ""), "k", out, threads=64)[0]
    assert np.array_equal(got, np.arange(64) ^ 1)
    with pytest.raises(EmulatorError, match=r"(race|uninitialised)(.|\n)*instructions\.ptx:\d+"):
        launch(entry("k", NEIGHBOUR.replace("BARRIER", ""), ""), "k", out, threads=64)


@pytest.mark.parametrize("voter", [0, 40, 99])
def test_a_barrier_that_votes(voter):
    body = f"""setp.eq.s32 %p0, %r8, {voter}; bar.red.or.pred %p1, 0, %p0; selp.u32 %r1, 1, 0, %p1;
        mul.wide.s32 %d0, %r8, 4; add.s64 %d1, %a0, %d0; st.global.u32 [%d1], %r1;"""
    assert (
        launch(entry("k", body, ""), "k", np.full(64, 9, np.uint32), threads=64)[0].tolist() == [int(voter < 64)] * 64
    )


@pytest.mark.parametrize("in_flight", [0, 1])
def test_asynchronous_copies_arrive_at_their_wait(in_flight):
    """The second of two groups may still be under way after a wait for all but one."""
    body = f""".shared .align 16 .b8 here[32]; mov.u32 %r0, here; prefetch.global.L2 [%a1];
        cp.async.cg.shared.global [%r0], [%a1], 16; cp.async.commit_group;
        add.s64 %a2, %a1, 16; cp.async.cg.shared.global [%r0+16], [%a2], 16; cp.async.commit_group;
        cp.async.wait_group {in_flight};
        ld.shared.u64 %d0, [here+8]; ld.shared.u64 %d1, [here+24]; st.global.u64 [%a0], %d0; st.global.u64 [%a0+8], %d1;
        cp.async.wait_group 0;"""
    got = launch(entry("k", body, "", ""), "k", np.zeros(2, np.uint64), MEMORY, threads=1)[0]
    words = MEMORY.view(np.uint64)
    assert got.tolist() == [words[1], words[3] if in_flight == 0 else 2**64 - 1]


def test_a_float_in_registers_of_bits_is_its_bits():
    """Code for sm_100 has no float registers; a number that became an integer there was wrong in every sum of ones."""
    body = """mov.b64 %d0, 0d3FF8000000000000; mov.b32 %r0, 0f40490FDB; st.global.u64 [%a0], %d0;
        st.global.u32 [%a0+8], %r0; add.rn.f64 %d0, %d0, 0d3FF0000000000000; st.global.b64 [%a0+16], %d0;"""
    got = launch(entry("k", body, ""), "k", np.zeros(3, np.uint64), threads=1)[0]
    assert got.view(np.float64)[[0, 2]].tolist() == [1.5, 2.5]
    assert got.view(np.float32)[2] == np.float32(np.pi)
    with pytest.raises(PtxError, match="has 32 bits, which is not b64"):
        launch(entry("k", "mov.b64 %d0, 0f40490FDB;", ""), "k", np.zeros(1, np.uint64), threads=1)


def test_a_call_passes_its_parameters_and_jumps_come_back():
    text = """.func twice(.param .b64 twice_param_0, .param .b32 twice_param_1, .param .b64 twice_param_2)
        { .reg .b64 %rd<3>; .reg .b32 %r<4>; .reg .f64 %fd<2>; ld.param.u64 %rd1, [twice_param_0];
        ld.param.u32 %r1, [twice_param_1]; ld.param.f64 %fd1, [twice_param_2]; cvt.rzi.s64.f64 %rd2, %fd1;
        cvt.u32.u64 %r3, %rd2; shl.b32 %r2, %r1, 1; add.s32 %r2, %r2, %r3; st.global.u32 [%rd1], %r2; ret; }\n"""
    body = """mov.u32 %r1, 0; mov.f64 %g1, 0d4059000000000000;
        $again: { .reg .b32 %r1000; .param .b64 param0; st.param.b64 [param0+0], %a0;
        .param .b32 param1; st.param.b32 [param1+0], %r1; .param .b64 param2; st.param.f64 [param2+0], %g1;
        call.uni twice, (param0, param1, param2); }
        add.s32 %r1, %r1, 1; add.s64 %a0, %a0, 4; setp.lt.s32 %p0, %r1, 5; @%p0 bra $again; bra.uni $end;
        st.global.u32 [%a0], 77;
        $end:"""
    got = launch(text + entry("k", body, ""), "k", np.zeros(6, np.uint32), threads=1)[0]
    assert got.tolist() == [100, 102, 104, 106, 108, 0]


def test_every_instruction_is_in_some_test_of_this_file():
    generic = ("ld.", "st.global", "st.shared", "st.volatile", "atom.", "vote.", "shfl.", "mma.")
    with open(__file__, encoding="utf-8") as file:
        own = file.read()
    others = [name for name in NAMES if not name.startswith(generic)]
    assert others
    assert [name for name in others if not re.search(rf"\b{re.escape(name)}[ ;]", own)] == []
