"""Faults planted one by one in the mathematics and the engine: which of them do the modules' own tests not see?

``python -m bench.mutations --out FILE [--modules PATTERN] [--minutes M] [--processes N]``

A mutant is a module with one operator, number or call changed.  The child process that tests it compiles the changed
source in the module's place, so that no file is ever written.  bench/mutations.toml says which tests are run for which
module, and lists the mutants that may survive, each with its reason.  The run fails on any other survivor.

FILE gathers the runs of all modules: each is written when its last mutant was tried, in the place of an earlier run of
it, with the hash of its source, so that `bench.table` tells those that have changed since.

Neither mutmut nor cosmic-ray plants what tells whether a bound is needed, a term of half the size: mutmut (3.8) only
raises numbers, which leaves a bound true, and changes neither constants of modules nor properties; cosmic-ray (8.7)
puts eleven operators in the place of each, most of which floats do not have, and starts an interpreter for every one.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import gc
import hashlib
import importlib.abc
import importlib.util
import json
import os
import random
import re
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results import now, write_json

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_suffix(".toml")
KINDS = ["killed", "equivalent", "survived", "not run"]
OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitXor: ("^", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
NAMES = {
    "min": "max",
    "minimum": "maximum",
    "argmin": "argmax",
    "any": "all",
    "floor": "ceil",
    "logical_and": "logical_or",
}
NAMES |= {other: name for name, other in NAMES.items()}


@dataclass(frozen=True)
class Mutant:
    """A change of one span of a module's source: `line`, stripped, becomes `mutated`."""

    module: str
    number: int
    line: str
    mutated: str
    source: str


def mutants_of(module: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    text = (ROOT / module).read_text(encoding="utf-8")
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for start, end, new in sorted(set(changes(ast.parse(text), text.encode(), starts))):
        source = text.encode()[:start] + new.encode() + text.encode()[end:]
        number = text.encode()[:start].count(b"\n")
        before, after = text.splitlines()[number].strip(), source.decode().splitlines()[number].strip()
        found.append(Mutant(module, number + 1, before, after, source.decode()))
    return found


def changes(tree: ast.Module, text: bytes, starts: list[int]) -> Iterator[tuple[int, int, str]]:
    """(start, end, replacement) of spans of bytes."""

    def span(node: Any) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def between(left: ast.AST, right: ast.AST, operator: ast.AST, suffix: str = "") -> Iterator[tuple[int, int, str]]:
        old, new = OPERATORS.get(type(operator), ("", ""))
        first, last = span(left)[1], span(right)[0]
        at = re.search(rf"(?<![\w*/<>=]){re.escape(old + suffix)}", text[first:last].decode()) if old else None
        if at:
            yield first + at.start(), first + at.end(), new + suffix

    for node in walked(tree):
        match node:
            case ast.BinOp(left=ast.Constant(value=float()), op=ast.Pow()):  # 2.0**-24: half of it
                yield span(node)[1], span(node)[1], " / 2"
            case ast.BinOp():
                yield from between(node.left, node.right, node.op)
            case ast.AugAssign():
                yield from between(node.target, node.value, node.op, "=")
            case ast.Compare():
                for left, right, operator in zip(
                    [node.left, *node.comparators], node.comparators, node.ops, strict=False
                ):
                    yield from between(left, right, operator)
            case ast.BoolOp():
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield from between(left, right, node.op)
            case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()):
                yield span(node)[0], span(node)[0] + (3 if isinstance(node.op, ast.Not) else 1), " "
            case ast.Constant(value=bool()):
                yield *span(node), str(not node.value)
            case ast.Constant(value=float()) if node.value:
                yield *span(node), repr(node.value / 2)
            case ast.Constant(value=int()):
                yield *span(node), repr(node.value + 1)
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in NAMES:
                yield span(node)[1] - len(name), span(node)[1], NAMES[name]
            case ast.Expr(value=ast.Call()):
                yield *span(node), "pass"


