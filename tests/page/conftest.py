"""Pages of small datasets, each made once: plain, hostile (packed), an extended mixture, a part of one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from curriculum.manifest import Manifest, load_manifest
from pipeline.build import BuildResult
from pipeline.extend import extend
from pipeline.longer_plan import Extent
from pipeline.option_sources import load_options
from pipeline.page.write import PageResult, write_page
from pipeline.progress import Silent
from small_mixture import build_mixture, write_sources

HOSTILE = (
    "",
    "</pre></div></style></svg><img src=x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">javascript:alert(1)</a>',
    "{{ 7 * 7 }}{% raw %}<!-- --><![CDATA[ ]]>",
    "left \u202e right \u2066 NUL \0 bell \x07 clear \x1b[2J\x1b]0;title\x07 none \u200b",
    "&lt;script&gt; &amp;#60; &#0; \u2028 \ufeff",
)
ROWS = 12
HOSTILE_NAME = "<img src=x onerror=alert(1)>&\"'`\u202e{{7*7}}"


@dataclass(frozen=True, kw_only=True, slots=True)
class MadePage:
    """A dataset and its page."""

    dataset: Path
    manifest: Manifest
    path: Path
    html: str
    result: PageResult


@pytest.fixture(scope="session")
def hostile_dataset(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents that would act if they could, in a folder whose name would, packed with padding."""
    folder = tmp_path_factory.mktemp("hostile")
    lines = [json.dumps({"text": f"{k} <script>alert(1)</script>{text}"}) + "\n" for k in range(20) for text in HOSTILE]
    (folder / "texts.jsonl").write_text("".join(lines), "utf-8")
    out = folder / HOSTILE_NAME
    build_small(
        out, corpus=(str(folder / "texts.jsonl"),), mode="best-fit", max_length=128, max_shapes=4,
        store=str(folder / "store"), seed=1,
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def pages(small_dataset: Path, hostile_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, MadePage]:
    """By name."""
    folder = tmp_path_factory.mktemp("pages")
    mixture = folder / "mixture"
    build_mixture(mixture, write_sources(folder), weight=("web=2", "code=8:1,16:3", "wiki=1"), steps=40)
    extend(load_options(None, {"out": str(mixture), "workers": 1}), Extent(steps=5), Silent())
    part = folder / "part"
    shutil.copytree(small_dataset, part)
    shutil.rmtree(part / "phases" / "00000-len0000008")
    (part / "build-log.json").unlink()
    datasets = {"plain": small_dataset, "hostile": hostile_dataset, "mixture": mixture, "part": part}
    return {name: _made(dataset, folder / f"{name}.html") for name, dataset in datasets.items()}


def _made(dataset: Path, path: Path) -> MadePage:
    result = write_page(dataset, path, rows=ROWS)
    return MadePage(
        dataset=dataset, manifest=load_manifest(dataset), path=path, html=path.read_text("utf-8"), result=result
    )
