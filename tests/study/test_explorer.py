"""The page of a report: what Python puts into it, and what a real browser makes of it."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zlib

import numpy as np
import pytest

import gpukmeans
from gpukmeans.cli import main
from gpukmeans.study.explorer import film, page, pictures

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script><script>document.title='run'</script><!--"
QUIET = ("--backend", "numpy", "--no-plots", "--quiet")
PICTURE_SIDE = 6


def arrays_of(text):
    """The arrays that a page holds, by the rules of its reader."""
    found = {}
    for name, body in re.findall(r'class="array" data-name="(\w+)">(.*?)</script>', text):
        array = json.loads(body)
        dtype = np.dtype(array["dtype"])
        content = base64.b64decode(array["bytes"])
        if array["deflated"]:
            planes = np.frombuffer(zlib.decompress(content), np.uint8)
            content = np.ascontiguousarray(planes.reshape(dtype.itemsize, -1).T).tobytes()
        whole = np.frombuffer(content, dtype.newbyteorder("<"))
        found[name] = whole.reshape(array["shape"])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Reports: of digits, of a hostile table, of three rows that are one, and of grey pictures with much beside."""
    made = tmp_path_factory.mktemp("reports")
    with open(made / "table.csv", "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["id", "<b>length</b>", "w" * 300, HOSTILE])
        for i in range(60):
            lines.writerow([f"row {i} {HOSTILE}", i % 3 * 10 + i / 100, i % 3, [HOSTILE, "b" * 500, "c"][i % 3]])
    (made / "same.csv").write_text("a,b\n1,2\n1,2\n1,2\n")
    assert main(["report", "digits", "-o", str(made / "digits"), *QUIET]) == 0
    table = str(made / "table.csv")
    assert main(["report", table, "-k", "3", "--label", HOSTILE, "-o", str(made / "table"), *QUIET]) == 0
    assert main(["report", str(made / "same.csv"), "-k", "3", "-o", str(made / "same"), *QUIET]) == 0
    image = pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    random = np.random.RandomState(0)
    for i in range(24):
        (made / "grey" / f"{i % 3}").mkdir(parents=True, exist_ok=True)
        pixels = random.randint(0, 40, (PICTURE_SIDE, PICTURE_SIDE)) + 90 * (i % 3)
        image.fromarray(pixels.astype(np.uint8)).save(made / "grey" / f"{i % 3}" / f"{i}.png")
    beside = ["--compare", "--sweep", "2,3,5", "--seeds", "2", "--map", "neighbours", "-o", str(made / "photos")]
    with pytest.MonkeyPatch.context() as patch:  # UMAP compiles for half a minute
        patch.setattr("gpukmeans.evaluation.layouts.require_neighbours", lambda: None)
        patch.setattr("gpukmeans.evaluation.layout", lambda X, **kwargs: np.stack([X[:, 0], np.arange(len(X))], 1))
        grey = ["report", str(made / "grey"), "-k", "4", "--label", "folder", "--backend", "numpy", "--quiet"]
        assert main([*grey, *beside]) == 0
    return made


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=[1280, 390])
def opened(request, browser, folder):
    """A function that opens a report from its file, and finds fault with errors and requests at the end."""
    width, faults = request.param, []
    context = browser.new_context(viewport={"width": width, "height": 800}, has_touch=width < 600)

    def open_report(name):
        tab = context.new_page()
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        url = (folder / name / "report.html").as_uri()
        tab.on("request", lambda sent: sent.url in (url, "data:,") or faults.append(sent.url))
        tab.goto(url)
        tab.wait_for_selector("body[data-complete]")
        assert tab.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out
        return tab

    yield open_report
    context.close()
    assert faults == []


