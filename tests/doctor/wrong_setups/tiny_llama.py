"""A model of transformers that records what it is given.

Each script of this folder is a training run with one mistake, on one process or as one rank of RANK and WORLD_SIZE:

    CURRICULUM_DOCTOR_LOG=log/1 python tests/doctor/wrong_setups/hf_random_sampler.py DATASET
    curriculum doctor --check log/1 DATASET
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from curriculum import doctor


def record_forward(model, args, inputs, output):
    """Forward hook of a transformers model: record what it was given, and its mean loss."""
    loss = output.loss
    if inputs.get("num_items_in_batch") is not None:
        loss = loss * inputs["num_items_in_batch"] / (inputs["labels"] != -100).sum()
    doctor.record(inputs, logits=output.logits, loss=loss)


def llama(reader):
    """One layer, 16 wide; records every forward pass."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=reader.manifest.tokenizer.vocab_size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        use_cache=False,
    )
    model = LlamaForCausalLM(config)
    model.register_forward_hook(record_forward, with_kwargs=True)
    return model
