"""The measurement of starts: every round is kept, and the README's table holds what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import starts, table


def test_every_start_is_fitted_from_the_same_seeds_and_written(tmp_path, capsys, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((300, 8))
    monkeypatch.setattr(starts, "WORKS", {"small": starts.Work("small rows", lambda: rows, 12)})
    file = tmp_path / "starts.json"
    assert table.render_starts(file) == table.NONE_YET["starts"]
    assert starts.main(["--out", str(file), "--rounds", "2"]) == 0
    work = json.loads(file.read_text())["works"]["small"]
    assert {init: len(runs) for init, runs in work["starts"].items()} == dict.fromkeys(starts.STARTS, 2)
    assert work["starts"]["two-level"][0]["inertia"] == starts.fitted(rows, 12, "two-level", 0)["inertia"]
    assert capsys.readouterr().out.count("small") == 3
    assert "| small rows | random | 20 |" in table.render_starts(file)
    assert "**1.00** (1.00 to 1.00) | +0.00%" in table.render_starts(file)
    with pytest.raises(SystemExit):
        starts.main(["--out", str(file), "--works", "nothing"])


def test_ratios_are_taken_within_rounds():
    def run(seconds, start_seconds, inertia):
        return {"seconds": seconds, "start_seconds": start_seconds, "inertia": inertia}

    runs = {
        "random": [run(2.0, 0.0, 10.0), run(4.0, 0.0, 20.0)],
        "two-level": [run(1.0, 0.5, 11.0), run(1.0, 0.7, 20.0)],
    }
    found = starts.against_random({"starts": runs}, "two-level")
    assert found["ratio"] == (0.375, 0.25, 0.5)
    assert found["inertia"] == pytest.approx((0.05, 0.0, 0.1))
    assert found["start"] == pytest.approx(0.6)
