"""What torch says when a run cannot go on, as sentences.

In:  an error of torch.   Out: one of ours that says what to do; torch's own, if it is none of those that are known.

    RuntimeError: [enforce fail at alloc_cpu.cpp:127] ... DefaultCPUAllocator: can't allocate memory ...
    ->  CurriculumError: out of memory (...). Take fewer rows at once with --micro-tokens N, ...
"""

from __future__ import annotations

import torch
import torch.distributed as dist

from curriculum.errors import CurriculumError
from curriculum.printable import one_line


def explained(error: RuntimeError) -> Exception:
    """The error to raise instead."""
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        return CurriculumError(
            f"out of memory ({one_line(error)}). Take fewer rows at once with --micro-tokens N, 65536 or less, and "
            f"--validation-rows N; the same command continues."
        )
    if isinstance(error, torch._dynamo.exc.BackendCompilerFailed):
        inner = error.inner_exception
        cause = one_line(f"{type(inner).__name__}: {inner}")
        return CurriculumError(
            f"torch.compile failed ({cause}). On a CPU it needs a C++ compiler, such as g++; install one, or leave out "
            f"--compile: the same command continues without it."
        )
    if isinstance(error, dist.DistError) or "gloo" in str(error):
        return CurriculumError(
            f"the connection to the other processes broke ({one_line(error)}). If one of them ended, it says why in a "
            f"message of its own; the same command continues from the last checkpoint."
        )
    return error
