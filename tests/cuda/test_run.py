"""Iterations on the device: `advance` is `assign` and `update`, step by step, in few looks and without allocations."""

from __future__ import annotations

import re
from enum import IntEnum

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda import control as cupy_control
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda import workspace as cupy_workspace
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.control import HISTORY, LASTING, Control, Fact, History, Measure, Reason, Scale
from gpukmeans.backends.cuda.device import nvrtc
from gpukmeans.datasets import near_ties
from gpukmeans.engine.tolerance import mean_variance
from gpukmeans.exact.sums import exact_total
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_labels, assert_same
from tests.support.launches.common import ROW_DTYPES, rows_and_centers


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def load(X, weight=None, device=None):
    return CupyBackend(device or EmulatorDevice()).load(X, weight)


def case(n, k, d, dtype):
    """Noise: centers that begin at rows, and wander for long."""
    X, _ = rows_and_centers(n, 1, d, dtype)
    return X, X[:: n // k][:k].astype(center_dtype(X.dtype))


def slow_case():
    """Centers that all begin at one end of a line: 101 iterations."""
    X = np.sort(np.random.default_rng(0).uniform(0, 1, (500, 1)), axis=0).astype(np.float32)
    return X, X[:12]


def step_by_step(run, limit, tol):
    """What `advance` says that it does."""
    steps = []
    while len(steps) < limit:
        assigned, updated = run.assign(), run.update()
        n_empty = int((updated.weights == 0).sum())
        shift = float("nan") if n_empty else exact_total(updated.shift_square)
        steps.append((*assigned[:6], shift, n_empty))
        if assigned.n_moved == 0 or shift <= tol or n_empty:
            break
    return steps


def advanced(run, limit, tol):
    """`advance` again and again, where a single call does not go so far."""
    steps = []
    while len(steps) < limit:
        some = run.advance(limit - len(steps), tol)
        assert 1 <= len(some) <= min(limit - len(steps), HISTORY)
        steps += [(*step.assigned[:6], step.shift, step.n_empty) for step in some]
        assert all(step.seconds > 0 for step in some)
        if steps[-1][0] == 0 or steps[-1][6] <= tol or steps[-1][7]:
            break
    return steps


def state(run):
    return run.labels(), *run.sums(), run.centers(), run.assigned_centers(), run.weights()


def check(X, C, weight=None, limit=1000, tol=-1.0, precision="exact"):
    """The steps, in the same words and bits both ways; and NumPy's labels and centers."""
    rows = load(X, weight)
    runs = [rows.start(C, precision=precision) for _ in range(2)]
    steps = [go(run, limit, tol) for go, run in zip((advanced, step_by_step), runs, strict=True)]
    assert str(steps[0]) == str(steps[1])  # where a shift is NaN, too
    for one, other in zip(*map(state, runs), strict=True):
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if precision == "exact":
        run = NumpyBackend().load(X, weight).start(C)
        assert [step[0] for step in step_by_step(run, limit, tol)] == [step[0] for step in steps[0]]
        for one, other in zip(state(run), state(runs[0]), strict=True):
            assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return steps[0], runs[0]


# ---- advance ----------------------------------------------------------------------------------------------------


@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
def test_to_the_end_in_one_go(dtype, weighted):
    X, C = case(300, 7, 5, dtype)
    steps, run = check(X, C, np.random.default_rng(1).uniform(0, 2, 300) if weighted else None)
    assert len(steps) > 8  # graphs have been replayed
    assert steps[-1][0] == 0
    assert sum(step[5] for step in steps) > 300  # rows were skipped
    assert_labels(run.labels(), X, run.assigned_centers())


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 9, 12])
def test_limits_are_kept(limit):
    X, C = case(400, 9, 3, np.float32)
    steps, _ = check(X, C, limit=limit)
    assert len(steps) == limit


@pytest.mark.one_in(2)
@pytest.mark.parametrize("limit", [HISTORY - 1, HISTORY, HISTORY + 1, 1000])
def test_limits_about_the_length_of_the_record(limit):
    X, C = slow_case()
    steps, _ = check(X, C, limit=limit)
    assert len(steps) == limit or limit == 1000
    assert len(steps) >= HISTORY - 1


def test_shifts_within_the_tolerance_end_it():
    X, C = case(400, 9, 3, np.float64)
    shifts = [step[6] for step in check(X, C)[0]]
    at = next(i for i in range(3, len(shifts)) if shifts[i] < min(shifts[:i]))
    assert len(check(X, C, tol=shifts[at])[0]) == at + 1
    assert len(check(X, C, tol=np.nextafter(shifts[at], 0))[0]) > at + 1


