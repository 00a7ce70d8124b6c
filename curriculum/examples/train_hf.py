"""Hugging Face Trainer: a tiny Llama on a curriculum dataset.

torchrun --standalone --nproc-per-node 2 -m curriculum.examples.train_hf DATASET --checkpoint DIR
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import curriculum
from curriculum import doctor
from curriculum.adapters.transformers import trainer_arguments, trainer_inputs


class Progress(TrainerCallback):
    """One JSON line per step on rank 0, and an early end with a checkpoint, as of a job that ran out of time."""

    def __init__(self, stop_before):
        self.stop_before = stop_before

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.stop_before:
            control.should_training_stop = control.should_save = True

    def on_log(self, args, state, control, logs, **_):
        if state.is_world_process_zero and "loss" in logs:
            line = {"step": state.global_step - 1, "seq_len": logs["seq_len"], "loss": logs["loss"]}
            print(json.dumps(line), flush=True)


def record(model, args, inputs, output):
    """Forward hook: what the model was given, after all that Trainer does to batches."""
    if model.training:
        mean = output.loss * inputs["num_items_in_batch"] / (inputs["labels"] != -100).sum()
        doctor.record(inputs, logits=output.logits, loss=mean)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--checkpoint", required=True, help="folder: continue from its last checkpoint, and save to it")
    parser.add_argument("--stop-before", type=int, help="end before this step")
    parser.add_argument("--micro-batches", type=int, default=1)
    options = parser.parse_args()

    reader = curriculum.open(options.dataset)
    args = TrainingArguments(
        options.checkpoint,
        use_cpu=not torch.accelerator.is_available(),  # else processes on the CPU do not see each other
        gradient_accumulation_steps=options.micro_batches,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        logging_steps=1,
        save_steps=1_000,
        dataloader_pin_memory=torch.accelerator.is_available(),
        report_to=[],
        disable_tqdm=True,
        **trainer_arguments(reader),
    )
    torch.manual_seed(0)
    tokenizer = reader.manifest.tokenizer
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        max_position_embeddings=reader.plan.max_seq_len,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config)
    model.register_forward_hook(record, with_kwargs=True)

    trainer = Trainer(model, args, **trainer_inputs(reader, args))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress(options.stop_before))
    folder = Path(options.checkpoint)
    last = get_last_checkpoint(folder) if folder.is_dir() else None
    done = int(last.rpartition("-")[2]) if last else 0  # steps: Trainer names the folder after them
    if done < (len(reader) if options.stop_before is None else options.stop_before):
        trainer.train(resume_from_checkpoint=last)


if __name__ == "__main__":
    main()
