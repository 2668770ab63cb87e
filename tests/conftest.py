"""Fixtures: every backend that can run here, and the images that they are compared on."""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections import defaultdict
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

# Before scikit-learn loads OpenMP: test workers share the cores, and threads that wait for each other by spinning would
# take them from those they wait for (tests beside scikit-learn take up to eight times as long then).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # likewise OpenBLAS; tests of several threads ask for them
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # last, so that an installed package is found before the checkout's

pytest.register_assert_rewrite("tests.support")  # a failing `assert` there shows its values, too


@functools.cache
def _backend_or_reason(name):
    """A backend, or the reason why it cannot run here."""
    if name == "numpy":
        from gpukmeans.backends.cpu.backend import NumpyBackend

        return NumpyBackend()
    if name == "toy":
        from tests.support.toy_backend import ToyBackend

        return ToyBackend()
    try:
        from gpukmeans.backends.cuda.backend import CupyBackend
        from gpukmeans.backends.cuda.device.probe import probe
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("gpukmeans"):
            raise
        return f"the checkout has no {error.name}."
    if name == "cupy":
        found = probe()
        return CupyBackend() if found.usable else found.reason
    from tests.emulator import EmulatorDevice, EmulatorUnavailable

    try:
        return CupyBackend(EmulatorDevice())
    except EmulatorUnavailable as error:
        return str(error)


@pytest.fixture(params=["numpy", "emulated", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    """NumPy, the CuPy backend on emulated CUDA, and the CuPy backend on a GPU where there is one."""
    found = _backend_or_reason(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(params=["emulated", pytest.param("cupy", marks=pytest.mark.gpu)])
def cuda_backend(request):
    """The CUDA backend on the emulator and on a GPU: results must have the same bits as those of NumPy."""
    found = _backend_or_reason(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(params=["toy", "emulated", pytest.param("cupy", marks=pytest.mark.gpu)])
def other_backend(request):
    """All backends but NumPy, also one that has only what the protocol requires."""
    found = _backend_or_reason(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(params=["numpy", "toy", "emulated", pytest.param("cupy", marks=pytest.mark.gpu)])
def every_backend(request):
    """The backends of the package, and one that has only what the protocol requires."""
    found = _backend_or_reason(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def mnist():
    """All 70,000 images, (70000, 784) uint8, read-only."""
    from gpukmeans import load_mnist

    X = load_mnist(return_X_y=True)[0]
    X.flags.writeable = False
    return X


@pytest.fixture(scope="session")
def mnist_sample(mnist):
    """200 images, all ten digits among them, (200, 784) uint8."""
    return np.ascontiguousarray(mnist[::350])


@pytest.fixture(scope="session")
def mnist_unit(mnist):
    """All 70,000 images as float64, pixels / 255."""
    return mnist / 255.0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Make weekly what `one_in(n)` leaves out; leave out the weekly tests unless `-m` names them.

    A test marked `one_in(n)` keeps one in n of its cases, those of the lowest hashes, so that no value of a parameter
    falls always to the same side.  On a GPU all are kept.
    """
    cases = defaultdict(list)
    for item in items:
        mark = item.get_closest_marker("one_in")
        if mark and not item.get_closest_marker("gpu"):
            cases[item.nodeid.partition("[")[0], mark.args[0]].append(item)
    for (_, n), some in cases.items():
        for item in sorted(some, key=lambda item: crc32(item.nodeid.encode()))[-(-len(some) // n) :]:
            item.add_marker("weekly")
    if "weekly" in config.getoption("markexpr"):
        return
    weekly = [item for item in items if item.get_closest_marker("weekly")]
    if weekly:
        config.hook.pytest_deselected(items=weekly)
        items[:] = [item for item in items if not item.get_closest_marker("weekly")]


def pytest_collection_finish():
    """Keep the garbage collector from walking through thousands of collected tests again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each worker a stretch of the files, and the rest of the longest stretch to a worker that is done.

    Neighbours then share what is computed once for a module, and seldom wait for a kernel that another worker compiles.
    Another `--dist` than the default of `-n` is heeded.
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
