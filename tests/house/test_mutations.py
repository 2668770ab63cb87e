"""The faults that `bench.mutations` plants: each is one change, a planted one is seen, and its table is up to date."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench import table
from bench.mutations import TABLE, gather, mutants_of, run_of, source_hash

ROOT = Path(__file__).resolve().parents[2]
CONTENT = tomllib.loads(TABLE.read_text(encoding="utf-8"))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("module", CONTENT["tests"])
def test_every_mutant_is_python_with_one_statement_changed(module):
    text = (ROOT / module).read_text(encoding="utf-8")
    found = mutants_of(module)
    assert len(found) > 10
    assert len({mutant.source for mutant in found}) == len(found)
    for mutant in found[::4]:
        assert ast.dump(ast.parse(mutant.source)) != ast.dump(ast.parse(text))
        before, after = text.splitlines(), mutant.source.splitlines()
        n_joined = len(before) - len(after)  # a call over several lines becomes one
        assert before[: mutant.number - 1] == after[: mutant.number - 1]
        assert before[mutant.number + n_joined :] == after[mutant.number :]
        assert mutant.line != mutant.mutated


def test_terms_are_halved_and_change_their_sign():
    found = {(mutant.line, mutant.mutated) for mutant in mutants_of("gpukmeans/certificates/scores.py")}
    line = "return SLACK * gamma(n_features + 4.0, UNIT64)"
    assert (line, line.replace("4.0", "2.0")) in found
    assert (line, line.replace("+", "-")) in found
    constants = {(mutant.line, mutant.mutated) for mutant in mutants_of("gpukmeans/certificates/rounding.py")}
    assert ("UNIT32 = 2.0**-24", "UNIT32 = 2.0**-24 / 2") in constants


def test_the_table_names_tests_that_exist_and_lines_that_have_mutants():
    for module, tests in CONTENT["tests"].items():
        assert (ROOT / module).is_file()
        assert all((ROOT / test).is_file() for test in tests)
    for entry in CONTENT["accepted"]:
        assert entry["reason"]
        found = mutants_of(entry["module"])
        assert set(entry.get("mutants", [])) <= {mutant.mutated for mutant in found}
        assert set(entry.get("lines", [])) <= {mutant.line for mutant in found}


def test_a_planted_fault_is_seen_and_the_module_as_it_is_passes(tmp_path):
    """In a process of its own, where the package is not loaded yet."""
    test = tmp_path / "test_one.py"
    test.write_text("from gpukmeans.certificates.rounding import SLACK\n\n\ndef test():\n    assert SLACK > 1\n")
    code = (
        "from pathlib import Path; from bench.mutations import passes; module = 'gpukmeans/certificates/rounding.py'; "
        "text = Path(module).read_text(encoding='utf-8'); "
        f"print([passes(module, source, [{str(test)!r}], 100.0) "
        "for source in (text, text.replace('SLACK = 1.0 +', 'SLACK = 1.0 -'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert result.stdout.split("\n")[-2] == "[True, False]", result.stderr


def test_runs_are_gathered_by_module_and_a_changed_source_is_told(tmp_path, capsys):
    file, (one, other, gone) = tmp_path / "mutations.json", list(CONTENT["tests"])[:3]

    def run(module, outcomes, **changed):
        mutants = mutants_of(module)[: len(outcomes)]
        return (
            run_of(mutants, outcomes, [{"module": module, "mutants": [mutants[-1].mutated], "reason": "x"}]) | changed
        )

    listed = [one, other]
    gather(file, gone, run(gone, ["killed"]), [gone])
    gather(file, other, run(other, ["killed", "equivalent"], source="another"), listed)
    assert "survived" in capsys.readouterr().out
    full = run(one, ["killed", "survived", "not run"])
    gather(file, one, full, listed)
    assert f"{one}:{full['survivors'][0]['number']}\n-   {full['survivors'][0]['line']}\n" in capsys.readouterr().out
    gather(file, one, run(one, ["killed", "not run", "not run"]), listed)  # fewer, of the same source
    modules = json.loads(file.read_text())["modules"]
    assert modules == {one: full, other: modules[other]}
    assert modules[one]["source"] == source_hash(one)
    assert modules[other]["survivors"][0]["reason"] == "x"
    day = full["datetime"][:10]
    shown = table.render_mutations(file)
    assert f"| `{one}` | 3 | 1 | 0 | 1 | 1 | {day} |" in shown
    assert f"| `{other}` | 2 | 1 | 1 | 0 | 0 | {day}, of an earlier source |" in shown
    assert "| all | 5 | 2 | 1 | 1 | 1 |  |" in shown
    gather(file, one, run(one, ["killed", "not run", "not run"], source="another"), listed)
    assert "| `" + one + f"` | 3 | 1 | 0 | 0 | 2 | {day}, of an earlier source |" in table.render_mutations(file)
    assert "No run has been recorded" in table.render_mutations(tmp_path / "none.json")
