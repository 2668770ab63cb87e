"""Every instruction of the table, on edge values, against the definition in PTX's manual: oracles.py."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.emulator.ptx.opcodes import Opcode, table
from tests.emulator.ptx.oracles import F16, F32, F64, FORMATS, NAN, expected, number
from tests.emulator.ptx.testing import bits_of, is_plain, kernel_around, module, run
from tests.emulator.testing import skip_without_compiler

OPCODES = [opcode for rows in table().values() for opcode in rows if is_plain(opcode)]
#: Moves between one register and two of half its size.
PAIRS = [opcode for opcode in OPCODES if "*2" in str((opcode.results, opcode.sources))]
PLAIN = {opcode.name: opcode for opcode in OPCODES if opcode not in PAIRS}

MOST_CASES = 700


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def name_of(opcode: Opcode) -> str:
    return opcode.name.replace(".", "_").replace("::", "_")


@pytest.fixture(scope="module")
def kernels():
    """All plain instructions, each in a kernel of its own."""
    return module("".join(kernel_around(name_of(opcode), opcode) for opcode in PLAIN.values()), "fast")


# ---- edge values, as bits -----------------------------------------------------------------------------------------


def whole_edges(bits: int) -> list[int]:
    """Ends of the types, powers of two and their neighbours, counts at and beyond the width."""
    powers = {(1 << power) + step for power in (0, 4, 5, 6, 7, 8, 15, 16, 31, 32, 63) for step in (-1, 0, 1)}
    top = 1 << bits - 1
    values = powers | {
        3,
        100,
        255,
        256,
        top - 1,
        top,
        top + 1,
        2 * top - 2,
        2 * top - 1,
        0x5555555555555555,
        0xDEADBEEF,
    }
    return sorted({value % (2 * top) for value in values})


def float_edges(f) -> list[int]:
    """Zeros, subnormal numbers, both ends of the normal ones, infinities, NaN, halves, neighbours of one."""
    one = f.rounded(1)
    least, most = 1 << f.fraction, f.infinity - 1
    magnitudes = [0, 1, 2, 3, least // 2, least - 1, least, least + 1, most - 1, most, f.infinity, f.infinity + 1]
    magnitudes += [one - 1, one, one + 1, one + 3, f.rounded(2), f.rounded(3), f.rounded(0.5), f.rounded(1.5)]
    magnitudes += [f.rounded(2.5), f.rounded(2**10 + 0.5), f.sign - 1]
    return sorted(set(magnitudes) | {magnitude | f.sign for magnitude in magnitudes})


def halfway(wide, narrow) -> list[int]:
    """Numbers of a wide format halfway between two neighbours of a narrow one, and next to halfway."""
    found = set()
    least = 1 << narrow.fraction
    for start in (0, 1, 2, least - 2, least - 1, least, narrow.rounded(1), narrow.rounded(1) + 1, narrow.infinity - 1):
        last = start + 1 == narrow.infinity
        middle = narrow.value(start) * 2 - narrow.value(start - 1) if last else narrow.value(start + 1)
        bits = wide.rounded((narrow.value(start) + middle) / 2)
        found |= {bits - 1, bits, bits + 1}
    return sorted(found | {bits | wide.sign for bits in found})


HALFWAY = {"cvt.rn.f32.f64": (F64, F32), "cvt.rn.ftz.f32.f64": (F64, F32), "cvt.rn.f16.f32": (F32, F16)}
HALFWAY["cvt.rn.f16x2.f32"] = (F32, F16)
#: Between two whole numbers, at the ends of the types of whole numbers, and where each double is whole.
ROUNDED = [0.5, 1.5, 2.5, 0.75, 2**31 - 0.5, 2**52 - 0.5, 2**52 + 1, 2**53, 2**62 + 2**10, 2**63, 2**63 - 1024, 2**64]


def edges(opcode: Opcode, type_: str) -> list[int]:
    if type_ == "pred":
        return [0, 1]
    if opcode.name == "cvt.f32.f16":
        return list(range(1 << 16))
    if opcode.name == "sub.rn.f16x2":
        halves = float_edges(F16)
        return [low | high << 16 for low, high in zip(halves, halves[7:] + halves[:7], strict=True)]
    if type_ not in FORMATS:
        return whole_edges(bits_of(type_))
    f = FORMATS[type_]
    found = float_edges(f)
    if opcode.name in HALFWAY:
        found += halfway(*HALFWAY[opcode.name])
    if opcode.name.startswith("cvt.r"):
        found += [bits ^ sign for x in ROUNDED for bits in [f.rounded(x)] for sign in (0, f.sign)]
    return found


def cases(opcode: Opcode) -> list[tuple[int, ...]]:
    """Edges with edges, and random bits; at most MOST_CASES of the former, drawn by the opcode's name."""
    local = random.Random(opcode.name)
    each = [edges(opcode, type_) for type_ in opcode.sources]
    if len(each) == 1:
        found = [(value,) for value in each[0]]
    elif len(each) == 2 and len(each[0]) * len(each[1]) <= 3 * MOST_CASES:
        found = list(itertools.product(*each))
    else:
        found = [tuple(map(local.choice, each)) for _ in range(2 * MOST_CASES)]
    found += [tuple(local.getrandbits(1 if t == "pred" else bits_of(t)) for t in opcode.sources) for _ in range(200)]
    if opcode.name.startswith(("div.s", "div.u", "rem.")):  # a division by zero is refused: below
        found = [case for case in found if number(opcode.sources[1], case[1]) != 0]
    return found


