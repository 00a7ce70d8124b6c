"""Run a build on a disk that is too small, enlarge it, make it read-only, and run it to its end.

Started by test_faults.py, in a mount namespace of its own where there may be one: `fill_a_disk.py DISK KEPT OUT
COMMAND...`. The disk is a small tmpfs; where that cannot be mounted the size of files is limited instead. Prints what
each run said; copies OUT to KEPT, since a tmpfs vanishes with its namespace.
"""

from __future__ import annotations

import shutil
import subprocess
import sys


def main(disk: str, kept: str, out: str, *command: str) -> int:
    """Exit code of the last run."""

    def mount(options: str) -> bool:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, check=False)
        return done.returncode == 0

    def build(file_bytes: str = "unlimited") -> int:
        limited = ["prlimit", f"--fsize={file_bytes}", *command]
        done = subprocess.run(limited, capture_output=True, text=True, check=False)
        print(done.returncode, done.stderr, flush=True)  # noqa: T201 - the result
        return done.returncode

    mounted = mount("size=16k")
    for kilobytes in (16, 150, 320, 340, 360, 370, 700):  # full at once, in encode, in cut, at the manifest
        if mounted:
            mount(f"remount,size={kilobytes}k")
        build("unlimited" if mounted else str(kilobytes << 6))
    if mounted:
        mount("remount,size=64m,ro")
        build()
        mount("remount,size=64m,rw")
    code = build()
    shutil.copytree(out, kept)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
