"""Faults planted in the sources of kernels: the tests of a kernel must fail on each of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import pytest

from gpukmeans.backends.cuda.device import nvrtc
from tests.emulator import EmulatorError
from tests.support.launches.common import ORDERS, watched


def some_weekly(faults: Iterable) -> list:
    """Parameters of a test: every sixth fault at any time, the others weekly.  Each has its kernel compiled for it.

    A fault is given by its name, or by a tuple with a value for each parameter.
    """
    every = [fault if isinstance(fault, tuple) else (fault,) for fault in faults]
    return [pytest.param(*fault, marks=pytest.mark.weekly if i % 6 else ()) for i, fault in enumerate(every)]


def assert_fault_is_seen(name, run, good, bad):
    """`run(device)` passes, and with `bad` in the place of `good` it fails in some order of threads."""
    assert any(good in source for source in sources()), f"{name}: the text to replace is in no kernel: {good}"
    run(watched())
    for order, seed in ORDERS:
        try:
            run(watched(order, seed, [(good, bad)]))
        except AssertionError:
            return
        except EmulatorError as caught:
            if "does not compile" in str(caught):  # a fault that does not compile proves nothing
                raise
            return
    raise AssertionError(f"no check failed although {name}")


@functools.cache
def sources():
    """The text of every kernel, with its headers."""
    return [nvrtc.source(file, {}) for file in {file for file, _ in nvrtc.variants()}]


def assert_planted(faults):
    """The good text of each fault, (run, good, bad), occurs in a kernel's source."""
    for *_, good, _bad in faults.values():
        assert any(good in text for text in sources()), good


def fault_tests(faults):
    """Two tests for a test module: each fault is seen, and its text is in a kernel.

    Parameters
    ----------
    faults : dict
        By their names: the runner that fails on a fault, which takes a device; the good text; the bad text.
    """

    @pytest.mark.parametrize("name", some_weekly(faults))
    def test_planted_faults_are_caught(name):
        assert_fault_is_seen(name, *faults[name])

    def test_planted_faults_are_really_planted():
        assert_planted(faults)

    return test_planted_faults_are_caught, test_planted_faults_are_really_planted


def own_test(module, name, *args):
    """A runner for `assert_fault_is_seen`: a test of `module`, its globals, on the device with the fault."""

    def run(device):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(module, "watched", lambda *_: device)
            module[name](*args)

    return run
