"""Nothing that is read is run: no code of either package unpickles, evaluates or imports what a file says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for package in ("curriculum", "pipeline", "benchmarks") for path in (ROOT / package).rglob("*.py"))
BETWEEN_OUR_PROCESSES = {"local.py", "worker_process.py"}
"""Tasks travel to workers, and their results back, over pipes that no file and no network ends in."""
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """(dotted name, call) of all calls of names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(call: ast.Call) -> dict[str, str]:
    """Keyword arguments as they are written."""
    return {item.arg: ast.unparse(item.value) for item in call.keywords if item.arg}


@pytest.mark.parametrize("package", ["curriculum", "pipeline", "benchmarks"])
def test_no_code_runs_what_it_reads(package: str) -> None:
    found = []
    for path in (path for path in FILES if path.relative_to(ROOT).parts[0] == package):
        tree = ast.parse(path.read_text("utf-8"))
        names = {
            name.partition(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        if names & MODULES and path.name not in BETWEEN_OUR_PROCESSES:
            found.append(f"{path}: imports {names & MODULES}")
        for name, call in calls(tree):
            given = keywords(call)
            if name in BUILT_IN or name in ("os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"):
                found.append(f"{path}:{call.lineno}: {name}")
            if name == "torch.load" and given.get("weights_only") != "True":
                found.append(f"{path}:{call.lineno}: torch.load without weights_only=True, which torch 2.4 wants")
            if given.get("allow_pickle", "False") != "False":
                found.append(f"{path}:{call.lineno}: allow_pickle")
            if given.get("shell", "False") != "False" or given.get("trust_remote_code", "False") != "False":
                found.append(f"{path}:{call.lineno}: {name} with {given}")
    assert not found


def test_the_check_finds_what_it_looks_for() -> None:
    tree = ast.parse("import os\nos.system('x')\nsubprocess.run('x', shell=True)\ntorch.load(path)")
    assert [(name, keywords(call)) for name, call in calls(tree)] == [
        ("os.system", {}),
        ("subprocess.run", {"shell": "True"}),
        ("torch.load", {}),
    ]
