"""One complete training script per trainer. docs/trainers.md shows them, `curriculum doctor` runs them, tests run both.

Every one is started in the same way, on as many processes as torchrun is told to use:

    torchrun --standalone --nproc-per-node 2 -m curriculum.examples.train_torch DATASET --checkpoint DIR
"""
