"""Attention inside documents: the arithmetic against a loop, and real models against documents run alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations, pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curriculum
from curriculum.batch import Batch
from curriculum.varlen import varlen
from packed_model import write_short_documents
from pipeline.build import BuildResult

Row = tuple[tuple[int, ...], int | None]
"""Where documents begin, and the stored tokens before the padding."""


def slowly(rows: list[Row], seq_len: int) -> tuple[list[int], int, list[list[int]]]:
    """cu_seqlens, max_seqlen, position_ids, one input at a time."""
    edges, position_ids = [], []
    for number, (starts, num_tokens) in enumerate(rows):
        positions: list[int] = []
        for j in range(seq_len):
            if j == 0 or j in starts or j == num_tokens:
                edges.append(number * seq_len + j)
                positions.append(0)
            else:
                positions.append(positions[-1] + 1)
        position_ids.append(positions)
    edges.append(len(rows) * seq_len)
    return edges, max((b - a for a, b in pairwise(edges)), default=0), position_ids


def quickly(rows: list[Row], seq_len: int) -> tuple[list[int], int, list[list[int]]]:
    """The same from the code under test."""
    positions = np.array([start for starts, _ in rows for start in starts], np.uint32)
    edges = np.cumsum([0, *(len(starts) for starts, _ in rows)])
    num_tokens = None if rows[0][1] is None else np.array([count for _, count in rows], np.uint32)
    found = varlen((positions, edges), seq_len, num_tokens)
    assert found.cu_seqlens.dtype == np.int32
    assert found.position_ids.dtype == np.int64
    assert type(found.max_seqlen) is int
    return found.cu_seqlens.tolist(), found.max_seqlen, found.position_ids.tolist()


def every_row(seq_len: int, *, packed: bool) -> list[Row]:
    """All rows there can be: a document may begin at any stored token but the first, and before the padding."""
    rows: list[Row] = []
    for num_tokens in range(2, seq_len + 2) if packed else (None,):
        places = range(1, num_tokens or seq_len + 1)
        starts = chain.from_iterable(combinations(places, count) for count in range(len(places) + 1))
        rows += [(of_row, num_tokens) for of_row in starts]
    return rows


@pytest.mark.parametrize("packed", [False, True])
def test_every_pair_of_short_rows(packed: bool) -> None:
    """Exhaustive to 4 inputs: a boundary in the wrong place would let two documents see each other for a whole run."""
    pairs = [(n, list(rows)) for n in range(1, 5) for rows in product(every_row(n, packed=packed), repeat=2)]
    assert len(pairs) == (2**2 + 6**2 + 14**2 + 30**2 if packed else 2**2 + 4**2 + 8**2 + 16**2)
    for seq_len, rows in pairs:
        assert quickly(rows, seq_len) == slowly(rows, seq_len)


@st.composite
def batches_of_rows(draw: st.DrawFn) -> tuple[list[Row], int]:
    """Up to 6 rows of up to 200 inputs."""
    seq_len = draw(st.integers(1, 200))
    packed = draw(st.booleans())
    rows: list[Row] = []
    for _ in range(draw(st.integers(1, 6))):
        num_tokens = draw(st.integers(2, seq_len + 1)) if packed else None
        last = (num_tokens or seq_len + 1) - 1
        starts = draw(st.lists(st.integers(1, last), unique=True, max_size=12)) if last else []
        rows.append((tuple(sorted(starts)), num_tokens))
    return rows, seq_len


@given(batches_of_rows())
def test_rows_of_any_length(drawn: tuple[list[Row], int]) -> None:
    """The same against the loop, for lengths that no list can exhaust; and pieces cover every input once."""
    rows, seq_len = drawn
    edges, longest, positions = quickly(rows, seq_len)
    assert (edges, longest, positions) == slowly(rows, seq_len)
    assert edges[0] == 0
    assert edges[-1] == len(rows) * seq_len
    assert list(chain.from_iterable(positions)) == [j for a, b in pairwise(edges) for j in range(b - a)]


torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[torch]'")


@pytest.fixture(scope="module", params=["segment", "best-fit"])
def batch(
    request: pytest.FixtureRequest, build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory
) -> Batch:
    """Eight rows of 64 bytes of short real documents: several in most rows, padding at the end of some."""
    folder = tmp_path_factory.mktemp(request.param)
    corpus = write_short_documents(folder / "corpus")
    options = {"mode": request.param, "schedule": "constant", "steps": 12, "start_length": None}
    build_small(folder / "dataset", corpus=(str(corpus),), **options)
    reader = curriculum.open(folder / "dataset")
    found = max((reader[step] for step in range(len(reader))), key=lambda batch: len(batch.varlen.cu_seqlens))
    assert len(found.varlen.cu_seqlens) > 16
    return found


@pytest.fixture(scope="module", params=[("llama", "eager"), ("llama", "sdpa"), ("gpt2", "eager"), ("gpt2", "sdpa")])
def model(request: pytest.FixtureRequest) -> Any:
    """A real model of two layers; both kinds of positions, rotary and learned, both kinds of attention."""
    transformers: Any = pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install 'seqlen-curriculum[trainers]'"
    )
    kind, attention = request.param
    if kind == "llama":
        config = transformers.LlamaConfig(
            vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
        )
    else:
        config = transformers.GPT2Config(vocab_size=257, n_positions=64, n_embd=32, n_layer=2, n_head=4)
    config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in made.parameters():  # as they come, logits are so small that nothing would be seen to change
            torch.nn.init.normal_(parameter, std=0.2)
    assert made.config._attn_implementation == attention
    return made.eval()


def of_batch(batch: Batch) -> tuple[Any, Any, list[tuple[int, int, int]]]:
    """Ids, positions, and (row, first input, last + 1) of each piece, padding left out."""
    edges, seq_len = batch.varlen.cu_seqlens.tolist(), batch.seq_len
    pieces = [(a // seq_len, a % seq_len, a % seq_len + b - a) for a, b in pairwise(edges)]
    if batch.num_tokens is not None:
        pieces = [piece for piece in pieces if piece[1] < batch.num_tokens[piece[0]]]
    return torch.from_numpy(batch.inputs.astype(np.int64)), torch.from_numpy(batch.varlen.position_ids), pieces


@torch.no_grad()
def test_each_document_in_a_row_is_as_if_it_were_alone(batch: Batch, model: Any) -> None:
    """The logits of a row's documents equal those of the document by itself; without positions they do not."""
    ids, positions, pieces = of_batch(batch)
    together = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    mixed = model(input_ids=ids, use_cache=False).logits
    differing = 0
    for row, start, stop in pieces:
        alone = model(input_ids=ids[row : row + 1, start:stop], use_cache=False).logits[0]
        torch.testing.assert_close(together[row, start:stop], alone, rtol=1e-4, atol=1e-4)
        differing += not torch.allclose(mixed[row, start:stop], alone, rtol=1e-2, atol=1e-2)
    assert differing > len(pieces) // 3, "the test could not see documents that attend to each other"


