"""The paper's tuning strategy: which start length, and how long a warmup, from a small part of the training.

Read in this order: `candidate.py` (what is tried, and what trying it tells: the seam between the search and whatever
trains); `fluctuation.py` (when perplexity fluctuates) and `search.py` (what to try next), both pure. Then how a
candidate is tried: `probe_dataset.py`, `probe_log.py`, `guard.py`, `run_command.py`, `called.py`, `run_callable.py`,
`prober.py`.
"""
