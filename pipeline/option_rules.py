"""Which options have a meaning beside which others, and which values they may have: tables, nothing that runs.

Names are those of `pipeline.options.Options`. `pipeline.option_checks` refuses what these tables rule out, the command
line shows the choices, and `pipeline.option_sources` lets a flag win over the key of a file that it contradicts.
"""

from __future__ import annotations

from curriculum.budget import MODES
from curriculum.shape_budget import SHAPES_BY

CHOICES = {
    "mode": MODES,
    "shapes_by": SHAPES_BY,
    "bos": ("none", "document"),
    "on_bad_record": ("stop", "skip"),
    "backend": ("auto", "tokenizers", "fastokens"),
    "engine": ("local", "ray"),
    "tokenized": ("megatron", "raw", "datatrove", "input_ids"),
    "ids_dtype": ("uint8", "uint16", "int32", "uint32", "int64"),
    "tokenizer_check": ("stop", "warn"),
}
POSITIVE = (
    "shuffle_window",
    "shard_bytes",
    "unit_bytes",
    "workers",
    "validation_tokens",
    "epochs",
    "corpus_tokens",
)
EXCLUSIVE = (
    ("frac", "length_warmup_steps"),
    ("frac", "length_warmup_tokens"),
    ("length_warmup_steps", "length_warmup_tokens"),
    ("batch_rows", "batch_tokens"),
    ("steps", "tokens"),
    ("validation_tokens", "validation_frac"),
    ("corpus_tokens", "validation_tokens"),  # corpus_tokens counts what is trained on
    ("corpus_tokens", "validation_frac"),
)
WARMUP = ("frac", "length_warmup_steps", "length_warmup_tokens")
ONLY_GROWING = (*WARMUP, "start_length", "phases", "max_shapes")
"""Options without a meaning for a constant length."""
NOT_WITH_PHASES = (*WARMUP, "schedule", "start_length", "max_length", "degree", "stages")
"""Options without a meaning for explicit phases; steps and tokens have one if the last phase is open (`LEN:*`)."""
NOT_WITH_DOCUMENTS = (*WARMUP, "phases", "multiple_of", "shapes_by", "degree", "stages", "max_shapes", "corpus_tokens")
"""Options without a meaning where the lengths are those of the documents."""
ONLY_FOR_SCHEDULE = {
    "degree": ("root",),
    "stages": ("step",),
    "cycles": ("grow-linear", "grow-p2"),
    "balanced": ("grow-linear", "grow-p2"),
}
ONLY_FOR_TOKENIZED = {
    "ids_dtype": ("raw",),
    "ids_key": ("input_ids",),
    "tokenizer_check": ("megatron", "raw", "datatrove", "input_ids"),
}
NOT_WITH_TOKENIZED = ("text_key", "on_bad_record", "backend")
"""Options about texts, without a meaning where only ids are read: every fault in them ends the build."""
