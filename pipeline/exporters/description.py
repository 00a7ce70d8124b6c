"""What an export says of itself: export.json for programs, README.md for people.

In:  manifest, selection, targets, request, the files that were written.   Out: a JSON object; Markdown.
Guarantee: made from these alone, so an export that is repeated has the same bytes. Licence and languages are those of
the dataset. `order` of export.json is all that a trainer needs to visit the rows in the order of the steps: it takes
the next `rows_per_step` rows of the phase named.

    {"order": [[0, 0, 17], [17, 1, 18]], ...}      17 steps of the first phase from step 0, then 18 of the second
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from curriculum.manifest import Manifest
from curriculum.storage import HELD_OUT
from pipeline.card_front_matter import about_in_words, about_in_yaml
from pipeline.exporters import exporter
from pipeline.exporters.contract import Target
from pipeline.exporters.selection import Selection

FORMAT = "curriculum-export"
VERSION = 1
FILE_NAME = "export.json"
README_NAME = "README.md"
Request = dict[str, Any]
FileSizes = Mapping[str, Sequence[tuple[str, int]]]
"""By name of the target: paths relative to the export, and bytes."""


def describe(
    manifest: Manifest, selection: Selection, targets: Mapping[int, Target], request: Request, files: FileSizes
) -> dict[str, Any]:
    """The object of export.json."""
    phases = [target for target in targets.values() if target.phase != HELD_OUT]
    place = {target.phase: index for index, target in enumerate(phases)}
    held_out = targets.get(HELD_OUT)
    return {
        "format": FORMAT,
        "version": VERSION,
        "request": request,
        "targets": targets_sentence(manifest),
        "num_steps": selection.num_steps,
        "dtype": manifest.dtype,
        "packed": manifest.packed,
        "vocab_size": manifest.tokenizer.vocab_size,
        "eos_id": manifest.tokenizer.eos_id,
        "bos_id": manifest.tokenizer.bos_id,
        **({"about": manifest.about.to_json()} if manifest.about else {}),
        "phases": [_entry(manifest, target, files[target.name]) for target in phases],
        "order": [[run.first_step, place[run.phase], run.num_steps] for run in selection.runs],
        "validation": None if held_out is None else _entry(manifest, held_out, files[held_out.name]),
    }


def _entry(manifest: Manifest, target: Target, files: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """A phase, or the held-out rows."""
    steps = {}
    if target.rows_per_step is not None:
        steps = {
            "phase": target.phase,
            "rows_per_step": target.rows_per_step,
            "num_steps": target.num_rows // target.rows_per_step,
        }
    return {
        "name": target.name,
        "seq_len": target.seq_len,
        "num_rows": target.num_rows,
        **steps,
        "files": [{"path": path, "num_bytes": num_bytes} for path, num_bytes in files],
    }


def targets_sentence(manifest: Manifest) -> str:
    """What of a row is input, and what target."""
    plain = "A row has seq_len + 1 tokens: its inputs are row[:-1], its targets "
    if not manifest.packed:
        return f"{plain}row[1:]."
    return (
        f"{plain}labels[1:], and -100 there means no target. A model that shifts labels by itself is given row and "
        f"labels as they are. Held-out rows are plain and have no labels: their targets are row[1:]."
    )


def to_bytes(description: Mapping[str, Any]) -> bytes:
    """export.json: lists of numbers on one line each."""
    text = json.dumps({**description, "order": "ORDER"}, indent=1, ensure_ascii=False)
    return text.replace('"ORDER"', json.dumps(description["order"])).encode() + b"\n"


def readme(manifest: Manifest, request: Request, targets: Sequence[Target], selection: Selection) -> str:
    """The text of README.md; of a parquet export also what `load_dataset` and the Hub read."""
    format_ = exporter(request["to"])
    front = _front_matter(manifest, targets) if request["to"] == "parquet" else ""
    first = targets[0]
    code = format_.READ_PACKED if first.packed else format_.READ
    split = "validation" if first.phase == HELD_OUT else "train"
    for word, value in {"OUT": "PATH", "NAME": first.name, "SPLIT": split, "FOLDER": f"PATH/{first.name}"}.items():
        code = code.replace(word, value)
    table = "\n".join(
        f"| {target.name} | {target.seq_len:,} | {_number(target.rows_per_step)} | {_steps(target)} "
        f"| {target.num_rows:,} |"
        for target in targets
    )
    about = "".join(f"{line}\n" for line in about_in_words(manifest.about))
    return f"""{front}# Rows of a sequence-length curriculum, as {request["to"]}

{selection.num_steps:,} of {manifest.plan.total_steps:,} steps of the dataset `{manifest.id}`,
exported by `curriculum export`. The rows of a phase lie in training order: each step takes the next rows of its phase,
as many as it has rows per step. `order` in `{FILE_NAME}` says which steps are of which phase:
`[first step, phase, number of steps]`, the phase as an index into `phases` there. Shuffling undoes the curriculum.

{targets_sentence(manifest)}

```python
{code}
```

{format_.NOTE}

| phase | seq_len | rows per step | steps | rows |
| --- | --: | --: | --: | --: |
{table}

{about}- tokenizer: `tokenizer.json`, {manifest.tokenizer.vocab_size:,} entries, sha256 `{manifest.tokenizer.sha256}`
- tokens: `{manifest.dtype}`, EOS {manifest.tokenizer.eos_id}
"""


def _front_matter(manifest: Manifest, targets: Sequence[Target]) -> str:
    lines = [*about_in_yaml(manifest.about), "tags:", "- sequence-length-warmup", "- pre-tokenized", "configs:"]
    for target in targets:
        split = "validation" if target.phase == HELD_OUT else "train"
        lines += [f"- config_name: {target.name}", "  data_files:", f"  - split: {split}"]
        lines += [f'    path: "{target.name}/**/*.parquet"']
    return "---\n" + "\n".join(lines) + "\n---\n\n"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _steps(target: Target) -> str:
    return "" if target.rows_per_step is None else f"{target.num_rows // target.rows_per_step:,}"
