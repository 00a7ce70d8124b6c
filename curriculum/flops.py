"""Training FLOPs of a plan, against the same tokens all at the maximum length.

In:  a plan and the size of the model.
Out: FLOPs of the whole plan and of each phase, the share that short rows save, and the share of attention.

Formula: training FLOPs per token at sequence length s = 6 N + 12 L H s, with N parameters, L layers and H = attention
heads * head size (Chowdhery et al. 2022, "PaLM", appendix B, arXiv 2204.02311). 6 N: each parameter multiplies and
adds once forward and twice backward. 12 L H s: query-key scores and their use on values, 2 * 2 L H s forward, twice
that backward. No recomputation, and the causal mask is not discounted: a kernel that skips masked blocks spends
about half of the attention term. Only attention depends on s, so a small model on long rows gains most.

Guarantees: integers wherever a value is one; only shares are floats, for display.

    ModelSize(params=1_558_000_000, layers=48, hidden=1600).flops_per_token(1024) -> 10,291,718,400, of which
    attention 9.2 %
"""

from dataclasses import dataclass
from typing import Any

from curriculum.plan import Plan
from curriculum.schedule import MAX_SEQ_LEN, require_int


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSize:
    """Parameters, layers, and hidden = attention heads * head size."""

    params: int
    layers: int
    hidden: int

    def __post_init__(self) -> None:
        require_int("params", self.params)
        require_int("layers", self.layers, most=MAX_SEQ_LEN)
        require_int("hidden", self.hidden, most=MAX_SEQ_LEN)

    def flops_per_token(self, seq_len: int) -> int:
        """6 N + 12 L H s."""
        return 6 * self.params + self.attention_flops_per_token(seq_len)

    def attention_flops_per_token(self, seq_len: int) -> int:
        """12 L H s, the part that grows with the length."""
        return 12 * self.layers * self.hidden * seq_len


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseFlops:
    """One phase: `total` = num_tokens * per_token, of which `attention`."""

    seq_len: int
    num_tokens: int
    per_token: int
    total: int
    attention: int

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanFlops:
    """`constant_length` is what the same number of trained tokens costs when every row has the maximum length."""

    total: int
    attention: int
    constant_length: int
    phases: tuple[PhaseFlops, ...]

    @property
    def saved(self) -> int:
        return self.constant_length - self.total

    @property
    def saved_share(self) -> float:
        """Of the cost at constant length."""
        return self.saved / self.constant_length

    @property
    def attention_share(self) -> float:
        """Of the plan's own cost."""
        return self.attention / self.total

    def to_json(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "constant_length": self.constant_length,
            "saved": self.saved,
            "saved_share": self.saved_share,
            "attention": self.attention,
            "attention_share": self.attention_share,
            "phases": [phase.to_json() for phase in self.phases],
        }


def plan_flops(plan: Plan, model: ModelSize) -> PlanFlops:
    """Training FLOPs of all trained tokens, or of all slots where rows are padded: padding costs as much."""
    phases = tuple(
        PhaseFlops(
            seq_len=phase.seq_len,
            num_tokens=phase.num_tokens,
            per_token=model.flops_per_token(phase.seq_len),
            total=phase.num_tokens * model.flops_per_token(phase.seq_len),
            attention=phase.num_tokens * model.attention_flops_per_token(phase.seq_len),
        )
        for phase in plan.phases
    )
    return PlanFlops(
        total=sum(phase.total for phase in phases),
        attention=sum(phase.attention for phase in phases),
        constant_length=plan.total_tokens * model.flops_per_token(plan.max_seq_len),
        phases=phases,
    )
