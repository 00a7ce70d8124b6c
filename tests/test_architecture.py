"""The read side stays light and never reaches for the build side; stages do not know each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = {
    "corpus",
    "corpus_tokenizer",
    "corpus_backend",
    "encode",
    "tokenize_stage",
    "merge",
    "holdout",
    "census",
    "corpus_plan",
    "cut_stage",
    "cut",
    "cut_packed",
    "cut_validation",
    "mixed_text",
    "tokenized.take",
    "tokenized.sample",
    "tokenized.check",
    "output",
    "card",
    "verify",
    "mixed_checks",
    "summary",
    "rows",
    "row_sources",
    "export_part",
    "exporters.parquet",
    "exporters.mds",
    "exporters.megatron",
    "exporters.npy",
}
"""Each does one thing with files and shares only values and pure functions with the others."""
ALLOWED = {
    # the wiring: of `build`, `extend`, `plan` and the commands that read
    "build": {
        "corpus",
        "tokenize_stage",
        "corpus_plan",
        "holdout",
        "merge",
        "cut",
        "cut_stage",
        "cut_validation",
        "output",
    },
    "extend": {"corpus", "cut", "cut_stage", "output"},
    "extension_streams": {"corpus", "tokenize_stage", "holdout", "merge"},
    "planning": {"corpus_plan", "census"},
    "tuning.probe_dataset": {"corpus_plan"},
    "export": {"export_part"},
    "commands.look": {"rows", "summary", "verify"},
    # a stage that gives others its tasks
    "tokenize_stage": {"corpus", "corpus_tokenizer", "corpus_backend", "encode"},  # many units
    "corpus_tokenizer": {"corpus", "encode"},  # the files that it may be trained on
    "corpus_backend": {"encode", "tokenized.sample", "tokenized.take"},
    "encode": {"tokenized.take"},  # one unit, of texts or of ids
    "tokenized.sample": {"tokenized.check"},
    "cut_stage": {"cut"},  # many windows
    "cut": {"cut_packed", "mixed_text"},  # one window, in whatever mode
    "corpus_plan": {"holdout"},
    "verify": {"mixed_checks"},
    "window_checks": {"mixed_checks"},
    "manifest_checks": {"mixed_checks"},
    "output": {"card"},  # one of the files that it publishes
    "claims": {"card"},  # what it would say, against what there is
    "sharing.beside": {"card"},  # made from the manifest, never taken from a stranger
    "sharing.enclosures": {"card"},  # where the folder has none
    # values that they report, remember, place or show
    "build_log": {"corpus"},
    "extension_request": {"corpus"},
    "new_source": {"holdout"},
    "window_tasks": {"cut", "cut_packed"},
    "analysis": {"census"},
    "recommendation": {"census"},
    "report_analysis": {"census"},
    "report_dataset": {"rows", "summary", "verify"},
    "rows": {"row_sources"},  # `cat` shows what it looks up
    "page.length_estimate": {"census"},  # its histogram
    "page.document_lengths": {"census"},
    "page.sample_rows": {"rows"},
    "page.write": {"summary"},
}
"""Who may know which stages: one that is listed and does not use them is a mistake too."""


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "curriculum").rglob("*.py")), ids=lambda path: path.stem)
def test_the_read_side_needs_numpy_and_pyarrow_only(path: Path) -> None:
    """A training image has no tokenizers, no datasets and not our pipeline."""
    allowed = set(sys.stdlib_module_names) | {"curriculum", "numpy", "pyarrow"}
    trainers = {"torch", "transformers", "accelerate", "lightning", "deepspeed", "torchtitan", "jax", "optax"}
    allowed |= {
        "adapters": trainers,
        "examples": trainers,
        "training": {"torch", "transformers", "safetensors"},
        "remote": {"fsspec"},
    }.get(path.parent.name, set())
    assert {name.split(".")[0] for name in imports(path)} <= allowed


BELOW = {
    "": set(),
    "adapters": {""},
    "remote": {""},
    "doctor": {""},
    "examples": {"", "adapters", "doctor"},
    "training": {"", "adapters"},
}
"""Folders of the read side, and those that each may import from."""


@pytest.mark.parametrize("path", sorted((ROOT / "curriculum").rglob("*.py")), ids=lambda path: path.stem)
def test_imports_of_the_read_side_point_down(path: Path) -> None:
    """Who reads without torch, or without a store, must not load either; only the front door knows all."""
    own = path.parent.name if path.parent.name != "curriculum" else ""
    if path == ROOT / "curriculum" / "__init__.py":
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("curriculum.")}
    assert used & BELOW.keys() <= BELOW[own] | {own}


NEEDS_NUMPY = {"shard_format", "manifest", "batch", "reader", "storage", "varlen", "resumable"}


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "curriculum").glob("*.py") if path.stem not in NEEDS_NUMPY)
)
def test_the_plan_needs_the_standard_library_only(name: str) -> None:
    """A plan is arithmetic: it must be possible anywhere."""
    outside = {module.split(".")[0] for module in imports(ROOT / "curriculum" / f"{name}.py")}
    assert outside <= set(sys.stdlib_module_names) | {"curriculum"}


def test_stages_do_not_import_each_other() -> None:
    """Data flows one way; only the wiring knows all stages."""
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "pipeline").with_suffix("").parts)
        used = {name.removeprefix("pipeline.") for name in imports(path) if name.startswith("pipeline.")}
        assert used & STAGES == ALLOWED.get(name, set()), path


def test_every_refusal_ends_as_a_sentence() -> None:
    """Errors for people end with a full stop; one that ends with a value has it in the value, such as REPAIR."""
    kinds = {"ConfigError", "PlanError", "BuildError", "DataError", "BadRecordError"}
    for path in [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "curriculum" / "remote").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in kinds or not node.args:
                continue
            said = node.args[0]
            last = said.values[-1] if isinstance(said, ast.JoinedStr) else said
            if isinstance(last, ast.Constant):
                assert str(last.value).endswith((".", ".)")), f"{path}:{node.lineno}: {last.value}"
            elif isinstance(last, ast.FormattedValue):
                assert "what_is_read" not in ast.unparse(last), f"{path}:{node.lineno}: no full stop"


def test_no_file_is_named_like_the_standard_library() -> None:
    """`tokenize.py` breaks `import torch` for a script that runs beside it."""
    names = {path.stem for package in ("curriculum", "pipeline") for path in (ROOT / package).rglob("*.py")}
    assert names & set(sys.stdlib_module_names) == set()
    assert names & {"utils", "helpers", "common", "core"} == set()


def test_help_is_instant() -> None:
    """`curriculum --help` loads click and nothing heavy: under 0.3 s of the processor, the interpreter included."""
    show = "from pipeline.cli import main; main(['--help'], standalone_mode=False)"
    code = f"import time; {show}; print(time.process_time())"
    assert min(float(_run("-c", code).stdout.split()[-1]) for _ in range(3)) < 0.3
    heavy = {"numpy", "pyarrow", "rich", "tokenizers", "datasets", "torch"}
    code = f"import sys; from pipeline.cli import main; print({heavy!r} & set(sys.modules))"
    assert _run("-c", code).stdout.strip() == "set()"


def test_workers_load_no_encoder_before_something_is_encoded() -> None:
    """A store is cut anew, and ids of other tools are cut, without one."""
    code = "import sys; from pipeline.build import _import_stages as load; load(); print(sorted(sys.modules))"
    loaded = _run("-c", code).stdout
    assert "'pipeline.cut'" in loaded
    assert "fastokens" not in loaded
    assert "'tokenizers'" not in loaded


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
