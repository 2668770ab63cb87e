"""`read_table` on files as people have them: what is read, what is found out, what is refused and how it is said."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import re

import numpy as np
import pytest

import gpukmeans

pa = pytest.importorskip("pyarrow")
read = gpukmeans.read_table
rng = np.random.default_rng(0)
VALUES = rng.standard_normal((40, 3))
IRIS = "sepal,petal,species\n" + "".join(f"{4 + i % 7 / 10},{i % 5},{'ab'[i % 2]}\n" for i in range(30))


def write(folder, text, name="t.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def refused(*arguments, **options):
    """The message of the ValueError: one sentence that begins with the path."""
    with pytest.raises(ValueError, match=re.escape(str(arguments[0])[-20:])) as caught:
        read(*arguments, **options)
    text = str(caught.value)
    assert len(text) <= 300
    assert "\n" not in text
    return text


TABLE = [["nr", "größe", "b"], ["1", "1.5", "2.25"], ["2", "-3", ""], ["3", "1e3", "7"]]
WAYS = {
    "csv": (",", ".", "utf-8", True),
    "with a byte order mark": (",", ".", "utf-8-sig", True),
    "European": (";", ",", "utf-8", True),
    "from Excel": (";", ",", "cp1252", True),
    "tabs in UTF-16": ("\t", ".", "utf-16", True),
    "bars": ("|", ".", "utf-8", True),
    "without names": (",", ".", "utf-8", False),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_in_text_are_read_however_they_are_written(tmp_path, way, end):
    delimiter, decimal, encoding, header = WAYS[way]
    lines = [delimiter.join(value.replace(".", decimal) for value in line) for line in TABLE[not header :]]
    path = write(tmp_path, end.join(lines) + end, encoding=encoding)
    table = read(path, missing="mean")
    assert table.X.dtype == np.float64
    assert table.X.tolist() == [[1, 1.5, 2.25], [2, -3, 4.625], [3, 1000, 7]]
    assert table.feature_names == (TABLE[0] if header else ["column_0", "column_1", "column_2"])
    assert ("decimal commas" in table.notes) == (decimal == ",")
    same = read(path, missing="mean", delimiter=delimiter, decimal=decimal, header=header)
    assert np.array_equal(same.X, table.X)


@pytest.mark.parametrize(
    ("name", "first", "told"),
    [
        ("Nr.", 1, "ids: column 'Nr.'"),
        ("#", 0, "ids: column '#'"),
        ("week", 1, "drop='week' leaves it out"),
        ("Nr.", 5, ""),
    ],
)
def test_a_column_that_counts_the_rows_names_them_or_is_told(tmp_path, name, first, told):
    text = f"{name},a\n" + "".join(f"{first + i},{i % 3}\n" for i in range(30))
    table = read(write(tmp_path, text.encode()))
    assert (table.ids is not None) == told.startswith("ids")
    assert table.X.shape == (30, 1 if told.startswith("ids") else 2)
    assert told in "; ".join(table.notes)
    assert ("counts the rows" in str(table.notes)) == (name == "week")


def test_gzip_and_the_index_of_pandas(tmp_path):
    text = ",0,1,2\n" + "".join(f"{i},{i},5,255\n" for i in range(9))
    table = read(write(tmp_path, gzip.compress(text.encode())))
    assert table.X.dtype == np.uint8
    assert table.X.tolist() == [[i, 5, 255] for i in range(9)]
    assert table.ids.tolist() == list(range(9))
    assert "ids: column ''" in table.notes
    assert read(tmp_path / "t.csv", id=False).X.shape == (9, 4)
    assert "damaged or cut short" in refused(write(tmp_path, gzip.compress(text.encode())[:40] + bytes(20)))


@pytest.mark.parametrize(
    ("name", "is_id"),
    [("PassengerId", True), ("user_id", True), ("ID", True), ("", True), ("humid", False), ("x", False)],
)
def test_numbers_that_name_the_rows_are_known_by_their_column(tmp_path, name, is_id):
    path = write(tmp_path, f"{name},v\n" + "".join(f"{i},0.5\n" for i in range(9)))
    assert (read(path).ids is not None) == is_id
    assert read(write(tmp_path, f"{name},v\n1,2\n1,3\n")).ids is None  # two rows have one number


def test_ids_keep_their_zeros_and_labels_are_one_object_each(tmp_path):
    path = write(tmp_path, "zip,x,kind\n01234,0.5,a\n98765,1.5,b\n00001,2.5,a\n")
    table = read(path, id="zip", label="kind")
    assert table.ids.tolist() == ["01234", "98765", "00001"]
    assert table.y.dtype == object
    assert table.y[0] is table.y[2]
    assert read(path, id=0, label=-1, columns=["x"]).X.tolist() == table.X.tolist()


def test_columns_that_hold_no_numbers_are_named_and_can_be_said_to_be_something(tmp_path):
    path = write(tmp_path, IRIS)
    assert "no numbers in 'species' (text such as 'a')" in refused(path)
    for options in ({"label": "species"}, {"id": "species"}, {"drop": "species"}, {"columns": ["sepal", "petal"]}):
        assert read(path, **options).feature_names == ["sepal", "petal"]
    table = read(path, one_hot=["species"])
    assert table.feature_names == ["sepal", "petal", "species=a", "species=b"]
    assert np.array_equal(table.X[:, 2], np.arange(30) % 2 == 0)
    assert "label='kind' is no column; it has 'sepal', 'petal', 'species'" in refused(path, label="kind")
    assert "no column is left" in refused(path, drop=["sepal", "petal", "species"])
    dates = write(tmp_path, "day,x\n2024-01-01,1\n2024-01-02,2\n", "d.csv")
    assert "'day' (values of type date32[day])" in refused(dates)


def test_missing_values_are_counted_and_named(tmp_path):
    path = write(tmp_path, "a,b,c\n1,?,x\n,2,y\n3,NA,\n4,4,x\n")
    text = refused(path, one_hot="c")
    assert "4 missing values in 4 rows: 'b' 2, 'a' 1, 'c' 1" in text
    assert "missing='drop'" in text
    dropped = read(path, one_hot="c", missing="drop")
    assert (dropped.X.tolist(), dropped.rows.tolist(), dropped.n_read) == ([[4, 4, 1, 0]], [3], 4)
    assert "3 of 4 rows left out" in dropped.notes[-1]
    filled = read(path, one_hot="c", missing="mean")
    assert filled.X[1].tolist() == [8 / 3, 2, 0, 1]
    assert np.allclose(filled.X[2], [3, 3, 2 / 3, 1 / 3], rtol=1e-15)  # a category's mean is its share
    assert filled.missing == {"a": 1, "b": 2, "c": 1}
    assert "infinite values in 'a' 1 of 2 rows" in refused(write(tmp_path, "a,b\ninf,1\n2,3\n"))


def test_a_value_far_down_is_named_with_its_line(tmp_path):
    text = refused(write(tmp_path, "a,b\n" + "1,2\n" * 150_000 + "1,abc\n"))
    assert "column 'b' holds 'abc' in line 150002, which is no number" in text
    late = read(write(tmp_path, "a,b\n" + "1,2\n" * 150_000 + "300,0.5\n"))  # bytes until here
    assert late.X.dtype == np.float64
    assert late.X[[0, -1]].tolist() == [[1, 2], [300, 0.5]]
    assert "Expected 2 columns, got 3" in refused(write(tmp_path, "a,b\n1,2\n3,4,5\n"))


def columnar(folder, kind):
    import pandas as pd

    frame = pd.DataFrame(VALUES, columns=list("abc"))
    frame["kind"] = ["r", "g"] * 20
    table = pa.Table.from_pandas(frame)
    path = folder / f"t.{kind}"
    if kind == "parquet":
        frame.to_parquet(path, row_group_size=7)
    elif kind == "feather":
        frame.to_feather(path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, 9)
    return path


@pytest.mark.parametrize("kind", ["parquet", "feather", "arrow"])
def test_tables_in_columns(tmp_path, kind):
    path = columnar(tmp_path, kind)
    table = read(path, label="kind", columns=["c", "a"])
    assert table.feature_names == ["a", "c"]
    assert np.array_equal(table.X, VALUES[:, [0, 2]])
    assert table.y.tolist() == ["r", "g"] * 20
    whole = path.read_bytes()
    for cut in (9, len(whole) // 2):
        path.write_bytes(whole[:cut])
        assert "damaged" in refused(path, label="kind")
    damage = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in damage.integers(0, len(data), 5):
            data[place] = damage.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(ValueError):  # or it is harmless
            read(path, label="kind", max_bytes=1 << 24)


def test_lists_of_one_length_are_features_and_types_are_kept(tmp_path):
    rows = rng.random((20, 4)).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 4)
    pa.parquet.write_table(pa.table({"id": range(20), "e": lists}), tmp_path / "e.parquet")
    table = read(tmp_path / "e.parquet")
    assert (table.X.dtype, table.feature_names) == (np.float32, ["e_0", "e_1", "e_2", "e_3"])
    assert np.array_equal(table.X, rows)
    assert table.ids.tolist() == list(range(20))
    pa.parquet.write_table(pa.table({"p": pa.array([1, None, 255]), "q": [True, False, True]}), tmp_path / "i.parquet")
    assert read(tmp_path / "i.parquet", missing="drop").X.dtype == np.uint8
    assert read(tmp_path / "i.parquet", missing="mean").X.tolist() == [[1, 1], [128, 0], [255, 1]]


def test_a_row_group_beyond_the_limit_is_refused(tmp_path):
    path = columnar(tmp_path, "parquet")
    assert "row group 0 takes" in refused(path, label="kind", max_bytes=100)
    assert "40 rows of 3 features take 960 bytes, more than max_bytes=900" in refused(path, label="kind", max_bytes=900)
    assert "its rows take 240 bytes" in refused(write(tmp_path, "a,b\n" + "0.5,2\n" * 15), max_bytes=230)


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">i4", "u8", "f2", "<f4", ">f4", ">f8"])
def test_arrays_of_any_numbers(tmp_path, dtype):
    values = rng.integers(0, 2, (6, 4)).astype(dtype)
    wanted = "uint8" if dtype in ("?", "u1") else "float32" if dtype.endswith("f4") else "float64"
    for array in (values, np.asfortranarray(values)):
        np.save(tmp_path / "a.npy", array)
        np.savez(tmp_path / "z.npz", X=array, y=np.arange(6), ids=np.array(list("abcdef")), other=np.eye(3))
        for name in ("a.npy", "z.npz"):
            table = read(tmp_path / name)
            assert table.X.dtype == wanted
            assert np.array_equal(table.X, values)
    assert table.y.tolist() == list(range(6))
    assert table.ids.tolist() == list("abcdef")
    assert read(tmp_path / "z.npz", columns="other", label=False).X.tolist() == np.eye(3).tolist()


def test_idx_images_come_with_their_labels_and_shape(tmp_path):
    from tests.support.damaged_files import gz, idx

    images, digits = rng.integers(0, 256, (7, 5, 4), np.uint8), np.arange(7, dtype=np.uint8)
    write(tmp_path, gz(idx(images)), "train-images-idx3-ubyte.gz")
    write(tmp_path, gz(idx(digits)), "train-labels-idx1-ubyte.gz")
    table = read(tmp_path / "train-images-idx3-ubyte.gz")
    assert np.array_equal(table.X.reshape(images.shape), images)
    assert (table.image_shape, table.y.tolist()) == ((5, 4), list(range(7)))
    floats = b"\0\0\x0d\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + np.arange(6, dtype=">f4").tobytes()
    assert read(write(tmp_path, floats, "f.idx")).X.tolist() == [[0, 1, 2], [3, 4, 5]]


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was read",))


def test_nothing_that_can_run_code_is_read(tmp_path):
    import pickle

    np.save(tmp_path / "o.npy", np.array([[Evil()]], object), allow_pickle=True)
    assert "objects come in pickles, which can run code" in refused(tmp_path / "o.npy")
    np.savez(tmp_path / "o.npz", X=np.array([[Evil()]], object), allow_pickle=True)
    assert "which can run code" in refused(tmp_path / "o.npz")
    np.save(tmp_path / "s.npy", np.zeros((2, 2), [("a", "f8")]))
    assert "expected numbers" in refused(tmp_path / "s.npy")
    texts = np.zeros(2, "<U1")
    texts.view(np.uint32)[1] = 0xFFFFFFFF
    np.savez(tmp_path / "t.npz", X=np.eye(2), ids=texts)
    assert "texts that are none" in refused(tmp_path / "t.npz")
    assert "a pickle" in refused(write(tmp_path, pickle.dumps(Evil()), "p.pkl"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"\n \n", "an empty file"),
        (b"a,b\n", "no rows"),
        (b"\x89PNG\r\n\x1a\n", "a single picture; give the folder"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, which is not read"),
        (b"ab\0cd" * 99, "neither text nor one of the formats"),
        (b"\x93NUMPY\1\0" + b"x" * 99, "expected at most 10000"),
        (b"PK\3\4" + b"x" * 99, "not a readable npz file"),
    ],
)
def test_what_is_not_read_is_said_in_one_sentence(tmp_path, content, message):
    assert message in refused(write(tmp_path, content, "x.dat"))


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv: no such file or folder; a table"):
        read(tmp_path / "nowhere.csv")
    with pytest.raises(OSError, match="not a file, but a folder, a device"):
        read("/dev/zero")
    with pytest.raises(ValueError, match="no possible path"):
        read("a\0b")


# ---- the same again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_the_scale_is_scikit_learns_and_can_be_undone(tmp_path, scale):
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    np.save(tmp_path / "a.npy", VALUES)
    table = read(tmp_path / "a.npy", scale=scale)
    want = (StandardScaler() if scale == "standard" else MinMaxScaler()).fit_transform(VALUES)
    assert np.abs(table.X - want).max() < 1e-15 * 8
    assert np.abs(table.in_own_units(table.X) - VALUES).max() < 1e-15 * 8
    assert np.array_equal(read(tmp_path / "a.npy", like=table).X, table.X)


def test_like_finds_columns_by_name_and_goes_through_json(tmp_path):
    path = write(tmp_path, "id,a,b,kind\n" + "".join(f"{i},{i / 2},{i * i},{'uvw'[i % 3]}\n" for i in range(9)))
    first = read(path, one_hot="kind", scale="standard", missing="mean")
    plain = json.loads(json.dumps(first.preprocessing))
    other = write(tmp_path, "kind;extra;b;a\nw;7;4;1,0\nu;8;;0,5\n", "o.csv")
    again = read(other, like=plain)
    assert again.feature_names == first.feature_names
    assert again.X[0].tolist() == first.X[2].tolist()
    assert again.X[1].tolist()[:2] == [first.X[1, 0], 0.0]  # the mean of the first table, scaled
    model = gpukmeans.fit(first.X, 2, random_state=0)
    model.preprocessing_ = first.preprocessing
    loaded = gpukmeans.load_model(model.save(tmp_path / "m.npz"))
    assert np.array_equal(loaded.predict(read(path, like=loaded).X), model.labels_)
    assert "holds 'x', a category that the model does not know" in refused(
        write(tmp_path, "a,b,kind\n1,1,x\n"), like=plain
    )
    assert "no column 'b', 'kind', which the model" in refused(write(tmp_path, "a,c\n1,2\n"), like=plain)
    with pytest.raises(ValueError, match="scale is given beside like"):
        read(path, like=plain, scale="minmax")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"columns": "ab"},
        {"scale": {"kind": "standard", "center": [0.0], "by": [0.0]}},
        {"means": [math.inf]},
        {"image": {"shape": [2, 2], "mode": "L"}},
        {"more": 1},
    ],
)
def test_preprocessing_that_was_altered_is_refused(tmp_path, change):
    path = write(tmp_path, "a\n1\n2.5\n")
    with pytest.raises(ValueError, match="like holds something else"):
        read(path, like=read(path).preprocessing | change)


def test_a_sample_is_the_same_whatever_the_blocks_and_belongs_to_its_rows(tmp_path, monkeypatch):
    values = np.arange(900.0).reshape(300, 3)
    np.savez(tmp_path / "z.npz", X=values, ids=np.arange(300))
    one = read(tmp_path / "z.npz", sample=50, random_state=3)
    monkeypatch.setattr("gpukmeans.scale.arrays.BLOCK_BYTES", 24 * 7)
    other = read(tmp_path / "z.npz", sample=50, random_state=3)
    assert np.array_equal(one.rows, other.rows)
    assert len(np.unique(one.rows)) == 50
    for table in (one, other):
        assert np.array_equal(table.X, values[table.rows])
        assert np.array_equal(table.ids, table.rows)
    assert not np.array_equal(one.rows, read(tmp_path / "z.npz", sample=50, random_state=4).rows)
    assert read(tmp_path / "z.npz", sample=1000).X.shape == (300, 3)


def test_rows_are_held_once_while_they_are_read(tmp_path):
    """NumPy's memory; that of pyarrow does not grow with the file."""
    import tracemalloc

    path = write(tmp_path, "a,b,c,d\n" + "0.25,1e-3,7,1234.5\n" * 100_000)
    tracemalloc.start()
    table = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table.X.nbytes == 3_200_000
    assert table.X.nbytes <= peak <= 1.5 * table.X.nbytes


def test_zero_in_own_units_is_zero_after_scaling(tmp_path):
    colours = [f"{i / 7},{'abc'[i % 3]}" for i in range(31)]
    path = write(tmp_path, ("x,colour\n" + "\n".join(colours) + "\n").encode())
    table = read(path, one_hot="colour", scale="standard")
    own = np.array([[i % 3 == j for j in range(3)] for i in range(31)], np.float64)
    groups = [table.X[i::3].mean(axis=0) for i in range(3)]
    assert np.array_equal(table.in_own_units(table.X)[:, 1:] == 0.0, own == 0.0)
    assert np.array_equal(table.in_own_units(groups)[:, 1:] == 0.0, np.eye(3) == 0.0)
