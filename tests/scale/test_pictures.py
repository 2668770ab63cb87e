"""Folders of pictures: decoded, turned, brought to one size, in the order of their names; links and devices refused."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest

import gpukmeans

Image = pytest.importorskip("PIL.Image")
read = gpukmeans.read_table
rng = np.random.default_rng(0)
GREY = rng.integers(0, 256, (6, 5, 4), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Six grey pictures of 5 x 4 pixels, in two folders, and another file."""
    for index, pixels in enumerate(GREY):
        below = tmp_path / "set" / "ab"[index % 2]
        below.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(below / f"{index}.png")
    (tmp_path / "set" / "notes.txt").write_text("x")
    (tmp_path / "set" / ".hidden.png").write_text("x")
    return tmp_path / "set"


def test_pictures_are_rows_in_the_order_of_their_names(folder):
    table = read(folder, label="folder")
    order = [0, 2, 4, 1, 3, 5]
    assert np.array_equal(table.X, GREY[order].reshape(6, 20))
    assert table.ids.tolist() == [f"{'ab'[i % 2]}/{i}.png" for i in order]
    assert (table.y.tolist(), table.image_shape) == (list("aaabbb"), (5, 4))
    assert "other files left out: 1" in table.notes
    colour = read(folder, image_mode="RGB")
    hint = "in several folders: label='folder' compares the clusters with them"
    assert [hint in told.notes for told in (colour, table, read(folder, like=colour))] == [True, False, False]
    assert colour.image_shape == (5, 4, 3)
    assert np.array_equal(colour.X.reshape(6, 20, 3), np.repeat(table.X[:, :, None], 3, axis=2))


def test_size_and_mode_are_applied_again(folder):
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / "a" / "z.jpg", quality=95)
    for message, options in (
        ("in colour, while a/0.png is not; give image_mode='L' (grey) or 'RGB'", {}),
        ("9 x 9 pixels, while a/0.png has 5 x 4; give image_size=(5, 4)", {"image_mode": "L"}),
    ):
        with pytest.raises(ValueError, match=r"z\.jpg: ") as caught:
            read(folder, **options)
        assert message in str(caught.value)
    table = read(folder, image_mode="L", image_size=(3, 2), scale="minmax")
    assert table.X.shape == (7, 6)
    again = read(folder, like=table)
    assert np.array_equal(again.X, table.X)
    assert again.image_shape == (3, 2)


def test_transparency_is_white_deep_pixels_keep_their_highest_bits_and_photographs_stand_upright(tmp_path):
    def only(picture, name="p.png", **options):
        path = tmp_path / name
        picture.save(path, **options)
        table = read(tmp_path)
        path.unlink()
        return table.X.reshape(table.image_shape).tolist()

    assert only(Image.new("LA", (2, 1), (9, 0))) == [[255, 255]]
    assert only(Image.new("RGBA", (1, 1), (9, 8, 7, 255))) == [[[9, 8, 7]]]
    assert only(Image.fromarray(np.array([[0, 256, 65535]], np.uint16))) == [[0, 1, 255]]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert np.shape(only(Image.new("L", (8, 16)), "p.jpg", exif=exif)) == (8, 16)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


HUGE = (
    b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)) + chunk(b"IEND", b"")
)


def test_what_is_no_picture_or_leads_elsewhere_is_refused(folder, tmp_path):
    def refused(name):
        with pytest.raises((ValueError, OSError), match=name) as caught:
            read(folder)
        (folder / name).unlink()
        return str(caught.value)

    (folder / "z.png").write_bytes((folder / "a" / "0.png").read_bytes()[:-30])
    assert "no readable PNG or JPEG" in refused("z.png")
    (folder / "0.png").write_bytes(HUGE)
    assert "more than 89,478,485 pixels" in refused("0.png")
    Image.fromarray(GREY[0]).save(tmp_path / "g.gif")
    (tmp_path / "g.gif").rename(folder / "g.png")
    assert "no readable PNG or JPEG" in refused("g.png")
    Image.fromarray(GREY[0]).save(tmp_path / "out.png")
    os.symlink(tmp_path / "out.png", folder / "l.png")
    assert "a link that leads out of the folder" in refused("l.png")
    os.symlink("/dev/zero", folder / "d.png")
    assert "a link that leads out of the folder" in refused("d.png")
    os.mkfifo(folder / "f.png")
    assert "not a file, but a folder, a device, a pipe" in refused("f.png")
    os.symlink(tmp_path, folder / "circle")  # a folder behind a link is not entered
    os.symlink(folder / "a" / "0.png", folder / "within.png")
    assert read(folder).ids.tolist()[-1] == "within.png"


def test_names_that_are_no_text_are_escaped(tmp_path):
    for name in (b"a\xff.png", "é.png".encode()):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            Image.fromarray(GREY[0]).save(file, "png")
    assert read(tmp_path).ids.tolist() == [r"a\xff.png", "é.png"]


def test_folders_without_pictures_and_with_too_many(folder, tmp_path, monkeypatch):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="a folder without PNG or JPEG files"):
        read(tmp_path / "none")
    monkeypatch.setattr("gpukmeans.scale.pictures.MOST_FILES", 5)
    with pytest.raises(ValueError, match="more than 5 pictures"):
        read(folder)
