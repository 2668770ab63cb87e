"""The measurement of growth: sizes, exponents and the picture; nothing is judged by its time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import growth

SMALL = growth.Shape("small", lambda: np.random.default_rng(0).standard_normal((400, 16)), 8)
LINE = growth.Shape("line", lambda: np.random.default_rng(0).standard_normal((400, 1)), 8)


def test_each_axis_is_halved_alone():
    found = list(growth.points(SMALL, 400, 16, 2))
    sizes = {axis: [p.size for p in found if p.axis == axis] for axis in (*growth.AXES, "n_threads")}
    assert sizes == {
        "n_samples": [50, 100, 200, 400],
        "n_features": [2, 4, 8, 16],
        "n_clusters": [2, 4, 8],
        "n_threads": [1, 2],
    }
    assert all(p.n_samples == 400 for p in found if p.axis != "n_samples")
    assert not [p for p in growth.points(LINE, 400, 1, 2) if p.axis == "n_features"]
    X = SMALL.make()
    part = growth.part(X, next(p for p in found if (p.axis, p.size) == ("n_features", 4)))
    assert part.shape == (400, 4)
    assert all((part[:, j, None] == X).all(axis=0).any() for j in range(4))


def test_an_exponent_is_that_of_the_power():
    sizes = [10, 20, 40, 80]
    assert growth.exponent(sizes, [size**2 / 7 for size in sizes]) == pytest.approx(2.0)
    assert growth.exponent(sizes, [5.0] * 4) == pytest.approx(0.0)


def test_a_run_is_written_and_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(growth, "SHAPES", {"small": SMALL, "line": LINE})
    file = tmp_path / "growth.json"
    assert growth.main(["--out", str(file), "--rounds", "2"]) == 0
    document = json.loads(file.read_text())
    axis = document["shapes"]["small"]["axes"]["n_samples"]
    assert [len(runs) for runs in axis["seconds"]] == [2] * 4
    assert axis["exponent"] == growth.exponent(axis["sizes"], [min(runs) for runs in axis["seconds"]])
    assert '"n_samples"' in capsys.readouterr().out
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        growth.main(["--out", str(file), "--shapes", "nothing"])
