"""What goes when a dataset comes: names that a dry run lists, and a run removes.

In:  what was found at the other end, and what moves there.   Out: names, each once.
Guarantee: pure, so that what is told before is what happens. Only names of a dataset: shards that are none of the new
one, or of which the other form comes, and a signature or build log of the one before. The manifest, which is replaced,
is not told.

    extension pushed over a signed dataset, unsigned     ["manifest.json.sig"]
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from curriculum.shard_format import COMPRESSED
from pipeline.sharing.contents import BUILD_LOG, MARKER, SIGNATURE
from pipeline.sharing.holding import Holding
from pipeline.sharing.selection import Selected


def superseded(sent: Sequence[Selected], sizes: Collection[str], *, compress: bool) -> list[str]:
    """Names of what a place had of the shards that are sent, in the other form."""
    others = (each.entry.path + ("" if compress else COMPRESSED) for each in sent)
    return [name for name in others if name in sizes]


def of_push(holding: Holding, sent: Sequence[Selected], beside: Collection[str], *, compress: bool) -> tuple[str, ...]:
    """Names that a push removes at a place.

    Args:
        holding: what is there.
        sent: shards that are sent.
        beside: names of the other files that are sent.
        compress: the shards are sent compressed.
    """
    ending = COMPRESSED if compress else ""
    coming = {each.entry.path + ending for each in sent}
    marks = not holding.marked and (sent or not holding.same)
    names = [name for name in holding.doubtful if marks and name not in coming]  # the marker would vouch for them
    names += superseded(sent, holding.sizes, compress=compress)
    if not holding.same or MARKER in holding.sizes:
        names += holding.strangers
    return tuple(dict.fromkeys(names + _of_the_one_before(holding.sizes, beside, same=holding.same)))


def of_pull(
    strangers: Sequence[str], there: Collection[str], beside: Collection[str], *, same: bool
) -> tuple[str, ...]:
    """Names that a pull removes from a folder.

    Args:
        strangers: shards in the folder that the dataset must not have.
        there: names of the folder, as far as they matter here.
        beside: names of the other files that are fetched.
        same: the folder holds this dataset already.
    """
    return (*strangers, *_of_the_one_before(there, beside, same=same))


def _of_the_one_before(there: Collection[str], coming: Collection[str], *, same: bool) -> list[str]:
    """None is better than another dataset's; a build log names hosts and paths, too."""
    return [name for name in (SIGNATURE, BUILD_LOG) if not same and name in there and name not in coming]