def test_a_pages_arrays_are_the_fit(folder):
    text = (folder / "digits" / "report.html").read_text(encoding="utf-8")
    arrays = arrays_of(text)
    model = gpukmeans.load_model(folder / "digits" / "model.npz")
    X, y = gpukmeans.load_digits(return_X_y=True)
    np.testing.assert_array_equal(arrays["label"], model.predict(X))
    np.testing.assert_array_equal(arrays["class"], y)
    found = gpukmeans.evaluation.margins(X, arrays["label"], model.cluster_centers_)
    np.testing.assert_array_equal(arrays["margin"], found.margin.astype(np.float32))
    thumbnails = arrays["thumbnails"]
    greys = np.stack([thumbnails >> 4, thumbnails & 15], axis=2).reshape(len(X), 64)
    np.testing.assert_array_equal(greys, np.rint(X / 16 * 15))
    shown = arrays["shown"]
    np.testing.assert_array_equal(arrays["pixels"], np.rint(X[shown] / 16 * 255))
    np.testing.assert_array_equal(arrays["film"][-1], np.rint(model.cluster_centers_ / 16 * 255))
    before, after = text.split("'use strict'")  # the map is drawn before the rest of a large page is read
    assert sorted(arrays_of(before)) == ["label", "x", "y"]
    assert len(after) > len(before)
    assert "http:" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in text


def test_a_film_stops_at_the_iterations_that_it_names():
    X = gpukmeans.load_digits(return_X_y=True)[0]
    model = gpukmeans.fit(X, 10, random_state=3, backend="numpy")
    parameters = {"init": "k-means++", "n_init": "auto", "precision": "exact", "backend": "numpy"}
    at, centers = film.frames(X, model, parameters)
    assert at[0] == 0
    assert at[-1] == model.n_iter_
    for iteration, seen in list(zip(at, centers, strict=True))[1:]:
        fitted = gpukmeans.fit(X, 10, random_state=3, backend="numpy", max_iter=iteration, tol=model.tol)
        np.testing.assert_array_equal(seen, fitted.cluster_centers_)


def test_pictures_are_shrunk_by_area_whatever_their_shape():
    colours = np.arange(2 * 30 * 20 * 3, dtype=np.float64).reshape(2, -1)
    small = pictures.Pictures(colours, (30, 20, 3), {"scale": None})
    assert small.thumb_shape == (14, 9, 3)
    values = small.small(colours, 255).reshape(2, 14, 9, 3) / 255.0 * (small.greys.highest - small.greys.lowest)
    means = colours.reshape(2, 600, 3).mean(axis=1)
    np.testing.assert_allclose(values.mean(axis=(1, 2)), means, atol=10)
    constant = pictures.Pictures(np.full((3, 16), 7.0), (4, 4), {"scale": None})
    assert constant.thumbnails(np.arange(3)).shape == (3, 8)


def test_no_text_ends_the_script_that_holds_it(folder):
    assert page.embedded(HOSTILE).count("<") == 0
    text = (folder / "table" / "report.html").read_text(encoding="utf-8")
    assert "document.title='run'" not in text.replace("\\u003c", "").split("\\u003e")[0]
    assert text.count("</script>") == text.count("<script")


def test_the_row_under_the_pointer_is_the_one_that_is_named(opened):
    tab = opened("digits")
    box = tab.locator(".canvas")
    tab.evaluate("document.querySelector('.canvas').scrollIntoView({behavior: 'instant', block: 'center'})")
    row = tab.evaluate("gpukmeansPage.map.zoom(4); gpukmeansPage.map.draw(); gpukmeansPage.map.thumbs[5].row")
    x, y = tab.evaluate(
        f"gpukmeansPage.map.toBox(gpukmeansPage.study.arrays.x[{row}], gpukmeansPage.study.arrays.y[{row}])"
    )
    place = box.bounding_box()
    tab.mouse.move(place["x"] + x, place["y"] + y)
    assert tab.locator(".hover dl").first.get_attribute("data-row") == str(row)
    box.focus()
    for _ in range(12):
        tab.keyboard.press("+")
    tab.evaluate("gpukmeansPage.map.moveTo(gpukmeansPage.study.arrays.x[77], gpukmeansPage.study.arrays.y[77],"
                 "gpukmeansPage.map.scale); gpukmeansPage.map.draw()")  # fmt: skip
    tab.keyboard.press("Enter")
    assert tab.locator(".hover dl").first.get_attribute("data-row") == "77"
    digits = gpukmeans.load_digits()
    assert f"digit{digits.target[77]}" in tab.locator(".hover dl").first.inner_text().replace("\n", "")
    assert tab.evaluate("gpukmeansPage.map.thumbs.some((thumb) => thumb.row === 77)")
    pixels = tab.evaluate("Array.from(gpukmeansPage.pictures.thumbnail(77))")
    np.testing.assert_array_equal(pixels, np.rint(digits.data[77] / 16 * 15) * 17)