@pytest.mark.parametrize("beyond", [0.0, 1e-14, -1e-14])
def test_a_tolerance_that_bounds_leave_open_is_computed(beyond):
    """The device stops by a bound of it, and goes on where the shift is above it."""
    X = case(400, 9, 3, np.float32)[0]
    params = {"init": X[:9], "n_init": 1}
    shifts = [it.shift for it in KMeans(9, tol=0.0, backend="numpy", **params).fit(X).fit_report_.iterations]
    at = next(i for i in range(5, len(shifts)) if shifts[i] < min(shifts[:i]))
    tol = shifts[at] / mean_variance(NumpyBackend().load(X)) * (1 + beyond)
    device = EmulatorDevice()
    models = [KMeans(9, tol=tol, backend=backend, **params).fit(X) for backend in (CupyBackend(device), "numpy")]
    assert_same(*models)
    assert device.launches["row_distance"] == 2  # for the variance, and for the inertia
    assert models[0].n_iter_ == at + 1 or beyond <= 0


def test_it_goes_on_from_where_it_stopped():
    """Assignments, updates, centers that are set and iterations in one go, in any order."""
    X, C = case(300, 6, 4, np.float32)
    rows = load(X)
    mixed, plain = rows.start(C), rows.start(C)
    mixed.assign()
    mixed.update()
    mixed.advance(3, -1.0)
    mixed.set_centers(mixed.centers()[::-1])
    mixed.advance(1, -1.0)
    mixed.assign()
    mixed.update()
    step_by_step(plain, 4, -1.0)
    plain.set_centers(plain.centers()[::-1])
    step_by_step(plain, 2, -1.0)
    for one, other in zip(state(mixed), state(plain), strict=True):
        assert np.array_equal(one, other)


def test_fast_leaves_the_same_rows_to_the_screen():
    X, C = near_ties(200, 7, 11, seed=1)
    steps, _ = check(X, C, precision="fast")
    assert steps[0][4] > 100


def test_near_ties_are_decided_on_the_way():
    X, C = near_ties(150, 7, 11, seed=1, dtype=np.float64)
    steps, _ = check(X, C)
    assert steps[0][3] > 0


@pytest.mark.parametrize("limit", [1, 6, 100])
def test_rows_left_open_in_every_iteration(limit):
    """Mirror images, and rows without weight on the mirror: ties for ever, which only the host can tell."""
    local = np.random.default_rng(3)
    half = abs(local.standard_normal((150, 3))) + 0.1
    flip = np.array([-1.0, 1.0, 1.0])
    on_mirror = local.standard_normal((9, 3)) * [0.0, 3.0, 3.0]
    X = np.concatenate([half, half * flip, on_mirror])
    weight = np.concatenate([np.ones(300), np.zeros(9)])
    C = np.concatenate([half[:4], half[:4] * flip])
    steps, run = check(X, C, weight, limit=limit)
    assert len(steps) > 6 or len(steps) == limit
    assert all(step[3] == 9 for step in steps)
    assert np.array_equal(run.centers()[4:], run.centers()[:4] * flip)


def test_empty_clusters_end_it():
    X, C = case(200, 5, 3, np.float64)
    C[3] = 500
    steps, run = check(X, C)
    assert len(steps) == 1
    assert steps[0][7] == 1
    assert np.isnan(run.centers()[3]).all()
    with pytest.raises(ValueError, match="give empty clusters a center"):
        run.advance(3, -1.0)
    C[3] = 0
    run.set_centers(C)
    assert run.advance(3, -1.0)[0].n_empty == 0


def meeting_centers():
    """Rows whose first two centers are rounded to the same numbers by the first update; the others go on."""
    near = np.array([[-1, 0]] * 3 + [[1, 1]] * 2 + [[1, 0]] * 3 + [[-1, -1]] * 2) / 2 + 2.0**22 + 8
    others = np.random.default_rng(0).uniform(-100, 100, (200, 2))
    C = np.concatenate([np.array([[-1, 2], [1, -2]]) / 2 + 2.0**22 + 8, others[:4]])
    return np.concatenate([near, others]).astype(np.float32), C.astype(np.float32)


def test_centers_that_meet_are_one_candidate():
    X, C = meeting_centers()
    steps, run = check(X, C, limit=1)
    assert np.array_equal(run.centers()[0], run.centers()[1])
    after = run.advance(1, -1.0)
    assert after[0].assigned.n_exact == 0  # the host told the screen which of them counts
    assert after[0].n_empty == 1
    steps, run = check(X, C)
    assert len(steps) == 2
    assert_labels(run.labels(), X, run.assigned_centers())
    assert (run.labels()[:10] == 0).all()


def test_equal_centers_that_are_given_do_not_stop_it():
    X, C = case(200, 6, 3, np.float32)
    C[4] = C[1]
    steps, run = check(X, C)
    assert steps[0][7] == 1
    assert_labels(run.labels(), X, C)


