"""The dataset card: README.md of a dataset.

In:  the manifest.   Out: Markdown with one `configs:` entry per phase, so that
`datasets.load_dataset(DATASET, name)` works.
Guarantee: made from manifest fields alone, so rebuilds are byte-identical.
"""

from __future__ import annotations

from curriculum.manifest import Manifest
from curriculum.shard_format import config_name, phase_folder
from pipeline.lineage import extended_by
from pipeline.source_use import use_of


def dataset_card(manifest: Manifest) -> str:
    """The text of README.md."""
    return f"---\n{_front_matter(manifest)}---\n\n{_body(manifest)}"


def _front_matter(manifest: Manifest) -> str:
    lines = ["tags:", "- sequence-length-warmup", "- pre-tokenized", "configs:"]
    for i, phase in enumerate(manifest.plan.phases):
        pattern = f"{phase_folder(i, phase.seq_len)}/**/*.arrow"
        lines += [f"- config_name: {config_name(i, phase.seq_len)}", "  data_files:", "  - split: train"]
        lines += [f'    path: "{pattern}"']
    if manifest.validation:
        lines += ["- config_name: validation", "  data_files:", "  - split: validation"]
        lines += ['    path: "validation/**/*.arrow"']
    return "\n".join(lines) + "\n"


def _body(manifest: Manifest) -> str:
    plan, tokens = manifest.plan, manifest.accounting
    # Where rows are packed, not every input has a target: labels are -100 there.
    trained, targets = (", some of them padding", "batch.labels") if manifest.packed else ("", "batch.targets")
    counts = "\n".join(f"| {name.replace('_', ' ')} | {number:,} |" for name, number in tokens.to_json().items())
    phases = "\n".join(
        f"| {config_name(i, phase.seq_len)} | {phase.seq_len:,} | {phase.rows_per_step:,} | {phase.num_steps:,} "
        f"| {phase.num_tokens:,} |"
        for i, phase in enumerate(plan.phases)
    )
    return f"""# Compiled sequence-length curriculum

{plan.total_steps:,} steps, {tokens.trained_tokens:,} trained tokens, {len(plan.phases)} phases of up to
{plan.max_seq_len:,} tokens; mode `{plan.mode}`, seed {manifest.seed}.
Rows lie in training order, each of `seq_len + 1` tokens{trained}.

- id: `{manifest.id}`
- tokenizer: `tokenizer.json`, {manifest.tokenizer.vocab_size:,} entries, sha256 `{manifest.tokenizer.sha256}`
- tokens: `{manifest.dtype}`, EOS {manifest.tokenizer.eos_id}
{_lineage(manifest)}
```python
import curriculum  # pip install seqlen-curriculum

reader = curriculum.open("PATH")
for batch in reader.steps(start=0, rank=0, world_size=1):
    batch.inputs, {targets}  # [rows, seq_len], targets are shifted already
```

| accounting | |
| --- | --: |
{counts}

| phase | seq_len | rows per step | steps | tokens |
| --- | --: | --: | --: | --: |
{phases}
{_sources(manifest)}"""


def _lineage(manifest: Manifest) -> str:
    return "".join(f"- extended by {steps}, from `{parent}`\n" for steps, parent in extended_by(manifest))


def _sources(manifest: Manifest) -> str:
    """A table of the sources, where there are several."""
    use = use_of(manifest)
    if use is None:
        return ""
    what = "slots" if manifest.packed else "trained tokens"
    rows = "".join(
        f"| {source.name} | {source.documents:,} | {source.tokens:,} | {source.validation_tokens or 0:,} "
        f"| {use.trained(k):,} | {100 * use.share(k):.1f} % | {use.epochs(k) or 0:.2f} |\n"
        for k, source in enumerate(manifest.sources)
    )
    head = f"| source | documents | tokens | held out | {what} | share | epochs |"
    return f"\n{head}\n| --- | --: | --: | --: | --: | --: | --: |\n{rows}"