def test_a_cell_lists_its_rows_a_lasso_its_own_and_names_change_the_accuracy(opened, folder):
    tab = opened("digits")
    labels = gpukmeans.load_model(folder / "digits" / "model.npz").predict(gpukmeans.load_digits().data)
    y = gpukmeans.load_digits().target
    counts, _ = gpukmeans.evaluation.cluster_class_counts(labels, y)
    cluster, digit = (int(i) for i in np.unravel_index(counts.argmax(), counts.shape))
    tab.locator(f'button[data-cluster="{cluster}"][data-class="{digit}"]').click()
    while (more := tab.locator("#cell button:not([data-row])")).count():
        more.first.click()
    listed = "[...document.querySelectorAll('#cell button[data-row]')].map((one) => Number(one.dataset.row))"
    rows = tab.evaluate(listed)
    assert sorted(rows) == np.flatnonzero((labels == cluster) & (y == digit)).tolist()

    polygon = [[10_000, 10_000], [50_000, 12_000], [30_000, 50_000]]
    held = tab.evaluate("(polygon) => gpukmeansPage.map.points.within(polygon)", polygon)
    arrays = arrays_of((folder / "digits" / "report.html").read_text(encoding="utf-8"))
    from matplotlib.path import Path

    inside = Path(polygon).contains_points(np.stack([arrays["x"], arrays["y"]], axis=1).astype(np.float64))
    assert held == np.flatnonzero(inside).tolist()

    shown = "#tiles div:nth-child(2) dd"
    assert tab.locator(shown).inner_text() == f"{100 * counts.max(axis=1).sum() / len(y):.1f}%"
    tab.locator(f'.card[data-cluster="{cluster}"]').click()
    worst = int(counts[cluster].argmin())
    tab.get_by_label("name of the cluster").fill(str(worst))
    tab.get_by_label("name of the cluster").press("Enter")
    right = counts.max(axis=1).sum() - counts[cluster].max() + counts[cluster, worst]
    assert tab.locator(shown).inner_text() == f"{100 * right / len(y):.1f}%"


@pytest.mark.parametrize("opened", [1280], indirect=True)
def test_a_map_that_shows_everything_still_does_in_a_narrower_window(opened):
    tab = opened("digits")
    ends = "[...gpukmeansPage.map.toBox(x[0], y[0]), ...gpukmeansPage.map.toBox(x[1], y[1])]"
    seen = f"(() => {{ const {{ x, y }} = gpukmeansPage.map.points.extent; return {ends}; }})()"
    tab.set_viewport_size({"width": 390, "height": 800})
    width = tab.locator(".canvas").bounding_box()["width"]
    tab.wait_for_function(f"gpukmeansPage.map.width <= {width + 1} * gpukmeansPage.map.ratio")
    left, _, right, _ = tab.evaluate(seen)
    assert 0 < left < right < width
    tab.evaluate("gpukmeansPage.map.zoom(3)")
    scale = tab.evaluate("gpukmeansPage.map.scale")
    tab.set_viewport_size({"width": 700, "height": 800})
    tab.wait_for_function(f"gpukmeansPage.map.width > {width + 1} * gpukmeansPage.map.ratio")
    assert tab.evaluate("gpukmeansPage.map.scale") == scale


