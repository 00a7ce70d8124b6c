"""Trainer's default sampler is random: the order of the plan is lost, silently."""

import sys

from hf_trainer import trainer

import curriculum

trainer(curriculum.open(sys.argv[1]), sys.argv[2], train_sampling_strategy="random").train()
