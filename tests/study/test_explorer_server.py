"""`gpukmeans explore`: who is let in, what is refused, and fits on request."""

from __future__ import annotations

import http.client
import json
import threading
import time

import numpy as np
import pytest

import gpukmeans
from gpukmeans.study.data import load
from gpukmeans.study.explorer.session import Session
from gpukmeans.study.options import Options

pytest.importorskip("uvicorn", reason="explore serves with uvicorn")
pytest.importorskip("starlette", reason="explore serves with Starlette")
from gpukmeans.study.explorer import server


@pytest.fixture(scope="module")
def served():
    """Address, token and session of a running server."""
    import uvicorn

    options = Options("digits", backend="numpy", plots=False)
    session = Session(options, load(options))
    session.fit(session.checked({"backend": "numpy"}))
    told, servers = [], []
    real = uvicorn.Server

    class Kept(real):
        def __init__(self, config):
            super().__init__(config)
            servers.append(self)

    uvicorn.Server = Kept
    try:
        thread = threading.Thread(target=server.serve, args=(session, told.append), daemon=True)
        thread.start()
        while not (servers and servers[0].started):
            assert thread.is_alive()
            time.sleep(0.01)
    finally:
        uvicorn.Server = real
    address, token = told[0].removeprefix("http://").split("/?token=")
    yield address, token, session
    servers[0].should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_only_this_page_is_let_in_and_a_fit_is_what_it_says(served):
    address, token, session = served

    def ask(path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers
        return answer.status, answer.headers, text

    assert address.startswith("127.0.0.1:")
    assert len(token) == 32
    assert ask("/")[0] == 403
    assert ask(f"/?token={'0' * 32}")[0] == 403
    assert ask("/?token=%C3%A9")[0] == 403
    assert ask(f"/?token={token}", Host="localhost.example:80")[0] == 403
    status, headers, _ = ask(f"/?token={token}")
    assert status == 303
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in headers["set-cookie"].split(";")}
    assert ask(f"/?token={token}")[0] == 403  # once
    mine = {"Cookie": headers["set-cookie"].split(";")[0]}
    assert ask("/", **mine)[0] == 200
    assert ask("/", Host="127.0.0.1:1", **mine)[0] == 403
    assert ask("/", Origin="http://localhost.example", **mine)[0] == 403
    assert ask("/state", "DELETE", **mine)[0] == 405
    assert ask("/etc/passwd", **mine)[0] == 404
    assert ask("/fit", "POST", "{}", **mine)[0] == 403  # no Origin
    mine["Origin"] = f"http://{address}"

    assert ask("/fit", "POST", b" " * (server.MOST_BODY + 1), **mine)[0] == 413
    for wrong in (
        "", "[]", "[" * 100_000, '{"clusters": 0}', '{"clusters": 1025}', '{"clusters": true}', '{"clusters": 2.5}',
        '{"seed": -1}', '{"init": "x"}', '{"path": "/"}', '{"algorithm": {}}', '{"backend": []}', '{"clusters": NaN}',
    ):  # fmt: skip
        status, _, text = ask("/fit", "POST", wrong, **mine)
        assert (status, sorted(json.loads(text))) == (400, ["error"]), wrong

    X = session.data.X
    for algorithm, kind in (("k-means", gpukmeans.KMeans), ("bisecting", gpukmeans.BisectingKMeans)):
        asked = {"clusters": 7, "seed": 4, "algorithm": algorithm, "backend": "numpy"}
        assert ask("/fit", "POST", json.dumps(asked), **mine)[0] == 200
        session.wait()
        assert json.loads(ask("/state", **mine)[2])["error"] == ""
        fitted = kind(7, random_state=4, init="k-means++", n_init=1, backend="numpy").fit(X)
        lines = ask("/labels.csv", **mine)[2].decode().splitlines()[1:]
        np.testing.assert_array_equal([int(line.split(",")[1]) for line in lines], fitted.labels_)
        assert json.loads(ask("/content", **mine)[2])["content"]["k"] == 7
    assert ask("/model.npz", **mine)[2][:2] == b"PK"
    assert b"connect-src &#x27;none&#x27;" in ask("/report.html", **mine)[2]


def test_one_fit_at_a_time_which_can_be_cancelled(served):
    from gpukmeans.study.explorer.session import Busy

    session = served[2]
    before, entered, go = session.result, threading.Event(), threading.Event()
    stage = session._stage

    def slow(text):
        entered.set()
        assert go.wait(60)
        stage(text)

    session._stage = slow
    session.start({"clusters": 3, "backend": "numpy"})
    assert entered.wait(60)
    with pytest.raises(Busy):
        session.start({"clusters": 4})
    session.cancel()
    go.set()
    session.wait()
    session._stage = stage
    assert session.told["error"] == "cancelled"
    assert session.result is before
    session.start({"clusters": 3, "backend": "numpy"})
    session.wait()
    assert session.result[2]["k"] == 3


def test_explore_fits_as_it_is_told_and_refuses_what_it_does_not_do(capsys, monkeypatch):
    from gpukmeans.cli import main

    seen = []
    monkeypatch.setattr(server, "serve", lambda session, tell: seen.append(session))
    given = {"init": "random", "n_init": 2, "max_iter": 3, "tol": 0.5, "precision": "fast", "backend": "numpy"}
    options = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    command = ["explore", "digits", "-k", "7", "--seed", "5", "--silhouette", "exact", "--dtype", "float32", *options]
    assert main(command) == 0
    model, outcome, content, _ = seen[0].result
    assert given | {"n_clusters": 7, "random_state": 5} == {name: getattr(model, name) for name in
                                                           (*given, "n_clusters", "random_state")}  # fmt: skip
    X = (gpukmeans.load_digits().data / 16).astype(np.float32)
    fitted = gpukmeans.fit(X, 7, random_state=5, **given)
    np.testing.assert_array_equal(model.labels_, fitted.labels_)
    np.testing.assert_array_equal(outcome.silhouettes, gpukmeans.evaluation.silhouette(fitted, X).samples)
    live = {"clusters": 7, "seed": 5, "init": "random", "algorithm": "k-means", "backend": "numpy", "most": 1024}
    assert content["live"] == live  # what the page's fields show
    for refused in ("--seeds=2", "--report", "--check", "--compare", "--sweep", "--memory-limit=1GB", "--out=x",
                    "--no-plots", "--labels-format=csv", "--train-test", "--force"):  # fmt: skip
        assert main(["explore", "digits", refused]) == 2
        assert f"unrecognized arguments: {refused}" in capsys.readouterr().err


def test_a_report_as_parquet_holds_the_map_and_its_pictures(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    Image = pytest.importorskip("PIL.Image")
    import io

    from gpukmeans.cli import main

    assert main(["report", "digits", "-o", str(tmp_path), "--labels-format", "parquet", "--backend", "numpy",
                 "--no-plots", "--quiet", "--force"]) == 0  # fmt: skip
    table = pq.read_table(tmp_path / "points.parquet")
    assert table.column_names == ["row", "x", "y", "cluster", "class", "margin", "thumbnail"]
    labels = pq.read_table(tmp_path / "labels.parquet")
    assert table["cluster"].to_pylist() == labels["cluster"].to_pylist()
    picture = Image.open(io.BytesIO(table["thumbnail"][5]["bytes"].as_py()))
    X = gpukmeans.load_digits().data
    np.testing.assert_array_equal(np.asarray(picture).reshape(-1), np.rint(X[5] / 16 * 255))
