"""The corpus that is always there: the library of the running Python.

In: nothing. Out: `Inputs` of its sources, each a document decoded as Python decodes it, and of the language
reference's topics (`pydoc_data/topics.py`), each topic a document instead of one large dictionary.
Guaranteed: no code of the library runs; files that Python itself cannot decode (tests of exactly that) are
`BadRecord`s; an installation without test folders or topics works, one without sources is one clear error.

    find_standard_library().files[0]   ->  InputFile(relative="__future__.py", kind="python", ...)
"""

from __future__ import annotations

import ast
import importlib.util
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from curriculum.errors import ConfigError
from pipeline.folders import InputFile, input_file, walk
from pipeline.inputs import Inputs, sorted_inputs
from pipeline.records import BadRecord, Record, bad_record

NOT_STANDARD = frozenset({"site-packages", "dist-packages", "__pycache__"})
TOPICS = "pydoc_data/topics.py"


def find_standard_library(folder: Path | None = None) -> Inputs:
    """The sources of this interpreter's library, or of the one in `folder`."""
    folder = folder or Path(sysconfig.get_path("stdlib"))
    files: list[InputFile] = []
    num_ignored = 0
    for path, relative in walk(folder, NOT_STANDARD) if folder.is_dir() else ():
        # Some systems link sitecustomize.py to a file that is not installed: no source, no loss.
        if path.suffix == ".py" and path.is_file():
            files.append(input_file(path, relative, "topics" if relative == TOPICS else "python"))
        else:
            num_ignored += 1
    if not files:
        raise ConfigError(
            f"No corpus was given, and this Python keeps no sources of its standard library in {folder} to "
            f"take instead (it may be zipped or compiled); name a file, a folder or a glob."
        )
    return sorted_inputs(files, num_ignored)


def read_source(file: InputFile) -> Iterator[Record | BadRecord]:
    """One source as Python decodes it: PEP 263 encoding, newlines as \\n."""
    source = Path(file.path).read_bytes()
    try:
        text = importlib.util.decode_source(source)
        # Some encodings (raw-unicode-escape) give lone surrogates, which no tokenizer takes.
        text.encode()
    except (SyntaxError, UnicodeError) as error:
        where = f"byte {error.start}" if isinstance(error, UnicodeDecodeError) else "line 1"
        reason = f"cannot be decoded as Python source ({error}); correct its encoding or leave it out"
        yield bad_record(file.path, where, reason)
    else:
        yield Record(relative=file.relative, position=0, text=text)


def read_topics(file: InputFile) -> Iterator[Record | BadRecord]:
    """The topics by name; `position` is the ordinal. The file is parsed, never run."""
    try:
        topics = _topics(Path(file.path).read_bytes())
    except (SyntaxError, ValueError) as error:
        reason = f"does not assign a dictionary of texts to `topics` ({error}); reinstall Python or name a corpus"
        yield bad_record(file.path, "line 1", reason)
        return
    for ordinal, (_, text) in enumerate(sorted(topics.items())):
        yield Record(relative=file.relative, position=ordinal, text=text)


def _topics(source: bytes) -> dict[str, str]:
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "topics":
            topics = ast.literal_eval(statement.value)
            if isinstance(topics, dict) and all(isinstance(text, str) for text in topics.values()):
                return topics
    raise ValueError("there is none")
