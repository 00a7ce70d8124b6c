"""A process that disturbs builds, one scenario after the other: what they import is imported once, not for each.

In:  lines on stdin: how, a folder with a corpus, a scenario, a stride.   Out: a line of JSON for each, the result.
Guarantee: the process starts no thread and builds nothing itself; its forked copies do.

    ["kill", "/tmp/a", "fresh", 1]        {"effects": 101, "wrong": {}}
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import fail_everywhere
import kill_everywhere

WAYS = {"kill": kill_everywhere.disturb, "fail": fail_everywhere.disturb}


def main() -> None:
    """Until stdin ends."""
    kill_everywhere.import_all()
    for line in sys.stdin:
        how, folder, scenario, stride = json.loads(line)
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        sys.stdout.write(json.dumps(WAYS[how](Path(folder), scenario, stride)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
