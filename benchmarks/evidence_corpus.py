"""The corpus of docs/evidence.md: the text of pinned Python packages, the same bytes wherever it is fetched.

    python benchmarks/evidence_corpus.py FOLDER            about 120 MB from PyPI, 108 MB of text

In:  `requirements-evidence-corpus.txt` beside this file: wheels for any machine, each with its version and sha256,
which pip checks.   Out: FOLDER with one `PACKAGE.jsonl` of `{"text": ...}` for each wheel, and `contents.json`, last.
Guarantee: every document is one whole file of a wheel (.py .pyi .rst .md .txt, UTF-8, not empty, at most 32 KiB:
larger ones are tables), each text once, in the order of their names; nothing is generated. The bytes are those that
docs/evidence.md was measured on, or the script says that they are not. Nothing is installed or run. A second call with
a finished folder uses it.

    FOLDER/contents.json   {"documents": 15627, "text_bytes": 108285711, "sha256": "..."}        (see `CORPUS_SHA256`)
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).with_name("requirements-evidence-corpus.txt")
CORPUS_SHA256 = "fae20c4ea1816111f7a399a3084de222cab9ef5c09e9b5fc949f378fb0fc0dcc"
TEXT_SUFFIXES = (".py", ".pyi", ".rst", ".md", ".txt")
LARGEST_FILE_BYTES = 32 << 10
ANY_MACHINE = ("--platform", "any", "--implementation", "py", "--abi", "none", "--python-version", "3.11")
"""The wheels without machine code: one file for everybody, so that one digest is right for everybody."""


def corpus(folder: Path) -> dict[str, Any]:
    """Fetch and write the corpus unless it is there; returns what `contents.json` says.

    Raises:
        SystemExit: pip failed, or the text is not that of docs/evidence.md.
    """
    note = folder / "contents.json"
    if note.exists():
        return dict(json.loads(note.read_bytes()))
    wheels = folder / "wheels"
    download(wheels)
    found = write_texts(sorted(wheels.glob("*.whl"), key=lambda path: path.name.lower()), folder)
    if found["sha256"] != CORPUS_SHA256:
        raise SystemExit(
            f"The text of the packages has the sha256 {found['sha256']}, that of docs/evidence.md {CORPUS_SHA256}: "
            f"{REQUIREMENTS.name} or the rules of {Path(__file__).name} have changed since."
        )
    note.write_text(json.dumps(found) + "\n")
    return found


def download(wheels: Path) -> None:
    """The pinned wheels into a folder, by pip, which compares their digests."""
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--disable-pip-version-check", *ANY_MACHINE]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "-r", str(REQUIREMENTS), "-d", str(wheels)]
    done = subprocess.run(command, stdout=sys.stderr)
    if done.returncode != 0:
        raise SystemExit(f"pip could not fetch the packages of {REQUIREMENTS}; what it says is above.")


def write_texts(wheels: list[Path], folder: Path) -> dict[str, Any]:
    """Write the documents of each wheel to a file of its own; documents, bytes of text, and the digest of all of it."""
    seen: set[bytes] = set()
    whole = hashlib.sha256()
    text_bytes = 0
    for wheel in wheels:
        lines = []
        for text in documents(wheel):
            digest = hashlib.sha256(text).digest()
            if digest not in seen:
                seen.add(digest)
                whole.update(digest)
                text_bytes += len(text)
                lines.append(json.dumps({"text": text.decode()}, ensure_ascii=False) + "\n")
        (folder / f"{wheel.name.split('-')[0].lower()}.jsonl").write_text("".join(lines), "utf-8")
    return {"documents": len(seen), "text_bytes": text_bytes, "sha256": whole.hexdigest()}


def documents(wheel: Path) -> Iterator[bytes]:
    """The text files of a wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
            if entry.filename.endswith(TEXT_SUFFIXES) and 0 < entry.file_size <= LARGEST_FILE_BYTES:
                data = archive.read(entry)
                try:
                    data.decode()
                except UnicodeDecodeError:
                    continue
                if data.strip():
                    yield data


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/evidence_corpus.py FOLDER")
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    print(json.dumps(corpus(Path(sys.argv[1]))))
