"""Benchmarks name functions of the pipeline, which get other names: each script is run, or at least its imports."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import curriculum
from gpt2 import gpt2_tokenizer_json

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
CORPUS_MB = 2


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a script finds its corpus, small and already written: to look through this machine takes seconds."""
    texts = [path.read_text("utf-8") for path in sorted(Path(json.__file__).parents[1].glob("[a-m]*.py"))]
    (tmp_path / "corpus").mkdir()
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (tmp_path / "corpus" / "00.jsonl").write_text("".join(lines), "utf-8")
    contents = {"asked_mb": CORPUS_MB, "documents": len(texts), "text_bytes": sum(len(t.encode()) for t in texts)}
    (tmp_path / "corpus" / "contents.json").write_text(json.dumps(contents), "utf-8")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_of_us_is_there(script: Path) -> None:
    """Also in functions that nobody calls here, and in programs that it starts, which stand in it as text."""
    trees = [ast.parse(script.read_text("utf-8"))]
    for node in ast.walk(trees[0]):
        if isinstance(node, ast.Constant) and str(node.value).startswith("if True:"):
            trees.append(ast.parse(node.value))
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("pipeline", "curriculum"):
            module = importlib.import_module(node.module or "")
            for name in node.names:
                # A module of a package is an attribute of it only once it was imported.
                is_there = hasattr(module, name.name) or find_spec(f"{node.module}.{name.name}")
                assert is_there, f"{script.name} imports {name.name} of {node.module}"


