"""Models of transformers shift `labels`; without `shift_labels` they learn the token after the next one."""

import sys

from hf_trainer import trainer

import curriculum

trainer(curriculum.open(sys.argv[1]), sys.argv[2], keys=("input_ids", "labels")).train()
