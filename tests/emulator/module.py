"""One compiled kernel source, and its kernels: what cupy.RawModule and its functions are on a GPU."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .build import EmulatorError, build_kernels, resolve_places
from .memory import DeviceArray
from .runtime import LOCK, Options, Statistics, runtime

ORDERS = ("forward", "reverse", "random")  # as enum Order in cuda/runtime/state.h

# Dynamic shared memory that a kernel gets by default, and at most on request, in KiB (CUDA C++ programming guide,
# technical specifications per compute capability).
SHARED_BYTES = 48 * 1024
MOST_SHARED_BYTES = {75: 64, 80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 120: 99}


def most_shared_bytes(arch: int) -> int:
    """What a block can have on an architecture, given as __CUDA_ARCH__."""
    return MOST_SHARED_BYTES[arch // 10] * 1024


@dataclass(frozen=True)
class Parameter:
    """One kernel parameter, or a field of one, as the compiler saw it."""

    pointer: bool
    dtype: np.dtype[Any] | None  # of the value or of what it points to; None: void or a vector type
    offset: int = 0  # of a field

    def __str__(self) -> str:
        return f"{self.dtype or 'anything'}{'*' if self.pointer else ''}"

    def cell(self, argument: Any) -> np.ndarray[Any, Any] | str:
        """The argument's bytes, or what is wrong with it: a wrong dtype is silent garbage on a GPU."""
        if self.pointer:
            if argument is None:
                return np.zeros(1, np.uint64)
            if not isinstance(argument, DeviceArray):
                return "pass a device array or None"
            if self.dtype is not None and argument.dtype != self.dtype:
                return "pass an array of that dtype"
            return np.array([argument.address], np.uint64)
        if not isinstance(argument, np.generic):
            return f"pass a NumPy scalar, np.{self.dtype}(...)"
        return np.array([argument]) if argument.dtype == self.dtype else f"pass np.{self.dtype}(...)"


@dataclass(frozen=True)
class StructParameter:
    """A struct that a kernel takes by value, as the compiler saw it."""

    size: int
    fields: tuple[Parameter, ...]
    pointer = False

    def __str__(self) -> str:
        return f"struct of {self.size} bytes ({', '.join(map(str, self.fields))})"

    def cell(self, argument: Any) -> np.ndarray[Any, Any] | str:
        """The argument's bytes, or why it is none.

        The argument is an array of one element with these bytes, as CuPy takes it; or it has such an array, `packed`,
        and the `values` of the fields in their order, with which each field's bytes are compared.
        """
        packed = getattr(argument, "packed", argument)
        if not isinstance(packed, np.ndarray) or packed.size != 1 or packed.nbytes != self.size:
            return f"pass a struct, or a NumPy array of one element of {self.size} bytes"
        cell = packed.reshape(1).view(np.uint8).copy()
        if packed is argument:
            return cell
        if len(argument.values) != len(self.fields):
            return f"the struct passed has {len(argument.values)} fields"
        for field, (name, value) in zip(self.fields, argument.values.items(), strict=True):
            if not field.pointer and field.dtype is not None and not isinstance(value, np.generic):
                value = field.dtype.type(value)
            want = field.cell(value)
            if isinstance(want, str):
                return f"field {name} is {value!r}; the compiler's is {field}: {want}"
            if want.tobytes() != cell[field.offset : field.offset + want.nbytes].tobytes():
                return f"field {name} is not at byte {field.offset}, where the compiler has it"
        return cell


@dataclass(frozen=True)
class BytesParameter:
    """A parameter of which the compiler saw its size only: one of PTX."""

    size: int
    pointer = False

    def __str__(self) -> str:
        return f"{self.size} bytes"

    def cell(self, argument: Any) -> np.ndarray[Any, Any] | str:
        """The argument's bytes, or why it is none.  Its type is not known here; the source's compilation checks it."""
        packed = getattr(argument, "packed", argument)
        if packed is None or isinstance(packed, DeviceArray):
            packed = np.uint64(packed.address if packed is not None else 0)
        if not isinstance(packed, (np.generic, np.ndarray)) or packed.size != 1 or packed.nbytes != self.size:
            return f"pass something of {self.size} bytes"
        return np.asarray(packed).reshape(1).view(np.uint8).copy()


