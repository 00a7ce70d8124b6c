"""Hugging Face Accelerate: a tiny Llama on a curriculum dataset, in a loop of one's own.

torchrun --standalone --nproc-per-node 2 -m curriculum.examples.train_accelerate DATASET --checkpoint DIR
"""

import argparse
import json
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaConfig, LlamaForCausalLM

import curriculum
from curriculum import doctor
from curriculum.adapters.accelerate import dataset_for
from curriculum.adapters.pytorch import lr_lambda


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--checkpoint", required=True, help="folder: continue from it if it exists, and save to it")
    parser.add_argument("--stop-before", type=int, help="end before this step")
    parser.add_argument("--micro-batches", type=int, default=1)
    options = parser.parse_args()

    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # else processes on the CPU do not see each other
        gradient_accumulation_steps=options.micro_batches,
        step_scheduler_with_optimizer=False,  # else a prepared scheduler advances once a process, in each step
    )
    reader = curriculum.open(options.dataset)
    dataset = dataset_for(accelerator, reader)

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=reader.manifest.tokenizer.vocab_size,
        max_position_embeddings=reader.plan.max_seq_len,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        use_cache=False,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = LambdaLR(optimizer, lr_lambda(reader.plan, warmup_steps=min(5, len(reader) - 1)))
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)  # not the dataset
    if Path(options.checkpoint).exists():
        accelerator.load_state(options.checkpoint)

    stop = len(reader) if options.stop_before is None else options.stop_before
    for step in dataset.steps() if dataset.cursor.step < stop else ():
        loss = torch.zeros((), device=accelerator.device)
        for batch in step.micro_batches:
            with accelerator.accumulate(model):
                output = model(**batch, num_items_in_batch=step.num_targets)
                accelerator.backward(output.loss * step.num_shares)
                optimizer.step()
                optimizer.zero_grad()
            loss += output.loss.detach()
            mean = output.loss * step.num_targets / (batch["labels"] != -100).sum()
            doctor.record(batch, logits=output.logits, loss=mean)
        scheduler.step()
        loss = accelerator.reduce(loss, reduction="sum").item()
        if accelerator.is_main_process:
            print(json.dumps({"step": step.step, "seq_len": step.seq_len, "loss": loss}), flush=True)
        if dataset.cursor.step == stop:  # the state after the step that was handed out last
            break

    accelerator.save_state(options.checkpoint)
    accelerator.free_memory()
    del model, optimizer, scheduler  # before their process group: DDP freed after it was seen to hang at exit
    accelerator.wait_for_everyone()  # a thread of gloo frees its last tensor meanwhile: at exit, that would abort
    accelerator.end_training()


if __name__ == "__main__":
    main()
