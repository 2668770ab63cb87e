"""`import gpukmeans` is light, imports point down only, and files stay short."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import gpukmeans

PACKAGE = Path(gpukmeans.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
HEAVY = ["cupy", "keras", "tensorflow", "torch", "jax", "matplotlib", "dask", "pandas", "sklearn", "scipy"]


def run(code):
    """What a fresh interpreter prints, as JSON."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent, timeout=300
    )
    return json.loads(result.stdout)


def test_importing_the_package_loads_nothing_heavy():
    loaded = run("import sys, json, gpukmeans; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))")
    assert "gpukmeans" in loaded
    assert set(loaded) & set(HEAVY) == set()


def test_a_fit_on_numpy_loads_neither_cupy_nor_keras_nor_matplotlib():
    code = (
        "import sys, json, gpukmeans; gpukmeans.fit([[0.0], [1.0], [9.0]], 2, backend='numpy'); "
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    loaded = run(code)
    assert "sklearn" in loaded  # the check can see what is loaded
    assert set(loaded) & {"cupy", "keras", "tensorflow", "torch", "jax", "matplotlib", "dask"} == set()


def test_public_names_resolve_when_they_are_asked_for():
    code = (
        "import sys, json, gpukmeans; before = 'gpukmeans.estimator' in sys.modules; "
        "names = {name: getattr(gpukmeans, name) is not None for name in gpukmeans.__all__}; "
        "print(json.dumps([before, names, 'gpukmeans.estimator' in sys.modules, sorted(dir(gpukmeans))]))"
    )
    before, names, after, listed = run(code)
    assert not before
    assert after
    assert all(names.values())
    assert {"KMeans", "fit", "load_mnist", "load_digits"} <= set(names)
    assert set(names) <= set(listed)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gpukmeans' has no attribute 'KMedians'"):
        gpukmeans.KMedians  # noqa: B018
    assert not hasattr(gpukmeans, "no_such_name")


# ---- layers ----------------------------------------------------------------------------------------------------------

#: From the top down; a module may import from its own layer and from those below.  backends/__init__.py (the protocol)
#: lies under the engine, and its functions reach up to the backends only when called.
LAYERS = [
    ["cli", "explorer", "__main__", "_job", "_progress"],
    ["report", "patching"],
    ["functions", "many"],
    ["estimator", "minibatch", "evaluation", "plots", "datasets", "_mnist_files", "_mnist_download"],
    ["bisecting", "spherical"],
    ["_base", "batch_starts"],
    ["array_kinds"],
    ["restarts"],
    ["lockstep"],
    ["watching"],
    ["lloyd", "batch_steps", "streaming", "distributed", "_validation"],
    ["seeding"],
    ["backends.cupy_backend", "backends.numpy_backend"],
    ["backends.cupy_sparse"],
    ["backends.cupy_rows"],
    [
        "backends.cupy_batches",
        "backends.cupy_run",
        "backends.cupy_runs",
        "backends.cupy_plusplus",
        "backends.cupy_seeding",
        "backends.cupy_sparse_seeding",
        "backends.numpy_batches",
        "backends.numpy_sparse",
    ],
    ["backends.numpy_sparse_run", "backends.numpy_sparse_seeding"],
    ["backends.numpy_run", "backends.numpy_seeding"],
    ["backends.cupy_sparse_workspace"],
    ["backends.cupy_workspace"],
    ["backends.cupy_potentials", "backends.cupy_screen", "backends.numpy_lockstep", "backends.cupy_facts"],
    ["backends.numpy_draws", "backends.numpy_seed_screen"],
    ["backends.numpy_runs"],
    ["backends.numpy_groups", "backends.numpy_steps"],
    ["backends.numpy_grouping"],
    ["backends.numpy_sparse_exact", "backends.numpy_sparse_screen", "backends.numpy_sparse_sums"],
    ["backends.numpy_sparse_table"],
    ["backends.numpy_bounds", "backends.numpy_projection", "backends.numpy_sums"],
    ["backends.numpy_screen"],
    ["backends.device"],
    ["backends.nvrtc", "backends.stage"],
    ["backends.screen_tiles"],
    ["backends.cupy_control", "backends.tuning"],
    ["backends.problems"],
    ["backends", "batch_inertia", "tie_break"],
    ["backends.choice"],
    ["half_certificates", "seed_certificates", "sparse_certificates", "unit_rows"],
    ["certificates", "exact_sums", "device_arrays", "sparse_input"],
    ["threads"],
    [""],
]
DEPTH = {module: depth for depth, layer in enumerate(LAYERS) for module in layer}


def module_name(path):
    """Below the package: "lloyd", "backends.device", "backends", "" for the package itself."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree, path):
    """Absolute names of what is imported when a module is loaded: not within functions, not for type checkers only."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ["gpukmeans", *path.relative_to(PACKAGE).parent.parts][: -node.level + 1 or None]
            base = ".".join(filter(None, [".".join(package) if node.level else "", node.module]))
            for alias in node.names:
                deeper = base.replace("gpukmeans", str(PACKAGE), 1).replace(".", "/") if base else ""
                is_module = base.startswith("gpukmeans") and Path(deeper, f"{alias.name}.py").exists()
                yield f"{base}.{alias.name}" if is_module else base
        else:
            waiting += list(ast.iter_child_nodes(node))


def own_imports(path):
    for name in imported(ast.parse(path.read_text(encoding="utf-8")), path):
        if name == "gpukmeans" or name.startswith("gpukmeans."):
            yield name.removeprefix("gpukmeans").removeprefix(".")


def test_every_module_has_a_layer():
    """A new module is placed here, on purpose."""
    assert {module_name(path) for path in MODULES} - set(DEPTH) == set()


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_down_only(path):
    """Never up; within a layer never in a circle (see the next test)."""
    here = module_name(path)
    for name in own_imports(path):
        assert DEPTH[here] <= DEPTH[name], f"{here} imports {name}"


def test_imports_make_no_circle():
    graph = {module_name(path): set(own_imports(path)) for path in MODULES}
    while graph:
        leaves = {name for name, needs in graph.items() if not needs & graph.keys() - {name}}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in leaves}


def test_the_engine_imports_no_array_library_but_numpy():
    for name in ("lloyd", "seeding", "certificates", "exact_sums", "tie_break", "backends/__init__"):
        path = PACKAGE / f"{name}.py"
        roots = {found.split(".")[0] for found in imported(ast.parse(path.read_text(encoding="utf-8")), path)}
        assert roots - set(sys.stdlib_module_names) <= {"numpy", "gpukmeans"}


def test_an_import_that_points_up_is_seen():
    """The parser finds what it should, and only at load time."""
    source = (
        "import gpukmeans.cli\nfrom gpukmeans import estimator\nfrom .lloyd import lloyd\n"
        "try:\n    from gpukmeans.report import x\nexcept ImportError:\n    pass\n"
        "def late():\n    import gpukmeans.plots\n"
        "if TYPE_CHECKING:\n    import gpukmeans.minibatch\n"
    )
    found = set(imported(ast.parse(source), PACKAGE / "seeding.py"))
    assert found == {"gpukmeans.cli", "gpukmeans.estimator", "gpukmeans.lloyd", "gpukmeans.report"}
    assert DEPTH["seeding"] > DEPTH["lloyd"] > DEPTH["estimator"] > DEPTH["cli"]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_file_exceeds_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