_SIGNATURE = re.compile(r"S(\d+)\{(.*?)\}|([PV])(\w)(\w)|B(\d+);")
_FIELD = re.compile(r"(\d+)([PV])(\w)(\w),")


def _parameter(role: str, kind: str, size: str, offset: int = 0) -> Parameter:
    return Parameter(role == "P", None if kind == "v" else np.dtype(f"{kind}{ord(size) - ord('a')}"), offset)


def _parameters(signature: str) -> tuple[Parameter | StructParameter | BytesParameter, ...]:
    """Decode what cuda/export.h writes of the parameters."""
    parameters: list[Parameter | StructParameter | BytesParameter] = []
    for size, inner, role, kind, letter, n_bytes in _SIGNATURE.findall(signature):
        if n_bytes:
            parameters.append(BytesParameter(int(n_bytes)))
        elif size:
            inner_fields = tuple(_parameter(*f[1:], int(f[0])) for f in _FIELD.findall(inner))
            parameters.append(StructParameter(int(size), inner_fields))
        else:
            parameters.append(_parameter(role, kind, letter))
    return tuple(parameters)


def _extent(value: int | Sequence[int]) -> tuple[int, int, int]:
    sizes = (value,) if isinstance(value, (int, np.integer)) else tuple(value)
    if not 1 <= len(sizes) <= 3:
        raise EmulatorError(f"a grid or block has one to three sizes; got {value!r}")
    x, y, z = (*(int(size) for size in sizes), 1, 1)[:3]
    return x, y, z


class TensorCores(NamedTuple):
    """How tensor cores add; see cuda/tensor.h."""

    products: int  # at once; half as many of tf32
    guard_bits: int  # kept below the last bit of float32


#: First __CUDA_ARCH__ of each kind, up to the next (F. A. Khattak and M. Mikaitis, "Accurate Models of NVIDIA Tensor
#: Cores", arXiv 2512.07004, from V100, A100, A2, Ada, L40S, H100, H200 and B200).  Those of sm_75 and from sm_103 on
#: are not known, and are taken for the worst.
WORST_TENSOR_CORES = TensorCores(4, 0)
TENSOR_CORES = {700: WORST_TENSOR_CORES, 800: TensorCores(8, 1), 900: TensorCores(16, 2), 1030: WORST_TENSOR_CORES}
#: As of sm_90 and sm_80, and worse than any that is known.
KINDS_OF_TENSOR_CORES = (TENSOR_CORES[900], TENSOR_CORES[800], WORST_TENSOR_CORES)


def tensor_cores_of(arch: int) -> TensorCores:
    """The tensor cores of an architecture, given as __CUDA_ARCH__."""
    return TENSOR_CORES[max(first for first in TENSOR_CORES if first <= arch)]


@dataclass
class Launch:
    """How kernels run: thread order and arithmetic."""

    order: str = "forward"
    seed: int = 0
    flush_subnormals: bool = False
    tensor_cores: TensorCores = WORST_TENSOR_CORES


class Module:
    """A kernel source compiled for the CPU.

    Parameters
    ----------
    file : str
        What messages call the source.
    text : str
        CUDA C++, headers inlined.
    mode : {"fast", "check"}
        Optimised, or every memory access watched.
    arch : int
        The __CUDA_ARCH__ to compile for.
    header : str
        Of the folder cuda: what the text includes.
    """

    def __init__(self, file: str, text: str, *, mode: str = "fast", arch: int = 900, header: str = "kernel.h"):
        self.file, self.mode, self.arch = file, mode, arch
        runtime()  # first: it answers the object's undefined symbols
        self.library = ctypes.CDLL(str(build_kernels(file, text, mode, arch, header)))
        self.library.cuemu_kernels.restype = ctypes.c_char_p
        self.names = self.library.cuemu_kernels().decode().split()

    @functools.cache  # noqa: B019 - modules stay loaded until the process ends
    def get_function(self, name: str) -> Kernel:
        """The kernel of that name."""
        if name not in self.names:
            raise EmulatorError(
                f'{self.file} has no extern "C" kernel {name!r}; it has {", ".join(self.names) or "none"}'
            )
        return Kernel(self, name)


