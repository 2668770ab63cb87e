"""The outcome of a study as text."""

from __future__ import annotations

import statistics
from typing import Any

from gpukmeans.scale.files import printable

_MOST_CLUSTER_LINES = 40
_NAME = 40  # characters of a class


def report(result: dict[str, Any], *, iterations: bool = False) -> str:
    """Format what :func:`gpukmeans.study.job.run_job` returned for reading."""
    data, parameters, metrics = result["data"], result["parameters"], result["metrics"]
    shape, n = data["image_shape"], f"{data['n_samples']:,}"
    what = f"{n} rows of {data['n_features']:,} features"
    if shape is not None:
        what = f"{n} images of {' x '.join(map(str, shape))} pixels"
    reason = "" if parameters["backend"] == "auto" else " (asked for)"
    ended = "stopped by --max-iter" if result["n_iter"] == parameters["max_iter"] else "converged"
    times = [record["seconds"] * 1e3 for record in result["iterations"]]
    lines = [
        f"{data['name']}: {what} ({data['dtype']}; "
        f"source: {data['source']}), {parameters['n_clusters']:,} cluster{'s' * (parameters['n_clusters'] > 1)}",
        *(f"  {printable(note)}" for note in data["notes"]),
        f"{result['backend']} backend{reason}, {result['machine']}; precision {parameters['precision']}",
        f"{ended} after {result['n_iter']} iterations from {parameters['init']} (seed {parameters['random_state']}, "
        f"n_init {parameters['n_init']}, tol {parameters['tol']:g})",
        "",
        "seconds    " + "   ".join(f"{stage} {value:.3f}" for stage, value in result["seconds"].items()),
        f"iteration  median {statistics.median(times):.2f} ms   first {times[0]:.2f}   last {times[-1]:.2f}   "
        f"longest {max(times):.2f}",
    ]
    if iterations:
        lines += ["", *_iteration_table(result["iterations"])]
    table = result["metric_table"]
    widest = max(len(name) for name, _ in table)
    lines += ["", *(f"{name:<{widest}}  {value}" for name, value in table), ""]
    if seeds := result["seeds"]:
        inertias, best = seeds["inertias"], parameters["random_state"]
        lines += [
            f"{len(inertias)} seeds from {seeds['first']}: inertia {seeds['mean']:.6g} on average, standard deviation "
            f"{seeds['standard_deviation']:.3g}, worst {max(inertias):.6g}; shown is the best, seed {best}",
            "",
        ]
    lines += _cluster_lines(metrics, result["shares"], data["class_name"], "rows" if shape is None else "images")
    if result["compared_table"]:
        lines += ["", result["compared_table"]]
    if result["sweep_table"]:
        lines += ["", result["sweep_table"]]
    if result["train_test_table"]:
        judged = result["train_test"]
        parts = (
            f'{judged["n_train"]:,} training and {judged["n_test"]:,} test images; "test": the column before, of these'
        )
        lines += ["", parts, result["train_test_table"]]
    if result["check"]:
        lines += ["", *_check_lines(result["check"], data["n_samples"])]
    if result["files"]:
        lines += ["", "wrote " + ", ".join(result["files"].values())]
    return "\n".join(lines)


def _cluster_lines(metrics: dict[str, Any], shares: list[float] | None, class_name: str, rows: str) -> list[str]:
    sizes = metrics["sizes"]
    if len(sizes) > _MOST_CLUSTER_LINES:
        middle = statistics.median(sizes)
        return [f"{len(sizes):,} clusters of {min(sizes):,} to {max(sizes):,} {rows}, median {middle:,g}"]
    if shares is None:
        return ["cluster     size"] + [f"{cluster:7d} {size:8,d}" for cluster, size in enumerate(sizes)]
    class_name, *names = (printable(str(name)) for name in [class_name, *metrics["classes"]])
    names = [name if len(name) <= _NAME else name[: _NAME - 3] + "..." for name in names]
    width = max(len(name) for name in [class_name, *names])
    return [f"cluster     size  {class_name:>{width}}  share"] + [
        f"{cluster:7d} {size:8,d}  {name:>{width}}  {share:5.1%}"
        for cluster, (size, name, share) in enumerate(zip(sizes, names, shares, strict=True))
    ]


def _iteration_table(records: list[dict[str, Any]]) -> list[str]:
    columns = ["init", "iteration", "seconds", "n_moved", "n_certified", "n_resolved", "n_exact", "shift"]
    formats = ["d", "d", ".4f", ",d", ",d", ",d", ",d", ".6g"]
    cells = [
        [format(record[column], spec) for column, spec in zip(columns, formats, strict=True)] for record in records
    ]
    widths = [max(len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in [columns, *cells]]


def _check_lines(check: dict[str, Any], n_samples: int) -> list[str]:
    verdict = "the same clustering" if check["agrees"] else "NOT the same clustering"
    ours, theirs = zip(check["n_iter"], check["inertia"], check["seconds"], strict=True)
    return [
        f"check against scikit-learn {check['sklearn']} in float64, same starting centers, tol 0: {verdict}",
        f"  gpukmeans     {ours[0]:4d} iterations  inertia {ours[1]:.15g}  {ours[2]:.3f} s",
        f"  scikit-learn  {theirs[0]:4d} iterations  inertia {theirs[1]:.15g}  {theirs[2]:.3f} s",
        f"  {check['n_different_labels']:,} of {n_samples:,} labels differ; relative difference of inertia "
        f"{check['relative_inertia_difference']:.1e}, of centers {check['relative_center_difference']:.1e}",
    ]
