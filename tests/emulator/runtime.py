"""The loaded run time: its C functions, and the lock that lets one thread at a time call them."""

from __future__ import annotations

import ctypes
import functools
import threading

from .build import build_runtime

# Fibers, detector and buffer table are global to the process.  Re-entrant: garbage collection may free an array while
# this thread prepares a launch.
LOCK = threading.RLock()


class Options(ctypes.Structure):
    """How to run one launch: struct Options in cuda/runtime/state.h."""

    _fields_ = (
        ("order", ctypes.c_int),
        ("seed", ctypes.c_uint32),
        ("watch", ctypes.c_int),
        ("flush_subnormals", ctypes.c_int),
        ("shared_limit", ctypes.c_uint32),
        ("products", ctypes.c_int),
        ("guard_bits", ctypes.c_int),
    )


class Statistics(ctypes.Structure):
    """What the last launch did."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("switches", "collectives", "barriers", "accesses"))


@functools.cache
def runtime() -> ctypes.CDLL:
    """Build and load the run time.  Its symbols are global: the kernels' objects refer to them."""
    library = ctypes.CDLL(str(build_runtime()), mode=ctypes.RTLD_GLOBAL)
    library.cuemu_error.restype = ctypes.c_char_p
    library.cuemu_malloc.restype = ctypes.c_void_p
    library.cuemu_malloc.argtypes = [ctypes.c_size_t]
    library.cuemu_free.restype = None
    library.cuemu_free.argtypes = [ctypes.c_void_p]
    library.cuemu_launch.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_uint),
        ctypes.POINTER(ctypes.c_uint),
        ctypes.c_size_t,
        ctypes.POINTER(Options),
        ctypes.c_void_p,
    ]
    return library