def test_rates_of_all_stages_are_measured(folder: Path) -> None:
    """A merge of so few and small parts would not happen by itself; it once printed null for it."""
    command = [sys.executable, "benchmarks/scale_rates.py", "--corpus-mb", str(CORPUS_MB), "--folder", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rates = json.loads(done.stdout)
    assert list(rates) == ["encode: MB of text", "merge: MB of ids", "cut: MB of ids", "bytes of text per token"]
    assert all(rate > 0 for rate in rates.values())


def test_the_profile_of_a_build_finds_its_functions(folder: Path) -> None:
    """The stages of main_job.py are names of functions."""
    import build_speed  # type: ignore[import-not-found]

    values = {"corpus": (str(folder / "corpus"),), "tokenizer": str(gpt2_tokenizer_json(folder)), "batch_rows": 64}
    assert build_speed.profile_build(values, folder / "out")["encode"] > 0


def test_the_cost_of_a_mode_is_read_from_the_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of stages and of what packing counts."""
    import modes  # type: ignore[import-not-found]

    monkeypatch.setattr(modes, "MODES", {"best-fit": modes.MODES["best-fit"]})
    measured = modes.measure(folder, CORPUS_MB, 1)
    assert measured["best-fit"]["cut_seconds"] > 0
    assert "best-fit" in modes.table(measured)


def test_the_cost_of_every_export_is_measured(folder: Path) -> None:
    """One format less would look as if it had been dropped."""
    import export_rates  # type: ignore[import-not-found]

    measured = export_rates.measure(folder, CORPUS_MB, 1, 1)
    assert list(measured["segment"]["mb_s"]) == ["copy", "parquet", "mds", "megatron", "npy"]
    assert list(measured["best-fit"]["mb_s"]) == ["copy", "parquet", "mds", "npy"]
    assert 0.2 < measured["segment"]["bytes_per_token_byte"]["parquet"] < 1, "zstd"
    assert "megatron" in export_rates.table(measured)


def test_what_compressing_saves_is_measured(small_dataset: Path, folder: Path) -> None:
    """Every way gives the bytes back, which it checks itself, and files travel as `push --compress` sends them."""
    import transport  # type: ignore[import-not-found]

    measured = transport.measure(small_dataset, [1], folder)
    assert min(each["ratio"] for each in measured["ways"].values()) > 1
    assert "level 1, planes" in transport.table({"small": measured})


def test_what_a_push_costs_next_to_a_copy_is_measured(small_dataset: Path, tmp_path: Path, folder: Path) -> None:
    """Folders only: the store is that of tests/remote."""
    import sharing  # type: ignore[import-not-found]

    measured = sharing.measure(tmp_path, small_dataset, 0, 1, with_s3=False)
    assert len(measured["pairs"]) == 3
    assert all(each["mb_per_s"] > 0 for each in measured["pairs"].values())
    assert "push to a folder" in sharing.table(measured)


def test_run_time_curricula_are_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts are known beforehand: 10 steps of 2 rows, lengths 8 8 16 16 24 and 32, loaded as 32."""
    import runtime_curricula  # type: ignore[import-not-found]
    import runtime_report  # type: ignore[import-not-found]

    monkeypatch.setitem(sys.modules, "deepspeed", None)  # importing it takes as long as all of this
    corpus = (str(folder / "corpus"),)
    measured = runtime_curricula.measure(folder, quick=True, parts=("tokens", "train", "resume"), corpus=corpus)
    ways, resumed = measured["train"], measured["resume"]
    assert (ways["DeepSpeed-style"]["loaded_tokens"], ways["DeepSpeed-style"]["trained_tokens"]) == (640, 496)
    assert ways["DeepSpeed-style"]["int64_bytes_loaded"] == 8 * 10 * 2 * 33
    assert ways["compiled, truncate"]["int64_bytes_loaded"] == 8 * (496 + 10 * 2), "inputs and labels are one memory"
    for name in ("compiled, truncate", "compiled, segment"):
        assert ways[name]["loaded_tokens"] == ways[name]["trained_tokens"] == 496, name
    assert ways["Composer-style, segment"]["loaded_tokens"] < 640, "it cuts off the rest of a batch, no more"
    for name in ("2", "segment", "full"):
        assert curriculum.open(folder / name).plan.total_tokens >= 496, f"{name} ends before its run does"
    shards = curriculum.open(folder / "truncate").manifest.phases
    assert ways["compiled, truncate"]["shard_bytes_read"] == sum(s.num_bytes for phase in shards for s in phase.shards)
    full = curriculum.open(folder / "full").manifest.phases[0].shards[0]
    assert ways["DeepSpeed-style"]["shard_bytes_read"] == round(full.num_bytes * 20 / full.num_rows), "20 rows"
    assert len(ways["DeepSpeed-style"]["cpu_seconds_of_rounds"]) == 2
    same = {name: case["same"] for name, case in resumed.items() if name != "stopped_after"}
    assert same.pop("DeepSpeed-style, the loader begins anew") == 0
    assert set(same.values()) == {5}
    assert "| gpt2-1.5b | 1.567 |" in runtime_report.tables(measured)
    by_composer = [each["trained_tokens"] for name, each in measured["tokens"].items() if "Composer" in name]
    lengths = [length for length in range(8, 1024, 8) for _ in range(2)] + [1024] * (1000 - 2 * 127)
    of_rows = [length - 1 for length in lengths]  # the last token of a row is no input: the model shifts inside it
    assert by_composer[0] == 512 * sum(of_rows)
    assert by_composer[1] == sum(
        512 * 1024 // length * targets for length, targets in zip(lengths, of_rows, strict=True)
    )


def test_ways_that_cut_at_run_time_train_what_a_compiled_row_holds(small_dataset: Path, folder: Path) -> None:
    """Else their times were of other work: with labels that are not shifted a model learns to copy."""
    pytest.importorskip("torch")
    import length_ways as ways  # type: ignore[import-not-found]
    import torch
    from length_data import Setting

    reader = curriculum.open(small_dataset)
    stored, seq_len = torch.from_numpy(reader[0].tokens.astype("int64")), reader[0].seq_len
    loaded = torch.nn.functional.pad(stored, (0, 4 * seq_len - stored.shape[1] + 1))
    setting = Setting(start_length=seq_len, max_length=4 * seq_len, multiple_of=seq_len, warmup_steps=3)
    compiled = ways.compiled("", small_dataset)
    inputs, targets = compiled.cut(next(compiled.loaded()), 0)
    cut = ways.deepspeed_style(small_dataset, setting, lambda step: seq_len).cut(loaded, 0)
    assert [each.tolist() for each in cut] == [inputs.tolist(), targets.tolist()]
    cut = ways.composer_style(small_dataset, setting, is_segment=False).cut(loaded, 0)
    assert [each.tolist() for each in cut] == [inputs.tolist(), targets[:, :-1].tolist()], "it shifts inside a row"
    cut = ways.composer_style(small_dataset, setting, is_segment=True).cut(loaded, 0)
    rows = loaded[:, :-1].reshape(-1, seq_len)
    assert [each.tolist() for each in cut] == [rows.tolist(), rows[:, 1:].tolist()]


def test_shapes_that_torch_does_not_compile_are_counted(folder: Path) -> None:
    """From the limit on torch runs a function as it is, with no more than a warning."""
    import shape_compiles  # type: ignore[import-not-found]
    from length_data import Setting  # type: ignore[import-not-found]

    told = shape_compiles.Told(name="", dynamic=False, limit=2)
    setting = Setting(max_length=32, layers=1, width=16, heads=1)
    found = shape_compiles.compiles(setting, 100, [(2, 8), (2, 16), (2, 24)], told, "eager")
    assert (found.graphs, found.uncompiled_shapes) == (2, 1)


def test_the_cost_of_measuring_adams_moments_is_measured(folder: Path) -> None:
    """It calls the reference trainer's model, whose arguments changed once. 2 layers have 12 tensors each, and 4."""
    import adam_moments_cost  # type: ignore[import-not-found]

    found = adam_moments_cost.cost(layers=2, width=16, heads=2, vocab_size=32, max_seq_len=8)
    assert (found["parameters"], found["tensors"]) == (32 * 16 + 8 * 16 + 2 * 3280 + 2 * 16, 28)
    assert float(found["error"]) < 1e-5
