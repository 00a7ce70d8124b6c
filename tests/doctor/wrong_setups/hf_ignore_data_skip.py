"""The second start resumes the model, but the data begin anew: ignore_data_skip, and a dataset without a state."""

import sys
from pathlib import Path

from hf_trainer import trainer

import curriculum

saved = Path(sys.argv[2]) / "checkpoint-6"
again = saved.exists()
settings = {} if again else {"max_steps": 6}
trainer(
    curriculum.open(sys.argv[1]), sys.argv[2], save_strategy="steps", save_steps=6, ignore_data_skip=True, **settings
).train(resume_from_checkpoint=str(saved) if again else None)
