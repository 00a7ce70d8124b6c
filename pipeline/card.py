"""The dataset card: README.md of a dataset.

In:  the manifest, also that of a stranger.   Out: Markdown with front matter, so that
`datasets.load_dataset(DATASET, name)` works, and what people ask: what it is, how to get, read, check, rebuild it.
Guarantee: made from manifest fields alone, so rebuilds are byte-identical. Text that nobody checked is shown only where
it is a plain identifier: no Markdown, HTML or line break of a stranger's gets into it.

    # Sequence-length curriculum, rows of 8 to 64 tokens, 65 steps
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from curriculum.accounting import NO_SHARE
from curriculum.manifest import Manifest
from curriculum.phase import EXTENSIONS
from curriculum.shard_format import config_name
from pipeline.card_front_matter import about_in_words, front_matter, pretty_name
from pipeline.lineage import extended_by
from pipeline.rebuild_command import rebuild
from pipeline.schedule_picture import PICTURE_NAME, schedule_in_words, schedule_picture
from pipeline.source_use import MixtureUse, use_of

CARD_NAME = "README.md"
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
_GETTING = (
    "    pip install 'seqlen-curriculum[hf]'     # or [s3], [gs]: the client of the store",
    "    curriculum pull ADDRESS my-dataset      # hf://datasets/ORG/NAME, s3://bucket/my-dataset, gs://...",
    "",
    "`pull` compares every shard with its sha256, and unpacks shards that end in `.zst`, which nothing else here",
    "reads. From an address, or by `load_dataset`, only plain shards (`.arrow`) are read: else pull first.",
)
"""The same on every card, since a card does not know in which form its shards lie: a push may compress them."""


def dataset_card(manifest: Manifest) -> str:
    """The text of README.md.

    Raises:
        DataError: the manifest describes more shards than it lists.
    """
    lines = ["---", *front_matter(manifest), "---", "", *_body(manifest)]
    return "\n".join(lines) + "\n"


def explanations(manifest: Manifest) -> dict[str, bytes]:
    """The files that tell people what a dataset is, by name; the card, which shows the picture, last.

    Raises:
        DataError: the manifest describes more shards than it lists.
    """
    return {PICTURE_NAME: schedule_picture(manifest.plan), CARD_NAME: dataset_card(manifest).encode()}


def _body(manifest: Manifest) -> Iterator[str]:
    plan, tokens = manifest.plan, manifest.accounting
    use = use_of(manifest)
    padding = ", some of them padding" if manifest.packed else ""
    yield from (f"# {pretty_name(manifest)}", "")
    yield "A corpus, tokenized and cut for sequence length warmup: every row has the length of its step, rows lie in"
    yield f"training order, each of `seq_len + 1` tokens{padding}. {plan.total_steps:,} steps train"
    yield f"{tokens.trained_tokens:,} tokens; mode `{plan.mode}`, seed {manifest.seed}."
    yield from ("", f"![{schedule_in_words(plan)}]({PICTURE_NAME})", "")
    yield from _identity(manifest)
    yield from ("", "## Get it", "", *_GETTING)
    yield from ("", "## Read it", "", *_reading(manifest))
    yield from ("", "## Check it", "", "    curriculum verify my-dataset", "")
    yield "reads a folder on a disk, so pull first. It recomputes digests, rows, their order and the accounting from"
    yield "the files, and notes a card or picture that is another one than the manifest gives. Claims of whoever built"
    hub = "" if manifest.tokenizer.hub is None else ", and the name of the tokenizer on the Hub"
    yield f"it are where the texts come from, licence and languages{hub}."
    yield from ("", "## Where it came from", "", *_sources(manifest, use))
    yield from ("", "## Build it again", "", *_rebuilding(manifest))
    yield from ("", "## Where every token went", "", *_accounting(manifest))
    yield from ("", "## Phases", "", *_phases(manifest))


def _identity(manifest: Manifest) -> Iterator[str]:
    tokenizer = manifest.tokenizer
    yield f"- id: `{manifest.id}`"
    yield from about_in_words(manifest.about)
    schedule = {key: value for key, value in manifest.plan.schedule.items() if key != EXTENSIONS}
    yield f"- schedule: {', '.join(f'{_shown(key)} {_shown(value)}' for key, value in schedule.items())}"
    yield f"- tokenizer: `tokenizer.json`, {tokenizer.vocab_size:,} entries, sha256 `{tokenizer.sha256}`"
    if tokenizer.hub is not None:
        yield f"- tokenizer on the Hub: `{tokenizer.hub.name}`, commit `{tokenizer.hub.revision}`"
    bos = "" if tokenizer.bos_id is None else f", BOS {tokenizer.bos_id} before each document"
    yield f"- tokens: `{manifest.dtype}`, EOS {tokenizer.eos_id}{bos}"
    if manifest.validation:
        rows, tokens = manifest.validation.num_rows, manifest.accounting.validation_tokens
        yield f"- validation: {tokens:,} tokens of held-out documents, {rows:,} rows of {manifest.validation.seq_len:,}"
    yield from (f"- extended by {steps}, from `{parent}`" for steps, parent in extended_by(manifest))


def _reading(manifest: Manifest) -> Iterator[str]:
    # Where rows are packed, not every input has a target: labels are -100 there.
    targets = "batch.labels" if manifest.packed else "batch.targets"
    first = config_name(0, manifest.plan.phases[0].seq_len)
    yield from ("```python", "import curriculum  # pip install seqlen-curriculum", "")
    yield 'reader = curriculum.open("PATH")  # a folder, or plain shards at hf://, s3:// or gs://'
    yield from ("for batch in reader.steps(start=0, rank=0, world_size=1):",)
    yield f"    batch.inputs, {targets}  # [rows, seq_len], targets are shifted already"
    yield from ("```", "", "Without it, one phase at a time:", "", "```python", "import datasets", "")
    load = f'datasets.load_dataset("PATH", "{first}", split="train")'
    yield from _reading_packed(load) if manifest.packed else (load, "```")
    if any(phase != run for run, (phase, _) in enumerate(manifest.plan.order)):
        yield from ("", "Steps do not take one phase after the other: `plan.order` in `manifest.json` is their order,")
        yield "`[phase, number of steps]` for each run of them; a phase that comes back goes on with its next rows."


def _reading_packed(load: str) -> Iterator[str]:
    """Who trains on all tokens would train on padding and across documents, and not notice."""
    yield from (f"row = {load}[0]", 'tokens, starts = row["tokens"], {0, *row["doc_starts"]}')
    yield 'labels = [-100 if j in starts or j >= row["num_tokens"] else token for j, token in enumerate(tokens)]'
    yield from ("```", "", "Rows are packed: input `j` has the target `tokens[j + 1]` if `j + 1 < num_tokens` and")
    yield "`j + 1` is not in `doc_starts`, else none. Here a label stands where its token does, -100 for none;"
    yield "without them a model trains on padding and across documents. `curriculum export PATH OUT --format parquet`"
    yield "writes rows that have `labels`."


def _sources(manifest: Manifest, use: MixtureUse | None) -> Iterator[str]:
    rows = (
        (f"`{source.name}`", f"{source.documents:,}", f"{source.tokens:,}", _shown(source.fingerprint))
        for source in manifest.sources
    )
    yield from _table(("text", "documents", "tokens", "fingerprint"), rows)
    yield from ("", "A fingerprint is of the set of documents and their places, whatever their order.")
    if use is not None:
        what = "slots" if manifest.packed else "trained tokens"
        yield ""
        mixed = (
            (
                f"`{source.name}`",
                f"{source.documents:,}",
                f"{source.tokens:,}",
                f"{source.validation_tokens or 0:,}",
                f"{use.trained(k):,}",
                f"{100 * use.share(k):.1f} %",
                f"{use.epochs(k) or 0:.2f}",
            )
            for k, source in enumerate(manifest.sources)
        )
        yield from _table(("source", "documents", "tokens", "held out", what, "share", "epochs"), mixed)


def _rebuilding(manifest: Manifest) -> Iterator[str]:
    again = rebuild(manifest)
    yield f"{again.where}, with the texts of the table above in place of `CORPUS`:"
    yield from ("", "```bash", again.text, "```", "")
    yield "How texts were read (`--text-key`, `--tokenized`) is not recorded: equal fingerprints, equal texts."
    yield f"Bytes are those of `build.algorithm` {manifest.build.algorithm}; a release with another one writes others."
    yield from (f"\n{note}" for note in again.notes)


def _accounting(manifest: Manifest) -> Iterator[str]:
    counts = manifest.accounting.to_json()
    corpus = max(1, counts["corpus_tokens"])
    rows = (
        (name.replace("_", " "), f"{count:,}", f"{100 * count / corpus:.2f} %" if _has_share(name) else "")
        for name, count in counts.items()
    )
    yield from _table(("accounting", "", "of the corpus"), rows)


def _has_share(name: str) -> bool:
    return name.endswith("_tokens") and name not in NO_SHARE


def _phases(manifest: Manifest) -> Iterator[str]:
    mixture = manifest.build.mixture
    varies = mixture is not None and len(set(mixture.weights)) > 1
    names = [source.name for source in manifest.sources]
    head = ("phase", "seq_len", "rows per step", "steps", "tokens", *(f"`{name}`" for name in names if varies))
    rows = (
        (
            f"`{config_name(i, phase.seq_len)}`",
            f"{phase.seq_len:,}",
            f"{phase.rows_per_step:,}",
            f"{phase.num_steps:,}",
            f"{phase.num_tokens:,}",
            *(f"{100 * mixture.share(i, k):.1f} %" for k in range(len(names)) if mixture is not None and varies),
        )
        for i, phase in enumerate(manifest.plan.phases)
    )
    yield from _table(head, rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' --: |' * (len(head) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _shown(value: object) -> str:
    """A number, or the text of a stranger if it is a plain identifier."""
    text = str(value)
    return f"`{text}`" if IDENTIFIER.fullmatch(text) else f"({len(text):,} characters that are no identifier)"
