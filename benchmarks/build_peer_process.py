"""One run of one tool, in a process of its environment.

    ENVIRONMENT/bin/python build_peer_process.py run TOOL JOB.json ANSWER.json
    ENVIRONMENT/bin/python build_peer_process.py ids TOOL JOB.json ANSWER.json

In:  the name of a tool in `build_peer_table.TOOLS` and its job.
Out: ANSWER.json: {"in_tool_seconds", "versions"}, or {"tokens", "sha256"}; or {"missing"} or {"error"} with a sentence.
Guarantee: the tool's libraries are imported here and nowhere else; whatever they print goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Any

from build_peer_table import TOOLS, Tool
from build_peer_tools import Job


def answer(what: str, tool: Tool, job: Job) -> dict[str, Any]:
    """Run the tool, or read its files back."""
    if what == "ids":
        from build_peer_ids import digest_of

        return digest_of(tool.format, Path(job.out))
    try:
        tool.load(job)
    except ModuleNotFoundError as error:
        return {"missing": f"No module named {error.name!r} in {sys.prefix}"}
    began = time.perf_counter()
    tool.run(job)
    seconds = time.perf_counter() - began
    return {"in_tool_seconds": seconds, "versions": {name: version(name) for name in tool.packages}}


def main() -> None:
    what, tool, job_path, answer_path = sys.argv[1:]
    os.dup2(2, 1)  # libraries print
    try:
        found = answer(what, TOOLS[tool], Job(**json.loads(Path(job_path).read_text())))
    except BaseException as error:  # told to whoever asked; the other tools go on
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"}
    Path(answer_path).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
