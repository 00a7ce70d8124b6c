"""The file that `curriculum report` writes, read without a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.errors import DataError
from curriculum.reader import Reader
from page.conftest import HOSTILE, HOSTILE_NAME, ROWS, MadePage
from pipeline.cli import main
from pipeline.files.address import dataset_files
from pipeline.page.facts import Fact
from pipeline.page.render import Page, render
from pipeline.page.sample_documents import SampleDocument
from pipeline.page.sample_rows import SampleRow, SampleStep, sample_steps
from pipeline.page.visible_text import pieces_of, visible
from pipeline.page.write import write_page
from pipeline.rebuild_command import Rebuild

NAMES = ("plain", "hostile", "mixture", "part")


class Elements(HTMLParser):
    """Every start tag with its attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_nothing_that_acts_or_reaches_out(pages: dict[str, MadePage], name: str) -> None:
    """No script, no handler, no address, one policy that forbids all of it; whatever the documents are."""
    tags = Elements(pages[name].html).tags
    assert {tag for tag, _ in tags}.isdisjoint({"script", "iframe", "object", "embed", "form", "base", "img", "image"})
    assert sum(tag == "style" for tag, _ in tags) == 1
    for tag, attributes in tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("href", "src", "xlink:href", "action", "data", "srcset"):
                assert value is not None
                assert value.startswith("#") or value == "data:,", (tag, value)
    policies = [a["content"] for tag, a in tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    ]
    styles = [a.get("style") or "" for _, a in tags]
    styles += re.findall("<style>(.*?)</style>", pages[name].html, re.DOTALL)
    assert not any(re.search(r"url\((?!#)|@import|//", style) for style in styles)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_whole(pages: dict[str, MadePage], name: str) -> None:
    """Ids are unique and lead somewhere; every figure has a name, a caption and its numbers; no stand-in is left."""
    html = pages[name].html
    tags = Elements(html).tags
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for _, a in tags if (a.get("href") or "").startswith("#")}  # type: ignore[index]
    assert targets <= set(ids)
    figures = [a for tag, a in tags if tag == "svg"]
    assert len(figures) == 2 * len(pages[name].result.figures)
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 40 and "viewbox" in a for a in figures)
    assert all("width" not in a for a in figures)
    assert sum(tag == "figcaption" for tag, _ in tags) == sum(tag == "figure" for tag, _ in tags)
    assert "#0102" not in html
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(html) < 400_000


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_on_the_page_are_the_manifests(pages: dict[str, MadePage], name: str) -> None:
    """Every one that it carries for programs, phases and accounting among them."""
    made = pages[name]
    plan, accounting = made.manifest.plan, made.manifest.accounting.to_json()
    facts = {a["data-fact"]: a["value"] for tag, a in Elements(made.html).tags if tag == "data" and "data-fact" in a}
    for key, count in accounting.items():
        assert facts[f"{key}:1"] == str(count)
    for number, phase in enumerate(plan.phases):
        found = [facts[f"phase-{number}:{column}"] for column in range(5)]
        assert found == list(map(str, (number, phase.seq_len, phase.rows_per_step, phase.num_steps, phase.num_tokens)))
    if len(made.manifest.sources) > 1:
        for k, source in enumerate(made.manifest.sources):
            assert [facts[f"source-{k}:{column}"] for column in (1, 2)] == [str(source.documents), str(source.tokens)]
    expected = {
        "id": made.manifest.id,
        "mode": plan.mode,
        "seed": made.manifest.seed,
        "total_steps": plan.total_steps,
        "trained_tokens": accounting["trained_tokens"],
        "num_shapes": plan.num_shapes,
        "documents": accounting["documents"],
        "vocab_size": made.manifest.tokenizer.vocab_size,
        "tokenizer_sha256": made.manifest.tokenizer.sha256,
    }
    assert {key: facts[key] for key in expected} == {key: str(value) for key, value in expected.items()}


def test_hostile_text_is_shown_and_does_nothing(pages: dict[str, MadePage]) -> None:
    """The text of a document is on the page as text, the name of its folder too; what would hide is a sign."""
    made = pages["hostile"]
    read = Elements(made.html)
    assert "<script>alert(1)</script>" in read.text
    assert "<img src=x onerror=alert(1)>" in read.text
    assert HOSTILE_NAME.replace("\u202e", "U+202E") in read.text
    for char in "".join(HOSTILE) + HOSTILE_NAME:
        if not char.isprintable():
            assert char not in made.html
    assert "padding" in read.text


