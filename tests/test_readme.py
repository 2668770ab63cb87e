"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.mnist
def test_the_script_runs_and_prints_a_fit(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    (script,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "README.md", "exec"), {})
    assert "adjusted Rand index" in capsys.readouterr().out
    assert (tmp_path / "centroids.png").read_bytes().startswith(b"\x89PNG")


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).resolve().parents[1] / target).exists(), target
