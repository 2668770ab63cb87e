"""The emulated device: stands in for gpukmeans.backends.cuda.device.cupy_device.CupyDevice below the CuPy backend.

Everything above this seam is the package's own code, and runs unchanged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .build import require_compiler
from .memory import DeviceArray, allocate
from .module import Launch, Module, TensorCores, load, most_shared_bytes, tensor_cores_of

DEFAULT_MEMORY = 16 << 30  # bytes that memory() reports; nothing is reserved
STAGED_BYTES = 1 << 16  # most bytes that a GPU's host passes on in one small copy


def _package_source(file: str, constants: Mapping[str, int | str]) -> str:
    from gpukmeans.backends.cuda.device import nvrtc  # here: the emulator's own tests need no package

    return nvrtc.source(file, constants)


class EmulatorDevice:
    """A CUDA device on the CPU.

    Parameters
    ----------
    mode : {"fast", "check"}, default="fast"
        Optimised; or every memory access watched (about five times slower), with races, unset shared memory, bounds
        and alignment reported.
    order : {"forward", "reverse", "random"}, default="forward"
        In which order threads and blocks run.
    seed : int, default=0
        Of the random order.
    memory_limit : int, optional
        Bytes of device memory; an allocation beyond it raises MemoryError, as CuPy's OutOfMemoryError is one.
    arch : int, default=900
        The __CUDA_ARCH__ that kernels are compiled for.
    flush_subnormals : bool, default=False
        Flush subnormal results and operands to zero, as CuPy's -ftz=true does for float (here for double too).
    tensor_cores : TensorCores, optional
        How they add; by default as those of `arch` do.
    index : int, default=0
        The device's number.
    source : callable, optional
        source(file, constants) -> text; the package's own by default.

    Raises
    ------
    EmulatorUnavailable
        Where there is no usable C++ compiler.
    """

    name = "CUDA emulator"
    multiprocessors = 3

    def __init__(
        self,
        *,
        mode: str = "fast",
        order: str = "forward",
        seed: int = 0,
        memory_limit: int | None = None,
        arch: int = 900,
        flush_subnormals: bool = False,
        tensor_cores: TensorCores | None = None,
        index: int = 0,
        source: Callable[[str, Mapping[str, int | str]], str] | None = None,
    ):
        require_compiler()
        self.mode, self.arch = mode, arch
        self.launch = Launch(order, seed, flush_subnormals, tensor_cores or tensor_cores_of(arch))
        self.memory_limit = memory_limit
        self.index = index
        self.bytes_in_use = 0
        self.peak_bytes = 0
        self.launches: Counter[str] = Counter()  # by the name of the kernel
        #: What a GPU's host would pay for beside launches: allocations, uploads, fills, and waits for a download.
        self.calls: Counter[str] = Counter()
        self._source = source or _package_source

    @property
    def shared_bytes(self) -> int:
        """What a block can have on this architecture."""
        return most_shared_bytes(self.arch)

    @property
    def n_launches(self) -> int:
        """Of all kernels."""
        return self.launches.total()

    @property
    def capability(self) -> tuple[int, int]:
        """Its compute capability."""
        return divmod(self.arch // 10, 10)

    @property
    def tensor_cores(self) -> TensorCores:
        """How its tensor cores add."""
        return self.launch.tensor_cores

    def own_order(self) -> EmulatorDevice:
        """The device itself: there is only one order here."""
        return self

    # ---- memory ----------------------------------------------------------------------------------------------

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike) -> DeviceArray:
        """An array whose bytes are all 0xff: NaN, or -1."""
        self.calls["allocations"] += 1
        sizes = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(size) for size in shape)
        wanted = np.dtype(dtype)
        nbytes = math.prod(sizes) * wanted.itemsize
        total = DEFAULT_MEMORY if self.memory_limit is None else self.memory_limit
        if self.bytes_in_use + nbytes > total:
            raise MemoryError(
                f"Out of memory allocating {nbytes:,} bytes (allocated so far: {self.bytes_in_use:,} bytes, "
                f"limit set to: {total:,} bytes)."
            )

        def released() -> None:
            self.bytes_in_use -= nbytes

        array = allocate(sizes, wanted, released, self.index)
        self.bytes_in_use += nbytes
        self.peak_bytes = max(self.peak_bytes, self.bytes_in_use)
        return array

    def arrays(self, *specs: tuple[int | Sequence[int], DTypeLike]) -> list[DeviceArray]:
        """Several arrays, each between guard pages of its own; counted as one allocation."""
        self.calls["allocations"] -= len(specs) - 1
        return [self.empty(*spec) for spec in specs]

    def upload(self, host: NDArray[Any]) -> DeviceArray:
        """Allocate, and copy a host array there."""
        array = self.empty(host.shape, host.dtype)
        self.write(array, host)
        return array

    def uploads(self, *hosts: NDArray[Any]) -> list[DeviceArray]:
        """The same of several, counted as one."""
        arrays = self.arrays(*((host.shape, host.dtype) for host in hosts))
        self.writes(*zip(arrays, hosts, strict=True))
        return arrays

    def adopt(self, array: Any, dtype: np.dtype[Any] | None) -> DeviceArray:
        """The array itself; a copy where another dtype is requested.  Such arrays are always C-contiguous.

        Arrays of another kind hand theirs over by DLPack, as far as that goes here.
        """
        if not isinstance(array, DeviceArray):
            array = array.__dlpack__()
        same = dtype is None or array.dtype == dtype
        return array if same else self.upload(array.host_view().astype(dtype))

    @contextmanager
    def for_caller(self, shape: int | Sequence[int], dtype: DTypeLike) -> Iterator[DeviceArray]:
        """An array like any other: there is only one order here."""
        yield self.empty(shape, dtype)

    def copy(self, array: DeviceArray, source: DeviceArray) -> None:
        """Copy a device array into another of the same shape and dtype."""
        _like_to_like("copy", array, source, "source")
        array.host_view()[...] = source.host_view()

    def write(self, array: DeviceArray, host: NDArray[Any]) -> None:
        """Copy a host array into an existing device array of the same shape and dtype."""
        self.writes((array, host))

    def writes(self, *pairs: tuple[DeviceArray, NDArray[Any] | int]) -> None:
        """The same of several, or fills, counted as one upload if they are small; else host arrays count as one."""
        small = sum(array.nbytes for array, _ in pairs) <= STAGED_BYTES
        bytes_of = [value for _, value in pairs if isinstance(value, int)]
        self.calls["uploads"] += small or len(bytes_of) < len(pairs)
        self.calls["fills"] += 0 if small else len(set(bytes_of))
        for array, value in pairs:
            if isinstance(value, int):
                self._fill(array, value)
            else:
                _like_to_like("write", array, value, "host")
                array.host_view()[...] = value

    def download(self, array: DeviceArray) -> NDArray[Any]:
        """A fresh host copy."""
        return self.downloads(array)[0]

    def downloads(self, *arrays: DeviceArray) -> list[NDArray[Any]]:
        """Those of several, counted as one wait."""
        self.calls["waits"] += 1
        return [array.host_view().copy() for array in arrays]

    def fill(self, array: DeviceArray, byte: int) -> None:
        """Set every byte."""
        self.fills([array], byte)

    def fills(self, arrays: Sequence[DeviceArray], byte: int) -> None:
        """The same of several, counted as one."""
        self.calls["fills"] += 1
        for array in arrays:
            self._fill(array, byte)

    def _fill(self, array: DeviceArray, byte: int) -> None:
        if not 0 <= byte <= 255:
            raise ValueError(f"byte={byte} should be from 0 to 255")
        array.host_view().reshape(-1).view(np.uint8)[...] = byte

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        total = DEFAULT_MEMORY if self.memory_limit is None else self.memory_limit
        return total - self.bytes_in_use, total

    def synchronize(self) -> None:
        """Nothing to wait for: launches return when they are done."""

    def stage(self, shape: tuple[int, ...], dtype: DTypeLike) -> Stage:
        """Room for copies that go on beside the launches."""
        return Stage(self, shape, dtype)

    # ---- kernels ---------------------------------------------------------------------------------------------

    def kernel(self, file: str, name: str, constants: Mapping[str, int | str]) -> Callable[..., None]:
        """The kernel `name` of kernels/<file>.cu, compiled with the constants; call it with (grid, block, args)."""
        function = self._load(file, self._source(file, constants)).get_function(name)

        def call(grid: Any, block: Any, args: Sequence[Any], shared_mem: int = 0) -> None:
            self.launches[name] += 1
            limit = self.shared_bytes
            function(grid, block, args, shared_mem=shared_mem, launch=self.launch, shared_limit=limit)

        return call

    def _load(self, file: str, text: str) -> Module:
        """The compiled source of a kernel."""
        return load(f"{file}.cu", text, self.mode, self.arch)

    def record(self, launches: Callable[[], None]) -> Callable[[], None]:
        """The launches themselves."""
        return launches

    def address(self, array: DeviceArray) -> int:
        """The address of the array."""
        return array.address


def _like_to_like(verb: str, array: Any, source: Any, what: str) -> None:
    if array.shape != source.shape or array.dtype != source.dtype:
        raise ValueError(
            f"{verb} needs equal shapes and dtypes: the device array has shape {array.shape} and dtype {array.dtype}, "
            f"the {what} array {source.shape} and {source.dtype}"
        )


class Stage:
    """Copies as late as possible: none is done before `receive`.

    Between two uses the array on the device holds 0xff, and verbs out of turn raise.
    """

    def __init__(self, device: EmulatorDevice, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._device = device
        self._array = device.empty(shape, dtype)
        self._host = np.zeros(shape, dtype)
        self._sent = self._in_use = False

    def host(self) -> NDArray[Any]:
        """The array on the host; a copy under way would end first."""
        self._sent = False
        return self._host

    def send(self) -> None:
        """From here on the host's array is the copy's."""
        assert not self._in_use, "a copy begins while launches may still read the array: release comes first"
        self._sent = True

    def receive(self) -> DeviceArray:
        """Now the copy has arrived."""
        assert self._sent, "nothing has been sent"
        self._sent, self._in_use = False, True
        self._device.write(self._array, self._host)
        return self._array

    def release(self) -> None:
        """Nothing may be read from here on."""
        assert self._in_use, "nothing has been received"
        self._in_use = False
        self._device.fill(self._array, 0xFF)
