"""Parameters that type checkers know are the parameters; the logger speaks when it is asked to, and never else."""

from __future__ import annotations

import inspect
import logging

import pytest

import gpukmeans
from gpukmeans.estimators.typed import KMeansParameters
from tests.support.small_fits import rows


def test_the_typed_parameters_are_those_of_the_class():
    names = list(inspect.signature(gpukmeans.KMeans).parameters)
    assert names == ["n_clusters", *KMeansParameters.__annotations__]
    constructor = gpukmeans.KMeans.__init__.__annotations__
    assert {name: constructor[name] for name in names[1:]} == {
        name: kind.__forward_arg__ for name, kind in KMeansParameters.__annotations__.items()
    }


@pytest.mark.parametrize("cls", ["KMeans", "MiniBatchKMeans", "BisectingKMeans", "SphericalKMeans"])
def test_a_fit_is_logged_where_a_program_asks_for_it(cls, caplog, capfd, tmp_path):
    model = getattr(gpukmeans, cls)(3, random_state=0, backend="numpy").fit(rows())
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG, "gpukmeans"):
        model.fit(rows())
        model.save(tmp_path / "model.npz")
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "gpukmeans"]
    assert [level for level, _ in told] == ["DEBUG", "INFO", "INFO"]
    n_rows, n_features = rows().shape
    assert told[0][1].startswith(f"{cls}: {n_rows} rows of {n_features} features, dense ")
    assert told[1][1].startswith(f"{cls}: 3 clusters, inertia {model.inertia_:g}, in ")
    assert told[2][1].endswith("model.npz")
