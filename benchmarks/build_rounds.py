"""The rounds of the build benchmark: everything in turns, each run measured, each tool's ids read back once.

In:  a `Setting` and the inputs.   Out: one object: tables of numbers, see `build_peers_report.summarize`.
Guarantee: one run at a time, its files removed before the next. Reading ids back is not measured. A tool whose
environment or checkout is missing, or that fails, is a sentence in the result; it is not tried again.

    round 1: disk, bare loop, builds, re-cuts, tool after tool      round 2: the same again
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from build_bare import EOS_ID
from build_inputs import SPECIAL, Inputs
from build_own import RECUTS, Own, build, ids_in_store, recut, store_of
from build_peer_ids import digest, digest_of
from build_peer_table import FAST, TOOLS, thread_environment
from build_peers_report import summarize
from disk_rates import disk_rates
from measured_process import bytes_in, run

HERE = Path(__file__).parent


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
    recuts: bool
    disk_mb: int

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
        samples.disk.append(disk_rates(setting.folder / "disk", setting.disk_mb * 1_000_000))
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
    command = [sys.executable, str(HERE / "build_bare.py"), inputs.corpus, inputs.tokenizer]
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
    for what, options in RECUTS.items() if setting.recuts else ():
        for workers in sorted({1, setting.workers}):
            name = f"{what}, {workers} worker{'s' * (workers > 1)}"
            say(f"re-cut for {name} ...")
            own = recut(inputs, other, store_of(out), workers, setting.log, options)
            flat = {**_flat(own), "workers": workers, "trained_tokens": own.trained_tokens}
            samples.recuts.setdefault(name, []).append(flat)
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
        "corpus": inputs.corpus,
        "parts": inputs.parts,
        "tokenizer": inputs.tokenizer,
        "out": str(out),
        "scratch": str(scratch),
        "workers": setting.workers,
        "eos": SPECIAL,
        "eos_id": EOS_ID,
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
    command = [str(_python(setting, name)), str(HERE / "build_peer_process.py"), what, name]
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
        return {"missing": "give a checkout of Megatron-LM that has it with --megatron"}
    if not _python(setting, name).exists():
        requirements = f"benchmarks/requirements-build-{tool.environment}.txt"
        return {"missing": f"{_python(setting, name)} is not there; make it from {requirements}"}
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
    if checkout is None:
        return None
    done = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
