"""C++ for the emulator from parsed PTX: one function for each, one statement an instruction, on the line of the PTX."""

from __future__ import annotations

import re

from .opcodes import Opcode, table
from .parse import Brace, Function, Instruction, Label, Local, Program, PtxError, Registers, Statement, parse

#: Types of registers, as C++ has them: those of bits are unsigned.
_REGISTER = {"pred": "pred", "f32": "f32", "f64": "f64"} | {f"{k}{n}": f"u{n}" for k in "bus" for n in (16, 32, 64)}
_BITS = {"f32": "u32", "f64": "u64"}
#: What a register holds before it is set: NaN, all bits, true.
_UNSET = {"pred": "true", "f32": "NAN", "f64": "NAN"}

_BUILT_IN = {
    f"%{name}.{axis}": f"{own}.{axis}"
    for name, own in (("tid", "threadIdx"), ("ntid", "blockDim"), ("ctaid", "blockIdx"), ("nctaid", "gridDim"))
    for axis in "xyz"
}
_INTEGER = re.compile(r"(-?(?:0[xX][0-9a-fA-F]+|\d+))U?")
_FLOAT = re.compile(r"0([fd])([0-9a-fA-F]{8}|[0-9a-fA-F]{16})")
_ADDRESS = re.compile(r"\[(%?[\w$]+)(?:\+(-?\d+))?\]")


def _name(text: str) -> str:
    """A register as an identifier: g++ takes $ in names, and so $f32 is not the type f32."""
    return text.replace("%", "$")


def _listed(text: str) -> list[str]:
    """The operands in braces or parentheses, or around |."""
    if text[0] in "{(":
        return [part.strip() for part in text[1:-1].split(",") if part.strip()]
    return [part.strip() for part in text.split("|")]


def _count(token: str) -> int:
    """How many operands in braces a type's token wants; 1: a plain one."""
    return int(token.partition("*")[2] or 1)


def _converted(value: str, own: str, wanted: str) -> str:
    """A value in a register of another type: the same bits, extended or cut; floats only to registers of their size."""
    if own == wanted:
        return value
    if own in _BITS:
        value = f"bits<{_BITS[own]}>({value})"
    return f"bits<{wanted}>({value})" if wanted in _BITS else f"{wanted}({value})"


