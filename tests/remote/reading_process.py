"""A process that reads a dataset in a store and compares every batch of a rank with a local copy.

Some clients take their settings from the environment when they are imported: a process of its own has other ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
READ = """
import sys
import numpy as np
from curriculum.reader import Reader
from curriculum.remote import RemoteStorage
url, local, cache, verify, rank, world_size = sys.argv[1:]
storage = RemoteStorage(url, cache_dir=cache, verify=verify, timeout_seconds=30)
steps = Reader(storage).steps(0, int(rank), int(world_size))
for found, expected in zip(steps, Reader(local).steps(0, int(rank), int(world_size)), strict=True):
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.document, expected.document)
storage.check()
print(storage._store._root, storage.bytes_fetched)
"""


def read_elsewhere(
    url: str, local: Path, cache: Path, *, verify: str = "auto", rank: int = 0, world_size: int = 1, **more: str
) -> subprocess.CompletedProcess[str]:
    """Read there; `more` are environment variables. It prints the path it read from and the bytes of shards."""
    arguments = [url, str(local), str(cache), verify, str(rank), str(world_size)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}
    command = [sys.executable, "-c", READ, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
