"""The emulator's detector can fail: every planted fault is caught under every order, every mended kernel passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.emulator import EmulatorDevice, EmulatorError
from tests.emulator.testing import own_source, skip_without_compiler

ORDERS = [("forward", 0), ("reverse", 0), *(("random", seed) for seed in range(8))]


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


@dataclass(frozen=True)
class Fault:
    kernel: str
    message: str  # regular expression
    n: int = 64  # elements of x and y
    grid: int = 1
    block: int = 64
    shared: int = 0
    outputs: int | None = None


RACE = r"race \((read after write|write after read|write after write)\)"
UNSET = "use of uninitialised value on shared memory"
FAULTS = [
    Fault("missing_barrier", f"{RACE} on shared|{UNSET}"),
    Fault("missing_barrier_before_reuse", f"{RACE} on shared"),
    Fault("missing_syncwarp", f"{RACE} on shared|{UNSET}"),
    Fault("missing_barrier_after_atomics", f"{RACE} on shared"),
    Fault("uninitialised_shared", UNSET),
    Fault("uninitialised_byte", UNSET),
    Fault("uninitialised_dynamic_shared", UNSET, shared=256),
    Fault("read_out_of_bounds", "0 bytes past the end of a 400-byte device buffer|3 bytes past the end", n=100, grid=2),
    Fault("read_before_the_start", "4 bytes before a 400-byte device buffer", n=100, grid=2),
    Fault("write_out_of_bounds", "3 bytes past the end of a 404-byte device buffer", n=101, grid=2),
    Fault("misaligned_vector", r"faults.cu:\d+: misaligned address: this access needs 16 bytes"),
    Fault("static_shared_overrun", r"faults.cu:\d+: array index out of bounds"),
    Fault("dynamic_shared_overrun", "past the end of a 256-byte dynamic shared buffer", shared=256),
    Fault("sum_across_blocks", f"{RACE} on global memory", grid=5, outputs=1),
    Fault("read_what_another_block_writes", f"{RACE} on global memory", grid=5, outputs=5 * 64),
    Fault("sum_in_shared", f"{RACE} on shared"),
    Fault("divergent_barrier", "divergent barrier: other threads of the block wait at line"),
    Fault("deadlock", "no thread can go on"),
    Fault("full_mask_in_half_a_warp", "thread exits while a warp collective waits|names a lane that has exited"),
    Fault("lane_outside_its_mask", "the calling lane is not in its own mask"),
    Fault("shuffle_from_outside_the_mask", "shuffle reads a lane that is not in the mask"),
    Fault("collective_after_exit", "thread exits while a warp collective waits|names a lane that has exited"),
    Fault("different_collectives", "the lanes of the mask disagree"),
    Fault("index_overflow", r"faults.cu:\d+: signed integer overflow in a multiplication"),
    Fault("shift_too_far", r"faults.cu:\d+: shift by a negative amount"),
    Fault("cast_out_of_range", r"faults.cu:\d+: floating-point value does not fit"),
    Fault("failed_assertion", r"faults.cu:\d+: assert\(.*\) failed"),
]


def launch(fault: Fault, planted: bool, order: str, seed: int) -> None:
    device = EmulatorDevice(mode="check", order=order, seed=seed, source=own_source)
    x = device.upload(np.arange(fault.n, dtype=np.float32))
    y = device.upload(np.zeros(fault.outputs or fault.n, np.float32))
    kernel = device.kernel("faults", fault.kernel, {})
    kernel(fault.grid, fault.block, (x, np.int32(fault.n), np.int32(planted), y), shared_mem=fault.shared)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kernel)
def test_a_planted_fault_is_caught_under_every_order_and_names_the_line(fault):
    for order, seed in ORDERS:
        with pytest.raises(EmulatorError, match=fault.message) as caught:
            launch(fault, True, order, seed)
        assert "faults.cu" in str(caught.value), (order, seed)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kernel)
def test_the_mended_kernel_passes_under_every_order(fault):
    for order, seed in ORDERS:
        launch(fault, False, order, seed)


def test_a_report_gives_both_lines_of_a_race():
    with pytest.raises(EmulatorError) as caught:
        launch(next(fault for fault in FAULTS if fault.kernel == "sum_in_shared"), True, "forward", 0)
    line = 1 + own_source("faults", {}).splitlines()[1:].index("  if (fault) s += 1.f;")
    assert str(caught.value).count(f"faults.cu:{line}") == 2
    assert "thread 0 of block 0" in str(caught.value)


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_too_weak_a_wait_for_asynchronous_copies_is_caught(order, seed, steps):
    x = np.arange(steps * 128, dtype=np.float32)
    for fault in (0, 1):
        device = EmulatorDevice(mode="check", order=order, seed=seed, source=own_source)
        y = device.empty(x.size, np.float32)
        kernel = device.kernel("tensor", "double_by_stages", {"FAULT": fault})
        kernel(1, 32, (device.upload(x), np.int32(steps), y))
        # A copy lands at its wait and is NaN before it, so the fault shows as a wrong result.
        assert np.array_equal(device.download(y), 2 * x) == (not fault)


@pytest.mark.parametrize(("order", "seed"), ORDERS)
def test_the_last_block_needs_a_fence_to_read_what_the_others_wrote(order, seed):
    x = np.random.default_rng(0).integers(0, 1000, 1000).astype(np.float64)
    for fence in (1, 0):
        device = EmulatorDevice(mode="check", order=order, seed=seed, source=own_source)
        partial, total = device.empty(8, np.float64), device.empty(1, np.float64)
        ticket = device.upload(np.zeros(1, np.uint32))
        kernel = device.kernel("cooperation", "last_block_sum", {"FENCE": fence})
        args = (device.upload(x), np.int32(x.size), partial, ticket, total)
        if fence:
            kernel(8, 128, args)
            assert device.download(total)[0] == x.sum()
            assert device.download(ticket)[0] == 0
        else:
            with pytest.raises(EmulatorError, match=r"race \(read after write\) on global memory"):
                kernel(8, 128, args)


def test_a_fault_leaves_the_device_usable():
    fault = next(fault for fault in FAULTS if fault.kernel == "read_out_of_bounds")
    for mode in ("fast", "check"):
        device = EmulatorDevice(mode=mode, source=own_source)
        x = device.upload(np.arange(1024, dtype=np.float32))
        y = device.empty(1024, np.float32)
        kernel = device.kernel("faults", fault.kernel, {})
        with pytest.raises(EmulatorError, match="past the end of a 4096-byte device buffer"):
            kernel(16, 64, (x, np.int32(1024), np.int32(1), y))
        kernel(16, 64, (x, np.int32(1024), np.int32(0), y))
        assert np.array_equal(device.download(y), np.arange(1024))
