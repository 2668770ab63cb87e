"""`python -m gpukmeans script.py` is `python script.py`, but for scikit-learn's classes: scripts run both ways."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gpukmeans
from tests.support.runner_scripts import CLASSES, FACTS, POOLS, WORKERS

CHECKOUT = Path(gpukmeans.__file__).parents[1]
PACKAGES = list(map(os.path.abspath, sys.path))
TOLD = "gpukmeans: in place of scikit-learn's: sklearn.cluster.BisectingKMeans, sklearn.cluster.KMeans"


def python(options, arguments, cwd, **given):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PACKAGES), **given.pop("environment", {})}
    command = [sys.executable, *options, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False, **given
    )


def both(arguments, cwd, options=(), **given):
    """What a script does by Python itself, and under the runner, but for the runner's own line on standard error."""
    plain = python(options, arguments, cwd, **given)
    ran = python([*options, "-m", "gpukmeans"], arguments, cwd, **given)
    told, _, ran.stderr = ran.stderr.partition("\n")
    assert told.startswith(TOLD)
    return plain, ran


def outcome(done):
    """Status and texts, without addresses and seconds."""
    return done.returncode, *(re.sub(r"0x\w+|\d\.\d{3}s", "...", text) for text in (done.stdout, done.stderr))


# ---- what a script sees ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Scripts in a folder, and another folder to be in, whose modules no script may find."""
    scripts, elsewhere = tmp_path / "their scripts", tmp_path / "elsewhere"
    scripts.mkdir()
    elsewhere.mkdir()
    (scripts / "facts.py").write_text(FACTS)
    (scripts / "facts without an ending").write_text(FACTS)
    (scripts / "neighbour.py").write_text("K = 4\n")
    (elsewhere / "decoy.py").write_text("")
    (elsewhere / "neighbour.py").write_text("")
    package = scripts / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(FACTS)
    (package / "neighbour.py").write_text("")
    with zipfile.ZipFile(scripts / "packed.zip", "w") as archive:
        archive.writestr("__main__.py", FACTS)
        archive.writestr("neighbour.py", "")
    return scripts


