"""The physical limit: read, encode, chop, write in one loop of one process, and nothing else.

    python build_bare.py CORPUS TOKENIZER OUT THREADS

In:  a .jsonl file, tokenizer.json, an empty folder, threads of the encoder.   Out: files in that folder.
Guarantee: every document followed by its EOS, the stream in the order of the corpus, cut into rows of 1,025 ids whose
last is the first of the next row. No shuffle, no index, no digest, no fsync, no check of anything.

    rows.bin    uint16 [rows, 1025]      tail.bin    the ids after the last whole row, with the one that it shares
    row_ids     "1025"
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

EOS_ID = 50_256
ROW_IDS = 1_025
BATCH_BYTES = 4 << 20


def main() -> None:
    corpus, tokenizer, out, threads = sys.argv[1:]
    os.environ["FASTOKENS_BPE_THREADS"] = threads  # it reads this when it is loaded
    import numpy as np
    import orjson
    from fastokens import Tokenizer

    backend = Tokenizer.from_json_str(Path(tokenizer).read_text("utf-8"))
    tail = np.empty(0, np.uint16)
    Path(out, "row_ids").write_text(str(ROW_IDS))
    with Path(corpus).open("rb", buffering=1 << 20) as lines, Path(out, "rows.bin").open("wb", buffering=0) as rows:
        while batch := lines.readlines(BATCH_BYTES):
            texts = [orjson.loads(line)["text"] for line in batch]
            flat, edges = backend.encode_batch_flat(texts, add_special_tokens=False, split_special_tokens=True)
            ids = np.frombuffer(flat, "<u4").astype(np.uint16)
            ends = np.frombuffer(edges, "<u8").astype(np.int64)[1:]
            stream = np.concatenate([tail, np.insert(ids, ends, EOS_ID)])
            count = max(0, (len(stream) - 1) // (ROW_IDS - 1))
            cut = np.lib.stride_tricks.sliding_window_view(stream, ROW_IDS)[:: ROW_IDS - 1][:count] if count else []
            rows.write(np.ascontiguousarray(cut).data if count else b"")
            tail = stream[count * (ROW_IDS - 1) :].copy()
    tail.tofile(Path(out, "tail.bin"))


if __name__ == "__main__":
    main()
