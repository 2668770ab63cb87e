"""The page of a report in headless Chromium: how soon its map is drawn, and how many frames a second it moves with.

``python -m bench.page --out FILE [--seconds S]``

MNIST's report as `gpukmeans report mnist` writes it, and a million points in ten clouds, without a GPU.  A frame is one
that `requestAnimationFrame` gives while the map pans and zooms; drawing it, as told by `performance.now()`, is recorded
beside it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import gpukmeans
from bench.machine import run_info
from bench.results import write_json
from gpukmeans.evaluation import evaluate, margins
from gpukmeans.scale.recipe import made as recipe
from gpukmeans.study.data import Loaded
from gpukmeans.study.explorer import content
from gpukmeans.study.explorer.page import write_page

#: Times that a page is opened.
LOADS = 7
#: From the beginning of the navigation, but for the second, which is from the beginning of the page's script.
TIMES = """(page) => ({ first_draw_ms: page.firstDraw, first_draw_of_script_ms: page.firstDraw - page.begun,
  first_seen_ms: page.firstSeen, complete_ms: page.complete })"""
MOVE = """(seconds) => new Promise((done) => {
  const { map } = gpukmeansPage;
  const [frames, drawing, begun] = [[], [], performance.now()];
  const draw = map.draw.bind(map);
  map.draw = () => { const from = performance.now(); draw(); drawing.push(performance.now() - from); };
  const step = (now) => {
    frames.push(now);
    const phase = (now - begun) / 400;
    map.pan(6 * Math.cos(phase), 6 * Math.sin(phase));
    if (KIND === "zoom") map.zoom(Math.sin(phase) > 0 ? 1.03 : 1 / 1.03);
    if (now - begun < 1000 * seconds) requestAnimationFrame(step);
    else { map.draw = draw; done({ frames, drawing }); }
  };
  requestAnimationFrame(step);
})"""


def clouds(n: int) -> content.Outcome:
    """So many rows of two features, in ten clusters."""
    random = np.random.RandomState(0)
    X = random.normal(size=(n, 2)) + random.uniform(-12, 12, size=(10, 2))[random.randint(10, size=n)]
    model = gpukmeans.fit(X, 10, random_state=0)
    names = ["a", "b"]
    data = Loaded(
        "clouds", "drawn", X, None, "class", None, names, recipe(columns=names), np.arange(n), None, "units", []
    )
    found = margins(X, model.labels_, model.cluster_centers_)
    table = evaluate(model.labels_, X, inertia=model.inertia_, random_state=0)
    parameters = {"init": "k-means++", "n_init": 1, "max_iter": 300, "tol": 1e-4, "precision": "exact"}
    return content.Outcome(data, model, parameters, found, table, "units", None, None, None, "simplified", {})


def measured(browser: Any, path: Path, seconds: float) -> dict[str, Any]:
    """First draw, and frames while the map moves, of a page."""
    found: dict[str, Any] = {"megabytes": path.stat().st_size / 1e6}
    opened = []
    for _ in range(LOADS):
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(path.as_uri())
        tab.wait_for_selector("body[data-complete]", timeout=120_000)
        opened.append(tab.evaluate(f"({TIMES})(gpukmeansPage)"))
        found["points"] = tab.evaluate("gpukmeansPage.study.held")
        if len(opened) < LOADS:
            tab.close()
    for name in opened[0]:
        values = [times[name] for times in opened]
        found |= {name: statistics.median(values), f"least_{name}": min(values)}
    tab.wait_for_timeout(500)
    once = "const from = performance.now(); gpukmeansPage.map.draw(); return performance.now() - from;"
    alone = f"Array.from({{ length: 9 }}, () => {{ {once} }})"
    found["draw_ms"] = statistics.median(tab.evaluate(alone))
    for kind in ("pan", "zoom"):
        tab.evaluate("gpukmeansPage.map.reset()")
        moved = tab.evaluate(MOVE.replace("KIND", f"'{kind}'"), seconds)
        gaps = np.diff(moved["frames"])
        found[kind] = {
            "frames_per_second": float(1000 / gaps.mean()),
            "slowest_frame_ms": float(gaps.max()),
            "draw_ms": statistics.median(moved["drawing"]),
        }
    tab.close()
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each movement (default 5)")
    options = parser.parse_args(arguments)
    from playwright.sync_api import sync_playwright

    from gpukmeans.cli import main as command

    pages = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder)
        started, cpu = time.perf_counter(), time.process_time()
        command(["report", "mnist", "-o", str(path / "mnist"), "--quiet"])
        made = {"report_seconds": time.perf_counter() - started, "report_cpu_seconds": time.process_time() - cpu}
        content.MOST_ROWS = 1_000_000
        write_page(path / "clouds.html", *content.made(clouds(1_000_000), film=False))
        executable = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        version = browser.version
        for name, file in (("mnist", path / "mnist" / "report.html"), ("clouds", path / "clouds.html")):
            pages[name] = measured(browser, file, options.seconds)
            print(name, pages[name], flush=True)
        browser.close()
    pages["mnist"] |= made
    write_json(
        options.out,
        {
            **run_info("page", arguments),
            "chromium": version,
            "pages": pages,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
