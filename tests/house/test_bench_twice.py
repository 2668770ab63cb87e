"""The comparison of fits in bits; nothing is timed here."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bench import table, twice
from bench.data import blobs
from bench.systems import Outcome, System
from bench.workloads import Workload

LABELS, CENTERS = np.array([0, 1, 1]), np.array([[0.0], [1.0]])
SMALL = Workload("mnist", "200 rows", "fit", 3, (200, 2), lambda: blobs(200, 2, 3))


def fit_of(**changes):
    return twice.digests(replace(Outcome(LABELS, CENTERS, 3, 1.5), **changes))


def test_every_bit_of_a_result_counts_and_the_type_of_labels_does_not():
    plain = fit_of()
    assert twice.differing([plain, fit_of(labels=LABELS.astype(np.uint32))]) == []
    assert twice.differing([plain, fit_of(labels=LABELS[::-1])]) == ["labels"]
    assert twice.differing([plain, fit_of(centers=np.nextafter(CENTERS, 9.0))]) == ["centers"]
    assert twice.differing([plain, fit_of(centers=CENTERS.astype(np.float32))]) == ["centers"]
    assert twice.differing([plain, fit_of(inertia=np.nextafter(1.5, 2.0), n_iter=4)]) == ["inertia", "n_iter"]
    assert twice.differing([fit_of(inertia=None), fit_of(inertia=None)]) == []


def test_processes_and_threads_are_compared_apart():
    def child(threads, *inertias):
        return {"threads": threads, "fits": [fit_of(inertia=value) for value in inertias]}

    assert twice.CHILDREN == (1, 1, 2)
    same = [child(1, 1.0, 1.0), child(1, 1.0, 1.0), child(2, 1.0, 1.0)]
    assert not any(twice.comparisons(same).values())
    found = twice.comparisons([*same[:2], child(2, 2.0, 2.0)])
    assert found == {"one process": [], "two processes": [], "1 and 2 threads": ["inertia"]}
    found = twice.comparisons([same[0], child(1, 2.0, 1.0), same[2]])
    assert found == {"one process": ["inertia"], "two processes": ["inertia"], "1 and 2 threads": ["inertia"]}


def test_a_run_is_written_and_shown(tmp_path, capsys, monkeypatch):
    ours = twice.SYSTEMS["gpukmeans numpy"]
    count = iter(range(100))

    def drifting(problem):
        run, outcome = ours.prepare(problem)
        return run, lambda model: replace(outcome(model), labels=np.zeros(200, int), inertia=float(next(count)))

    def failing(problem):
        raise RuntimeError("no such thing")

    others = {
        name: System(name, "cpu", False, "numpy", lambda: None, prepare)
        for name, prepare in (("drifting", drifting), ("failing", failing))
    }
    absent = System("absent", "cpu", False, "absent", lambda: 1 / 0, failing)
    monkeypatch.setattr(twice, "SYSTEMS", {ours.name: ours, **others, "absent": absent})
    monkeypatch.setattr(twice, "WORKS", {"mnist": SMALL})

    def in_this_process(system, work, seconds):
        children = []
        for threads in twice.CHILDREN:
            out = tmp_path / "child.json"
            try:
                twice.main(["--child", system, "--work", work, "--out", str(out)])
            except RuntimeError as error:
                return {"error": str(error)}
            children.append({"threads": threads, **json.loads(out.read_text())})
        return {"children": children, "differs": twice.comparisons(children)}

    monkeypatch.setattr(twice, "measure", in_this_process)
    file = tmp_path / "twice.json"
    assert twice.main(["--out", str(file)]) == 0
    assert "ZeroDivisionError" in capsys.readouterr().out
    shown = table.render_twice(file)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines() if line[:1] == "|"]
    assert rows[2] == ["gpukmeans numpy", "same", "same", "same", "0", "1.0"]
    assert rows[3][1:4] == ["inertia differ"] * 3
    assert 100 < int(rows[3][4]) < 200
    assert rows[4][1:] == ["-", "-", "-", "no such thing", "-"]
    assert len(rows) == 5
    assert "No run has been recorded" in table.render_twice(tmp_path / "none.json")
    with pytest.raises(SystemExit):
        twice.main(["--out", str(file), "--systems", "nothing"])


def test_a_process_that_fails_is_told(tmp_path):
    found = twice.measure("no such system", "mnist", 60.0)
    assert "KeyError" in found["error"]