@torch.no_grad()
def test_another_token_in_one_document_changes_no_other(batch: Batch, model: Any) -> None:
    """Exactly: not by a rounding error. What comes after it in its own document does change."""
    ids, positions, pieces = of_batch(batch)
    before = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    firsts = [piece for piece in pieces if piece[1] == 0 and piece[2] < ids.shape[1] - 1]
    assert len(firsts) >= 4
    for row, start, _ in firsts:
        ids[row, start] = (ids[row, start] + 1) % 256
    after = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    for row, start, stop in pieces:
        same = torch.equal(before[row, start:stop], after[row, start:stop])
        assert same == ((row, start, stop) not in firsts)


def test_no_gradient_flows_into_another_document(batch: Batch, model: Any) -> None:
    """The loss of one document reaches the embeddings of its own tokens only: every one, and no other."""
    ids, positions, pieces = of_batch(batch)
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, position_ids=positions, use_cache=False).logits
    chosen = [pieces[i] for i in (0, len(pieces) // 2, len(pieces) - 1)]
    for row, start, stop in chosen:
        (gradient,) = torch.autograd.grad(logits[row, start:stop].square().sum(), embedded, retain_graph=True)
        touched = gradient.abs().sum(-1).nonzero().tolist()
        assert touched == [[row, j] for j in range(start, stop)]
