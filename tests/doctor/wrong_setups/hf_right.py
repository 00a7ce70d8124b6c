"""Nothing is wrong: what the other hf_ scripts differ from."""

import sys

from hf_trainer import trainer

import curriculum

trainer(curriculum.open(sys.argv[1]), sys.argv[2]).train()
