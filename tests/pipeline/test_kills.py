"""kill -9 at any moment: the same command continues and ends in the same bytes, with nothing left over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from small_corpus import real_texts

SCRIPT = Path(__file__).with_name("kill_everywhere.py")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("scenario", ["fresh", "overwrite", "skip-and-drop-store"])
def test_killed_at_every_effect_on_the_disk(tmp_path: Path, scenario: str) -> None:
    """Preempted nodes are daily life: a rerun must neither differ, nor stop, nor leave half-written files."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    texts = real_texts()
    key = "body" if scenario.startswith("skip") else "text"
    lines = [json.dumps({key: text[:300]}) for text in texts[:12]]
    if scenario.startswith("skip"):
        lines.append("{broken")
    (corpus / "a.jsonl").write_text("\n".join(lines))
    for i in range(3):
        (corpus / f"{i}.txt").write_text(texts[20 + i][:200])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), scenario],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["wrong"] == {}
    assert result["effects"] > 60
