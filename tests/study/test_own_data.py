"""`gpukmeans fit` and `gpukmeans predict` on files: what they write, and what they leave alone."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest

import gpukmeans
from gpukmeans.cli import main
from gpukmeans.evaluation import margins
from gpukmeans.study.outputs import write_csv

pytest.importorskip("pyarrow")
rng = np.random.default_rng(0)
POINTS = np.concatenate([rng.standard_normal((30, 2)) + np.array([10 * j, 100 * j]) for j in range(3)])


@pytest.fixture
def table(tmp_path):
    """Ninety rows around three centers, with names that a spreadsheet would take for formulas."""
    path = tmp_path / "own.csv"
    lines = [f"=r{i};{a!r};{b!r};{'uvw'[i // 30]}".replace(".", ",") for i, (a, b) in enumerate(POINTS.tolist())]
    path.write_text("name;+a;b;kind\n" + "\n".join(lines) + "\n")
    return path


def run(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def cells(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_fit_writes_labels_centers_and_a_model_that_predict_reads(capsys, table, tmp_path):
    out = tmp_path / "out"
    asked = ["--label", "kind", "--scale", "standard", "--no-plots", "--backend", "numpy"]
    result = run(capsys, "fit", table, "-k", 3, "-o", out, *asked, "--seeds", 3)
    assert {what: os.path.basename(path) for what, path in result["files"].items()} == {
        "labels": "labels.csv", "centers": "centers.csv", "model": "model.npz", "report": "report.html",
    }  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == ["centers.csv", "labels.csv", "model.npz", "report.html"]
    assert result["metrics"]["adjusted_rand"] == 1.0
    assert result["seeds"]["inertias"][result["parameters"]["random_state"]] == min(result["seeds"]["inertias"])

    rows = gpukmeans.read_table(table, label="kind", scale="standard")
    model = gpukmeans.load_model(out / "model.npz")
    labels, found = model.predict(rows.X), margins(rows.X, model.predict(rows.X), model.cluster_centers_)
    names, *lines = cells(out / "labels.csv")
    assert names == ["id", "cluster", "distance", "second", "margin"]
    assert lines == [
        [f"'=r{i}", str(labels[i]), repr(found.distance[i].item()), str(found.second[i]), repr(found.margin[i].item())]
        for i in range(90)
    ]
    names, *lines = cells(out / "centers.csv")
    assert names == ["cluster", "size", "'+a", "b"]
    means = [[POINTS[labels == j].mean(axis=0).tolist()] for j in range(3)]  # in the units of the file
    assert np.allclose([line[2:] for line in np.array(lines, float)], np.squeeze(means), rtol=1e-13)

    new = tmp_path / "new.csv"
    new.write_text("b,+a\n" + "\n".join(f"{b!r},{a!r}" for a, b in POINTS.tolist()))
    run(capsys, "predict", out / "model.npz", new, "-o", tmp_path / "new-labels.csv")
    assert [line[1:] for line in cells(tmp_path / "new-labels.csv")] == [line[1:] for line in cells(out / "labels.csv")]
    assert cells(tmp_path / "new-labels.csv")[1][0] == "0"
    import pyarrow.parquet as pq

    run(capsys, "predict", out / "model.npz", table, "-o", tmp_path / "labels.parquet")
    written = pq.read_table(tmp_path / "labels.parquet").to_pydict()
    assert written["id"][:2] == ["=r0", "=r1"]
    assert written["margin"] == found.margin.tolist()


def test_pictures_go_from_a_folder_to_a_folder(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    Image = pytest.importorskip("PIL.Image")
    images = gpukmeans.load_digits().images[:12]
    (tmp_path / "in").mkdir()
    for index, pixels in enumerate(images):
        Image.fromarray(pixels * 15).resize((16, 16)).save(tmp_path / "in" / f"{index:02}.png")
    result = run(capsys, "fit", tmp_path / "in", "-k", 2, "-o", tmp_path / "out", "--image-size", "8", "--n-init", "3")
    assert result["data"]["image_shape"] == [8, 8]
    assert (tmp_path / "out" / "centroids.png").read_bytes().startswith(b"\x89PNG")
    predicted = run(capsys, "predict", tmp_path / "out" / "model.npz", tmp_path / "in", "-o", tmp_path / "labels.csv")
    assert predicted["sizes"] == result["metrics"]["sizes"]
    assert cells(tmp_path / "labels.csv") == cells(tmp_path / "out" / "labels.csv")
    assert cells(tmp_path / "labels.csv")[1][0] == "00.png"


def test_models_of_digits_hold_how_their_pixels_are_read(capsys, tmp_path):
    quick = ["--dtype", "float64", "--no-plots", "--no-report", "--backend", "numpy"]
    run(capsys, "digits", *quick, "-o", tmp_path / "out")
    X = gpukmeans.load_digits().data
    np.save(tmp_path / "digits.npy", X)
    run(capsys, "predict", tmp_path / "out" / "model.npz", tmp_path / "digits.npy", "-o", tmp_path / "labels.csv")
    assert cells(tmp_path / "labels.csv") == cells(tmp_path / "out" / "labels.csv")


def test_what_is_there_is_left_alone_without_force(capsys, table, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("x")
    os.symlink(precious, out / "labels.csv")
    command = ["fit", str(table), "-k", "2", "--label", "kind", "--no-plots", "--no-report", "--quiet", "-o", str(out)]
    assert main(command) == 2
    assert "the folder holds files; give another one, or --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert not (out / "report.html").exists()
    assert precious.read_text() == "x"
    assert not (out / "labels.csv").is_symlink()
    predict = ["predict", str(out / "model.npz"), str(table), "--quiet", "-o"]
    for path, message in (
        (out / "labels.csv", "the file exists; give another name, or --force"),
        (tmp_path / "labels.txt", "labels are written as .csv or .parquet"),
        (tmp_path / "nowhere" / "labels.csv", "there is no folder"),
    ):
        assert main([*predict, str(path)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "nowhere.csv"], "nowhere.csv: no such file or folder"),
        (["fit", "own.csv"], "no numbers in 'kind' (text such as 'u'); such columns are named in --drop NAME"),
        (["fit", "own.csv", "--label", "king"], "--label king is no column; it has 'name', '+a', 'b', 'kind'"),
        (["fit", "own.csv", "--drop", "kind", "-k", "91"], "n_samples=90 should be >= n_clusters=91"),
        (["fit", "own.csv", "--image-size", "8y8"], "'8y8' should be a height and a width in pixels, as 28 or 28x20"),
        (
            ["fit", "own.csv", "--label", "b", "--drop", "kind"],
            "the label has 90 different values, of which 50 at most",
        ),
        (["fit"], "the following arguments are required: PATH"),
        (["predict", "own.csv", "own.csv"], "own.csv: not a readable npz file"),
    ],
)
def test_errors_are_one_line(capsys, table, monkeypatch, arguments, message):
    monkeypatch.chdir(table.parent)
    monkeypatch.setattr("gpukmeans.study.data.MOST_CLASSES", 50)
    assert main([*arguments, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]
    assert [path.name for path in table.parent.iterdir()] == ["own.csv"]


def test_text_that_looks_like_a_formula_is_escaped(tmp_path):
    texts = ["=1+1", "+1", "-1", "@a", "\tx", "a=b", "", 'say "hi"', "a,b", "a\nb"]
    write_csv(tmp_path / "t.csv", ["-x", "y"], [[text, -1.5] for text in texts])
    names, *lines = cells(tmp_path / "t.csv")
    assert names == ["'-x", "y"]
    assert lines == [["'" * (text[:1] in tuple("=+-@\t")) + text, "-1.5"] for text in texts]


def test_rows_that_stream_end_in_the_bits_of_rows_in_memory(tmp_path, capsys):
    np.save(tmp_path / "rows.npy", POINTS)
    found = run(capsys, "fit", tmp_path / "rows.npy", "-k", "3", "--memory-limit", "1GB", "-o", tmp_path / "out")
    assert (
        main(["fit", str(tmp_path / "rows.npy"), "-k", "3", "--memory-limit", "1GB", "-o", str(tmp_path / "told")]) == 0
    )
    assert "all of them\nrate " in capsys.readouterr().out
    want = gpukmeans.fit(POINTS, 3, random_state=0)
    assert found["inertia"] == want.inertia_
    assert np.array_equal(np.load(tmp_path / "out" / "labels.npy"), want.labels_)
    assert np.array_equal(gpukmeans.load_model(tmp_path / "out" / "model.npz").cluster_centers_, want.cluster_centers_)
    assert [int(row[1]) for row in cells(tmp_path / "out" / "centers.csv")[1:]] == found["sizes"]
    np.savetxt(tmp_path / "t.csv", POINTS[:, [0, 1, 0]], delimiter=",", header=",0,1", comments="")
    for limit in ([], ["--memory-limit", "1GB"]):  # a name where there is one, else a place
        folder = tmp_path / f"columns{len(limit)}"
        run(capsys, "fit", tmp_path / "t.csv", "-k", "3", "--columns", "0,2", *limit, "-o", folder)
        assert cells(folder / "centers.csv")[0] == ["cluster", "size", "0", "1"]
    for arguments, message in (
        ([tmp_path / "t.csv", "--memory-limit", "1GB", "--columns", "3"], "no column '3', by name or by place from 0"),
        ([tmp_path / "t.csv", "--columns", "3"], "--columns 3 is no column; it has '', '0', '1' (numbers not among"),
        ([tmp_path / "rows.npy", "--memory-limit", "9 cats"], "memory_limit='9 cats' is no number of bytes"),
        ([tmp_path / "rows.npy", "--memory-limit", "1GB", "--scale", "minmax"], "--scale needs all rows in memory"),
        ([tmp_path / "rows.npy", "--memory-limit", "1GB", "--report"], "--report needs all rows in memory"),
        (["infinite-mnist:many"], "the number of rows should stand behind the colon"),
    ):
        assert main(["fit", *map(str, arguments), "-o", str(tmp_path / "none")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "none").exists()
