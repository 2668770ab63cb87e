"""The parameters of kernels, and which fields of structs are read, from the source text."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from gpukmeans.backends.cuda.device import nvrtc
from gpukmeans.backends.cuda.device.structs import fields

KERNELS = sorted(nvrtc.kernels_folder().glob("*.cu"), key=lambda path: path.stem)

_DEVICE_FUNCTION = re.compile(r"__device__ (?:__\w+__ )?[\w<>]+[*&]? (\w+)\(")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel; `struct` is the name of its type where it is passed as a struct."""

    name: str
    struct: str | None


def without_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def parameters(path):
    """The parameters of the kernel of a file."""
    text = without_comments(path.read_text())
    listed = text[text.index(f"\n{path.stem}(") :].split(") {", 1)[0].split("(", 1)[1]
    found = [
        re.fullmatch(r"(?:const )?(__grid_constant__ )?(.*?)(\w+)", p.strip(), re.DOTALL) for p in listed.split(",")
    ]
    return [Parameter(match[3], match[2].strip() if match[1] else None) for match in found]


def body_of(text, start):
    """The text between the braces that open behind `start`."""
    begin = text.index("{", start)
    depth = 0
    for at in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin : at + 1]
    raise ValueError(text[start : start + 60])


@functools.cache
def device_functions(file):
    """The device functions that a kernel's source contains, as (names of parameters, body) by name."""
    text = without_comments(nvrtc.source(file, {}))
    found = {}
    for match in _DEVICE_FUNCTION.finditer(text):
        listed = text[match.end() :].split(") {", 1)[0]
        names = [re.search(r"(\w+)\)?(?:\[\w*\])?$", p.strip()) for p in listed.split(",")]
        found.setdefault(match[1], []).append(([n[1] if n else "" for n in names], body_of(text, match.end())))
    return found


def unread_fields(file, body, name, struct):
    """Fields of a struct called `name` that neither the body nor a function to which it passes the struct reads."""
    left = {field.name for field in fields(struct)}
    left -= set(re.findall(rf"\b{name}\.(\w+)\b", body))
    for call in re.finditer(r"\b(\w+)\(", body):
        given = [a.strip() for a in body[call.end() :].split(";", 1)[0].split(",")]
        given = [re.match(r"\w*", a)[0] if re.fullmatch(r"\w+\)*.*", a, re.DOTALL) else "" for a in given]
        for names, inner in device_functions(file).get(call[1], []):
            for own, argument in zip(names, given, strict=False):
                if argument == name and left:
                    left &= unread_fields(file, inner, own, struct)
    return left
