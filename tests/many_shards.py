"""The manifest of a dataset with very many shards or phases; the shards themselves do not exist.

write_manifest_of(folder, seq_lens=[8, 16], num_shards=10_000)      5,000 shards in each of two phases
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from curriculum.accounting import Accounting
from curriculum.budget import Batch, Budget
from curriculum.manifest import (
    FILE_NAME,
    BuildEntry,
    Manifest,
    PhaseEntry,
    ShardEntry,
    SourceEntry,
    TokenizerEntry,
)
from curriculum.phase import Phase
from curriculum.plan import Plan, compile_plan
from curriculum.schedule import parse_phases
from curriculum.shard_format import phase_folder, shard_path

ROWS = 64
STEPS_PER_SHARD = 4
NO_DIGEST = "0" * 64


def write_manifest_of(folder: Path, *, seq_lens: Sequence[int], num_shards: int) -> Path:
    """Write the manifest as a build would, its shards spread evenly over one phase for each length."""
    each = num_shards // len(seq_lens)
    phases = ",".join(f"{seq_len}:{each * STEPS_PER_SHARD}" for seq_len in seq_lens)
    plan = compile_plan(pacing=parse_phases(phases), warmup=None, batch=Batch(rows=ROWS), budget=Budget())
    entries = tuple(
        PhaseEntry(seq_len=phase.seq_len, shards=tuple(_shard(i, phase, number, each) for number in range(each)))
        for i, phase in enumerate(plan.phases)
    )
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_manifest(plan, entries).to_json(), indent=1)
    (folder / FILE_NAME).write_text(f"{text}\n")
    return folder


def _shard(phase_index: int, phase: Phase, number: int, num_shards: int) -> ShardEntry:
    num_rows = STEPS_PER_SHARD * ROWS
    return ShardEntry(
        path=shard_path(phase_folder(phase_index, phase.seq_len), number, num_shards),
        num_rows=num_rows,
        num_bytes=1_000 + num_rows * ((phase.seq_len + 1) * 2 + 20),
        data_offset=448,
        sha256=hashlib.sha256(f"{phase_index} {number}".encode()).hexdigest(),
    )


def _manifest(plan: Plan, phases: tuple[PhaseEntry, ...]) -> Manifest:
    corpus_tokens = plan.total_tokens + 1
    return Manifest(
        plan=plan,
        tokenizer=TokenizerEntry(vocab_size=50_257, bos_id=None, eos_id=50_256, sha256=NO_DIGEST),
        dtype="uint16",
        seed=0,
        build=BuildEntry(algorithm=1, window_tokens=2**25, shard_bytes=2**28, bos="none"),
        phases=phases,
        validation=None,
        sources=(
            SourceEntry(name="corpus", documents=1, tokens=corpus_tokens, offset=0, weight=1.0, fingerprint=NO_DIGEST),
        ),
        accounting=Accounting(
            corpus_tokens=corpus_tokens,
            trained_tokens=plan.total_tokens,
            truncated_tokens=0,
            validation_tokens=0,
            unused_tokens=1,
            repeated_tokens=0,
            context_tokens=1,
            documents=1,
            empty_documents=0,
            skipped_records=0,
        ),
    )
