"""The cost model of bench/SCALING.md: bytes of real partials, rates that were planted; nothing is timed here."""

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from bench import scaling
from bench.cost_model import Cluster, Rates, Work, fitted_rates, on_gpus, seconds, terms
from gpukmeans import Facts, partial

RATES = Rates((1e-3, 1e-7, 2e-9, 3e-10, 4e-11), 5e-8, 6e-9, 7e-10, 2)


@pytest.mark.parametrize("whole", [True, False])
def test_bytes_are_those_of_a_partial(whole):
    X = np.random.default_rng(0).standard_normal((300, 40))
    X = (np.rint(4 * X) if whole else X).astype(np.float32)
    grid = Facts.of(X).grid()
    found = partial(X, X[:20], grid, offset=0)
    work = Work(300, 40, 20, limbs=grid.rows.n_limbs)
    sent = len(pickle.dumps((found.sums, found.weights, found.counts), 5))
    assert 0 <= sent - work.up < 1000
    assert 0 <= len(pickle.dumps(X[:20].copy(), 5)) - work.down < 500


def test_rates_are_found_again_and_none_is_negative():
    works = scaling.CALIBRATING
    assert fitted_rates(works, [float(np.dot(terms(w), RATES.worker)) for w in works]) == pytest.approx(RATES.worker)
    noisy = [float(np.dot(terms(w), RATES.worker)) * (1.2 if i % 2 else 0.8) for i, w in enumerate(works)]
    assert min(fitted_rates(works, noisy)) >= 0.0


def test_a_link_costs_its_bytes_and_workers_share_cores():
    work = Work(1000, 50, 40, workers=2)
    free, slow = (seconds(replace(work, link=link), RATES) for link in (np.inf, 1e6))
    assert slow["total"] - free["total"] == pytest.approx((work.down + 2 * work.up) / 1e6)
    one, two, four = (seconds(Work(10**7, 50, 40, workers=w), RATES)["compute"] for w in (1, 2, 4))
    assert two < one
    assert four == pytest.approx(two, rel=0.01)  # on two cores
    assert Work(1001, 5, 4, workers=2).operations == 2 * 501 * 5 * 4


def test_gpus_divide_rows_and_not_sums():
    eight, more = (on_gpus(replace(scaling.TARGET, workers=n), Cluster(n, 1e-14)) for n in (8, 64))
    assert eight["labels"] == pytest.approx(8 * more["labels"])
    assert more["network"] > eight["network"]
    assert on_gpus(Work(10, 2, 2), Cluster(1, 1e-14))["network"] == 0.0
    with pytest.raises(ValueError, match="3 workers, and there are 8"):
        on_gpus(Work(10, 2, 2, workers=3), Cluster(8, 1e-14))


def document():
    check = {"work": asdict(scaling.CHECKED[4]), "seconds": [1.0, 0.5], "predicted": {"total": 0.55}}
    other = {"work": asdict(scaling.CHECKED[0]) | {"link": None}, "seconds": [1.0], "predicted": {"total": 2.0}}
    return {
        "rates": asdict(RATES), "checks": [check, other], "command": "c", "datetime": "2026-01-01T00",
        "machine_info": {"cpu": {"brand_raw": "a CPU"}},
    }  # fmt: skip


def test_the_page_is_written_from_the_file(tmp_path):
    page, file = tmp_path / "SCALING.md", tmp_path / "scaling.json"
    page.write_text(scaling.PAGE.read_text())
    file.write_text(json.dumps(document()))
    options = ["--page", str(page)]
    assert scaling.main(["--check", str(file), *options]) == 1
    assert scaling.main(["--table", str(file), *options]) == 0
    assert scaling.main(["--check", str(file), *options]) == 0
    text = page.read_text()
    assert "| 60,000 x 64, 1,024 | 2 | 1 | 0.500 | 0.550 | 1.10 |" in text
    assert "1 of 2 predictions are within 20%" in text
    assert text.count("No run has been recorded") == 0
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="scaling:measured"):
        scaling.main(["--table", str(file), *options])


def test_the_page_in_the_repository_matches_its_file():
    file = Path(scaling.ROOT, "bench", "results", "scaling.json")
    if file.exists():
        assert scaling.main(["--check", str(file)]) == 0
    else:
        assert scaling.PAGE.read_text().count("No run has been recorded") == 2
