"""Whether a model keeps attention inside documents when it is given positions that start anew.

In:  a model of transformers.   Out: True if tokens see earlier documents of their row all the same.
Guarantee: the model is asked, not its signature: some take `position_ids` and build their mask without them (OPT,
BioGPT), some swallow the argument (Bloom, Mamba). Two tiny rows, no gradients; nothing of the model is changed.

    first pieces differ, second pieces are equal, positions 0 1 2 3 0 1 2 3:
    Llama   logits of the second pieces are equal        OPT   they differ
"""

from __future__ import annotations

from typing import Any

import torch


@torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
def attends_across_documents(model: Any) -> bool:
    """Ask a model for the logits of a second document behind two different first ones.

    Args:
        model: takes input_ids, position_ids and use_cache and gives logits, as causal models of transformers. Where its
            parameters are spread over processes (FSDP, ZeRO stage 3), all of them must call.
    """
    model = getattr(model, "module", model)  # of DistributedDataParallel
    device = next(model.parameters()).device
    ids = torch.ones(2, 8, dtype=torch.long, device=device)
    ids[1, :4] = 2
    positions = torch.arange(4, device=device).repeat(2, 2)
    was_training = model.training
    model.eval()
    try:
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, 4:]
    finally:
        model.train(was_training)
    return not torch.allclose(logits[0], logits[1], atol=1e-4)
