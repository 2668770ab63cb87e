"""Write the README's tables from the result files: ``python -m bench.table`` (``--check`` only compares).

Tables stand between ``<!-- bench:cpu -->`` and ``<!-- /bench:cpu -->``, and the same with ``gpu``, ``ties``,
``starts``, ``twice``, ``mutations``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.machine import ROOT
from bench.mutations import KINDS, source_hash
from bench.results import Measured, newest, paired_ratio
from bench.starts import against_random
from bench.ties import broken_bounds
from bench.workloads import WORKLOADS

OURS = {"cpu": "gpukmeans numpy", "gpu": "gpukmeans cupy"}
TIES_HEAD = (
    "| rows | works within all bounds | exact / fast, at most 2 | exact less 20 ms / scikit-learn, at most 3 "
    "| growth / growth of n k, at most 1 |\n|---|---|---|---|---|"
)
TIES_NOTE = "The largest ratio of a group, and whose it is; three sizes of each work, the best of the rounds at each."
TWICE_NOTE = (
    "What differs in bits between fits of the same rows from the same start, two in each process: in one process, in "
    "two of one thread, with one and two threads; both works together.  Labels not nearest: as above.  Time: median of "
    "four fits of the first work on one thread, beside ours."
)
NONE_YET = {
    "mutations": "_No run has been recorded yet: `python -m bench.mutations --out bench/results/mutations.json`._",
    "twice": "_No run has been recorded yet: `python -m bench.twice --out bench/results/twice.json`._",
    "starts": "_No run has been recorded yet: `python -m bench.starts --out bench/results/starts.json`._",
    "ties": "_No run has been recorded yet: `python -m bench.ties --out bench/results/ties.json`._",
    "cpu": "_No run on a CPU has been recorded yet: `python -m bench.run cpu --out bench/results/cpu.json`._",
    "gpu": "_No run on a GPU has been recorded yet: `python -m bench.gpu_check --out DIR` on a machine with one._",
}
HEAD = (
    "| work | gpukmeans, exact | best peer | times faster (rounds: min to max) | iterations, ours / theirs "
    "| labels not nearest, ours / theirs | inertia, theirs / ours - 1 | cost of exactness |\n"
    "|---|---|---|---|---|---|---|---|"
)
NOTE = (
    "Median of the rounds, all systems alternating; ratios are taken within rounds, against the peer with the lowest "
    "median. Labels not nearest: rows whose label is provably not the nearest of the system's own final centers, "
    'judged in float64. Cost of exactness: `precision="exact"` / `"fast"`.'
)
STARTS = (
    " Where the work includes k-means++, the time of faiss, which has none, includes scikit-learn's `kmeans_plusplus`."
)


def write_tables(text: str, results: Path) -> str:
    """The README's text with its tables rewritten.

    Raises
    ------
    ValueError
        If a pair of markers is missing or doubled.
    """
    blocks = {suite: render(suite, newest(results, suite)) for suite in ("cpu", "gpu")}
    blocks["ties"] = render_ties(results / "ties.json")
    blocks["starts"] = render_starts(results / "starts.json")
    blocks["twice"] = render_twice(results / "twice.json")
    blocks["mutations"] = render_mutations(results / "mutations.json")
    for suite, table in blocks.items():
        begin, end = f"<!-- bench:{suite} -->", f"<!-- /bench:{suite} -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise ValueError(f"The README needs one {begin} and, after it, one {end}.")
        block = f"{begin}\n{table}\n{end}"
        text = text[: text.index(begin)] + block + text[text.index(end) + len(end) :]
    return text


def render(suite: str, measured: dict[str, Measured]) -> str:
    """The table of a suite; below it one note for each machine, with its versions and commands."""
    shown = [measured[name] for name in WORKLOADS if name in measured]
    shown += [m for name, m in measured.items() if name not in WORKLOADS]
    shown = [m for m in shown if OURS[suite] in m.entries]
    if not shown:
        return NONE_YET[suite]
    machines = list(dict.fromkeys(_machine(m.source) for m in shown))
    rows = [_row(m, suite, machines.index(_machine(m.source)) + 1 if len(machines) > 1 else 0) for m in shown]
    drawn = any("starts" in entry["extra_info"].get("notes", {}) for m in shown for entry in m.entries.values())
    parts = [HEAD + "\n" + "\n".join(rows), NOTE + (STARTS if drawn else "")]
    memory = [line for m in shown if (line := _memory(m, suite))]
    if memory:
        parts.append("Peak extra memory of a fit, beside a float32 copy of the rows: " + "; ".join(memory) + ".")
    for number, machine in enumerate(machines, 1):
        files = {m.file: m.source for m in shown if _machine(m.source) == machine}
        mark = f"[{number}] " if len(machines) > 1 else ""
        runs = [f"- {_command(source)} (every run: `bench/results/{file}`)" for file, source in files.items()]
        parts.append(f"{mark}{machine}.\n" + "\n".join(runs))
    return "\n\n".join(parts)


def render_ties(file: Path) -> str:
    """The table of `bench.ties`: the works of each group, and the largest of their ratios."""
    if not file.exists():
        return NONE_YET["ties"]
    document = json.loads(file.read_text())
    groups: dict[str, list[dict[str, Any]]] = {}
    for work in document["works"].values():
        groups.setdefault(work["group"], []).append(work)
    rows = []
    for group, works in groups.items():
        worst = {key: max(works, key=lambda work, key=key: work["ratios"][key]) for key in works[0]["ratios"]}
        cells = [f"{worst[key]['ratios'][key]:.2f} ({worst[key]['title']})" for key in worst]
        kept = sum(not broken_bounds(work["ratios"]) for work in works)
        row = [group, f"{kept} of {len(works)}", *cells]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    source = f"{_machine(document)}.\n- {_command(document)} (every run: `bench/results/{file.name}`)"
    return "\n\n".join([TIES_HEAD + "\n" + "\n".join(rows), TIES_NOTE, source])


def render_starts(file: Path) -> str:
    """The table of `bench.starts`: a row for each work and start."""
    if not file.exists():
        return NONE_YET["starts"]
    document = json.loads(file.read_text())
    head = ["work", "start", "iterations", "whole fit", "of it the start", "time / random rows (min to max)"]
    rows = [[*head, "inertia / random rows - 1 (min to max)"], ["---"] * (len(head) + 1)]
    for work in document["works"].values():
        for init in work["starts"]:
            found = against_random(work, init)
            ratio, higher = found["ratio"], found["inertia"]
            cells = [work["title"], init, f"{found['iterations']}", f"{found['seconds']:.2f} s"]
            cells += [f"{found['start']:.2f} s", f"**{ratio[0]:.2f}** ({ratio[1]:.2f} to {ratio[2]:.2f})"]
            rows.append([*cells, f"{higher[0]:+.2%} ({higher[1]:+.2%} to {higher[2]:+.2%})"])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{table}\n\n{_machine(document)}.\n- {_command(document)} (every run: `bench/results/{file.name}`)"


def render_twice(file: Path) -> str:
    """The table of `bench.twice`: a row for each system."""
    if not file.exists():
        return NONE_YET["twice"]
    document = json.loads(file.read_text())
    works, systems = document["works"], document["systems"]
    first = next(iter(works))
    medians = {name: _twice_seconds(system["works"][first]) for name, system in systems.items()}
    ours = next(medians[name] for name, system in systems.items() if system["ours"])
    head = ["system", "one process", "two processes", "1 and 2 threads"]
    head += [f"labels not nearest, {work['title']}" for work in works.values()] + ["time / ours"]
    rows = [head, ["---"] * len(head)]
    for name, system in systems.items():
        results = [system["works"][work] for work in works]
        row = [f"{name} {system['version']}" if not system["ours"] else name]
        for pair in ("one process", "two processes", "1 and 2 threads"):
            parts = dict.fromkeys(part for result in results for part in result.get("differs", {}).get(pair, ()))
            failed = all("error" in result for result in results)
            row.append(
                "-" if failed else ", ".join(parts).replace("n_iter", "iterations") + " differ" if parts else "same"
            )
        for result in results:
            row.append(result["error"] if "error" in result else _count(result["children"][0]["wrong_labels"]))
        row.append("-" if medians[name] is None or ours is None else f"{medians[name] / ours:.1f}")
        rows.append(row)
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    source = f"{_machine(document)}.\n- {_command(document)} (every fit: `bench/results/{file.name}`)"
    return "\n\n".join([table, TWICE_NOTE, source])


def render_mutations(file: Path) -> str:
    """The table of `bench.mutations`: a row for each module, and whether its source has changed since."""
    if not file.exists():
        return NONE_YET["mutations"]
    rows = [["module", "mutants", *KINDS, "recorded"], ["---"] * (len(KINDS) + 3)]
    modules = json.loads(file.read_text())["modules"]
    for module, run in modules.items():
        exists = (ROOT / module).exists()
        stale = "" if exists and source_hash(module) == run["source"] else ", of an earlier source"
        counts = [run[kind] for kind in KINDS]
        rows.append([f"`{module}`", f"{sum(counts)}", *map(str, counts), run["datetime"][:10] + stale])
    counts = [sum(run[kind] for run in modules.values()) for kind in KINDS]
    rows.append(["all", f"{sum(counts)}", *map(str, counts), ""])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{table}\n\nThe survivors and their lines: `bench/results/{file.name}`; reasons: `bench/mutations.toml`."


def _twice_seconds(result: dict[str, Any]) -> float | None:
    fits = [fit for child in result.get("children", ()) if child["threads"] == 1 for fit in child["fits"]]
    return statistics.median(fit["seconds"] for fit in fits) if fits else None


def _row(m: Measured, suite: str, number: int) -> str:
    name, peer = OURS[suite], m.best_peer()
    ours = m.entries[name]["extra_info"]
    mark = f" [{number}]" if number else ""
    fast = paired_ratio(m.seconds(name + " fast"), m.seconds(name)) if name + " fast" in m.entries else None
    cost = "-" if fast is None else f"{fast.median:.2f}x"
    if peer is None:
        labels, iterations = _count(ours["wrong_labels"]), _count(ours["n_iter"])
        cells = [ours["title"] + mark, seconds(m.median(name)), "none ran", "-", iterations, labels, "-", cost]
        return "| " + " | ".join(cells) + " |"
    theirs = m.entries[peer]["extra_info"]
    ratio = paired_ratio(m.seconds(name), m.seconds(peer))
    cells = [
        ours["title"] + mark,
        seconds(m.median(name)),
        f"{peer}, {seconds(m.median(peer))}",
        f"**{ratio.median:.2f}x** ({ratio.low:.2f} to {ratio.high:.2f})",
        f"{_count(ours['n_iter'])} / {_count(theirs['n_iter'])}",
        f"{_count(ours['wrong_labels'])} / {_count(theirs['wrong_labels'])}",
        _relative(ours.get("inertia"), theirs.get("inertia")),
        cost,
    ]
    return "| " + " | ".join(cells) + " |"


def _memory(m: Measured, suite: str) -> str | None:
    measured = m.entries[OURS[suite]]["extra_info"].get("memory")
    if not measured or "error" in measured:
        return None
    resident = measured["resident_share"]
    share = f"{measured['traced_share']:.0%} (NumPy's allocations)"
    if resident is not None:
        share = f"{resident:.0%} (resident set), {share}"
    return f"{m.entries[OURS[suite]]['extra_info']['title']}: {share}"


def seconds(value: float) -> str:
    """A time with three digits.

    Examples
    --------
    >>> seconds(12.345), seconds(0.012345), seconds(0.0000123)
    ('12.3 s', '12.3 ms', '12.3 us')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if value * scale >= 1 or unit == "us":
            digits = f"{value * scale:.3g}"
            return f"{float(digits):.0f} {unit}" if "e" in digits else f"{digits} {unit}"
    raise AssertionError


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _relative(ours: float | None, theirs: float | None) -> str:
    return f"{theirs / ours - 1:+.1e}" if ours and theirs else "-"