class Kernel:
    """A kernel of a module; call it with (grid, block, args)."""

    def __init__(self, module: Module, name: str):
        self.module, self.name = module, name
        library = module.library
        self._run = ctypes.cast(getattr(library, f"cuemu_run_{name}"), ctypes.c_void_p)
        self._statics = ctypes.cast(library.cuemu_statics, ctypes.c_void_p)
        signature = getattr(library, f"cuemu_signature_{name}")
        signature.restype = ctypes.c_char_p
        self.parameters = _parameters(signature().decode())
        self.max_threads: int = getattr(library, f"cuemu_bound_{name}")()
        self.statistics: dict[str, int] = {}

    def _fail(self, message: str) -> EmulatorError:
        return EmulatorError(f"{self.name} ({self.module.file}): {message}")

    def _cell(
        self, index: int, parameter: Parameter | StructParameter | BytesParameter, argument: Any
    ) -> np.ndarray[Any, Any]:
        """The argument's bytes."""
        cell = parameter.cell(argument)
        if isinstance(cell, str):
            shown = f"the {argument.dtype} {argument}" if isinstance(argument, np.generic) else repr(argument)
            raise self._fail(f"argument {index} is {shown}; the parameter is {parameter}: {cell}")
        return cell

    def __call__(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        launch: Launch | None = None,
        shared_limit: int = SHARED_BYTES,
    ) -> None:
        """Run every block.  Raises EmulatorError with the kernel's line on the first fault."""
        launch = launch or Launch()
        if launch.order not in ORDERS:
            raise ValueError(f"order={launch.order!r} should be one of {', '.join(ORDERS)}")
        if len(args) != len(self.parameters):
            raise self._fail(
                f"{len(args)} arguments for {len(self.parameters)} parameters ({', '.join(map(str, self.parameters))})"
            )
        cells = [self._cell(i, *pair) for i, pair in enumerate(zip(self.parameters, args, strict=True))]
        pointers = (ctypes.c_void_p * max(len(cells), 1))(*(cell.ctypes.data for cell in cells))
        grid_size, block_size = _extent(grid), _extent(block)
        threads = block_size[0] * block_size[1] * block_size[2]
        if threads > self.max_threads:
            raise self._fail(f"{threads} threads in a block; its __launch_bounds__ are {self.max_threads}")
        if min(*grid_size, *block_size) < 1:
            raise self._fail(f"grid {grid_size} and block {block_size} should be at least 1 in every dimension")
        options = Options(
            ORDERS.index(launch.order),
            launch.seed,
            self.module.mode == "check",
            launch.flush_subnormals,
            shared_limit,
            *launch.tensor_cores,
        )
        library = runtime()
        with LOCK:
            failed = library.cuemu_launch(
                self._run,
                pointers,
                (ctypes.c_uint * 3)(*grid_size),
                (ctypes.c_uint * 3)(*block_size),
                shared_mem,
                options,
                self._statics,
            )
            message = library.cuemu_error().decode() if failed else ""
            counts = Statistics()
            library.cuemu_statistics(ctypes.byref(counts))
        self.statistics = {field[0]: int(getattr(counts, field[0])) for field in Statistics._fields_}
        if failed:
            raise self._fail(resolve_places(message))


@functools.cache
def load(file: str, text: str, mode: str, arch: int, header: str = "kernel.h") -> Module:
    """The module of this content, loaded once per process."""
    return Module(file, text, mode=mode, arch=arch, header=header)
