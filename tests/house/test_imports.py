"""`import gpukmeans` is light, imports point down only, and files stay short."""

from __future__ import annotations

import ast
import json
import re
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
        "import sys, json, gpukmeans; before = 'gpukmeans.estimators.kmeans' in sys.modules; "
        "names = {name: getattr(gpukmeans, name) is not None for name in gpukmeans.__all__}; "
        "print(json.dumps([before, names, 'gpukmeans.estimators.kmeans' in sys.modules, sorted(dir(gpukmeans))]))"
    )
    before, names, after, listed = run(code)
    assert not before
    assert after
    assert all(names.values())
    assert {"KMeans", "fit", "load_mnist", "load_digits"} <= set(names)
    assert set(names) <= set(listed)


def test_help_begins_with_the_public_names():
    first = gpukmeans.__doc__.split("Examples")[0]
    assert [name for name in gpukmeans.__all__ if name not in first] == ["__version__"]
    listed = re.findall(r"^([A-Za-z_]\w*)", first, re.MULTILINE)
    assert listed[1] == "fit"  # behind the sentence that says what the package is


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gpukmeans' has no attribute 'KMedians'"):
        gpukmeans.KMedians  # noqa: B018
    assert not hasattr(gpukmeans, "no_such_name")


# ---- layers ----------------------------------------------------------------------------------------------------------

#: From the top down: a file imports from its own folder and from those below; never in a circle.
FOLDERS = [
    "__main__ cli startup",
    "study patching runner",
    "plots",
    "estimators evaluation datasets",
    "engine engine.seeding",
    "distributed",
    "intake",
    "scale",
    "backends.cpu backends.cpu.line backends.cpu.lockstep backends.cpu.screens backends.cpu.seeding "
    "backends.cpu.sparse backends.cuda backends.cuda.device backends.cuda.seeding backends.cuda.sparse",
    "backends.csr",
    "backends",
    "exact",
    "certificates",
    "arrays caches callers logs tables threads writing",
]
DEPTH = {folder: depth for depth, line in enumerate(FOLDERS) for folder in line.split()}


def module_name(path):
    """Below the package: "lloyd", "backends.device", "backends", "" for the package itself."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree, path):
    """Absolute names of what a module imports when it is loaded, or for type checkers; not within functions."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Import):
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


def folder_of(name):
    """The longest entry of `FOLDERS` that the dotted name is, or lies in."""
    parts = name.split(".")
    return next((f for n in range(len(parts), 0, -1) if (f := ".".join(parts[:n])) in DEPTH), None)


#: Reached when called: the two functions that choose among backends, and the lazy names of the packages.
FACES = {"", "backends"}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_down_only(path):
    """Every file has a folder in the list, and imports nothing from above it, nor for type checkers either."""
    here = module_name(path)
    if here in FACES:
        return
    assert folder_of(here), f"{here} has no place in FOLDERS: put it there, on purpose"
    for name in own_imports(path):
        if not name and DEPTH[folder_of(here)] == 0:
            continue  # the command line uses the public names
        assert name not in FACES, f"{here} imports the face {name!r}: name the module that holds what it needs"
        assert DEPTH[folder_of(here)] <= DEPTH[folder_of(name)], f"{here} imports {name}"


@pytest.mark.parametrize(("one", "other"), [("backends.cpu", "backends.cuda"), ("backends.cuda", "backends.cpu")])
def test_backends_do_not_import_each_other(one, other):
    paths = [path for path in MODULES if f"{module_name(path)}.".startswith(f"{one}.")]
    assert len(paths) > 10
    assert [
        (module_name(path), name) for path in paths for name in own_imports(path) if f"{name}.".startswith(f"{other}.")
    ] == []


def test_imports_make_no_circle():
    graph = {module_name(path): set(own_imports(path)) for path in MODULES}
    for face in FACES:
        del graph[face]
    while graph:
        leaves = {name for name, needs in graph.items() if not needs & graph.keys() - {name}}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in leaves}


#: What mathematics and the engine may import, besides the package itself.
PLAIN = ["engine", "engine.seeding", "exact", "certificates", "backends"]


@pytest.mark.parametrize("folder", PLAIN)
def test_the_engine_and_the_mathematics_import_no_array_library_but_numpy(folder):
    paths = sorted(PACKAGE.joinpath(*folder.split(".")).glob("*.py"))
    assert paths
    for path in paths:
        roots = {found.split(".")[0] for found in imported(ast.parse(path.read_text(encoding="utf-8")), path)}
        assert roots - set(sys.stdlib_module_names) <= {"numpy", "gpukmeans"}, path


#: Functions that tell what kind of array a caller's value is, and bring it into another form.
QUESTIONS = {"canonical", "host_copy", "host_view", "is_sparse", "is_torch", "on_device"}
#: Functions that check rows and choose their backend.
ANSWERS = {"check_rows", "check_weights", "check_places", "get_backend"}


def imported_names(path):
    """The names that a module imports from another module of the package, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gpukmeans"):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("names", [QUESTIONS, ANSWERS], ids=["questions", "answers"])
def test_only_the_intake_asks_what_kind_of_array_is_given(names):
    """Everything behind it gets a `Given`, which has the answers; of blocks workers ask, and `stored_rows`."""
    asking = {module_name(path): names & set(imported_names(path)) for path in MODULES}
    asking = {name: found for name, found in asking.items() if found and name != "backends"}
    assert {folder_of(name) for name in asking if name != "scale.facts"} <= {"intake", "distributed"}, asking
    assert set().union(*asking.values()) == names


@pytest.mark.parametrize("folder", ["engine", "engine/seeding", "intake"])
def test_nothing_is_asked_of_a_backend_by_getattr(folder):
    """What a backend may lack has a default in backends/defaults.py."""
    wrong = []
    for path in sorted((PACKAGE / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
                owner = ast.unparse(node.args[0])
                if owner in ("X", "problems", "source", "jax"):  # of the caller, and modules
                    continue
                wrong.append(f"{module_name(path)}:{node.lineno}: {ast.unparse(node)}")
    assert wrong == []


def test_an_import_that_points_up_is_seen():
    """The parser finds what it should, for type checkers too, but not within functions."""
    source = (
        "import gpukmeans.cli\nfrom gpukmeans.estimators import kmeans\nfrom .lloyd import lloyd\n"
        "try:\n    from gpukmeans.study.job import x\nexcept ImportError:\n    pass\n"
        "def late():\n    import gpukmeans.plots\n"
        "if TYPE_CHECKING:\n    import gpukmeans.estimators.minibatch\n"
    )
    found = set(imported(ast.parse(source), PACKAGE / "engine" / "restarts.py"))
    names = ["cli", "estimators.kmeans", "engine.lloyd", "study.job", "estimators.minibatch"]
    assert found == {f"gpukmeans.{name}" for name in names}
    assert DEPTH["engine"] > DEPTH["estimators"] > DEPTH["study"] > DEPTH["cli"]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_file_exceeds_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
