"""The tools that the build benchmark runs, each with its environment and the way back from its files to ids.

In:  nothing.   Out: `TOOLS` by name, in the order of the result; the environment variables of a run.
Guarantee: adding a tool is one entry here, one function in `build_peer_tools.py`, one reader in `build_peer_ids.py`
and one requirements-build-NAME.txt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import build_peer_tools as tools
from build_peer_tools import Job


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A tool, its environment and what reads its files back (`build_peer_ids.py`)."""

    environment: str
    """requirements-build-NAME.txt, and a folder of that name with the environment"""
    packages: tuple[str, ...]
    """whose versions the result names"""
    load: Callable[[Job], None]
    run: Callable[[Job], None]
    format: str


TOOLS = {
    "Megatron-LM preprocess_data.py": Tool(
        environment="megatron",
        packages=("transformers", "tokenizers", "torch"),
        load=tools.import_megatron,
        run=tools.megatron("preprocess_data.py", "--workers", "WORKERS"),
        format="megatron",
    ),
    "Megatron-LM preprocess_data_fast.py": Tool(
        environment="megatron",
        packages=("gigatoken", "transformers", "torch"),
        load=tools.import_megatron,
        run=tools.megatron("preprocess_data_fast.py", "--use-gigatoken"),
        format="megatron",
    ),
    "datatrove DocumentTokenizer": Tool(
        environment="datatrove",
        packages=("datatrove", "tokenizers"),
        load=tools.import_all("datatrove.executor", "datatrove.pipeline.readers", "datatrove.pipeline.tokens"),
        run=tools.datatrove,
        format="datatrove",
    ),
    "litdata.optimize": Tool(
        environment="litdata",
        packages=("litdata", "tokenizers", "torch"),
        load=tools.import_all("litdata", "torch", "tokenizers"),
        run=tools.litdata,
        format="litdata",
    ),
    "MDSWriter": Tool(
        environment="mds",
        packages=("mosaicml-streaming", "tokenizers", "torch"),
        load=tools.import_mds,
        run=tools.mds,
        format="mds",
    ),
    "datasets.map": Tool(
        environment="datasets",
        packages=("datasets", "tokenizers", "pyarrow"),
        load=tools.import_all("datasets", "tokenizers"),
        run=tools.datasets_map,
        format="datasets",
    ),
}
FAST = ("Megatron-LM preprocess_data_fast.py",)
"""Tools that take seconds and work in threads of one process, not in processes of one thread."""


def thread_environment(tool: str, workers: int) -> dict[str, str]:
    """Environment variables that give each tool as many threads as it may have."""
    return {
        **os.environ,
        "RAYON_NUM_THREADS": str(workers if tool in FAST else 1),
        "TOKENIZERS_PARALLELISM": "true" if tool in FAST else "false",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "DISABLE_OPTIMIZER_HINT": "1",
        "DO_NOT_TRACK": "1",
    }
