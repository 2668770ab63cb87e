"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.mnist
def test_all_that_is_python_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    scripts = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for script in scripts:
        exec(compile(script, "README.md", "exec"), {})
    assert "adjusted Rand index" in capsys.readouterr().out
    assert (tmp_path / "centroids.png").read_bytes().startswith(b"\x89PNG")


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).resolve().parents[2] / target).exists(), target
