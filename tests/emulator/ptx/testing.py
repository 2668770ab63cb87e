"""What tests of single instructions share: PTX text around an instruction, compiled and launched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..device import EmulatorDevice
from ..memory import DeviceArray
from ..module import Module
from .opcodes import Opcode
from .writer import translate

BLOCK = 256
HEAD = ".version 9.5\n.target sm_90\n.address_size 64\n"


def module(text: str, mode: str = "check") -> Module:
    """PTX without its first lines, translated and compiled."""
    return Module("instructions.ptx", translate(HEAD + text, "instructions.ptx"), mode=mode, header="ptx.h")


def bits_of(type_: str) -> int:
    """Of a type's register; a predicate's number and what has fewer than 16 bits have 32."""
    return 32 if type_ in ("pred", "s8", "u8", "b8") else int(type_[1:])


def _split(token: str) -> tuple[str, int]:
    type_, _, count = token.partition("*")
    return type_, int(count or 1)


def _tokens(opcode: Opcode) -> list[tuple[str, int]]:
    """The types of all results, then of all operands."""
    results = [_split(part) for token in opcode.results for part in token.split("|")]
    return results + [_split(token) for token in opcode.sources]


def _n_results(opcode: Opcode) -> int:
    return len(_tokens(opcode)) - len(opcode.sources)


def is_plain(opcode: Opcode) -> bool:
    """Whether an instruction computes results from registers alone, each thread for itself."""
    tokens = (*opcode.results, *opcode.sources)
    special = any(":" in token or token in ("label", "symbol", "list", "0") for token in tokens)
    together = ".sync" in opcode.name or ".shared" in opcode.name
    return bool(opcode.results) and not special and not together


class _Writer:
    """Writes one kernel: loads of operands, the instruction, stores of results."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declared: list[str] = []

    def register(self, type_: str) -> str:
        name = f"%v{len(self.declared)}"
        kind = {"pred": "pred", "f32": "f32", "f64": "f64"}.get(type_, f"b{bits_of(type_)}")
        self.declared.append(f".reg .{kind} {name};")
        return name

    def address(self, parameter: int, kernel: str, step: int) -> str:
        address = self.register("u64")
        self.lines += [
            f"ld.param.u64 {address}, [{kernel}_param_{parameter}];",
            f"mad.lo.s32 %own, %i, {step}, 0;",
            "cvt.u64.u32 %wide, %own;",
            f"add.s64 {address}, {address}, %wide;",
        ]
        return address

    def load(self, type_: str, address: str, offset: int) -> str:
        value = self.register(type_)
        if type_ == "pred":
            number = self.register("u32")
            self.lines += [f"ld.global.u32 {number}, [{address}+{offset}];", f"setp.ne.u32 {value}, {number}, 0;"]
        else:
            kind = type_ if type_ in ("f32", "f64") else f"u{bits_of(type_)}"
            self.lines.append(f"ld.global.{kind} {value}, [{address}+{offset}];")
        return value

    def store(self, type_: str, register: str, address: str, offset: int) -> None:
        if type_ == "pred":
            number = self.register("u32")
            self.lines.append(f"selp.u32 {number}, 1, 0, {register};")
            register = number
        kind = type_ if type_ in ("f32", "f64") else f"u{bits_of(type_)}"
        self.lines.append(f"st.global.{kind} [{address}+{offset}], {register};")


def kernel_around(name: str, opcode: Opcode) -> str:
    """The PTX of a kernel: thread i reads the i-th of each operand, and writes the i-th of each result."""
    writer, groups, n_results = _Writer(), [], _n_results(opcode)
    for parameter, (type_, count) in enumerate(_tokens(opcode)):
        size = bits_of(type_) // 8
        if parameter < n_results:
            groups.append([writer.register(type_) for _ in range(count)])
        else:
            address = writer.address(parameter, name, size * count)
            groups.append([writer.load(type_, address, size * i) for i in range(count)])
    listed = opcode.name.startswith("mma.")  # the only one that has lists of one
    shown = [f"{{{', '.join(group)}}}" if listed or len(group) > 1 else group[0] for group in groups]
    shown[:n_results] = ["|".join(shown[:n_results])]
    writer.lines.append(f"{opcode.name} {', '.join(shown)};")
    for parameter, (type_, count) in enumerate(_tokens(opcode)[:n_results]):
        address = writer.address(parameter, name, bits_of(type_) // 8 * count)
        for i, register in enumerate(groups[parameter]):
            writer.store(type_, register, address, bits_of(type_) // 8 * i)
    parameters = ", ".join(f".param .u64 {name}_param_{i}" for i in range(len(groups)))
    start = [
        ".reg .b32 %i; .reg .b32 %own; .reg .b64 %wide; .reg .b32 %block; .reg .b32 %width; .reg .b32 %lane;",
        *writer.declared,
        "mov.u32 %block, %ctaid.x;",
        "mov.u32 %width, %ntid.x;",
        "mov.u32 %lane, %tid.x;",
        "mad.lo.s32 %i, %block, %width, %lane;",
    ]
    body = "\n".join([*start, *writer.lines])
    return f".visible .entry {name}({parameters})\n.maxntid {BLOCK}, 1, 1\n{{\n{body}\nret;\n}}\n"


def run(module_: Module, name: str, opcode: Opcode, operands: Sequence[Iterable[Sequence[int]]]) -> list[list[int]]:
    """The results' bits: for each result, one number after another; operands are given as bits in the same way."""
    device = EmulatorDevice()
    arrays: list[DeviceArray] = []
    n, n_results = len(list(operands[0])), _n_results(opcode)
    padded = -(-n // BLOCK) * BLOCK
    for index, (type_, count) in enumerate(_tokens(opcode)):
        host = np.zeros((padded, count), f"u{bits_of(type_) // 8}")
        if index >= n_results:
            host[:n] = np.array(list(operands[index - n_results]), dtype=np.uint64).astype(host.dtype)
            host[n:] = host[0]
        arrays.append(device.upload(host))
    # The names of the parameters of all kernels count as shared memory, too.
    module_.get_function(name)(padded // BLOCK, BLOCK, arrays, shared_limit=1 << 20)
    return [device.download(array)[:n].tolist() for array in arrays[:n_results]]
