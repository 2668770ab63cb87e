"""Run the package's CUDA kernels on a CPU: the same .cu sources, g++ instead of a GPU.

Every thread of a block is a fiber; barriers and warp collectives switch between them in a chosen order.  In check mode
each memory access is watched, so that races, reads of unset shared memory, and accesses that are misaligned or out of
bounds end the launch with the kernel's own line, under any order.

Tensor cores add as those of the architecture do, bit by bit where that is known.

What it does not model: bank conflicts, occupancy, speed, and memory-order faults beyond release and acquire.  It
accepts intrinsics that NVRTC rejects on old architectures: the compile matrix (test_compile_matrix.py) is the other
half of the proof.  ptx/ runs what NVRTC makes of a kernel in place of its source.

    device = EmulatorDevice(mode="check", order="random", seed=7)
    x = device.upload(np.arange(5, dtype=np.float32))
    device.kernel("double_it", "double_it", {"BLOCK": 32})(1, 32, (x, np.int32(5)))
    device.download(x)
"""

from .build import EmulatorUnavailable, require_compiler
from .device import EmulatorDevice
from .memory import DeviceArray
from .module import KINDS_OF_TENSOR_CORES, WORST_TENSOR_CORES, EmulatorError, Module, TensorCores, tensor_cores_of

__all__ = [
    "KINDS_OF_TENSOR_CORES",
    "WORST_TENSOR_CORES",
    "DeviceArray",
    "EmulatorDevice",
    "EmulatorError",
    "EmulatorUnavailable",
    "Module",
    "TensorCores",
    "require_compiler",
    "tensor_cores_of",
]
