"""PTX as NVRTC writes it, parsed into functions and statements.  Anything unknown raises `PtxError` with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


class PtxError(ValueError):
    """A text that is not the PTX known here; the message names the line."""


@dataclass(frozen=True)
class Variable:
    """A parameter or a variable in shared memory, by its size; `size` is None where the launch decides."""

    name: str
    align: int
    size: int | None


@dataclass(frozen=True)
class Instruction:
    """One instruction: its whole name, and its operands as they are written."""

    line: int
    guard: str | None  # "%p1" or "!%p1"
    name: str
    operands: tuple[str, ...]


@dataclass(frozen=True)
class Label:
    """A place to jump to."""

    line: int
    name: str


@dataclass(frozen=True)
class Brace:
    """The begin or the end of a scope within a function: "{" or "}"."""

    line: int
    text: str


@dataclass(frozen=True)
class Registers:
    """Registers of one type: one name, or `count` names with numbers behind it."""

    line: int
    type: str
    name: str
    count: int | None

    def names(self) -> list[str]:
        """All their names, with the percent sign where there is one."""
        return [self.name] if self.count is None else [f"{self.name}{i}" for i in range(self.count)]


@dataclass(frozen=True)
class Local:
    """A parameter of a call, filled before it."""

    line: int
    variable: Variable


Statement = Instruction | Label | Brace | Registers | Local


@dataclass(frozen=True)
class Function:
    """A kernel (`is_entry`) or a function that kernels call."""

    name: str
    is_entry: bool
    parameters: tuple[Variable, ...]
    most_threads: int
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Program:
    """All of one PTX text."""

    functions: tuple[Function, ...]
    shared: tuple[Variable, ...]


_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
_VARIABLE = r"(?:\.align (?P<align>\d+) )?\.[busf](?P<bits>8|16|32|64)\s+(?P<name>[\w$]+)(?:\[(?P<count>\d*)\])?"
_PARAMETER = re.compile(rf"\.param {_VARIABLE}".replace(r"\s+", r"(?: \.ptr(?: \.align \d+)?)?\s+"))
_SHARED = re.compile(rf"(?:\.extern )?\.shared {_VARIABLE}")
_REGISTERS = re.compile(r"\.reg \.(\w+)\s+(%?\w+)(?:<(\d+)>)?")
_INSTRUCTION = re.compile(r"(?:@(!?%\w+)\s+)?([a-z][\w.:]*)\s*(.*)", re.DOTALL)
_LABEL = re.compile(r"(\$?\w+):(?!:)")
_HEADER = re.compile(
    r"(?P<kind>\.visible \.entry|\.func) (?P<name>[\w$]+)\((?P<parameters>[^)]*)\)"
    r"(?P<limits>(?:\s*\.\w+ [\d, ]+)*)\s*(?=[{;])"
)
# Of the whole module; its constants in global memory are all folded into the code: reading one is an error.
_MODULE_WIDE = re.compile(r"\.(?:version|target|address_size) [^\n]*|\.global [^;]*;")


def _variable(match: re.Match[str]) -> Variable:
    size, count = _SIZES[match["bits"]], match["count"]
    total = size if count is None else int(count) * size if count else None
    return Variable(match["name"], int(match["align"] or size), total)


def operands(text: str) -> tuple[str, ...]:
    """The operands of an instruction: what commas outside brackets separate."""
    parts, depth, part = [], 0, ""
    for letter in text:
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += letter
    return (*parts, part.strip()) if part.strip() else tuple(parts)


class _Reader:
    """A text without comments, and how far it is read."""

    def __init__(self, text: str):
        self.text = re.sub(r"//[^\n]*", "", text)
        self.at = 0
        self._counted_to, self._line = 0, 1
        self.shared: list[Variable] = []

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted_to, self.at)
        self._counted_to = self.at
        return self._line

    def skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def take_statement(self) -> str:
        end = self.text.find(";", self.at)
        if end < 0:
            raise PtxError(f"line {self.line()}: a statement without end")
        found = " ".join(self.text[self.at : end].split())
        self.at = end + 1
        return found

    def body(self) -> Iterator[Statement]:
        """The statements of a function, from behind its first brace to its last."""
        depth = 1
        while True:
            self.skip_space()
            line = self.line()
            if self.text[self.at] in "{}":
                depth += 1 if self.text[self.at] == "{" else -1
                self.at += 1
                if depth == 0:
                    return
                yield Brace(line, self.text[self.at - 1])
            elif label := self.take(_LABEL):
                yield Label(line, label[1])
            else:
                statement = self._statement(line, self.take_statement())
                if statement is not None:
                    yield statement

    def _statement(self, line: int, text: str) -> Statement | None:
        if text.startswith(".pragma "):
            return None
        if shared := _SHARED.fullmatch(text):
            self.shared.append(_variable(shared))
            return None
        if registers := _REGISTERS.fullmatch(text):
            return Registers(line, registers[1], registers[2], int(registers[3]) if registers[3] else None)
        if parameter := _PARAMETER.fullmatch(text):
            return Local(line, _variable(parameter))
        if instruction := _INSTRUCTION.fullmatch(text):
            return Instruction(line, instruction[1], instruction[2], operands(instruction[3]))
        raise PtxError(f"line {line}: {text!r} is not known")


def _function(reader: _Reader, header: re.Match[str]) -> Function | None:
    listed = [" ".join(text.split()) for text in header["parameters"].split(",") if text.strip()]
    parameters = []
    for text in listed:
        match = _PARAMETER.fullmatch(text)
        if match is None:
            raise PtxError(f"line {reader.line()}: the parameter {text!r} of {header['name']} is not known")
        parameters.append(_variable(match))
    limit = re.search(r"\.maxntid ([\d, ]+)", header["limits"])
    most = 1024
    if limit:
        most = 1
        for size in limit[1].split(","):
            most *= int(size)
    opens = reader.text[reader.at] == "{"
    reader.at += 1
    if not opens:  # a declaration
        return None
    is_entry = header["kind"] != ".func"
    return Function(header["name"], is_entry, tuple(parameters), most, tuple(reader.body()))


def parse(text: str) -> Program:
    """All functions and shared variables of a PTX text."""
    reader, functions = _Reader(text), []
    while reader.skip_space() or reader.at < len(reader.text):
        if reader.take(_MODULE_WIDE):
            continue
        if header := reader.take(_HEADER):
            function = _function(reader, header)
            if function is not None:
                functions.append(function)
        elif shared := reader.take(_SHARED):
            reader.shared.append(_variable(shared))
            reader.at += 1  # its semicolon
        else:
            first = reader.text[reader.at :].splitlines()[0]
            raise PtxError(f"line {reader.line()}: {first!r} is not known")
    return Program(tuple(functions), tuple(reader.shared))