def _machine(source: dict[str, Any]) -> str:
    """The machine and the versions of a run: what one footnote tells."""
    info = source["machine_info"]
    cpu = f"{info['cpu']['brand_raw']}, {info['cores_used']} cores"
    gpu = info.get("gpu")
    machine = f"{gpu['name']} (driver {gpu.get('driver', '?')}) beside {cpu}" if gpu else cpu
    blas = sorted({_pool(p) for p in info.get("thread_pools", ()) if p.get("user_api") == "blas"})
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    return f"{machine}; Python {info['python_version']}; {'; '.join(blas) or 'no BLAS reported'}; {versions}"


def _command(source: dict[str, Any]) -> str:
    """The command of a run, its day, and the commit that ran."""
    commit = source["commit_info"]
    commit_id = (commit["id"] or "unknown")[:12] + (", with changes" if commit["dirty"] else "")
    return f"`{source['command']}`, {source['datetime'][:10]}, commit {commit_id}"


def _pool(pool: dict[str, Any]) -> str:
    return f"{pool['internal_api']} {pool.get('version', '?')} on {pool['num_threads']} threads"


def main(argv: list[str] | None = None) -> int:
    """Rewrite the README, or with ``--check`` return 1 where it does not match."""
    parser = argparse.ArgumentParser(prog="python -m bench.table", description=__doc__.splitlines()[0])
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the tables are not up to date")
    options = parser.parse_args(argv)
    before = options.readme.read_text()
    try:
        after = write_tables(before, options.results)
    except ValueError as error:
        parser.error(str(error))
    if options.check:
        if before != after:
            print(f"{options.readme.name} does not match the results: run `python -m bench.table`.", file=sys.stderr)
        return int(before != after)
    options.readme.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