@pytest.mark.parametrize("opened", [390], indirect=True)
def test_one_finger_moves_the_map_two_zoom_it_and_a_tap_names_a_row_that_stays(opened):
    tab = opened("digits")
    tab.evaluate("document.querySelector('.canvas').scrollIntoView({behavior: 'instant', block: 'center'})")
    place, fingers = tab.locator(".canvas").bounding_box(), tab.context.new_cdp_session(tab)

    def touch(*steps):
        for kind, points in zip(["touchStart"] + ["touchMove"] * (len(steps) - 1), steps, strict=True):
            at = [{"x": place["x"] + x, "y": place["y"] + y, "id": i} for i, (x, y) in enumerate(points)]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
        fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def seen():
        return tab.evaluate("[...gpukmeansPage.map.toBox(0, 0), gpukmeansPage.map.scale, scrollY]")

    x, y, scale, scrolled = seen()
    touch([(100, 100)], [(112, 106)], [(140, 120)])
    np.testing.assert_allclose(seen(), [x + 40, y + 20, scale, scrolled])
    touch([(100, 150), (200, 150)], *([(100 - 5 * i, 150), (200 + 5 * i, 150)] for i in range(1, 11)))
    np.testing.assert_allclose(seen(), [150 + 2 * (x + 40 - 150), 150 + 2 * (y + 20 - 150), 2 * scale, scrolled])
    row = tab.evaluate("gpukmeansPage.map.zoom(2); gpukmeansPage.map.draw(); gpukmeansPage.map.thumbs[3].row")
    arrays = "gpukmeansPage.study.arrays"
    touch([tab.evaluate(f"gpukmeansPage.map.toBox({arrays}.x[{row}], {arrays}.y[{row}])")])
    assert tab.locator(".hover dl").first.get_attribute("data-row") == str(row)
    label = tab.evaluate(f"{arrays}.label[{row}]")
    assert tab.locator(".card[aria-current=true]").get_attribute("data-cluster") == str(label)


@pytest.mark.parametrize("opened", [1280], indirect=True)
def test_paper_has_no_buttons_and_nothing_beyond_its_edge(opened):
    tab = opened("digits")
    tab.locator(".card").first.click()
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 680, "height": 1000})  # of A4 with margins
    assert tab.evaluate("document.documentElement.scrollWidth") == 680
    buttons = "[...document.querySelectorAll('button:not(.card, .wall button, .cells button), select, input')]"
    assert tab.evaluate(f"{buttons}.filter((one) => one.checkVisibility()).map((one) => one.outerHTML)") == []
    assert tab.evaluate("[...document.querySelectorAll('canvas.picture')].filter((one) => !one.ariaLabel).length") == 0


def test_names_of_strangers_are_texts_and_one_point_is_a_map(opened):
    tab = opened("table")
    assert tab.title() == "table.csv in 3 clusters"
    tab.locator(".card").first.click()
    assert HOSTILE[:20] in tab.locator("#main").inner_text()
    assert tab.locator("#main img, #main script").count() == 0
    same = opened("same")
    assert same.locator(".card", has_text="empty").count() == 2
    same.locator(".card", has_text="empty").first.click()
    assert "No row belongs to this cluster." in same.locator("#cluster").inner_text()