def right(opcode: Opcode, got: int, want: int | str) -> bool:
    type_ = opcode.results[0]
    if want == NAN:
        f = FORMATS.get(type_, F16)
        return f.is_nan(got)
    return got == want % (2 if type_ == "pred" else 1 << bits_of(type_))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("opcode", PLAIN.values(), ids=PLAIN)
def test_an_instruction_computes_what_its_definition_says(kernels, opcode):
    given = cases(opcode)
    (got,) = run(
        kernels, name_of(opcode), opcode, [[(value,) for value in operand] for operand in zip(*given, strict=True)]
    )
    wrong = [
        f"{opcode.name} of {', '.join(map(hex, case))} is {bits:#x}, not {want if want == NAN else hex(want)}"
        for case, (bits,) in zip(given, got, strict=True)
        for want in [expected(opcode.name, *case)]
        if not right(opcode, bits, want)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "opcode", PAIRS, ids=lambda opcode: " = ".join(map(" ".join, (opcode.results, opcode.sources)))
)
def test_a_register_and_two_of_half_its_size_have_the_same_bits(opcode):
    half = bits_of(next(token for token in (*opcode.results, *opcode.sources) if "*" in token).partition("*")[0])
    pairs = list(itertools.product(whole_edges(half)[::3], repeat=2))
    whole = [(low | high << half,) for low, high in pairs]
    packs = "*" in opcode.sources[0]
    (got,) = run(module(kernel_around("pair", opcode)), "pair", opcode, [pairs if packs else whole])
    assert [tuple(each) for each in got] == (whole if packs else pairs)


def test_every_plain_instruction_can_be_told_from_another():
    """Where one instruction's C++ stood in the place of another's with equal operands, some case would show it."""
    twins = {
        ("and.pred", "or.pred"), ("min.f32", "max.f32"), ("min.ftz.f32", "min.f32"), ("add.f32", "sub.f32"),
        ("setp.lt.f32", "setp.ltu.f32"), ("setp.eq.f32", "setp.eq.ftz.f32"), ("fma.rn.ftz.f32", "fma.rm.ftz.f32"),
        ("shr.s32", "shr.u32"), ("div.s64", "div.u64"), ("cvt.f64.f32", "cvt.ftz.f64.f32"), ("max.s32", "max.u32"),
        ("cvt.rn.f32.f64", "cvt.rn.ftz.f32.f64"), ("setp.geu.f64", "setp.ge.f64"), ("setp.leu.f64", "setp.neu.f64"),
    }  # fmt: skip
    for one, other in twins:
        answers = [[expected(name, *case) for case in cases(PLAIN[one])] for name in (one, other)]
        assert answers[0] != answers[1], (one, other)
