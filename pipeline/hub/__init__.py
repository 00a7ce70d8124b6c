"""What a build takes from the Hugging Face Hub by name: corpora and tokenizers.

Read in this order: `names` (what is typed), `access` (how the Hub is asked, and what failures mean), `library` (what
`datasets` may do), `split` (a dataset as it streams it), `lines`, `corpus` (its shards as inputs, its rows as records),
`tokenizer`.
Files of the Hub by their paths, hf://datasets/..., are files of a store: `pipeline.store_corpus`.
"""