class _Body:
    """Writes the statements of one function."""

    def __init__(self, function: Function, shared: dict[str, str]):
        self.shared = shared
        self.scopes: list[dict[str, str]] = [{}]  # registers' types by name
        self.parameters = {variable.name for variable in function.parameters}
        for statement in function.statements:
            if isinstance(statement, Local):
                self.parameters.add(statement.variable.name)

    def write(self, statement: Statement) -> str:
        match statement:
            case Label(name=name):
                return f"{_name(name)}:;"
            case Brace(text=text):
                if text == "{":
                    self.scopes.append({})
                else:
                    self.scopes.pop()
                return text
            case Registers():
                type_ = _REGISTER[statement.type]
                self.scopes[-1] |= dict.fromkeys(statement.names(), type_)
                unset = _UNSET.get(type_, f"{type_}(~0ull)")
                return f"{type_} {', '.join(f'{_name(name)} = {unset}' for name in statement.names())};"
            case Local(variable=variable):
                return f"Bytes<{variable.size}> {variable.name};"
            case Instruction():
                try:
                    return self._instruction(statement)
                except PtxError as error:
                    shown = f"{statement.name} {', '.join(statement.operands)}"
                    raise PtxError(f"line {statement.line}: {shown}: {error}") from None

    # ---- operands ------------------------------------------------------------------------------------------------

    def _type(self, register: str) -> str:
        for scope in reversed(self.scopes):
            if register in scope:
                return scope[register]
        raise PtxError(f"{register} is no register")

    def _read(self, text: str, type_: str) -> str:
        """A plain operand as a value of the type."""
        if text in _BUILT_IN:
            return f"{type_}({_BUILT_IN[text]})"
        if text.startswith(("%", "!%")):
            own = self._type(text.lstrip("!"))
            name = ("!" if text[0] == "!" else "") + _name(text.lstrip("!"))
            if (own == "pred") != (type_ == "pred") or (text[0] == "!" and own != "pred"):
                raise PtxError(f"{text} is of type {own}, which is not {type_}")
            return _converted(name, own, type_)
        if number := _FLOAT.fullmatch(text):
            bits, size = f"0x{number[2]}{'u' if number[1] == 'f' else 'ull'}", 32 if number[1] == "f" else 64
            if not type_.endswith(str(size)):
                raise PtxError(f"{text} has {size} bits, which is not {type_}")
            return f"bits<{type_}>({bits})"  # b64, too, may be given as a float
        if number := _INTEGER.fullmatch(text):
            value = int(number[1], 0)
            return f"bool({value})" if type_ == "pred" else f"{type_}({value % 2**64:#x}ull)"
        if text in self.shared:
            return f"{type_}({self.shared[text]})"
        if text in self.parameters:
            return f"{type_}({text}.at)"
        raise PtxError(f"{text} is not known")

    def _address(self, text: str, space: str, type_: str) -> str:
        """A pointer to a value of the type."""
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise PtxError(f"{text} is no address")
        base, offset = match[1], int(match[2] or 0)
        if space == "shared":
            return f"shared_at<{type_}>({self._read(base, 'u32')} + u32({offset}))"
        if base in self.parameters:
            return f"({type_}*)({base}.at + {offset})"
        return f"({type_}*)({self._read(base, 'u64')} + u64({offset % 2**64:#x}ull))"

    def _source(self, text: str, token: str, flushes: bool) -> str:
        if token in ("label", "symbol"):
            return _name(text)
        if token == "list":
            return ", ".join(_listed(text))
        if token.isdigit():
            if text != token:
                raise PtxError(f"only {token} is known, not {text}")
            return token
        space, colon, token = token.rpartition(":")
        type_, count = token.partition("*")[0], _count(token)
        whole = type_ if count == 1 else f"Vector<{type_}, {count}>"
        if colon:
            return self._address(text, space, whole)
        if count > 1:
            return f"{whole}{{{{{', '.join(self._read(part, type_) for part in _listed(text))}}}}}"
        read = self._read(text.strip("{}"), type_)
        return f"flush({read})" if flushes and type_ == "f32" else read

    def _assign(self, register: str, type_: str, value: str) -> str:
        if register == "_":
            return f"(void)({value});"
        own = self._type(register)
        if own != type_ and type_ not in _BITS:
            value = f"{type_}({value})"  # signed results are extended by their sign
        return f"{_name(register)} = {_converted(value, type_, own)};"

    # ---- instructions --------------------------------------------------------------------------------------------

    @staticmethod
    def _fits(opcode: Opcode, texts: tuple[str, ...]) -> bool:
        """Whether there are as many operands as the opcode has, with as many in braces; addresses are read later."""
        tokens = [*opcode.results, *opcode.sources]
        return len(tokens) == len(texts) and all(
            ":" in token or _count(token) == (len(_listed(text)) if text[0] == "{" else 1)
            for token, text in zip(tokens, texts, strict=True)
        )

    def _instruction(self, instruction: Instruction) -> str:
        texts = instruction.operands
        opcode = next((o for o in table().get(instruction.name, ()) if self._fits(o, texts)), None)
        if opcode is None:
            raise PtxError("there is no such instruction in opcodes.py")
        n_results = len(opcode.results)
        letters = {
            letter: self._source(text, token, opcode.flushes)
            for letter, text, token in zip("abcd", texts[n_results:], opcode.sources, strict=False)
        }
        cpp = re.sub(r"(?<![\w$.])[abcd](?![\w$])", lambda match: letters[match[0]], opcode.cpp)
        guard = f"if ({_name(instruction.guard)}) " if instruction.guard else ""
        if not opcode.results:
            return f"{guard}{{ {cpp}; }}"
        (token,), result = opcode.results, texts[0]
        if "|" in token:
            names = zip(_listed(result), token.split("|"), ("q.first", "q.second"), strict=True)
            return f"{guard}{{ const auto q = {cpp}; {' '.join(self._assign(*each) for each in names)} }}"
        type_, count = token.partition("*")[0], _count(token)
        if count > 1:
            parts = (self._assign(part, type_, f"q.at[{i}]") for i, part in enumerate(_listed(result)))
            return f"{guard}{{ const Vector<{type_}, {count}> q = {cpp}; {' '.join(parts)} }}"
        if opcode.flushes and type_ == "f32":
            cpp = f"flush({cpp})"
        return guard + self._assign(result, type_, cpp)


def _shared_addresses(program: Program) -> tuple[dict[str, str], int]:
    """The address of each variable in shared memory, and the bytes of those whose size is known."""
    addresses: dict[str, str] = {}
    end = 0
    for variable in program.shared:
        if variable.name in addresses:
            raise PtxError(f"{variable.name} is declared twice")
        if variable.size is None:
            addresses[variable.name] = "kDynamic"
            continue
        begin = -(-end // variable.align) * variable.align
        addresses[variable.name], end = str(begin), begin + variable.size
    return addresses, end


def _signature(function: Function) -> str:
    listed = ", ".join(f"const Bytes<{variable.size}> {variable.name}" for variable in function.parameters)
    if not function.is_entry:
        return f"static void {function.name}({listed})"
    return f'extern "C" __global__ void __launch_bounds__({function.most_threads}) {function.name}({listed})'


def _function(file: str, function: Function, shared: dict[str, str]) -> list[str]:
    body, at = _Body(function, shared), 0
    lines = [_signature(function) + " {"]
    for statement in function.statements:
        written = body.write(statement)
        if statement.line == at:
            lines[-1] += f" {written}"
        elif at < statement.line <= at + 4:
            lines += [""] * (statement.line - at - 1) + [written]
        else:
            lines += [f'#line {statement.line} "{file}"', written]
        at = statement.line
    return [*lines, "}"]


def translate(ptx: str, file: str) -> str:
    """C++ of a PTX text, to be compiled with the header ptx.h; messages give lines of `file`, the PTX.

    Raises PtxError, with the line, for what is not known.
    """
    program = parse(ptx)
    shared, shared_bytes = _shared_addresses(program)
    lines = ["using namespace ptx;", f"PTX_SHARED({max(shared_bytes, 1)})"]
    lines += [f"{_signature(function)};" for function in program.functions if not function.is_entry]
    for function in program.functions:
        lines += _function(file, function, shared)
    return "\n".join([*lines, ""])