def test_what_the_study_has_beside_are_sections_and_photographs_are_no_negatives(opened, folder):
    tab = opened("photos")
    model = gpukmeans.load_model(folder / "photos" / "model.npz")
    table = gpukmeans.read_table(folder / "grey")
    labels = model.predict(table.X)
    titles = tab.locator("section h2").all_inner_texts()
    assert {"How many clusters", "From 4 clusters to 3 clusters", "Other starts"} <= set(titles)
    seeds = next(title for title in titles if title.startswith(f"From seed {model.random_state} to seed "))
    other = gpukmeans.fit(table.X, 4, random_state=int(seeds[-1]), backend="numpy")
    assert int(seeds[-1]) != model.random_state
    counts = gpukmeans.evaluation.flow(labels, other.labels_).counts
    bands = tab.locator("section", has_text=seeds).locator("path title").all_text_contents()
    found = {tuple(int(re.match(r"\d+", name)[0]) for name in band.split(": ")[0].split(" to ")):
             int(band.rsplit(": ", 1)[1]) for band in bands}  # fmt: skip
    assert found == {(i, j): counts[i, j] for i, j in np.argwhere(counts).tolist()}
    assert "3 *" in tab.locator("section", has_text="How many clusters").locator("tbody th").all_inner_texts()
    assert (
        tab.evaluate("[...document.querySelectorAll('img.extra')].map((one) => one.naturalWidth > 300)") == [True] * 2
    )
    page_arrays = arrays_of((folder / "photos" / "report.html").read_text(encoding="utf-8"))
    shown = tab.evaluate(
        "Array.from(document.querySelector('.card canvas').getContext('2d').getImageData(0, 0, 6, 6).data)"
    )
    cluster = int(tab.locator(".card").first.get_attribute("data-cluster"))
    np.testing.assert_array_equal(shown[::4], page_arrays["centers"][cluster])
    assert "placed by UMAP" in tab.locator("#map").inner_text()
    np.testing.assert_array_equal(np.argsort(-page_arrays["y"].astype(int)), np.arange(24))  # upwards, as laid out


def test_the_live_page_fits_again_names_a_drawing_and_ends_with_ctrl_c(browser):
    pytest.importorskip("uvicorn", reason="explore serves with uvicorn")
    command = [sys.executable, "-m", "gpukmeans", "explore", "digits", "-k", "5", "--init", "random", "--seed", "3"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    faults = []
    with subprocess.Popen([*command, "--backend", "numpy"], **pipes) as process:
        try:
            address = process.stdout.readline().split()[1]
            tab = browser.new_page(viewport={"width": 390, "height": 800})
            tab.on("console", lambda message: faults.append(message.text))
            tab.on("pageerror", lambda error: faults.append(str(error)))
            site = address.split("?")[0]
            tab.on("request", lambda sent: sent.url.startswith((site, "data:")) or faults.append(sent.url))
            assert tab.goto(address).status == 200
            tab.wait_for_selector("body[data-complete]")
            assert tab.locator(".card").count() == 5
            assert tab.get_by_label("init").input_value() == "random"
            assert tab.get_by_label("seed").input_value() == "3"
            tab.get_by_label("number of clusters", exact=True).fill("7")
            tab.wait_for_selector(".card >> nth=6")
            tab.wait_for_selector("#live output:has-text('fit 2')")
            model = gpukmeans.fit(gpukmeans.load_digits().data, 7, init="random", random_state=3, backend="numpy")
            assert tab.evaluate("Array.from(gpukmeansPage.study.arrays.label)") == model.labels_.tolist()
            assert tab.evaluate("document.documentElement.scrollWidth") == 390

            pad = tab.locator("canvas.pad")
            pad.scroll_into_view_if_needed()
            box = pad.bounding_box()
            tab.mouse.move(box["x"] + 112, box["y"] + 30)
            tab.mouse.down()
            tab.mouse.move(box["x"] + 112, box["y"] + 190, steps=4)
            tab.mouse.up()
            drawn = "Array.from(document.querySelector('#draw [aria-label=\"what is compared\"]').getContext('2d')" \
                    ".getImageData(0, 0, 8, 8).data)"  # fmt: skip
            values = 255 - np.array(tab.evaluate(drawn)[::4])  # ink on paper
            assert values.max() > 200
            centers = np.rint(model.cluster_centers_ / 16 * 255)
            nearest = ((centers - values) ** 2).sum(axis=1).argsort(kind="stable")[:5]
            named = "[...document.querySelectorAll('#draw li')].map((one) => Number(one.dataset.cluster))"
            assert tab.evaluate(named) == nearest.tolist()
        finally:
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=60)[1]
    assert (process.returncode, faults) == (130, [])
    assert "Traceback" not in errors


def test_report_refuses_options_of_other_data(capsys, tmp_path):
    assert main(["report", "mnist", "--label", "digit", "-o", str(tmp_path)]) == 2
    assert "--label is no option of report mnist" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
