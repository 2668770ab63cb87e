"""The benchmarks' workloads: shapes, dtypes, starts and systems as documented; nothing is timed here."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import issparse

from bench.data import round_to_bfloat16
from bench.peers import systems_of
from bench.workloads import WORKLOADS, first_rows, workloads_of


@pytest.mark.parametrize(
    "name",
    [
        "mnist-k10",
        "mnist-uint8-k10",
        "digits-k10",
        "china-k64",
        "noise-k256",
        "texts-k20",
        "predict-k10",
        "seed-k10",
        "minibatch-k10-b1024",
    ],
)
def test_workloads_have_the_shapes_and_dtypes_they_state(name):
    workload = WORKLOADS[name]
    if workload.task == "predict":  # its centers take a fit
        workload = replace(workload, task="fit")
    if workload.distinct_start:
        pytest.importorskip("PIL")
    problem = workload.load()
    assert problem.X.shape == workload.shape
    assert problem.X.dtype == workload.dtype
    assert issparse(problem.X) or problem.X.flags.c_contiguous
    if workload.task in ("seed", "minibatch"):
        assert problem.starts == []
        return
    assert len(problem.starts) == workload.n_init
    for start in problem.starts:
        assert start.shape == (workload.n_clusters, workload.shape[1])
        assert start.dtype == (np.float32 if workload.dtype == "float32" else np.float64)
        assert len(np.unique(start, axis=0)) == workload.n_clusters


def test_the_start_is_the_one_that_is_documented():
    X = np.arange(140_000, dtype=np.float32).reshape(70_000, 2)
    rows = np.random.RandomState(0).choice(70_000, 10, replace=False)
    assert np.array_equal(first_rows(X, 10), X[rows])


def test_both_suites_have_work_and_ours_comes_first():
    assert {w.name for w in workloads_of("cpu")} < set(WORKLOADS)
    assert workloads_of("gpu")[0].name == "mnist-k10"
    assert systems_of("cpu")[0].name == "gpukmeans numpy"
    assert systems_of("gpu")[0].name == "gpukmeans cupy"
    assert all(w.shape[0] >= w.n_clusters for w in WORKLOADS.values())
    with pytest.raises(ValueError, match="no such workload; there are "):
        workloads_of("cpu", ["no-such"])
    with pytest.raises(ValueError, match="no such system; "):
        systems_of("cpu", ["no such"])


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even():
    ulp = 2.0**-7  # of bfloat16, just above 1
    given = np.array([1.0, 1 + ulp / 2, 1 + 1.5 * ulp, 1 + 0.51 * ulp, -1 - 0.49 * ulp], dtype=np.float32)
    assert round_to_bfloat16(given).tolist() == [1.0, 1.0, 1 + 2 * ulp, 1 + ulp, -1.0]
