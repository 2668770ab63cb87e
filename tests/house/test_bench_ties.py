"""The bench of exactness: its works, the bounds that they are held to, and the table; nothing is timed here."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.sparse import issparse

from bench import table, ties


@pytest.mark.parametrize("name", ties.WORKS)
def test_works_have_the_rows_they_state(name):
    work = ties.WORKS[name]
    X, weight, k = work.make(0)
    assert X.shape[0] == work.n[0] >= k >= 2
    assert issparse(X) if work.form == "csr" else X.dtype == work.form
    values = X.data if issparse(X) else X
    assert np.isfinite(values).all()
    assert (weight is None) == (not work.weights)
    if weight is not None:
        assert weight.shape == (work.n[0],)
        assert (weight == np.rint(weight)).all() == (work.weights == "whole")
    again, _, _ = work.make(0)
    assert np.array_equal(values, again.data if issparse(again) else again)
    assert set(ties.fits(work, 0)) == {"exact", "fast", "scikit-learn"}


def sizes(n_iter=(4, 4, 4), **seconds):
    """Three sizes of a work whose n doubles and whose k stays; each system's best is given, its other round slower."""
    return [
        {
            "n": 100 * 2**i,
            "k": 5,
            "n_iter": n_iter[i],
            "seconds": {name: [2 * of[i], of[i]] for name, of in seconds.items()},
        }
        for i in range(3)
    ]


def judged(exact, fast, theirs, n_iter=(4, 4, 4)):
    return ties.judged(sizes(n_iter, **{"exact": exact, "fast": fast, "scikit-learn": theirs}))


def test_the_bounds_are_those_that_are_stated():
    linear = [0.1, 0.2, 0.4]
    fine = judged(linear, linear, linear)
    assert fine["fast"] == 1.0
    assert fine["scikit-learn"] == pytest.approx(0.95)
    assert not ties.broken_bounds(fine)
    assert ties.broken_bounds(judged(linear, [0.1, 0.2, 0.19], linear)) == ["fast"]
    assert ties.broken_bounds(judged(linear, linear, [0.1, 0.059, 0.4])) == ["scikit-learn"]
    assert not ties.broken_bounds(judged(linear, linear, [0.1, 0.061, 0.4]))
    assert ties.broken_bounds(judged([0.1, 0.2, 0.43], linear, linear)) == ["growth"]
    assert not ties.broken_bounds(judged([0.1, 0.2, 0.43], linear, linear, (4, 4, 5)))
    assert ties.broken_bounds(judged([0.1, 0.2, 0.43], linear, linear, (4, 4, 2))) == ["growth"]
    assert not ties.broken_bounds(judged([0.001, 0.02, 0.04], linear, linear))  # within 20 ms of nothing


def test_a_run_is_written_and_shown(tmp_path, capsys):
    name = "k-near-n random"
    file = tmp_path / "ties.json"
    argv = ["--out", str(file), "--rounds", "1", "--sizes", "1", "--works", name]
    assert ties.main(argv) in (0, 1)
    assert name in capsys.readouterr().out
    document = json.loads(file.read_text())
    work = document["works"][name]
    assert work["sizes"][0]["n_uncertain"] == 0
    assert all(len(seconds) == 1 for seconds in work["sizes"][0]["seconds"].values())
    shown = table.render_ties(file)
    assert f"| random start | {1 - bool(ties.broken_bounds(work['ratios']))} of 1 |" in shown
    assert "`python -m bench.ties --out" in shown
    assert "No run has been recorded" in table.render_ties(tmp_path / "none.json")
    with pytest.raises(SystemExit):
        ties.main(["--out", str(file), "--works", "nothing"])
