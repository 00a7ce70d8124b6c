"""A plain loop with one mistake, named by the second argument; as the rank that RANK and WORLD_SIZE say.

forgotten_rank      every rank asks for the batches of rank 0
prefetched_cursor   the loop fetches a batch ahead, and saves the cursor of that one
shifted_twice       logits[:, :-1] against labels[:, 1:], as for labels that are not shifted yet
truncated           rows are cut to 4 tokens after they were loaded
rank_local_state    each rank's loader keeps its rank in its state, but only rank 0's state is saved
"""

import json
import os
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import curriculum
from curriculum import doctor

reader, mistake, saved = curriculum.open(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) / "state.json"
saved.parent.mkdir(exist_ok=True)
rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
own_rank, start, stop = rank, 0, 6
if os.environ["CURRICULUM_DOCTOR_LOG"].endswith("2"):  # the second start
    state = json.loads(saved.read_text("utf-8"))
    start, stop = state["step"], 12
    if mistake == "rank_local_state":
        own_rank = state["rank"]
if mistake == "forgotten_rank":
    own_rank = 0

vocab_size = reader.manifest.tokenizer.vocab_size
model = nn.Sequential(nn.Embedding(vocab_size, 16), nn.Linear(16, vocab_size))
batches = reader.steps(start, own_rank, world_size)
fetched = next(batches)
for batch in batches:
    batch, fetched = fetched, batch
    inputs = torch.from_numpy(batch.inputs.astype("int64"))
    labels = torch.from_numpy(batch.labels)
    if mistake == "truncated":
        inputs, labels = inputs[:, :4], labels[:, :4]
    logits = model(inputs)
    if mistake == "shifted_twice":
        logits, labels = logits[:, :-1], labels[:, 1:]
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    doctor.record((inputs, labels), logits=logits, loss=loss)
    if batch.cursor.step == stop:
        break

step = fetched.cursor.step if mistake == "prefetched_cursor" else batch.cursor.step
if rank == 0 and start == 0:
    saved.write_text(json.dumps({"step": step, "rank": rank}), "utf-8")
