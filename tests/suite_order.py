"""Which tests share a process, and in which order: the workers of xdist end at about one time.

In:  the collected tests.   Out: groups of them; xdist gives the next group to a worker that is about to be idle.
Guarantee: a group runs in one worker, so what its tests share (a server, a tokenized corpus, an imported trainer) is
made once. A group is a file, or the files that share such a thing; the tests of a file in `APART` are groups of their
own. Long groups begin first, so that no worker is left alone with one.

    test_zoo.py::test_a, test_cli.py::test_b, test_zoo.py::test_c       test_zoo.py: a, c; then test_cli.py: b
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    **dict.fromkeys(
        ("test_build_to_s3.py", "test_corpus_in_s3.py", "test_remote_s3.py", "test_push_and_pull_s3.py"), "swift"
    ),
    **dict.fromkeys(("test_remote_hub.py", "test_hub_corpus.py", "test_hub_tokenizer.py"), "hub"),
    **dict.fromkeys(("test_push_to_hub.py", "test_pull_from_hub.py"), "hub"),
    **dict.fromkeys(("test_reference_loop.py", "test_reference_trainer.py", "test_trainer_command.py"), "trainer"),
    **dict.fromkeys(("test_trainer_compiled.py", "test_trainer_failures.py", "test_trainer_refusals.py"), "trainer"),
    **dict.fromkeys(("test_page_browser.py", "test_page_file.py"), "page"),
    **dict.fromkeys(("test_docs.py", "test_zoo.py"), "default corpus"),
    **dict.fromkeys(("test_faults.py", "test_signals.py"), "slow corpus"),
}
APART = ("test_kills.py",)
"""Its tests take long and share little."""
LONG = (
    "test_kills.py",
    "test_ray_builds.py",
    "swift",
    "test_adapter_trainer.py",
    "default corpus",
    "test_adapter_torchtitan.py",
    "test_adapter_jax.py",
    "test_adapter_transformers.py",
    "test_packed_verify.py",
    "test_deepspeed_itself.py",
    "test_build.py",
    "test_doctor_command.py",
    "slow corpus",
    "test_training_example.py",
    "test_adapter_lightning.py",
    "test_adapter_deepspeed.py",
    "test_remote_reader.py",
    "test_merge.py",
    "test_adapter_accelerate.py",
    "test_export.py",
    "test_export_peers.py",
    "trainer",
)
"""Groups of more than ten seconds, the longest first."""


def group_of(nodeid: str) -> str:
    """`tests/remote/test_remote_s3.py::test_a[1]` -> swift."""
    name = file_of(nodeid)
    return nodeid if name in APART else TOGETHER.get(name, name)


def file_of(nodeid: str) -> str:
    """`tests/test_docs.py::test_a[1]` -> test_docs.py."""
    return nodeid.partition("::")[0].rpartition("/")[2]


def sort_tests(items: list[pytest.Item]) -> None:
    """In place, the long groups first; tests of a group keep their order."""
    places = {name: place for place, name in enumerate(LONG)}

    def place(item: pytest.Item) -> int:
        name = file_of(item.nodeid)
        return places.get(TOGETHER.get(name, name), len(places))

    items.sort(key=place)


class Groups(LoadScopeScheduling):
    """Groups in the order of their first test. (pytest 9.2 loses those of `--dist loadgroup` of xdist 3.8.)"""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def install_meanwhile(items: list[pytest.Item]) -> None:
    """Install what modules name in `INSTALLS` while the first tests run; a test that needs it waits for it.

    What goes wrong here is said by the test, which tries again.
    """
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
        return
    wanted: dict[Callable[[], object], None] = {}
    for item in items:
        install = getattr(getattr(item, "module", None), "INSTALLS", None)
        if install is not None:
            wanted[install] = None

    def install_all() -> None:
        for install in wanted:
            with suppress(Exception, pytest.fail.Exception, pytest.skip.Exception):
                install()

    if wanted:
        threading.Thread(target=install_all, daemon=True).start()
