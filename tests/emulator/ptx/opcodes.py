"""The instructions of PTX that NVRTC makes of the kernels, each with its operands' types and its C++.

A row has the name, the operands and an expression (or statement) of C++:

- The name: `x?` is a part that may be missing, `{T: s32 s64}` one of several, which the rest of the row calls T.  Of T,
  U is the unsigned type of the same size, W the signed or unsigned one of twice the size, H the half of its bits.
- The operands, results left of `=`: a type; `f32*4`, a list of four in braces; `b32|pred`, two results; `shared:T`, the
  address of a T in that space; `label`, `symbol` and `list` (of a call); `0`, this number and no other.
- The expression: a, b, c, d are the operands right of `=`.  Types and functions are those of ../cuda/ptx.h.

What the suffix .ftz says is not repeated here: floats are flushed before and after (writer.py).
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

PLAIN = "u8 u16 s32 u32 u64 f32 f64 b8 b16 b32 b64"  # what is loaded and stored

ROWS = (
    # ---- whole numbers: results wrap ---------------------------------------------------------------------------------
    ("add.{T: s32 s64}", "U = U U", "a + b"),
    ("sub.{T: s32 s64}", "U = U U", "a - b"),
    ("neg.{T: s32 s64}", "U = U", "U(0) - a"),
    ("mul.lo.{T: s32 s64}", "U = U U", "a * b"),
    ("mul.hi.{T: s32 u32}", "T = T T", "W(a) * W(b) >> 32"),
    ("mul.wide.{T: u16 s32 u32}", "W = T T", "W(a) * W(b)"),
    ("mad.lo.{T: s32 s64}", "U = U U U", "a * b + c"),
    ("div.{T: s32 u32 s64 u64}", "T = T T", "quotient(a, b)"),
    ("rem.s32", "s32 = s32 s32", "remainder(a, b)"),
    ("abs.s32", "u32 = u32", "a >> 31 ? 0u - a : a"),
    ("{O: min max}.{T: s32 u32 s64 u64}", "T = T T", "O(a, b)"),
    # ---- bits --------------------------------------------------------------------------------------------------------
    ("and.{T: b16 b32 b64 pred}", "T = T T", "a & b"),
    ("or.{T: b16 b32 b64 pred}", "T = T T", "a | b"),
    ("xor.{T: b32 b64 pred}", "T = T T", "a ^ b"),
    ("not.{T: b32 b64}", "T = T", "~a"),
    ("not.pred", "pred = pred", "!a"),
    ("shl.{T: b32 b64}", "T = T u32", "shifted_left(a, b)"),
    ("shr.{T: s32 u32 s64 u64}", "T = T u32", "shifted_right(a, b)"),
    ("bfi.{T: b32 b64}", "T = T T u32 u32", "with_field(a, b, c, d)"),
    ("bfind.shiftamt.u32", "u32 = u32", "a ? u32(__clz(s32(a))) : ~0u"),
    ("brev.b32", "b32 = b32", "__brev(a)"),
    ("prmt.b32", "b32 = b32 b32 b32", "__byte_perm(a, b, c)"),
    ("clz.b32", "u32 = b32", "u32(__clz(s32(a)))"),
    ("clz.b64", "u32 = b64", "u32(__clzll(s64(a)))"),
    ("popc.b32", "u32 = b32", "u32(__popc(a))"),
    # ---- floating point ----------------------------------------------------------------------------------------------
    ("add.rn?.ftz?.{T: f32 f64}", "T = T T", "a + b"),
    ("sub.rn?.ftz?.{T: f32 f64}", "T = T T", "a - b"),
    ("sub.rn.f16x2", "b32 = b32 b32", "cuemu::subtract_halves(a, b)"),
    ("mul.rn?.ftz?.{T: f32 f64}", "T = T T", "a * b"),
    ("div.rn.f64", "f64 = f64 f64", "a / b"),
    ("rcp.rn.f64", "f64 = f64", "1.0 / a"),
    ("sqrt.rn.ftz?.{T: f32 f64}", "T = T", "sqrt(a)"),
    ("fma.rn.ftz?.{T: f32 f64}", "T = T T T", "fma(a, b, c)"),
    ("fma.rm.ftz.f32", "f32 = f32 f32 f32", "__fmaf_rd(a, b, c)"),
    ("neg.ftz?.{T: f32 f64}", "T = T", "-a"),
    ("abs.ftz?.{T: f32 f64}", "T = T", "fabs(a)"),
    ("min.ftz?.{T: f32 f64}", "T = T T", "least(a, b)"),
    ("max.ftz?.{T: f32 f64}", "T = T T", "largest(a, b)"),
    # ---- choices -----------------------------------------------------------------------------------------------------
    ("setp.{C: eq ne lt le gt ge}.{T: s16 s32 u32 s64 u64}", "pred = T T", "C(a, b)"),
    ("setp.{C: eq ne}.{T: b16 b32 b64}", "pred = T T", "C(a, b)"),
    ("setp.{C: eq ne lt le gt ge equ neu ltu leu gtu geu}.ftz?.{T: f32 f64}", "pred = T T", "C(a, b)"),
    ("setp.nan.f64", "pred = f64 f64", "isnan(a) || isnan(b)"),
    ("selp.{T: b16 b32 b64 u16 u32 u64 f32 f64}", "T = T T pred", "c ? a : b"),
    # ---- conversions -------------------------------------------------------------------------------------------------
    ("cvt.{T: u16 s32 u32 s64 u64}.{S: s8 u8 u16 s32 u32 u64}", "T = S", "T(a)"),
    ("cvt.rn.f32.{S: u16 u32 s64}", "f32 = S", "f32(a)"),
    ("cvt.rn.f64.{S: u16 s32 s64}", "f64 = S", "f64(a)"),
    ("cvt.rzi.{T: s32 s64}.f64", "T = f64", "cuemu::saturate<T>(trunc(a))"),
    ("cvt.rni.f64.f64", "f64 = f64", "rint(a)"),
    ("cvt.ftz?.f64.f32", "f64 = f32", "f64(a)"),
    ("cvt.rn.ftz?.f32.f64", "f32 = f64", "f32(a)"),
    ("cvt.f32.f16", "f32 = b16", "cuemu::half_to_float(a)"),
    ("cvt.rn.f16.f32", "b16 = f32", "cuemu::float_to_half(a)"),
    ("cvt.rn.f16x2.f32", "b32 = f32 f32", "u32(cuemu::float_to_half(a)) << 16 | cuemu::float_to_half(b)"),
    # ---- moves -------------------------------------------------------------------------------------------------------
    ("mov.{T: b16 b32 b64 u16 u32 u64 f32 f64 pred}", "T = T", "a"),
    ("mov.{T: b32 b64}", "H*2 = T", "cuemu::bits<Vector<H, 2>>(a)"),
    ("mov.{T: b32 b64}", "T = H*2", "cuemu::bits<T>(a)"),
    ("cvta.to.global.u64", "u64 = u64", "a"),
    ("cvta.shared.u64", "u64 = u64", "u64(shared_at<u8>(u32(a)))"),
    # ---- memory ------------------------------------------------------------------------------------------------------
    (f"ld.{{P: param global shared}}.{{T: {PLAIN}}}", "T = P:T", "*a"),
    ("ld.param.v2.{T: u32 b32}", "T*2 = param:T*2", "*a"),
    (f"ld.global.nc.{{T: {PLAIN}}}", "T = global:T", "*a"),
    ("ld.global.cg.{T: s32 f64}", "T = global:T", "*a"),
    ("ld.volatile.shared.{T: u32 f32 b32}", "T = shared:T", "*(const volatile T*)a"),
    ("ld.{P: global shared}.v2.{T: u32 f32 f64 b32 b64}", "T*2 = P:T*2", "*a"),
    ("ld.{P: global shared}.v4.{T: u8 u16 u32 f32 b16 b32}", "T*4 = P:T*4", "*a"),
    ("ld.global.nc.v2.{T: f64 b64}", "T*2 = global:T*2", "*a"),
    ("ld.global.nc.v4.{T: u8 u16 f32 b16 b32}", "T*4 = global:T*4", "*a"),
    ("ld.global.L1::no_allocate.v4.u32", "u32*4 = global:u32*4", "*a"),
    ("st.param.{T: b32 b64 f64}", "= param:T T", "*a = b"),
    (f"st.{{P: global shared}}.{{T: {PLAIN}}}", "= P:T T", "*a = b"),
    ("st.volatile.shared.{T: u32 b32}", "= shared:T T", "*(volatile T*)a = b"),
    ("st.shared.v4.{T: u32 b32}", "= shared:T*4 T*4", "*a = b"),
    ("prefetch.global.L2", "= global:u8", "(void)a"),
    ("atom.relaxed?.gpu?.{P: global shared}.add.{T: u32 u64}", "T = P:T T", "atomicAdd(a, b)"),
    ("atom.relaxed?.gpu?.global.add.f64", "f64 = global:f64 f64", "atomicAdd(a, b)"),
    ("atom.relaxed?.gpu?.{P: global shared}.max.{T: u32 u64}", "T = P:T T", "atomicMax(a, b)"),
    ("atom.relaxed?.gpu?.shared.min.s32", "s32 = shared:s32 s32", "atomicMin(a, b)"),
    ("atom.relaxed?.gpu?.{P: global shared}.or.b32", "b32 = P:b32 b32", "atomicOr(a, b)"),
    ("atom.relaxed?.gpu?.global.exch.{T: b32 b64}", "T = global:T T", "atomicExch(a, b)"),
    ("atom.relaxed?.gpu?.global.cas.b64", "b64 = global:b64 b64 b64", "atomicCAS(a, b, c)"),
    ("cp.async.cg.shared.global", "= shared:u8*16 global:u8*16 s32", "cuemu::cp_async(a, b, c, c)"),
    ("cp.async.commit_group", "=", "cuemu::cp_async_commit()"),
    ("cp.async.wait_group", "= s32", "cuemu::cp_async_wait(a)"),
    # ---- threads together --------------------------------------------------------------------------------------------
    ("bar.sync", "= 0", "__syncthreads()"),
    ("bar.red.or.pred", "pred = 0 pred", "__syncthreads_or(b) != 0"),
    ("bar.warp.sync", "= b32", "__syncwarp(a)"),
    ("membar.gl", "=", "__threadfence()"),
    ("shfl.sync.{M: up down bfly idx}.b32", "b32|pred = b32 b32 b32 b32", "shuffle_M(a, b, c, d)"),
    ("vote.sync.any.pred", "pred = pred b32", "__any_sync(b, a) != 0"),
    ("vote.sync.all.pred", "pred = pred b32", "__all_sync(b, a) != 0"),
    ("vote.sync.ballot.b32", "b32 = pred b32", "__ballot_sync(b, a)"),
    ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "f32*4 = b32*4 b32*2 f32*4", "mma<16>(a, b, c)"),
    ("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", "f32*4 = b32*2 b32 f32*4", "mma<8>(a, {{b}}, c)"),
    ("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32", "s32*4 = b32*4 b32*2 s32*4", "byte_mma<16, 32>(a, b, c)"),
    ("mma.sync.aligned.m8n8k16.row.col.s32.s8.u8.s32", "s32*2 = b32 b32 s32*2", "byte_mma<8, 16>({{a}}, {{b}}, c)"),
    # ---- control -----------------------------------------------------------------------------------------------------
    ("bra.uni?", "= label", "goto a"),
    ("call.uni", "= symbol list", "a(b)"),
    ("ret", "=", "return"),
)

_WIDER = {"u16": "u32", "s32": "s64", "u32": "u64"}
_HALVES = {"b32": "b16", "b64": "b32"}


@dataclass(frozen=True)
class Opcode:
    """A row for one name: its types and its C++ with T and the like filled in."""

    row: tuple[str, str, str]
    name: str
    results: tuple[str, ...]
    sources: tuple[str, ...]
    cpp: str
    flushes: bool


def _choices(pattern: str) -> Iterator[tuple[str, dict[str, str]]]:
    """All names of a pattern, each with what its letters stand for."""
    parts: list[list[tuple[str, dict[str, str]]]] = []
    for part in re.findall(r"\{[^}]*\}|[^.]+", pattern):
        if part.startswith("{"):
            letter, values = part[1:-1].split(": ")
            parts.append([(value, {letter: value}) for value in values.split()])
        elif part.endswith("?"):
            parts.append([(part[:-1], {}), ("", {})])
        else:
            parts.append([(part, {})])
    for choice in itertools.product(*parts):
        letters = {letter: value for _, own in choice for letter, value in own.items()}
        yield ".".join(text for text, _ in choice if text), letters


def _opcodes(row: tuple[str, str, str]) -> Iterator[Opcode]:
    pattern, types, cpp = row
    for name, letters in _choices(pattern):
        if "T" in letters:
            own = letters["T"]
            letters |= {"U": f"u{own[1:]}", "W": _WIDER.get(own, ""), "H": _HALVES.get(own, "")}

        def fill(text: str, letters: dict[str, str] = letters) -> str:
            return re.sub(r"(?<![A-Za-z0-9])[A-Z](?![A-Za-z0-9])", lambda match: letters[match[0]], text)

        results, sources = fill(types).split("=")
        yield Opcode(row, name, tuple(results.split()), tuple(sources.split()), fill(cpp), ".ftz" in name)


@functools.cache
def table() -> dict[str, list[Opcode]]:
    """All opcodes by name; several with one name differ in the shapes of their operands."""
    by_name: dict[str, list[Opcode]] = {}
    for row in ROWS:
        for opcode in _opcodes(row):
            if not (opcode.flushes and "f32" not in opcode.name):
                by_name.setdefault(opcode.name, []).append(opcode)
    return by_name
