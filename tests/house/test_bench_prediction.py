"""What assignments will take on a GPU, predicted by counting: the formula, and its record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import prediction
from bench.prediction import CLOCK, MULTIPROCESSORS, PEERS, Counts
from bench.workloads import WORKLOADS, workloads_of
from tests.support import nvrtc_compiler, sass
from tests.support.nvrtc_compiler import NvrtcUnavailable

RECORD = Path(__file__).resolve().parents[2] / "bench" / "results" / "predicted.json"


def test_the_longest_part_counts_and_products_and_instructions_add_up():
    second = MULTIPROCESSORS * CLOCK
    few = Counts(prediction.MEMORY * 3, prediction.CACHE * 2, prediction.MMA_SYNC, second * 4, second * 128 / 2)
    assert (few.seconds()["time"], few.seconds()["overlapped"]) == pytest.approx((3, 3))
    many = Counts(prediction.MEMORY, prediction.CACHE * 2, prediction.MMA_SYNC, second * 6, second * 128 / 2, 1.5)
    assert (many.seconds()["time"], many.seconds()["overlapped"]) == pytest.approx((3.75, 2.25))


def test_published_kernels_are_predicted_within_thirty_percent():
    found = json.loads(RECORD.read_text())
    for name, (*shape, published) in PEERS.items():
        ratio = prediction.of_peer(*shape).seconds(prediction.TENSOR)["time"] / published
        assert found["peers"][name]["ratio"] == pytest.approx(ratio)
        assert 0.7 < ratio < 1.3
    assert set(found["assignments"]) == {w.name for w in workloads_of("gpu") if w.task in ("fit", "predict")}
    assert all(work["seconds"]["time"] > 0 for work in found["assignments"].values())


def test_instructions_are_those_of_the_machine_code():
    try:
        nvrtc_compiler.require_nvrtc()
        sass.nvdisasm()
    except NvrtcUnavailable as error:
        pytest.skip(str(error))
    counts = prediction.of_work(WORKLOADS["mnist-uint8-k10"])
    of_warp = counts.instructions / (70_000 / 32)
    # 13 groups of 64 columns, of at most 2.34 instructions a product but for the product, 24 a group.
    assert 300 < of_warp < 13 * 24 * 1.34 + 1000
    assert counts.waves == 1.0
