"""Building, next to other tools: wall and CPU time, memory, bytes and equal ids, in one run on the same real text.

    for tool in megatron datatrove litdata mds datasets; do
        python -m venv /tmp/peers/$tool && /tmp/peers/$tool/bin/pip install -r benchmarks/requirements-build-$tool.txt
    done
    git clone https://github.com/NVIDIA/Megatron-LM /tmp/Megatron-LM
    python benchmarks/build_peers.py --environments /tmp/peers --megatron /tmp/Megatron-LM [--corpus-mb 562] [--json]

In:  this machine's text, GPT-2's tokenizer, the other environments.   Out: tables in Markdown, or one JSON object.
Guarantee: everything runs on as many CPUs as it has workers, in fresh processes, one after the other, in turns; the
page cache holds the corpus. The ids of every tool are compared with those of the bare loop. A tool that is not there
or fails is a line that says so. 562 MB take 15 minutes a round and 6 GB of disk; `--slow-runs` limits the slow tools.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]

from build_bare import EOS_ID
from build_inputs import SPECIAL, Inputs, prepare
from build_own import RECUTS, Own, build, ids_in_store, recut, store_of
from build_peer_ids import digest, digest_of
from build_peer_tools import TOOLS, thread_environment
from build_peers_report import show, summarize
from disk_rates import disk_rates
from measured_process import bytes_in, run

FAST = ("Megatron-LM preprocess_data_fast.py",)
"""The tools that take seconds: they run in every round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What one call of the benchmark was asked for."""

    folder: Path
    environments: Path
    megatron: Path | None
    workers: int
    runs: int
    slow_runs: int
    only: str

    @property
    def log(self) -> Path:
        """What all tools say."""
        return self.folder / "said.log"


@dataclass(kw_only=True, slots=True)
class Samples:
    """Everything measured so far, by name; a sample is a flat object of numbers, or {"missing"} or {"error"}."""

    tools: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ids: dict[str, dict[str, Any]] = field(default_factory=dict)
    recuts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    disk: list[dict[str, float]] = field(default_factory=list)


def measure(setting: Setting, inputs: Inputs) -> dict[str, Any]:
    """All rounds."""
    samples = Samples()
    for number in range(setting.runs):
        Path(inputs.corpus).read_bytes()  # into the page cache
        say(f"round {number + 1} of {setting.runs}: disk ...")
        samples.disk.append(disk_rates(setting.folder / "disk"))
        for threads in sorted({1, setting.workers}):
            _bare(setting, inputs, samples, threads)
        _own(setting, inputs, samples)
        for name in TOOLS:
            if setting.only in name and (name in FAST or number < setting.slow_runs):
                _peer(setting, inputs, samples, name)
    return {
        "corpus": asdict(inputs),
        "workers": setting.workers,
        "megatron": _commit(setting.megatron),
        **summarize(samples.tools, samples.ids, samples.recuts, samples.disk, inputs.text_bytes),
    }


def _bare(setting: Setting, inputs: Inputs, samples: Samples, threads: int) -> None:
    name = f"bare loop, {threads} thread{'s' * (threads > 1)}"
    say(f"{name} ...")
    out = _empty(setting.folder / "bare")
    command = [sys.executable, str(ROOT / "benchmarks" / "build_bare.py"), inputs.corpus, inputs.tokenizer]
    measured = run([*command, str(out), str(threads)], cpus=threads, log=setting.log)
    if measured.exit_code:
        raise SystemExit(f"The bare loop failed; see the end of {setting.log}.")
    samples.tools.setdefault(name, []).append({**asdict(measured), "out_bytes": bytes_in(out)})
    if name not in samples.ids:
        samples.ids[name] = digest_of("bare", out)
    shutil.rmtree(out)


def _own(setting: Setting, inputs: Inputs, samples: Samples) -> None:
    out, other = setting.folder / "dataset", setting.folder / "recut"
    for workers in sorted({1, setting.workers}):
        name = f"curriculum build, {workers} worker{'s' * (workers > 1)}"
        say(f"{name} ...")
        own = build(inputs, out, workers, setting.log)
        store_bytes = bytes_in(store_of(out))
        samples.tools.setdefault(name, []).append({**_flat(own), "store_bytes": store_bytes})
        if name not in samples.ids:
            samples.ids[name] = digest(ids_in_store(store_of(out)))
    for what, options in RECUTS.items():
        for workers in sorted({1, setting.workers}):
            say(f"re-cut for {what}, {workers} workers ...")
            own = recut(inputs, other, store_of(out), workers, setting.log, options)
            flat = {**_flat(own), "workers": workers, "trained_tokens": own.trained_tokens}
            samples.recuts.setdefault(f"{what}, {workers} worker{'s' * (workers > 1)}", []).append(flat)
    for folder in (out, other, store_of(out)):
        shutil.rmtree(folder, ignore_errors=True)


def _peer(setting: Setting, inputs: Inputs, samples: Samples, name: str) -> None:
    found = samples.tools.setdefault(name, [])
    missing = _missing(setting, name)
    if missing or any("missing" in each or "error" in each for each in found):
        found.append(missing or found[-1])
        return
    say(f"{name} ...")
    out, scratch = _empty(setting.folder / "peer"), _empty(setting.folder / "scratch")
    job = {
        **{key: getattr(inputs, key) for key in ("corpus", "parts", "tokenizer")},
        **{"out": str(out), "scratch": str(scratch), "workers": setting.workers, "eos": SPECIAL, "eos_id": EOS_ID},
        "checkout": str(setting.megatron) if setting.megatron else None,
    }
    sample = _process(setting, "run", name, job)
    if "error" not in sample and "missing" not in sample:
        sample["out_bytes"] = bytes_in(out)
        if name not in samples.ids:
            samples.ids[name] = _process(setting, "ids", name, job)
    found.append(sample)
    shutil.rmtree(out)
    shutil.rmtree(scratch)


def _process(setting: Setting, what: str, name: str, job: dict[str, Any]) -> dict[str, Any]:
    """One run of build_peer_process.py, measured, with its answer."""
    job_path, answer = setting.folder / "job.json", setting.folder / "answer.json"
    job_path.write_text(json.dumps(job))
    answer.unlink(missing_ok=True)
    command = [str(_python(setting, name)), str(ROOT / "benchmarks" / "build_peer_process.py"), what, name]
    environment = thread_environment(name, setting.workers)
    measured = run(
        [*command, str(job_path), str(answer)],
        cpus=setting.workers,
        log=setting.log,
        cwd=setting.folder,
        environment=environment,
    )
    if not answer.exists():
        return {"error": f"ended with exit code {measured.exit_code}; see {setting.log}"}
    return {**asdict(measured), **json.loads(answer.read_bytes())}


def _missing(setting: Setting, name: str) -> dict[str, str] | None:
    """Why a tool cannot run at all, in words that say what to do."""
    tool = TOOLS[name]
    if tool.environment == "megatron" and (
        setting.megatron is None or not (setting.megatron / "tools" / name.split()[1]).is_file()
    ):
        return {"missing": "missing: give a checkout of Megatron-LM that has it with --megatron"}
    if not _python(setting, name).exists():
        requirements = f"benchmarks/requirements-build-{tool.environment}.txt"
        return {"missing": f"missing: {_python(setting, name)} is not there; make it from {requirements}"}
    return None


def _python(setting: Setting, name: str) -> Path:
    return setting.environments / TOOLS[name].environment / "bin" / "python"


def _flat(own: Own) -> dict[str, Any]:
    return {**asdict(own.measured), "out_bytes": own.out_bytes, "stage_seconds": own.stage_seconds}


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _commit(checkout: Path | None) -> str | None:
    import subprocess

    if checkout is None:
        return None
    done = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, required=True, help="folder with one environment per tool")
    parser.add_argument("--megatron", type=Path, help="checkout of Megatron-LM, of 2026-08 or later")
    parser.add_argument("--corpus-mb", type=int, default=300, help="MB of text")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of every tool")
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument("--slow-runs", type=int, help="rounds of the tools that use `tokenizers`  [default: all]")
    parser.add_argument("--only", default="", help="other tools whose name contains this, for a quick look")
    parser.add_argument("--folder", type=Path, help="where to work, and keep the corpus  [default: a temporary folder]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curriculum-benchmark-") as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        setting = Setting(
            folder=folder,
            environments=args.environments.absolute(),
            megatron=args.megatron.resolve() if args.megatron else None,
            workers=args.workers,
            runs=args.runs,
            slow_runs=args.runs if args.slow_runs is None else args.slow_runs,
            only=args.only,
        )
        say("corpus ...")
        found = measure(setting, prepare(folder / f"{args.corpus_mb}-mb", args.corpus_mb, args.workers))
    if args.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
