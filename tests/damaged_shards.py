"""Damage shards in thousands of ways, most of them in what describes them, and read each: prints refused and read.

python tests/damaged_shards.py DATASET FOLDER COUNT [SEED]     what ends it with 1, or by a signal, is a finding
"""

from __future__ import annotations

import random
import resource
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from curriculum.batch import Batch
from curriculum.errors import DataError
from curriculum.manifest import load_manifest
from curriculum.remote.ranged_shard import map_tokens
from curriculum.remote.shard_source import ShardDescription
from curriculum.shard_format import open_shard
from hostile_dataset import require_sentence

EDGES = (0, 1, 2, 3, 4, 7, 8, 16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1)


def damage(data: bytes, regions: list[tuple[int, int]], choose: random.Random) -> bytes:
    """A few flips, numbers at the edges of their types, copies and swaps."""
    damaged = bytearray(data)
    for _ in range(choose.choice((1, 1, 2, 3, 6))):
        low, high = choose.choice(regions)
        at, kind = choose.randrange(low, high), choose.random()
        if kind < 0.3:
            damaged[at] ^= 1 << choose.randrange(8)
        elif kind < 0.5:
            damaged[at] = choose.choice((0, 1, 2, 4, 8, 127, 128, 255))
        elif kind < 0.8:
            width = choose.choice((1, 2, 4, 8))
            at -= at % width
            value = choose.choice((*EDGES, len(data), len(data) - 8)) % (1 << 8 * width)
            damaged[at : at + width] = value.to_bytes(width, "little")
        else:
            other, size = choose.randrange(low, high), choose.randrange(1, 64)
            copied = damaged[other : min(other + size, len(data) - max(0, at - other))]
            damaged[at : at + len(copied)] = copied
    return bytes(damaged)


def main(dataset: Path, folder: Path, count: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    choose, manifest = random.Random(seed), load_manifest(dataset)
    refused = read = 0
    for number in range(count):
        entry = choose.choice((manifest.phases[0], manifest.phases[-1]))
        shard = entry.shards[0]
        data = (dataset / shard.path).read_bytes()
        tokens_stop = shard.data_offset + shard.num_rows * (entry.seq_len + 1) * manifest.itemsize
        regions = [(8, shard.data_offset), (tokens_stop, len(data)), (len(data) - 1200, len(data))]
        path = folder / f"{number % 2}.arrow"
        path.unlink(missing_ok=True)  # a new file: a map of the old one stays whole
        path.write_bytes(damaged := damage(data, regions, choose))
        about = ShardDescription(
            entry=replace(shard, num_bytes=len(damaged)),
            seq_len=entry.seq_len,
            dtype=manifest.dtype,
            vocab_size=manifest.tokenizer.vocab_size,
            packed=False,
        )
        with suppress(DataError):  # as a remote reader has it before any row was fetched
            tokens = map_tokens(path, str(path), about)
            assert tokens.shape == (shard.num_rows, entry.seq_len + 1)
            tokens.sum()
        try:
            found = open_shard(
                path,
                seq_len=entry.seq_len,
                dtype=manifest.dtype,
                num_rows=shard.num_rows,
                num_bytes=len(damaged),
                data_offset=shard.data_offset,
                packed=manifest.packed,
            )
        except DataError as error:
            refused += 1
            require_sentence(str(error))
            continue
        read += 1
        for view in (found.tokens, found.doc_positions, found.doc_offsets, found.offset, found.document):
            view.sum()  # every byte of it is there
        batch = Batch(found, 0, shard.num_rows, step=0, micro=0, phase=0, cursor=None)
        batch.varlen, batch.labels, batch.doc_starts, batch.piece_offset  # noqa: B018
    sys.stdout.write(f"{refused} {read}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 0)
