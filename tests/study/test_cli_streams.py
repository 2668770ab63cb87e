"""The command line where standard output or error is closed, full, gone or ASCII, and where it is interrupted."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gpukmeans.cli import main
from gpukmeans.datasets import load_digits
from gpukmeans.study import job
from gpukmeans.study.progress import Progress

pytestmark = pytest.mark.skipif(os.name != "posix", reason="closes and fills descriptors by the shell")

FAST = ["digits", "--backend", "numpy", "--no-plots", "--max-iter", "3"]
BRIEF = [["--help"], ["--version"], ["mnist", "--help"], ["info"]]


def run(redirection, *arguments, cwd, **environment):
    """`python -m gpukmeans` with a redirection of the shell."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), **environment}
    env.pop("PYTHONUNBUFFERED", None)
    command = ["bash", "-c", f'"$@" {redirection}', "bash", sys.executable, "-m", "gpukmeans", *arguments]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, timeout=300, check=False)


def last_line(done):
    """The only line of standard error but those of progress."""
    lines = [
        line
        for line in done.stderr.decode().splitlines()
        if not line.startswith(("loading", "clustering", "iteration", "evaluating"))
    ]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("arguments", [*BRIEF, FAST, [*FAST, "--json", "--quiet"], ["mnist"]], ids=" ".join)
def test_a_closed_output_is_one_line(tmp_path, arguments):
    done = run(">&-", *arguments, cwd=tmp_path)
    assert last_line(done) == "gpukmeans: error: [Errno 9] standard output is closed"
    assert done.returncode == 2
    assert b"clustering" not in done.stderr  # found before the work


@pytest.mark.one_in(3)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [*BRIEF, [*FAST, "--json"]], ids=" ".join)
def test_a_full_output_is_one_line(tmp_path, arguments):
    done = run(">/dev/full", *arguments, cwd=tmp_path)
    assert last_line(done) == "gpukmeans: error: [Errno 28] standard output: No space left on device"
    assert done.returncode == 2


def test_nothing_to_say_needs_no_output(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert main([*FAST, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_without_standard_error_the_output_is_the_result_alone(monkeypatch, capsys):
    """`print(file=None)` would write on standard output."""
    same = load_digits()
    same.data[:] = same.data[0]
    monkeypatch.setitem(job.DATA_SETS, "digits", job.DataSet("Digits", lambda source: same, 16))
    monkeypatch.setattr(sys, "stderr", None)
    assert main([*FAST, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"]
    assert main(["digits", "-k", "1798", "--no-plots"]) == 2
    assert main(["digits", "-k", "0"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("redirection", ["2>&-", pytest.param("2>/dev/full", marks=pytest.mark.weekly)])
def test_a_lost_standard_error_keeps_the_status(tmp_path, redirection):
    done = run(redirection, "info", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["backends"]
    wrong = run(redirection, "mnist", "--source", "./none.npz", "--no-plots", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stdout == b""


class Ascii(io.TextIOWrapper):
    def __init__(self):
        super().__init__(io.BytesIO(), encoding="ascii")

    def text(self):
        return self.buffer.getvalue().decode("ascii")


def test_a_report_is_not_lost_for_a_character_in_a_path(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    out = tmp_path / "Größe–日本\udcff"
    monkeypatch.setattr(sys, "stdout", Ascii())
    assert main([*FAST[:3], "--out", str(out), "--quiet", "--json"]) == 0
    files = json.loads(sys.stdout.text())["files"]
    assert files["centroids"] == str(out / "centroids.png")
    assert sorted(files.values()) == sorted(str(path) for path in out.iterdir())
    monkeypatch.setattr(sys, "stdout", Ascii())
    assert main([*FAST[:3], "--out", str(out), "--force"]) == 0
    text = sys.stdout.text()
    assert "Digits: 1,797 images" in text
    assert text.splitlines()[-1].startswith("wrote ")
    assert r"Gr\xf6\xdfe\u2013\u65e5\u672c\udcff/centroids.png" in text.splitlines()[-1]


NAME = os.fsdecode("Größe".encode() + b"\xff")


@pytest.mark.weekly
def test_a_report_in_the_c_locale(tmp_path):
    pytest.importorskip("matplotlib")
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    done = run("", *FAST[:3], "--out", NAME, cwd=tmp_path, **c_locale)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / NAME / "centroids.png").exists()
    assert done.stdout.splitlines()[-1].startswith(b"wrote Gr")


@pytest.mark.one_in(2)
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_an_error_in_every_encoding(tmp_path, encoding):
    done = run("", "mnist", "--source", f"./{NAME}", "--no-plots", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(b"gpukmeans: error: Gr")
    assert done.stderr.splitlines()[-1].count(b"\\udcff: no such file or folder") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist", "--source", "", "--no-plots"], "source='' should be 'bundled', 'keras', 'openml' or the path"),
        (["mnist", "--out", ""], "argument -o/--out: '' should be a path"),
        (["digits", "--out", ""], "argument -o/--out: '' should be a path"),
        (["digits", "--out="], "argument -o/--out: '' should be a path"),
        ([""], "invalid choice: ''"),
        (["digits", "one\ntwo"], "unrecognized arguments: one two"),
        (["mnist", "--source", "./one\ntwo.npz", "--no-plots"], "one two.npz: no such file"),
    ],
)
def test_empty_paths_and_line_breaks_are_one_line(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("gpukmeans")


SWALLOWS = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        time.sleep(0.01)
except BaseException:  # as modules do that try one thing after another while they are imported
    pass
"""


@pytest.fixture
def interruptible():
    """Processes that are started here heed SIGINT, even if the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("module", "arguments"), [("argparse", ["--help"]), ("threadpoolctl", ["info"]), ("sklearn", FAST)]
)
def test_ctrl_c_while_a_module_is_imported(tmp_path, module, arguments):
    (tmp_path / f"{module}.py").write_text(SWALLOWS)
    paths = os.pathsep.join(map(os.path.abspath, [tmp_path, *sys.path]))
    done = run("", *arguments, cwd=tmp_path, PYTHONPATH=paths)
    assert done.returncode == 130
    assert done.stdout == b""
    assert last_line(done) == "gpukmeans: interrupted"


def test_an_ignored_interrupt_stays_ignored(tmp_path):
    """As under nohup, or in the background of a script."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = ["bash", "-c", 'trap "" INT; echo; exec "$@"', "bash", sys.executable, "-m", "gpukmeans", "info"]
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()  # from here on it is ignored
        for _ in range(20):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0
    assert out.startswith(b"gpukmeans ")
    assert err == b""


class Failing(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_that_nobody_sees_does_not_end_the_work(terminal, monkeypatch):
    stream = Failing()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    progress = Progress(stream)
    progress.stage("loading")
    progress.stage("clustering")
    progress.clear()
    assert progress.stream is None
