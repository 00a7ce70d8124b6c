"""A loader with a state but without `__len__`: Lightning looks one batch ahead to know the last one, and saves that."""

import sys

from lightning_loader import example, fit

import curriculum

reader = curriculum.open(sys.argv[1])


class Loader:
    step = 0

    def __iter__(self):
        for batch in reader.steps(self.step):
            self.step = batch.step + 1
            yield example(batch)

    def state_dict(self):
        return {"step": self.step}

    def load_state_dict(self, state):
        self.step = state["step"]


fit(reader, Loader(), sys.argv[2])
