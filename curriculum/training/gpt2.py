"""The model: GPT-2 of `transformers`, with no dropout; and its optimizer.

In:  settings, the tokenizer and the longest row of a dataset.   Out: a model with float32 weights, an AdamW.
Guarantee: the initial weights depend on the seed and the sizes alone, not on the device or the number of processes.

    4 layers, width 256, 4 heads, vocabulary 8192, 1,024 positions: 5,518,848 parameters, embeddings tied
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import GPT2Config, GPT2LMHeadModel  # type: ignore[import-not-found, unused-ignore]
from transformers.utils.logging import (  # type: ignore[import-not-found, unused-ignore]
    disable_progress_bar,
    enable_progress_bar,
    is_progress_bar_enabled,
)

from curriculum.errors import CurriculumError
from curriculum.printable import one_line
from curriculum.tokenizer_entry import TokenizerEntry
from curriculum.training.settings import Settings


def gpt2(settings: Settings, tokenizer: TokenizerEntry, *, max_seq_len: int) -> GPT2LMHeadModel:
    """A new model on the CPU: `model(input_ids).logits`, [rows, seq_len, vocab_size]."""
    torch.manual_seed(settings.seed)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        n_positions=max_seq_len,
        n_embd=settings.width,
        n_layer=settings.layers,
        n_head=settings.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
    )
    return GPT2LMHeadModel(config)


def save_model(model: GPT2LMHeadModel, folder: Path) -> None:
    """For `GPT2LMHeadModel.from_pretrained(folder)`, without a progress bar.

    Raises:
        CurriculumError: it cannot be written.
    """
    shows_bars = is_progress_bar_enabled()
    disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]
    try:
        folder.mkdir(exist_ok=True)  # `save_pretrained` writes nothing where a file is, and only logs it
        model.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise CurriculumError(
            f"{folder}: cannot be written ({one_line(error)}). The checkpoint beside it is whole: make room, and run "
            f"the same command again."
        ) from None
    finally:
        if shows_bars:
            enable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]


def adamw(model: torch.nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW that decays matrices and embeddings, not biases and norms."""
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[parameter.dim() > 1].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": settings.weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=settings.lr,
        betas=(0.9, settings.beta2),
        fused=True,
    )