def walked(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but types, decorators, errors, zip's `strict`, and the parts of powers that are changed as a whole."""
    for name, value in ast.iter_fields(tree):
        if name in {"annotation", "returns", "decorator_list", "exc"} or getattr(tree, "arg", "") == "strict":
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST):
                yield node
                power = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
                if not (power and isinstance(node.left, ast.Constant) and isinstance(node.left.value, float)):
                    yield from walked(node)


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from another source."""

    def __init__(self, module: str, source: str) -> None:
        self.name = module.removesuffix(".py").replace("/", ".")
        self.path, self.source = ROOT / module, source

    def find_spec(self, fullname: str, path: object, target: object = None) -> Any:
        if fullname == self.name:
            return importlib.util.spec_from_file_location(fullname, self.path, loader=self)
        return None

    def exec_module(self, module: Any) -> None:
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def passes(module: str, source: str, tests: list[str], seconds: float) -> bool:
    """Whether the tests pass in a child process with this source of the module; not if they take longer."""
    child = os.fork()
    if not child:
        os.setsid()  # so that what the tests start ends with them
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        sys.meta_path.insert(0, Planted(module, source))
        import pytest

        os.chdir(ROOT)
        os._exit(int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests])))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def reason_of(mutant: Mutant, accepted: list[dict[str, Any]]) -> str | None:
    """Why it may survive.  Entries list mutated lines, and lines of which any mutant may."""
    for entry in accepted:
        listed = mutant.mutated in entry.get("mutants", []) or mutant.line in entry.get("lines", [])
        if listed and mutant.module == entry["module"]:
            return entry["reason"]
    return None


def source_hash(module: str) -> str:
    """Of the file as it is now: it tells whether a run was of another source."""
    return hashlib.sha256((ROOT / module).read_bytes()).hexdigest()[:12]


def run_of(mutants: list[Mutant], outcomes: list[str], accepted: list[dict[str, Any]]) -> dict[str, Any]:
    """What a result file keeps of a module: how many mutants ended how, and those that survived."""
    module, survivors = mutants[0].module, []
    for mutant, found in sorted(
        zip(mutants, outcomes, strict=True), key=lambda pair: (pair[0].number, pair[0].mutated)
    ):
        if found in ("equivalent", "survived"):
            entry = {"number": mutant.number, "line": mutant.line, "mutated": mutant.mutated}
            survivors.append(entry | {"reason": reason_of(mutant, accepted)})
        if found == "survived":
            print(f"{module}:{mutant.number}\n-   {mutant.line}\n+   {mutant.mutated}", flush=True)
    counts = {kind: outcomes.count(kind) for kind in KINDS}
    print(f"{module:50}" + "".join(f"{count:6} {kind}" for kind, count in counts.items()), flush=True)
    return {"source": source_hash(module), "datetime": now(), **counts, "survivors": survivors}


def gather(path: Path, module: str, run: dict[str, Any], listed: list[str]) -> None:
    """Write a module's run into the file, which may hold those of others; modules no longer listed are left out.

    A run that tried fewer mutants of the same source than the one in the file does not replace it.
    """
    modules = json.loads(path.read_text(encoding="utf-8"))["modules"] if path.exists() else {}
    old = modules.get(module)
    if not old or old["source"] != run["source"] or old["not run"] >= run["not run"]:
        modules[module] = run
    write_json(path, {"modules": {name: modules[name] for name in sorted(modules) if name in listed}})


def main(argv: list[str] | None = None) -> int:
    """Plant the mutants module by module, write the outcomes, and name the survivors that are not listed."""
    parser = argparse.ArgumentParser(prog="python -m bench.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write, or to write into")
    parser.add_argument("--modules", default="*", help="a pattern of paths, such as 'gpukmeans/certificates/*'")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no mutant after that time")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--seed", type=int, default=int(time.strftime("%G%V")), help="of their order; default: the week"
    )
    options = parser.parse_args(argv)
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    end = time.monotonic() + 60 * options.minutes
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # no test here needs one, and they take longer than most tests
    import pytest  # noqa: F401  (what every child needs is imported once)
    import sklearn.cluster  # noqa: F401

    gc.freeze()  # so that the children's collections of garbage do not look at it
    modules = [name for name in table["tests"] if fnmatch.fnmatch(name, options.modules)]
    order, n_survived = random.Random(options.seed), 0
    order.shuffle(modules)
    for module in modules:
        if time.monotonic() > end:
            break
        tests, start = table["tests"][module], time.monotonic()
        if not passes(module, (ROOT / module).read_text(encoding="utf-8"), tests, 600.0):
            raise SystemExit(f"The tests of {module} fail without any mutant: python -m pytest {' '.join(tests)}")
        limit = 10.0 + 5.0 * (time.monotonic() - start)
        mutants = mutants_of(module)
        order.shuffle(mutants)

        def outcome(mutant: Mutant, tests: list[str] = tests, limit: float = limit) -> str:
            if time.monotonic() > end:
                return "not run"
            if not passes(mutant.module, mutant.source, tests, limit):
                return "killed"
            return "equivalent" if reason_of(mutant, table["accepted"]) else "survived"

        with ThreadPoolExecutor(options.processes) as pool:
            run = run_of(mutants, list(pool.map(outcome, mutants)), table["accepted"])
        gather(options.out, module, run, list(table["tests"]))
        n_survived += run["survived"]
    return int(n_survived > 0)


if __name__ == "__main__":
    sys.exit(main())
