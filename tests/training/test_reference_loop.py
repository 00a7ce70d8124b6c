"""The reference trainer against the few lines it amounts to: what was asked for reaches the optimizer."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[train]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'seqlen-curriculum[train]'")
import torch
from torch.nn import functional as F

import curriculum
from curriculum.learning_rate import lr_factor
from curriculum.tokenizer_entry import TokenizerEntry
from curriculum.training import Settings, train
from curriculum.training import gpt2 as model_file
from curriculum.training.gpt2 import gpt2
from tiny_run import STEPS, log_of, weights


def test_a_run_is_a_plain_loop_of_adamw(settings: Settings) -> None:
    """Rate, clipping, weight decay and beta2, all with values of which torch's defaults would be another run."""
    run = replace(settings, lr=3e-2, beta2=0.9, weight_decay=0.5, clip=0.3, micro_tokens=100)
    train(run)
    reader = curriculum.open(run.dataset)
    model = gpt2(run, reader.manifest.tokenizer, max_seq_len=32)
    matrices = [value for name, value in model.named_parameters() if "ln_" not in name and "bias" not in name]
    others = [value for name, value in model.named_parameters() if "ln_" in name or "bias" in name]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.5}, {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.9)
    )
    expected = []
    for step in range(STEPS):
        tokens = torch.from_numpy(reader[step].tokens.astype("int64"))
        loss = F.cross_entropy(model(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        for group in optimizer.param_groups:
            group["lr"] = 3e-2 * lr_factor(reader.plan, step, warmup_steps=3)
        optimizer.step()
        optimizer.zero_grad()
        expected.append((loss.item(), norm.item(), group["lr"]))
    lines = [(line["loss"], line["grad_norm"], line["learning_rate"]) for line in log_of(run)]
    assert lines == [pytest.approx(line, rel=1e-4) for line in expected]
    for name, value in weights(run).items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_the_model_has_the_parameters_that_its_file_says() -> None:
    """The example people compare their own model with."""
    tokenizer = TokenizerEntry(vocab_size=8192, bos_id=None, eos_id=0, sha256="")
    model = gpt2(Settings(dataset="", out=""), tokenizer, max_seq_len=1024)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert num_parameters == 5_518_848
    assert f": {num_parameters:,} parameters, embeddings tied" in str(model_file.__doc__)
