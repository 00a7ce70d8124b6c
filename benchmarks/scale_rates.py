"""CPU rates of the stages of a build on this machine: what `scale_model.py` reckons with.

In:  nothing but this machine; real text and GPT-2's tokenizer.   Out: MB per second of CPU time, per stage.
Guarantee: one process, CPU time and not wall time, so that what else runs here hardly matters; a merge round is forced,
also of little text: the corpus is divided into eight units or more, and their parts are merged.

    python benchmarks/scale_rates.py --corpus-mb 150
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from real_text import write_corpus

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main() -> None:
    """Build once, with a watch at the tasks."""
    import pipeline.build
    import pipeline.cut_stage
    import pipeline.merge
    import pipeline.merge_layout
    import pipeline.tokenize_stage
    from gpt2 import gpt2_tokenizer_json
    from pipeline.option_sources import load_options
    from pipeline.progress import Silent

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--corpus-mb", type=int, default=150)
    options.add_argument("--folder", type=Path, help="where to work, and keep the corpus  [default: a temporary one]")
    asked = options.parse_args()
    seconds: dict[str, float] = defaultdict(float)
    merged: list[int] = []

    def watched(stage: str, task: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            began = time.process_time()
            try:
                return task(*arguments)
            finally:
                seconds[stage] += time.process_time() - began

        return run

    pipeline.merge_layout.SLICE_BYTES = pipeline.merge_layout.OUTPUT_BYTES = 32 << 20
    pipeline.merge_layout.FEW_SLICES = 0
    pipeline.tokenize_stage.ensure_parts = watched("encode", pipeline.tokenize_stage.ensure_parts)
    merge_range = watched("merge", pipeline.merge.merge_range)
    pipeline.merge.merge_range = lambda *task: merged.append(merge_range(*task)) or merged[-1]
    pipeline.cut_stage.cut_window = watched("cut", pipeline.cut_stage.cut_window)
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        text = write_corpus(folder / "corpus", asked.corpus_mb)
        values = {"corpus": (str(folder / "corpus"),), "tokenizer": str(gpt2_tokenizer_json(folder)), "workers": 1}
        values |= {"out": str(folder / "out"), "unit_bytes": asked.corpus_mb * 125_000, "batch_rows": 512}
        for old in (folder / "out", folder / "out.store"):
            shutil.rmtree(old, ignore_errors=True)
        result = pipeline.build.build(load_options(None, values), Silent())
    tokens = 2 * result.manifest.sources[0].tokens
    print(
        json.dumps(
            {
                "encode: MB of text": round(text["text_bytes"] / 1e6 / seconds["encode"], 1),
                "merge: MB of ids": round(2 * sum(merged) / 1e6 / seconds["merge"], 1),
                "cut: MB of ids": round(tokens / 1e6 / seconds["cut"], 1),
                "bytes of text per token": round(2 * text["text_bytes"] / tokens, 2),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
