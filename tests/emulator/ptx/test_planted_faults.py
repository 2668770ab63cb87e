"""Faults that only PTX shows: they are in the compiler's work, or in inline PTX that the emulator replaces."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.device import nvrtc
from gpukmeans.exact.warp_order import row_square_distances
from tests.emulator import EmulatorDevice, EmulatorError
from tests.emulator.ptx import PtxDevice
from tests.emulator.testing import skip_without_compiler
from tests.support import nvrtc_compiler
from tests.support.assertions import assert_same
from tests.support.launches import common
from tests.support.law_cases import blobs


@pytest.fixture(scope="module", autouse=True)
def _library():
    skip_without_compiler()
    nvrtc_compiler.skip_without_nvrtc()


def distances(device, dtype, scale):
    """Squared distances of rows to their centers, against NumPy's bits."""
    rng = np.random.default_rng(0)
    X, C = ((scale * rng.standard_normal(shape)).astype(dtype) for shape in ((600, 100), (5, 100)))
    labels = rng.integers(0, 5, 600).astype(np.int32)
    got = common.row_distance(device, X, C, labels)[0]
    assert np.array_equal(got, row_square_distances(X, slice(None), C[labels]))


def few_clusters(device, dtype):
    X = blobs(dtype, 200, 32)
    params = {"random_state": 0, "n_init": 1}
    assert_same(KMeans(5, backend=CupyBackend(device), **params).fit(X), KMeans(5, backend="numpy", **params).fit(X))


def many_clusters(device):
    X = blobs(np.float32, 400, 24)
    params = {"random_state": 0, "n_init": 1, "max_iter": 3}
    assert_same(KMeans(70, backend=CupyBackend(device), **params).fit(X), KMeans(70, backend="numpy", **params).fit(X))


#: (what sees it, the good text, the bad one).
FAULTS = {
    "subnormal floats are flushed": (
        lambda device: distances(device, np.float32, 1e-40),
        'asm("cvt.f64.f32 %0, %1;"',
        'asm("cvt.ftz.f64.f32 %0, %1;"',
    ),
}
#: Whole fits see them, which take longer to compile.
FAULTS_OF_FITS = {
    "a matrix product's rows in another order": (
        lambda device: few_clusters(device, np.float32),
        '"r"(row_g[0]), "r"(row_g8[0]), "r"(row_g[1]), "r"(row_g8[1])',
        '"r"(row_g[0]), "r"(row_g[1]), "r"(row_g8[0]), "r"(row_g8[1])',
    ),
    "a product of bytes whose columns are in another order": (
        lambda device: few_clusters(device, np.uint8),
        '"r"(a.w), "r"(b0), "r"(b1)',
        '"r"(a.w), "r"(b1), "r"(b0)',
    ),
    "words of a row in another order": (
        lambda device: few_clusters(device, np.uint8),
        '"=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)',
        '"=r"(value.x), "=r"(value.z), "=r"(value.y), "=r"(value.w)',
    ),
    "copies that nobody awaits": (
        many_clusters,
        'asm volatile("cp.async.wait_group %0;" ::"n"(IN_FLIGHT) : "memory");',
        'asm volatile("cp.async.wait_group %0;" ::"n"(IN_FLIGHT + 9) : "memory");',
    ),
}


def planted(good, bad):
    def source(file, constants):
        return nvrtc.source(file, constants).replace(good, bad)

    return source


def assert_seen_from_ptx_alone(sees, good, bad):
    assert any(good in nvrtc.source(file, constants) for file, constants in nvrtc.variants())
    sees(PtxDevice())
    sees(EmulatorDevice(source=planted(good, bad)))
    with pytest.raises((AssertionError, EmulatorError)):
        sees(PtxDevice(source=planted(good, bad)))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen_from_ptx_alone(fault):
    assert_seen_from_ptx_alone(*FAULTS[fault])


@pytest.mark.weekly
@pytest.mark.parametrize("fault", FAULTS_OF_FITS)
def test_a_fault_of_a_whole_fit_is_seen_from_ptx_alone(fault):
    assert_seen_from_ptx_alone(*FAULTS_OF_FITS[fault])


def test_the_compiler_is_told_not_to_contract():
    """A distance that leaves it free has NumPy's bits by the option alone, and from its source in either case."""
    good = "distance = __dadd_rn(distance, square_difference(widen(x[f]), widen(c[f])));"
    free = planted(good, "{ const double e = widen(x[f]) - widen(c[f]); distance = distance + e * e; }")
    for device in (EmulatorDevice(source=free), PtxDevice(source=free)):
        distances(device, np.float64, 1.0)
    with pytest.raises(AssertionError):
        distances(PtxDevice(source=free, options=("-fmad=true",)), np.float64, 1.0)