def test_what_is_missing_is_said(pages: dict[str, MadePage]) -> None:
    """A dataset pulled in part without its log: figures of the plan, rows of what is there, two notes."""
    made = pages["part"]
    assert "build" not in made.result.figures
    assert made.result.sample_rows
    assert any("pulled in part" in note for note in made.result.notes)
    assert any("no build-log.json" in note for note in made.result.notes)
    assert "Estimated from" in made.html
    assert "counted in the token store" in pages["plain"].html


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_how_to_get_what_was_pushed_compressed(pages: dict[str, MadePage], name: str) -> None:
    """There a reader and `load_dataset` find no shard, and `verify` wants a folder; `pull` gives one."""
    page = pages[name].html
    assert "<pre><code>curriculum pull ADDRESS my-dataset\ncurriculum verify my-dataset</code></pre>" in page
    assert "From an address, or by <code>load_dataset</code>, only plain shards (<code>.arrow</code>) are read." in page


def test_extensions_are_told(pages: dict[str, MadePage]) -> None:
    """Which steps are new, and the id of the dataset before: a run that began with that one may go on here."""
    made = pages["mixture"]
    (entry,) = made.manifest.build.extensions
    assert f"by steps 40 to 44, from {entry.parent}" in Elements(made.html).text
    assert "extended" in Elements(made.html).text
    assert "curriculum extend rebuilt" in Elements(made.html).text
    assert "In another folder, with a copy of tokenizer.json, with the texts" in Elements(made.html).text


def test_the_same_dataset_has_the_same_page(pages: dict[str, MadePage], tmp_path: Path) -> None:
    """No times of today, no random ids, nothing of a matplotlibrc: who makes it again can compare."""
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        write_page(pages["plain"].dataset, tmp_path / "again.html", rows=ROWS)
    assert (tmp_path / "again.html").read_bytes() == pages["plain"].path.read_bytes()


def test_another_tokenizer_decodes_nothing(small_dataset: Path, tmp_path: Path) -> None:
    """Rows decoded with the wrong vocabulary would look like broken data."""
    shutil.copy(small_dataset / "tokenizer.json", tmp_path)
    with (tmp_path / "tokenizer.json").open("a") as file:
        file.write("\n")
    for files in (dataset_files(tmp_path), dataset_files(tmp_path / "nothing")):
        steps, (note,) = sample_steps(Reader(small_dataset), files, 2)
        assert not steps
        assert re.search("its sha256 differs|is missing", note)


def test_the_command(small_dataset: Path, tmp_path: Path) -> None:
    """One JSON object; no rows if none are wanted; nothing is written of what is no dataset."""
    out = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["report", str(small_dataset), "--out", str(out), "--rows", "0", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["num_bytes"], told["sample_rows"]) == (out.stat().st_size, 0)
    assert told["figures"] == ["schedule", "flow", "phases", "lengths", "build"]
    missing = CliRunner().invoke(main, ["report", str(tmp_path / "none"), "--out", str(tmp_path / "none.html")])
    assert missing.exit_code == 1
    assert "not a curriculum dataset" in missing.output
    assert not (tmp_path / "none.html").exists()
    with pytest.raises(DataError):
        write_page(tmp_path, out)


def test_what_is_not_installed_is_named(small_dataset: Path) -> None:
    """The plots are an extra: without it one sentence says which."""
    code = (
        "import sys; sys.modules['matplotlib'] = None; from pipeline.cli import main; "
        f"main(['report', {str(small_dataset)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.rstrip() == (
        "curriculum: A page needs matplotlib, which is not installed: pip install 'seqlen-curriculum[report]'."
    )


def page_of(name: str, text: str, offset: int) -> str:
    """A page of one row of one document, with a name."""
    document = SampleDocument(
        number=0, symbol="●", tint=0, num_tokens=3, head=pieces_of(text), hidden=1, tail=pieces_of(text), has_eos=True
    )
    row = SampleRow(row_of_step=0, offset=offset, source=name, documents=(document,), documents_left_out=0, padding=1)
    step = SampleStep(step=0, phase=0, seq_len=8, num_rows=1, rows=(row,))
    fact = Fact(key="name", label=name, value=name, note=name)
    return render(
        Page(
            name=name,
            lede=name,
            alerts=[name],
            cards=[fact],
            figures=[],
            sources=None,
            steps=[step],
            row_notes=[name],
            targets="targets",
            about=[fact],
            rebuild=Rebuild(commands=((name,),), notes=(name,), files=(name,)),
            identity=[fact],
            lineage=[(name, name)],
        )
    )


PLAIN = Elements(page_of("name", "text", 0))


def test_one_row_is_one_row() -> None:
    """A step of "1 rows" makes a reader doubt the number."""
    assert "Step 0: 1 row of 8 tokens" in PLAIN.text
    assert "1 token not shown" in PLAIN.text


@settings(max_examples=100)
@given(st.text(min_size=1), st.text() | st.sampled_from(HOSTILE))
def test_no_text_becomes_anything_but_text(name: str, text: str) -> None:
    """Whatever a document or a name is: the elements of the page are the same, and the document is there to be read."""
    shown = "".join(piece.text for piece in pieces_of(text))
    elements = Elements(page_of(visible(name), text, 0))
    assert [tag for tag, _ in elements.tags if tag != "i"] == [tag for tag, _ in PLAIN.tags if tag != "i"]
    assert shown.replace("\r", "\n") in elements.text
