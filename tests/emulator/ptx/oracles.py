"""What the PTX ISA says that instructions compute, in whole and rational numbers: no floating point of the machine.

`expected(name, *bits)` takes the operands' bits and returns the result's: an integer, or NAN for any NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from tests.support.rational_floats import exponent, roots

NAN = "NaN"  # any: PTX leaves the payload open
Bits = int | str


@dataclass(frozen=True)
class Format:
    """A binary format of IEEE 754: bits of the exponent and of the fraction."""

    exponent: int
    fraction: int

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.fraction

    @property
    def sign(self) -> int:
        return 1 << self.bits - 1

    @property
    def infinity(self) -> int:
        return ((1 << self.exponent) - 1) << self.fraction

    @property
    def least_exponent(self) -> int:
        """Of normal numbers."""
        return 2 - (1 << self.exponent - 1)

    def is_nan(self, bits: int) -> bool:
        return bits & (self.sign - 1) > self.infinity

    def is_infinite(self, bits: int) -> bool:
        return bits & (self.sign - 1) == self.infinity

    def is_negative(self, bits: int) -> bool:
        return bool(bits & self.sign)

    def value(self, bits: int) -> Fraction:
        """Of a finite number."""
        power, fraction = bits >> self.fraction & ((1 << self.exponent) - 1), bits & ((1 << self.fraction) - 1)
        if power:
            fraction |= 1 << self.fraction
        magnitude = fraction * Fraction(2) ** (max(power, 1) - 1 + self.least_exponent - self.fraction)
        return -magnitude if self.is_negative(bits) else magnitude

    def rounded(self, x: Fraction | float, *, negative_zero: bool = False, down: bool = False) -> int:
        """The bits nearest to x, ties to even; or the largest not above x."""
        x = Fraction(x)
        if x == 0:
            return self.sign if negative_zero else 0
        unit = Fraction(2) ** (max(exponent(x), self.least_exponent) - self.fraction)
        steps = math.floor(x / unit) if down else round(x / unit)
        sign = self.sign if x < 0 else 0
        magnitude = abs(steps) * unit
        if magnitude == 0:
            return sign
        if magnitude >= Fraction(2) ** (1 << self.exponent - 1):
            return sign | (self.infinity - 1 if down and x > 0 else self.infinity)
        power = max(exponent(magnitude), self.least_exponent)
        fraction = int(magnitude / Fraction(2) ** (power - self.fraction))  # with the first bit, unless it is subnormal
        return sign | ((power - self.least_exponent) << self.fraction) + fraction

    def flushed(self, bits: Bits) -> Bits:
        """A zero of the same sign for a subnormal number."""
        if isinstance(bits, int) and not bits & self.infinity:
            return bits & self.sign
        return bits


F16, F32, F64 = Format(5, 10), Format(8, 23), Format(11, 52)
FORMATS = {"f16": F16, "f32": F32, "f64": F64}


# ---- floating point: operands and results are bits ----------------------------------------------------------------


def _sum(f: Format, a: int, b: int, down: bool = False) -> Bits:
    if f.is_nan(a) or f.is_nan(b) or (f.is_infinite(a) and f.is_infinite(b) and a != b):
        return NAN
    if f.is_infinite(a) or f.is_infinite(b):
        return a if f.is_infinite(a) else b
    return _exact_sum(f, f.value(a), f.is_negative(a), f.value(b), f.is_negative(b), down)


def _exact_sum(f: Format, x: Fraction, x_negative: bool, y: Fraction, y_negative: bool, down: bool) -> Bits:
    """A sum of zero has the sign of both terms where they have one, else that of the rounding."""
    zero_negative = x_negative if x_negative == y_negative else down
    return f.rounded(x + y, negative_zero=zero_negative, down=down)


def _product(f: Format, a: int, b: int) -> Bits:
    sign = (a ^ b) & f.sign
    if f.is_nan(a) or f.is_nan(b):
        return NAN
    if f.is_infinite(a) or f.is_infinite(b):
        zero = not (a & ~f.sign and b & ~f.sign)
        return NAN if zero else sign | f.infinity
    return f.rounded(f.value(a) * f.value(b), negative_zero=bool(sign))


def _quotient(f: Format, a: int, b: int) -> Bits:
    sign = (a ^ b) & f.sign
    if f.is_nan(a) or f.is_nan(b) or (f.is_infinite(a) and f.is_infinite(b)):
        return NAN
    if f.is_infinite(b):
        return sign
    if b & ~f.sign == 0:
        return sign | f.infinity if a & ~f.sign else NAN
    return sign | f.infinity if f.is_infinite(a) else f.rounded(f.value(a) / f.value(b), negative_zero=bool(sign))


def _fused(f: Format, a: int, b: int, c: int, down: bool = False) -> Bits:
    product = _product(f, a, b)
    if product == NAN or f.is_nan(c):
        return NAN
    negative = bool((a ^ b) & f.sign)
    if f.is_infinite(a) or f.is_infinite(b):
        return _sum(f, int(product), c)
    if f.is_infinite(c):
        return c
    return _exact_sum(f, f.value(a) * f.value(b), negative, f.value(c), f.is_negative(c), down)


def _root(f: Format, a: int) -> Bits:
    if f.is_nan(a) or (a & f.sign and a & ~f.sign):
        return NAN
    if f.is_infinite(a) or not a & ~f.sign:
        return a
    low, high = roots(f.value(a))
    return f.rounded(low if low * low == f.value(a) else (low + high) / 2)


def _extreme(f: Format, a: int, b: int, largest: bool) -> Bits:
    """Of a number and NaN the number, of two NaN the canonical one; -0 is below +0."""
    if f.is_nan(a) and f.is_nan(b):
        return f.sign - 1
    if f.is_nan(a) or f.is_nan(b):
        return b if f.is_nan(a) else a

    def order(bits: int) -> int:
        return -(bits & ~f.sign) - 1 if bits & f.sign else bits

    return max(a, b, key=order) if largest else min(a, b, key=order)


_FLOATS: dict[str, Callable[..., Bits]] = {
    "add": _sum,
    "sub": lambda f, a, b: _sum(f, a, b ^ f.sign),
    "mul": _product,
    "div": _quotient,
    "rcp": lambda f, a: _quotient(f, f.rounded(Fraction(1)), a),
    "sqrt": _root,
    "fma": _fused,
    "neg": lambda f, a: NAN if f.is_nan(a) else a ^ f.sign,
    "abs": lambda f, a: NAN if f.is_nan(a) else a & ~f.sign,
    "min": lambda f, a, b: _extreme(f, a, b, False),
    "max": lambda f, a, b: _extreme(f, a, b, True),
}


def _compared(f: Format, how: str, a: int, b: int) -> bool:
    if f.is_nan(a) or f.is_nan(b):
        return how == "nan" or how.endswith("u")
    if how == "nan":
        return False

    def order(bits: int) -> int:
        return -(bits & ~f.sign) if bits & f.sign else bits

    x, y = order(a), order(b)
    return {"eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}[how.removesuffix("u")]


# ---- whole numbers ------------------------------------------------------------------------------------------------


def number(type_: str, bits: int) -> int:
    """The value of the low bits that a type has."""
    width = int(type_[1:])
    value = bits & ((1 << width) - 1)
    return value - (1 << width) if type_[0] == "s" and value >> width - 1 else value


def _truncated_quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _field(width: int, field: int, into: int, position: int, length: int) -> int:
    """As the ISA writes it, bit by bit."""
    position, length = position & 255, length & 255
    for i in range(length):
        if position + i >= width:
            break
        into = into & ~(1 << position + i) | (field >> i & 1) << position + i
    return into


def _shift_right(type_: str, a: int, n: int) -> int:
    return number(type_, a) >> min(n, int(type_[1:]))


def _permuted(a: int, b: int, selector: int) -> int:
    """Each byte is chosen by four bits; the fourth spreads the sign of the byte chosen over it."""
    pool = a.to_bytes(4, "little") + b.to_bytes(4, "little")
    chosen = [(pool[selector >> 4 * i & 7], selector >> 4 * i & 8) for i in range(4)]
    return int.from_bytes(bytes((255 * (byte >> 7)) if spread else byte for byte, spread in chosen), "little")


_WHOLE: dict[str, Callable[..., int]] = {
    "add": lambda t, a, b: a + b,
    "sub": lambda t, a, b: a - b,
    "neg": lambda t, a: -a,
    "mul.lo": lambda t, a, b: a * b,
    "mul.hi": lambda t, a, b: number(t, a) * number(t, b) >> int(t[1:]),
    "mul.wide": lambda t, a, b: number(t, a) * number(t, b),
    "mad.lo": lambda t, a, b, c: a * b + c,
    "div": lambda t, a, b: _truncated_quotient(number(t, a), number(t, b)),
    "rem": lambda t, a, b: number(t, a) - number(t, b) * _truncated_quotient(number(t, a), number(t, b)),
    "abs": lambda t, a: abs(number(t, a)),
    "min": lambda t, a, b: min(number(t, a), number(t, b)),
    "max": lambda t, a, b: max(number(t, a), number(t, b)),
    "and": lambda t, a, b: a & b,
    "or": lambda t, a, b: a | b,
    "xor": lambda t, a, b: a ^ b,
    "not": lambda t, a: not a if t == "pred" else ~a,
    "shl": lambda t, a, n: a << min(n, 64),
    "shr": _shift_right,
    "bfi": lambda t, *given: _field(int(t[1:]), *given),
    "bfind.shiftamt": lambda t, a: 32 - a.bit_length() if a else -1,
    "prmt": lambda t, *given: _permuted(*given),
    "brev": lambda t, a: int(f"{a:032b}"[::-1], 2),
    "clz": lambda t, a: int(t[1:]) - a.bit_length(),
    "popc": lambda t, a: a.bit_count(),
    "selp": lambda t, a, b, choice: a if choice else b,
    "mov": lambda t, a: a,
    "cvta.to.global": lambda t, a: a,
}


# ---- conversions --------------------------------------------------------------------------------------------------


def _to_whole(f: Format, type_: str, bits: int) -> int:
    """Towards zero, limits of the type at its ends; NaN: the top bit alone where 64 bits are on either side."""
    width = int(type_[1:])
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if type_[0] == "s" else (0, (1 << width) - 1)
    if f.is_nan(bits):
        return 1 << width - 1 if 64 in (f.bits, width) else 0
    if f.is_infinite(bits):
        return low if f.is_negative(bits) else high
    return min(max(math.trunc(f.value(bits)), low), high)


def _between_formats(source: Format, target: Format, bits: int) -> Bits:
    if source.is_nan(bits):
        return NAN
    if source.is_infinite(bits):
        return target.infinity | (target.sign if source.is_negative(bits) else 0)
    return target.rounded(source.value(bits), negative_zero=source.is_negative(bits))


def _to_half(bits: int) -> int:
    half = _between_formats(F32, F16, bits)
    return 0x7FFF if half == NAN else int(half)  # the canonical NaN


def _difference_of_halves(a: int, b: int) -> int:
    found = _sum(F16, a, b ^ F16.sign)
    return 0x7FFF if found == NAN else int(found)  # the canonical NaN


def _converted(parts: list[str], operands: list[int]) -> Bits:
    target, source = parts[-2:]
    if target == "f16x2":
        return _to_half(operands[0]) << 16 | _to_half(operands[1])
    (bits,) = operands
    if "rni" in parts:
        whole = NAN if F64.is_nan(bits) else bits if F64.is_infinite(bits) else None
        return (
            F64.rounded(Fraction(round(F64.value(bits))), negative_zero=F64.is_negative(bits))
            if whole is None
            else whole
        )
    if target in FORMATS and source in FORMATS:
        return _to_half(bits) if target == "f16" else _between_formats(FORMATS[source], FORMATS[target], bits)
    if target in FORMATS:
        return FORMATS[target].rounded(Fraction(number(source, bits)))
    return _to_whole(FORMATS[source], target, bits) if source in FORMATS else number(source, bits)


def expected(name: str, *operands: int) -> Bits:
    """The result's bits by the definition; those of a whole number in two's complement, of any width."""
    parts = name.split(".")
    kind = FORMATS.get(parts[-1])
    given = list(operands)
    if "ftz" in parts and parts[-1] == "f32":
        given = [int(F32.flushed(bits)) for bits in given]
    if parts[0] == "setp":
        if kind:
            return int(_compared(kind, parts[1], *given))
        x, y = (number(parts[-1], bits) for bits in given)
        return int({"eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}[parts[1]])
    if name == "sub.rn.f16x2":
        low, high = (_difference_of_halves(*(bits >> place & 0xFFFF for bits in given)) for place in (0, 16))
        return low | high << 16
    if parts[0] == "cvt":
        result = _converted(parts, given)
    elif kind and parts[0] in _FLOATS:
        down = {"down": True} if "rm" in parts else {}
        result = _FLOATS[parts[0]](kind, *given, **down)
    else:
        operation = ".".join(parts[:-1])
        return _WHOLE[operation](parts[-1], *given)
    flushes = "ftz" in parts and (parts[0] != "cvt" or parts[-2] == "f32")
    return F32.flushed(result) if flushes else result