# ---- what it costs ----------------------------------------------------------------------------------------------


def looks_of(run, device, limit):
    """Steps taken, and how often the host waited."""
    before = device.calls["waits"]
    return len(run.advance(limit, -1.0)), device.calls["waits"] - before


def test_looks_are_few_and_nothing_is_allocated():
    """After four iterations and one graph of four; then 2, 4 and 8 graphs at a time."""
    X, C = slow_case()
    device = EmulatorDevice()
    run = load(X, device=device).start(C)
    run.assign()
    run.update()
    run.assign()
    before = device.bytes_in_use, device.peak_bytes
    assert looks_of(run, device, 1) == (1, 1)
    assert looks_of(run, device, 4) == (4, 1)
    assert looks_of(run, device, 8) == (8, 1)
    assert looks_of(run, device, 44) == (44, 4)  # after 4, 12, 28, 60: the graph is recorded once
    assert (device.bytes_in_use, device.peak_bytes) == before


def test_launches_beyond_the_last_iteration_are_few(monkeypatch):
    X, C = case(300, 7, 5, np.float32)
    device = EmulatorDevice()
    run = load(X, device=device).start(C)
    launches = device.n_launches
    n_steps = len(run.advance(1000, -1.0))
    assert 3 * n_steps <= device.n_launches - launches <= 3 * (2 * n_steps + 2 * cupy_workspace.GRAPH_ITERATIONS)


def test_a_step_is_three_launches_and_three_small_downloads_and_allocates_nothing(monkeypatch):
    X, C = case(100, 4, 5, np.float32)
    device = EmulatorDevice()
    run = load(X, device=device).start(C)
    run.assign()
    run.update()
    downloads, before = [], (device.n_launches, device.bytes_in_use, device.peak_bytes)
    copy = device.download
    monkeypatch.setattr(device, "download", lambda array: downloads.append(array.nbytes) or copy(array))
    run.assign()
    run.update()
    # Whether centers may be equal, what the assignment did, and the measures of the centers.
    assert downloads == [4 * len(Control), 4 * len(Control), 8 * 4 * len(Measure)]
    assert device.n_launches - before[0] == 3
    assert (device.bytes_in_use, device.peak_bytes) == before[1:]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centers_and_rows_far_from_all_others_count(dtype):
    """Their halves and the squares of their norms are infinite in float32; nothing else about them is."""
    far = 1e30 if dtype == np.float32 else 1e300 / 2**600
    X, _ = case(2100, 1, 2, dtype)
    sampled = {s * 2100 // tuning.SAMPLE_ROWS for s in range(tuning.SAMPLE_ROWS)}
    i, j = (row for row in (1, 3) if row not in sampled)
    X[i], X[j] = far, far / 8
    C = np.array([[0, 0], [1, 1], [far, far], [far / 8, far]], dtype)
    rows = load(X)
    assert np.isinf(rows.table.device.download(rows.table.facts.norms)[[i, j]]).all()
    run = rows.start(C)
    run.assign()
    assert_labels(run.labels(), X, C)
    assert run.labels()[i] == 2
    run = rows.start(C[2:])
    run.assign()
    assert_labels(run.labels(), X, C[2:])


# ---- the words of kernels/control.cuh ---------------------------------------------------------------------------


def words_of(file, name):
    text = re.sub(r"//.*", "", (nvrtc.kernels_folder() / file).read_text())
    return re.findall(r"\w+", re.search(rf"enum {name} {{(.*?)}};", text, re.DOTALL)[1])


@pytest.mark.parametrize(
    ("file", "name", "words", "end"),
    [
        ("control.cuh", "ControlWord", Control, ["CONTROL_WORDS"]),
        ("control.cuh", "StopReason", Reason, []),
        ("control.cuh", "FactWord", Fact, ["FACT_WORDS"]),
        ("control.cuh", "ScaleWord", Scale, ["SCALE_WORDS"]),
        ("control.cuh", "HistoryWord", History, ["HISTORY_WORDS"]),
        ("score_facts.cuh", "Measure", Measure, ["N_MEASURES"]),
    ],
)
def test_words_are_those_of_the_kernels(file, name, words, end):
    assert [word.name for word in words] + end == words_of(file, name)
    assert [int(word) for word in words] == list(range(len(words)))


def test_every_enumeration_is_compared():
    enums = [value for value in vars(cupy_control).values() if isinstance(value, type) and issubclass(value, IntEnum)]
    assert {enum.__name__ for enum in enums if len(enum)} == {
        "Control",
        "Reason",
        "Fact",
        "Scale",
        "History",
        "Measure",
    }
    assert Control.EPOCH > Control.TICKETS > LASTING == Control.HAS_EQUAL > Control.N_LIMIT  # what a reset leaves alone