@pytest.mark.parametrize(
    ("arguments", "cwd", "options"),
    [
        (["../their scripts/facts.py", "--flag", "mnist", "-m"], "elsewhere", []),
        pytest.param(
            ["facts.py"],
            "their scripts",
            ["-O", "-X", "utf8", "-W", "error::ResourceWarning", "-u"],
            marks=pytest.mark.weekly,
        ),
        pytest.param(["facts.py"], "their scripts", ["-BP", "-Xdev"], marks=pytest.mark.weekly),
        pytest.param(["../their scripts/facts without an ending", "1"], "elsewhere", [], marks=pytest.mark.weekly),
        pytest.param(["../their scripts/package", "1"], "elsewhere", [], marks=pytest.mark.weekly),
        pytest.param(["../their scripts/packed.zip", "1"], "elsewhere", [], marks=pytest.mark.weekly),
        (["-m", "package", "1"], "their scripts", []),
        pytest.param(["-m", "facts", "-c"], "their scripts", [], marks=pytest.mark.weekly),
        (["-c", "import neighbour, sys; print(sys.argv, sys.path, __name__, dir())", "-m"], "their scripts", []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_script_sees_what_it_sees_under_python(folder, arguments, cwd, options):
    given = {"environment": {"PYTHONPATH": os.pathsep.join([*PACKAGES, str(folder)])}} if "-BP" in options else {}
    plain, ran = both(arguments, folder.parent / cwd, options, input="given\n", **given)
    assert outcome(ran) == outcome(plain)
    assert ran.returncode == 0, ran.stderr
    if arguments[0] != "-c":
        facts = json.loads(ran.stdout[: ran.stdout.rindex("\n}\n") + 3])
        assert facts["is main"]
        assert facts["same class"]
        assert os.path.isabs(facts["file"])
        assert not facts["decoy"]
        assert {"numpy", "sklearn", "gpukmeans"} & set(facts["loaded"]) == set()
        assert ran.stdout.count("True Found(k=5, names=None) True True") == 2


def test_a_script_from_standard_input(folder):
    plain, ran = both(
        ["-", "one"],
        folder,
        input=FACTS.replace("inspect.getsource(double)", "0").replace("type(again(Found(3)))", "Found"),
    )
    assert outcome(ran) == outcome(plain)
    assert ran.returncode == 0, ran.stderr


# ---- how a script ends -----------------------------------------------------------------------------------------------

ENDS = {
    "a number": "sys.exit(3)",
    "a number beyond a byte": "sys.exit(1000)",
    "a text": "sys.exit('their reason')",
    "nothing": "sys.exit()",
    "a raised SystemExit": "raise SystemExit(4)",
    "an error": "def inner():\n    raise LookupError('theirs')\ninner()",
    "an error of an error": "try:\n    1 / 0\nexcept ArithmeticError as error:\n    raise OSError('theirs') from error",
    "an error in a thread": "import threading\nthreading.Thread(target=lambda: 1 / 0, name='t').start()",
    "an error at exit": "import atexit\natexit.register(lambda: 1 / 0)",
    "an interrupt": "raise KeyboardInterrupt",
    "a signal": "os.kill(os.getpid(), 15)",
    "a sudden end": "sys.stdout.write('lost'); os._exit(7)",
    "a syntax error": "def f(:\n    pass",
    "an error in a neighbour": "import broken",
    "a closed output": "print('text'); sys.stdout.flush(); os.close(1)",
    "a warning": "import warnings\nwarnings.warn('theirs')",
    "a hook": "sys.excepthook = lambda kind, value, trace: print('hook', kind, trace.tb_next)\n1 / 0",
    "Latin letters": "print('\\xe4', ascii('ä'))",
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_a_script_ends_as_under_python(tmp_path, code):
    (tmp_path / "job.py").write_text(f"# coding: latin1\nimport os, sys\n{code}\n", encoding="latin1")
    (tmp_path / "broken.py").write_text("raise ValueError('theirs')\n")
    plain, ran = both(["job.py"], tmp_path)
    assert outcome(ran) == outcome(plain)


@pytest.mark.weekly
def test_a_package_that_is_no_script_ends_as_under_python(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no Python")
    for arguments in (["empty"], ["notes.txt"], ["-m", "no_such_module"], ["-c", "1 +"], ["-c"]):
        plain, ran = both(arguments, tmp_path)
        assert outcome(ran) == outcome(plain)
        assert ran.returncode


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ([], ["none.py"], "there is no script 'none.py' to run"),
        ([], ["-m"], "-m needs the name of a module"),
        (["-E"], ["-c", "1"], "python -I, -E and -S keep scikit-learn from being patched: leave them out"),
    ],
)
def test_what_cannot_run_is_one_line(options, arguments, message):
    done = python([*options, "-m", "gpukmeans"], arguments, CHECKOUT)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"gpukmeans: error: {message}")
    assert done.stderr.count("\n") == 1


# ---- the classes -----------------------------------------------------------------------------------------------------


def test_workers_hand_back_objects_of_the_scripts_classes(tmp_path):
    (tmp_path / "job.py").write_text(POOLS)
    plain, ran = both(["job.py", "given"], tmp_path)
    assert outcome(ran) == outcome(plain)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("[True, True, True, True] [Found(k=0, ") == len(ran.stdout.splitlines()) >= 2


@pytest.mark.weekly
def test_workers_and_other_processes_are_patched(tmp_path):
    (tmp_path / "job.py").write_text(WORKERS)
    done = python(["-m", "gpukmeans"], ["job.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["gpukmeans.estimators.kmeans"]


def test_the_classes_are_ours_from_the_first_import_to_unpatch(tmp_path):
    """Also where nothing but the runner knows where gpukmeans is: in a bare checkout, from another folder's script."""
    (tmp_path / "job.py").write_text(CLASSES)
    environment = {"PYTHONPATH": os.pathsep.join(path for path in PACKAGES if path != str(CHECKOUT))}
    done = python(["-m", "gpukmeans"], [tmp_path / "job.py"], CHECKOUT, environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['BisectingKMeans', 'KMeans', 'MiniBatchKMeans', 'k_means', 'kmeans_plusplus']",
        gpukmeans.__file__,
        "SourceFileLoader False",
        "True sklearn.cluster._kmeans gpukmeans.estimators.kmeans",
    ]


def test_a_sitecustomize_of_the_installation_still_runs(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.customized = __file__\n")
    (tmp_path / "job.py").write_text("import sys, sitecustomize\nprint(customized, sitecustomize.__file__, sys.path)\n")
    paths = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *PACKAGES])}
    plain, ran = both(["job.py"], tmp_path, environment=paths)
    assert outcome(ran) == outcome(plain)
    assert ran.stdout.startswith(str(tmp_path / "sitecustomize.py"))


@pytest.mark.weekly
def test_another_installation_of_python_is_left_alone(tmp_path):
    """Its scikit-learn may stand on a NumPy that ours does not know."""
    (tmp_path / "job.py").write_text(
        "import os, subprocess, sys\n"
        "os.environ['GPUKMEANS_RUNNER'] = '/another/prefix'\n"
        "code = 'import sys; from sklearn.cluster import KMeans; print(KMeans.__module__, sys.path)'\n"
        "print(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout)\n"
    )
    done = python(["-m", "gpukmeans"], ["job.py"], tmp_path)
    assert done.stdout.startswith("sklearn.cluster._kmeans")
    assert "startup" not in done.stdout


@pytest.mark.weekly
def test_a_runner_in_a_runner_adds_nothing(tmp_path):
    (tmp_path / "inner.py").write_text("import os; print(os.environ['PYTHONPATH'].count('startup'), __file__)")
    (tmp_path / "outer.py").write_text(
        "import subprocess, sys\n"
        "print(subprocess.check_output([sys.executable, '-m', 'gpukmeans', 'inner.py'], text=True))\n"
    )
    done = python(["-m", "gpukmeans"], ["outer.py"], tmp_path)
    assert done.stdout.split() == ["1", str(tmp_path / "inner.py")]


@pytest.mark.weekly
def test_the_console_script_runs_scripts_too(tmp_path):
    """What an installer writes: a script whose path stands in the place of -m gpukmeans."""
    code = "import sys\nfrom gpukmeans.__main__ import console\nif __name__ == '__main__':\n    sys.exit(console())\n"
    (tmp_path / "installed").write_text(code)
    (tmp_path / "job.py").write_text("import sys; print(sys.argv, sys.flags.optimize, sys.orig_argv[1:])")
    plain = python(["-OO", "-u"], ["job.py", "-m"], tmp_path)
    ran = python(["-OO", "-u", "installed"], ["job.py", "-m"], tmp_path)
    assert (ran.returncode, ran.stdout) == (plain.returncode, plain.stdout)
    assert python(["installed"], ["--version"], tmp_path).stdout == f"gpukmeans {gpukmeans.__version__}\n"


def test_commands_still_are_commands(tmp_path):
    for name in ("mnist", "digits", "info"):
        (tmp_path / name).mkdir()
    done = python(["-m", "gpukmeans"], ["info", "--json"], tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["backends"]
