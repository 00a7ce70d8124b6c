"""Real text that any Linux machine with Python has, as JSON lines.

In:  a folder for the result and its size in MB of text.   Out: the folder with `NN.jsonl` files, and what is in them.
Guarantee: every document is a file of this machine, whole, at most once (equal texts are left out), in an order that
mixes the kinds; nothing is generated or repeated. A second call with the same size uses the files again.

    sources of Python and its packages, C and C++ headers, Perl modules, man pages, package documentation, licenses
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path

TEXT_SUFFIXES = frozenset(
    (".py", ".pyi", ".h", ".hpp", ".c", ".rst", ".md", ".txt", ".html", ".pl", ".pm", ".pod", ".js", ".xml", ".json")
)
LARGEST_FILE_BYTES = 1 << 20
"""Larger ones are tables, not text."""
FILE_BYTES = 64_000_000
"""Size of one .jsonl file."""


def places() -> list[Path]:
    """Where text lies on this machine."""
    python = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    system = ["/usr/lib", "/usr/include", "/usr/share/doc", "/usr/share/man", "/usr/share/common-licenses"]
    return [place for place in [*python, *map(Path, system), Path("/usr/share/perl")] if place.is_dir()]


def write_corpus(folder: Path, size_mb: int) -> dict[str, int]:
    """Write the corpus unless it is there; returns documents and bytes of text (UTF-8).

    Raises:
        SystemExit: this machine has less text.
    """
    note = folder / "contents.json"
    if note.exists() and (found := json.loads(note.read_bytes()))["asked_mb"] == size_mb:
        return dict(found)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jsonl"):
        old.unlink()
    documents = text_bytes = file_number = 0
    lines: list[str] = []
    size = 0
    for text in _texts(size_mb * 1_000_000):
        documents += 1
        text_bytes += len(text)
        lines.append(json.dumps({"text": text.decode()}, ensure_ascii=False) + "\n")
        size += len(text)
        if size >= FILE_BYTES:
            (folder / f"{file_number:02d}.jsonl").write_text("".join(lines), "utf-8")
            file_number, lines, size = file_number + 1, [], 0
    (folder / f"{file_number:02d}.jsonl").write_text("".join(lines), "utf-8")
    if text_bytes < size_mb * 1_000_000:
        raise SystemExit(f"This machine has {text_bytes / 1e6:.0f} MB of text: ask for less with --corpus-mb.")
    found = {"asked_mb": size_mb, "documents": documents, "text_bytes": text_bytes}
    note.write_text(json.dumps(found))
    return found


def _texts(wanted_bytes: int) -> Iterator[bytes]:
    """Documents, each once, until they are `wanted_bytes` together."""
    seen: set[bytes] = set()
    for path in sorted(_files(), key=lambda path: hashlib.sha256(os.fsencode(path)).digest()):
        text = _read(path)
        if not text or (digest := hashlib.sha256(text).digest()) in seen:
            continue
        seen.add(digest)
        yield text
        wanted_bytes -= len(text)
        if wanted_bytes <= 0:
            return


def _files() -> Iterator[Path]:
    for place in places():
        for folder, _, names in os.walk(place):  # links to folders are not followed
            for name in names:
                path = Path(folder, name)
                text = path.suffix in TEXT_SUFFIXES or path.suffix == ".gz" or "licenses" in path.parts
                if text and path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_FILE_BYTES:
                    yield path


def _read(path: Path) -> bytes | None:
    """The text of a file, None if it is no UTF-8."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        data.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        return None
    return data
