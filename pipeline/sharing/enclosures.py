"""What a push sends beside the shards.

In:  the folder of a dataset, and what a place holds.   Out: the files that differ there, found or made; the manifest
last.
Guarantee: the tokenizer has the sha256 of the manifest. Of the files that no digest names none is sent that a link
leads to, and no signature that is none: in a stranger's folder, README.md may be a link to a secret. It is made anew.

    differing(folder, made, text, manifest, place, holding, ...)     {"README.md": Path("my-dataset/README.md"), ...}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curriculum.errors import BuildError, DataError
from curriculum.manifest import FILE_NAME, Manifest
from pipeline.card import explanations
from pipeline.files.local_copies import cannot_keep
from pipeline.sharing.contents import (
    BUILD_LOG,
    EXPLANATIONS,
    MAX_LOG_BYTES,
    MAX_TOKENIZER_BYTES,
    SIGNATURE,
    TOKENIZER,
    damaged,
    tells_of,
)
from pipeline.sharing.counting import uncounted
from pipeline.sharing.digests import digest_of, size_of
from pipeline.sharing.folder_place import FolderPlace
from pipeline.sharing.holding import Holding
from pipeline.sharing.place import Place
from pipeline.sharing.signature import is_signature, sign

MAX_CARD_BYTES = 64 << 20
"""Of a card or a picture: the card of as many phases as a plan can have comes to half of that."""


def differing(
    folder: Path,
    made: Path,
    text: bytes,
    manifest: Manifest,
    place: Place,
    holding: Holding,
    *,
    build_log: bool,
    sign_key: str | None,
) -> dict[str, Path]:
    """Files beside the shards that the place does not have as they are here, by their names there; the manifest last.

    Args:
        folder: of the dataset.
        made: for files that are made here.
        text: of the manifest.
        manifest: the same, parsed.
        place: where they go.
        holding: what it has.
        build_log: send that too.
        sign_key: to sign the manifest with; None: send the signature of the folder, if it has one.

    Raises:
        DataError: the tokenizer is another one, or there is no build log of this dataset.
        BuildError: a file cannot be read or made.
    """
    files = {TOKENIZER: _tokenizer(folder, manifest), **_explanations(folder, made, manifest)}
    if build_log:
        files[BUILD_LOG] = _build_log(folder, manifest)
    if sign_key is not None:
        files[SIGNATURE] = make(made / SIGNATURE, sign(text, sign_key))
    elif is_signature(folder / SIGNATURE):
        files[SIGNATURE] = folder / SIGNATURE
    different = {name: path for name, path in files.items() if not _has(place, holding, name, path)}
    if holding.manifest_text != text:
        different[FILE_NAME] = make(made / FILE_NAME, text)
    return different


def edited_there(beside: Mapping[str, Path], holding: Holding, *, overwrite: bool) -> tuple[str, ...]:
    """Names of card and picture that the place has otherwise, of this very dataset: people edit them there."""
    if overwrite or not holding.same:
        return ()
    return tuple(name for name in EXPLANATIONS if name in beside and name in holding.sizes)


def make(path: Path, data: bytes) -> Path:
    """A small file among the temporary ones.

    Raises:
        BuildError: it cannot be written.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise cannot_keep(path, error) from error
    return path


def _tokenizer(folder: Path, manifest: Manifest) -> Path:
    path, expected = folder / TOKENIZER, manifest.tokenizer.sha256
    if (num_bytes := size_of(path, follow=True) or 0) > MAX_TOKENIZER_BYTES:
        raise damaged(path, f"it has {num_bytes:,} bytes, expected {MAX_TOKENIZER_BYTES:,} at most")
    found = digest_of(path, uncounted, follow=True)
    if found != expected:
        said = "is missing" if found is None else f"has the sha256 {found}"
        raise damaged(path, f"it {said}, the manifest says {expected}")
    return path


def _build_log(folder: Path, manifest: Manifest) -> Path:
    path = folder / BUILD_LOG
    num_bytes = size_of(path)
    if num_bytes is None:
        raise DataError(f"{path}: is not there, or a link. Push without --build-log.")
    log = FolderPlace(folder).read(BUILD_LOG, num_bytes) if num_bytes <= MAX_LOG_BYTES else None
    if not tells_of(log or b"", manifest):
        raise DataError(f"{path}: does not tell of this dataset, {manifest.id}. Push without --build-log.")
    return path


def _explanations(folder: Path, made: Path, manifest: Manifest) -> dict[str, Path]:
    """Card and picture as they are in the folder, where somebody may have added to them; else made anew."""
    sizes = {name: size_of(folder / name) for name in EXPLANATIONS}
    absent = [name for name, num_bytes in sizes.items() if num_bytes is None]
    for name, num_bytes in sizes.items():
        if (num_bytes or 0) > MAX_CARD_BYTES:
            raise DataError(
                f"{folder / name}: {num_bytes:,} bytes, expected {MAX_CARD_BYTES:,} at most of what explains a "
                f"dataset. Remove it: push makes it of the manifest."
            )
    own = explanations(manifest) if absent else {}
    return {name: make(made / name, own[name]) if name in absent else folder / name for name in EXPLANATIONS}


def _has(place: Place, holding: Holding, name: str, path: Path) -> bool:
    """Whether a place has a small file as it is here."""
    if holding.sizes.get(name) != size_of(path, follow=True):
        return False  # of a large one without reading it
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BuildError(f"{path}: cannot be read: {error.strerror}. Make it readable.") from error
    return place.read(name, len(data)) == data
