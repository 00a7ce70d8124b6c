"""What a dataset says of itself that `verify` cannot prove.

In:  the folder of a dataset and its manifest.   Out: a sentence for each claim that a reader should know to be one.
Guarantee: nothing here is a fault: people add to a card, later releases write other ones, deal rows otherwise.

    README.md of a stranger     "README.md is not what this release makes of the manifest: ..."
"""

from __future__ import annotations

from pathlib import Path

from curriculum.manifest import Manifest
from curriculum.printable import one_line
from pipeline.card import explanations
from pipeline.store import ALGORITHM


def claims(root: Path, manifest: Manifest) -> tuple[str, ...]:
    """Sentences for people, none if all that the dataset says was recomputed.

    Raises:
        DataError: the manifest describes more shards than it lists.
    """
    notes = []
    others = sorted(name for name, own in explanations(manifest).items() if _differs(root / name, own))
    if others:
        one = len(others) == 1
        notes.append(
            f"{' and '.join(others)} {'is' if one else 'are'} not what this release makes of the manifest: another "
            f"release or somebody wrote {'it' if one else 'them'}, and what {'it says' if one else 'they say'} was not "
            f"checked."
        )
    if manifest.build.algorithm != ALGORITHM:
        notes.append(
            f"build.algorithm is {manifest.build.algorithm}, this release knows {ALGORITHM}: that each row lies where "
            f"the seed deals it was not checked."
        )
    if (hub := manifest.tokenizer.hub) is not None:
        notes.append(
            f"That the tokenizer is {one_line(hub.name)} of the Hub, at commit {hub.revision}, is a claim: only its "
            f"sha256 was compared."
        )
    return tuple(notes)


def _differs(path: Path, own: bytes) -> bool:
    """Whether there is something else in place of a file; not there at all, it says nothing."""
    try:
        if not path.is_file():
            return path.exists()
        with path.open("rb") as file:
            return file.read(len(own) + 1) != own
    except OSError:
        return True
