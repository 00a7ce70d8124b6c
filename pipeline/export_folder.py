"""The folder of an export: what may be continued, what is finished, what must not be touched.

In:  a folder and what is asked for (the request).   Out: a decision, or a refusal that says what to do.
Guarantee: a finished export is replaced only with --overwrite; a folder that holds anything else is never touched.
While `export.json` is missing, the export is not finished.

    empty, or absent                          begin
    .export/request.json, same request        continue
    .export/request.json, other request       begin if nothing was written yet, else refuse; begin with --overwrite
    export.json, same request                 nothing to do
    export.json, other request                refuse; begin with --overwrite
    anything else                             refuse
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from curriculum.errors import BuildError, ConfigError, DataError
from pipeline.exporters.description import FILE_NAME, FORMAT, README_NAME, Request
from pipeline.exporters.work_folder import NAME, WorkFolder
from pipeline.publish import Aside, move, remove, sync_folder

_OURS = re.compile(r"phase-\d{5}-len\d{7,}|validation|tokenizer\.json|README\.md|export\.json")
"""What an export consists of; nothing else in its folder is ever removed."""


def refuse_place(out: str, dataset: str) -> None:
    """Refuse a folder that an export cannot be written to.

    Raises:
        ConfigError: it is an address, or lies in the dataset.
    """
    from pipeline.files.address import is_url

    if is_url(out):
        raise ConfigError(
            f"{out}: an export is written to a folder. Give one, and copy it when it is finished (hf upload, "
            f"aws s3 sync)."
        )
    if not is_url(dataset) and Path(out).resolve().is_relative_to(Path(dataset).resolve()):
        raise ConfigError(
            f"{out}: lies in the dataset {dataset}, which would then hold other files. Give another folder."
        )


def prepare(
    work: WorkFolder, request: Request, names: Iterable[str], *, overwrite: bool
) -> list[tuple[str, int]] | None:
    """Make the folder ready; the files of the rows, and their bytes, if there is nothing to do.

    Args:
        names: the folders of the export, one for each phase.

    Raises:
        BuildError: the folder holds something that must not be replaced.
        DataError: it holds this export, damaged.
    """
    out = Path(work.out)
    finished, unfinished = read_object(out / FILE_NAME), read_object(work.root / "request.json")
    if finished is not None and finished.get("format") == FORMAT:
        if finished.get("request") == request and not overwrite:
            _check_files(out, finished, names)
            remove(work.root)
            return [file for name in names for file in files_below(out, name)]
        if not overwrite:
            raise BuildError(
                f"{out}: holds a finished export of something else: {_differences(finished.get('request'), request)}. "
                f"Give --overwrite to replace it, or another folder."
            )
        _begin(work, request)
    elif unfinished is not None:
        if unfinished != request:
            if any((work.root / "done").glob("*")) and not overwrite:
                raise BuildError(
                    f"{out}: holds an unfinished export of something else: {_differences(unfinished, request)}. "
                    f"Repeat its options to continue it, give --overwrite to drop it, or another folder."
                )
            _begin(work, request)
        elif overwrite:
            _begin(work, request)
    else:
        foreign = sorted(path.name for path in out.iterdir() if path.name != NAME)
        if foreign:
            raise BuildError(
                f"{out}: holds {foreign[0]!r} and is no export, so nothing in it is touched. Give an empty or new "
                f"folder."
            )
        _begin(work, request)
    return None


def _begin(work: WorkFolder, request: Request) -> None:
    """Start anew: at every line the folder is either what it was, or an unfinished export with the new request."""
    out = Path(work.out)
    remove(work.root / "done")
    write_object(work, work.root / "request.json", request)
    remove(out / FILE_NAME)
    sync_folder(out)  # no longer an export, before the first file goes
    for path in sorted(out.iterdir()):
        if _OURS.fullmatch(path.name):
            remove(path)
    for name in ("tree", "scratch", "aside"):
        remove(work.root / name)


def publish(work: WorkFolder, description: bytes) -> None:
    """Everything to its final place; export.json last, since its presence says that all the rest is there."""
    for path in sorted(work.tree.iterdir()):
        move(path, Path(work.out) / path.name)
    with Aside(work.root / "aside", Path(work.out) / FILE_NAME) as file:
        file.write(description)
    remove(work.root)


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if the file is missing or is none."""
    try:
        value = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, orjson.JSONDecodeError):
        return None
    except OSError as error:
        raise BuildError(f"{path}: cannot be read: {error.strerror}. Make it readable.") from error
    return value if isinstance(value, dict) else None


def write_object(work: WorkFolder, path: Path, value: Any) -> None:
    """Write a small JSON file atomically."""
    with Aside(work.root / "aside", path) as file:
        file.write(orjson.dumps(value))


def files_below(folder: Path, name: str) -> list[tuple[str, int]]:
    """Paths relative to `folder`, and bytes, of all files below one of its folders, sorted."""
    found = [path for path in (folder / name).rglob("*") if path.is_file()]
    return sorted((path.relative_to(folder).as_posix(), path.stat().st_size) for path in found)


def _check_files(out: Path, finished: dict[str, Any], names: Iterable[str]) -> None:
    """The files of the finished export are there, as large as they were."""
    try:
        entries = [*finished["phases"], *([finished["validation"]] if finished["validation"] else [])]
        told = {file["path"]: file["num_bytes"] for entry in entries for file in entry["files"]}
    except (KeyError, TypeError):
        raise DataError(f"{out / FILE_NAME}: is damaged. Give --overwrite to export again.") from None
    now = dict(file for name in names for file in files_below(out, name))
    for path in sorted({*told, *now}):
        if now.get(path) != told.get(path):
            raise DataError(f"{out / str(path)}: missing, damaged or unknown. Give --overwrite to export again.")
    for name in (README_NAME, "tokenizer.json"):
        if not (out / name).is_file():
            raise DataError(f"{out / name}: missing. Give --overwrite to export again.")


def _differences(before: Any, now: Request) -> str:
    then: dict[str, Any] = before if isinstance(before, dict) else {}
    different = [key for key in now if then.get(key) != now[key]]
    return "; ".join(f"{key} was {_short(then.get(key))}, now {_short(now[key])}" for key in different)


def _short(value: Any) -> str:
    text = "all" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}..."
