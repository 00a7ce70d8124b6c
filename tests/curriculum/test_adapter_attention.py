"""Models that ignore where documents begin are found before they are trained."""

from __future__ import annotations

import pytest

transformers = pytest.importorskip("transformers", reason="pip install 'seqlen-curriculum[trainers]'")

from curriculum.adapters.attention import attends_across_documents  # noqa: E402

SMALL = {"vocab_size": 20, "num_attention_heads": 2, "hidden_size": 16, "num_hidden_layers": 2}
PAD = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}


@pytest.mark.parametrize(
    ("config", "across"),
    [
        (transformers.LlamaConfig(**SMALL, intermediate_size=32), False),
        (transformers.Qwen2Config(**SMALL, intermediate_size=32, num_key_value_heads=2), False),
        (transformers.GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2, **PAD), False),
        (transformers.OPTConfig(**SMALL, ffn_dim=32, word_embed_proj_dim=16, **PAD), True),
        (transformers.BloomConfig(vocab_size=20, hidden_size=16, n_layer=2, n_head=2, **PAD), True),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_the_model_is_asked_whether_it_sees_other_documents(config: object, across: bool) -> None:
    """OPT takes position_ids and builds its mask without them; Bloom swallows them: neither says a word."""
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert attends_across_documents(model) is across
    model.train()
    attends_across_documents(model)
    assert model.training
