"""Structs that kernels take by value: laid out as their definitions in kernels/ say, and filled by field name.

The definitions are the only source: `layout` reads them.  CuPy passes a NumPy array of one element by value, whose
bytes must be those of the compiler's struct; the emulator compares them field by field at each launch.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends.cuda.device.nvrtc import kernels_folder
from gpukmeans.backends.cuda.device.seam import Device

#: NumPy's dtypes for the types of fields, and of what they point to.
DTYPES: dict[str, np.dtype] = {
    "int": np.dtype(np.int32),
    "long long": np.dtype(np.int64),
    "signed char": np.dtype(np.int8),
    "unsigned short": np.dtype(np.uint16),
    "unsigned": np.dtype(np.uint32),
    "unsigned long long": np.dtype(np.uint64),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
}

_DEFINITION = r"^struct {name} \{{\n(.*?)^\}};"
_FIELD = re.compile(r"(In<)?(\w[\w ]*?)(\*|>)? (\w+);(?: *//.*)?")  # In<T> is common.cuh's constant T*


@dataclass(frozen=True)
class Field:
    """A field as it is declared: its type, or the type of what it points to."""

    name: str
    c_type: str
    is_pointer: bool

    def __str__(self) -> str:
        return f"{self.c_type}{'*' if self.is_pointer else ''} {self.name}"


@functools.cache
def fields(name: str) -> tuple[Field, ...]:
    """The fields of a struct of kernels/*.cu and *.cuh, in their order."""
    pattern = re.compile(_DEFINITION.format(name=re.escape(name)), re.MULTILINE | re.DOTALL)
    texts = (path.read_text(encoding="utf-8") for path in sorted(kernels_folder().glob("*.cu*")))
    found = [match[1] for match in map(pattern.search, texts) if match]
    if len(found) != 1:
        raise ValueError(f"struct {name} should be defined once in kernels/, not {len(found)} times.")
    parsed = []
    for line in found[0].splitlines():
        match = _FIELD.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"struct {name}: {line.strip()!r} should declare one field: a number, or a pointer.")
        parsed.append(Field(match[4], match[2], bool(match[3])))
    return tuple(parsed)


@functools.cache
def layout(name: str) -> np.dtype:
    """The struct as the compiler lays it out, with addresses as 64-bit integers."""
    return np.dtype([(f.name, np.uint64 if f.is_pointer else DTYPES[f.c_type]) for f in fields(name)], align=True)


class Struct:
    """A struct as an argument of launches, filled once; it keeps the arrays alive that it points to.

    Parameters
    ----------
    device : Device
    name : str
        Of the struct in kernels/.
    types : mapping of str to dtype
        Dtypes of the types that constants set in front of the source, as ``ROW``.
    **values
        A device array or None (a null pointer) for each pointer, and a number for each other field.

    Attributes
    ----------
    values : dict
        By field, in the order of the definition.
    packed : ndarray of shape (), of the struct's size
        Its bytes.

    Raises
    ------
    TypeError
        If a field is missing or unknown, or a value is not what the field holds.
    OverflowError
        If a number is too large for its field.
    """

    __slots__ = ("name", "packed", "values")

    def __init__(self, device: Device, name: str, types: Mapping[str, np.dtype], /, **values: Any) -> None:
        declared = fields(name)
        names = [field.name for field in declared]
        missing, unknown = [n for n in names if n not in values], [n for n in values if n not in names]
        if missing or unknown:
            wrong = [f"has no field {n}" for n in unknown] + [f"needs a value for {n}" for n in missing]
            raise TypeError(f"struct {name} {' and '.join(wrong)}; its fields are {', '.join(names)}.")
        self.name = name
        self.values: dict[str, Any] = {n: values[n] for n in names}
        packed = np.zeros((), layout(name))
        for field in declared:
            value = values[field.name]
            wanted = DTYPES[field.c_type] if field.c_type in DTYPES else types[field.c_type]
            if field.is_pointer:
                packed[field.name] = _address(device, name, field, wanted, value)
            else:
                packed[field.name] = _number(name, field, wanted, value)
        # Of no fields: CuPy asks for a description of the dtype at each launch.
        self.packed: NDArray[np.void] = packed.view(f"V{packed.itemsize}")

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.values.items())})"


def _address(device: Device, name: str, field: Field, wanted: np.dtype, value: Any) -> int:
    if value is None:
        return 0
    if not hasattr(value, "nbytes") or isinstance(value, (np.generic, np.ndarray)):
        raise TypeError(f"{name}: {field} takes a device array or None, not {value!r}.")
    if value.dtype != wanted:
        raise TypeError(f"{name}: {field} takes an array of dtype {wanted}, not {value.dtype}.")
    return device.address(value)


def _number(name: str, field: Field, wanted: np.dtype, value: Any) -> np.generic:
    if not isinstance(value, (bool, int, np.integer) if wanted.kind in "iu" else (int, float, np.floating)):
        raise TypeError(f"{name}: {field} takes {'an integer' if wanted.kind in 'iu' else 'a number'}, not {value!r}.")
    if wanted.kind in "iu" and not np.iinfo(wanted).min <= value <= np.iinfo(wanted).max:
        raise OverflowError(f"{name}: {field} cannot hold {value}.")
    return wanted.type(value)
