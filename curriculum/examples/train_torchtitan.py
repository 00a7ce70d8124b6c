"""torchtitan's own Trainer, with two layers of its Llama 3 debug model. Prints one JSON line per step.

torchrun --standalone --nproc-per-node 2 -m curriculum.examples.train_torchtitan DATASET --checkpoint DIR
"""

import argparse
import json
import os
from dataclasses import dataclass

import torch

from curriculum.examples import torchtitan_on_cpu  # noqa: F401 - before torchtitan; only CPUs and torch 2.13 need it

# isort: split
from torchtitan.components.checkpointer import CheckpointManager
from torchtitan.components.loss import CrossEntropyLoss
from torchtitan.components.metrics import MetricsProcessor
from torchtitan.components.optimizer import LRSchedulersContainer, default_adamw
from torchtitan.config import ParallelismConfig, TrainingConfig
from torchtitan.models.common.attention import ScaledDotProductAttention
from torchtitan.models.llama3 import model_registry
from torchtitan.trainer import Trainer

import curriculum
from curriculum import doctor
from curriculum.adapters.torchtitan import configure


def tiny_llama(vocab_size):
    spec = model_registry("debugmodel", attn_backend="varlen")
    model = spec.model
    model.layers = model.layers[:2]
    model.vocab_size = model.tok_embeddings.num_embeddings = model.lm_head.out_features = vocab_size
    for layer in model.layers:  # runs anywhere; "varlen" attends inside documents, by `positions`, and needs a GPU
        layer.attention.inner_attention = ScaledDotProductAttention.Config()
    return spec


class RecordedTrainer(Trainer):
    """Also notes what reached the model, for `curriculum doctor`; without that, torchtitan's own Trainer will do."""

    @dataclass(kw_only=True, slots=True)
    class Config(Trainer.Config):
        pass

    def forward_backward_step(self, *, input_dict, labels, global_valid_tokens):
        hook = self.model_parts[0].register_forward_hook(lambda model, given, logits: setattr(self, "logits", logits))
        loss = super().forward_backward_step(
            input_dict=input_dict, labels=labels, global_valid_tokens=global_valid_tokens
        )
        hook.remove()
        mean = loss * global_valid_tokens / (labels != -100).sum()
        doctor.record((input_dict, labels), logits=self.logits, loss=mean)
        self.logits = None
        return loss


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--stop-before", type=int, help="end before this step, as a job that ran out of time")
    parser.add_argument("--micro-batches", type=int, default=1)
    args = parser.parse_args()
    reader = curriculum.open(args.dataset)
    vocab_size = reader.manifest.tokenizer.vocab_size
    config = RecordedTrainer.Config(
        model_spec=tiny_llama(vocab_size),
        hf_assets_path=args.dataset,  # for its tokenizer.json
        dump_folder=args.checkpoint,
        loss=CrossEntropyLoss.Config(global_vocab_size=vocab_size),
        optimizer=default_adamw(lr=3e-3),
        lr_scheduler=LRSchedulersContainer.Config(warmup_steps=5),
        training=TrainingConfig(mixed_precision_param="float32"),
        parallelism=ParallelismConfig(spmd_backend="partial_dtensor"),
        metrics=MetricsProcessor.Config(log_freq=1),
        # A last checkpoint of the model alone, torchtitan's default, could not be resumed from.
        checkpoint=CheckpointManager.Config(enable=True, interval=500, last_save_model_only=False),
        activation_checkpoint=None,
    )
    configure(config, args.dataset, world_size=int(os.environ["WORLD_SIZE"]), micro_batches=args.micro_batches)
    if args.stop_before is not None:
        config.training.steps = args.stop_before  # the learning rate still follows lr_scheduler.total_steps
    trainer = config.build()

    log = trainer.metrics_processor.log

    def print_and_log(step, mean_loss, *rest, **more):  # torchtitan counts steps from 1
        if torch.distributed.get_rank() == 0:
            seq_len = reader.plan.phases[reader.plan.locate(step - 1)[0]].seq_len
            print(json.dumps({"step": step - 1, "seq_len": seq_len, "loss": mean_loss}), flush=True)
        log(step, mean_loss, *rest, **more)

    trainer.metrics_processor.log = print_and_log
    trainer.train()  # continues from the latest checkpoint in DIR, whatever number of ranks wrote it
    trainer.close()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
