"""What the manifest says, in the words of the page.

In:  a manifest.   Out: sentences and cards of plain values.
Guarantee: every number is one of the manifest or follows from it; each has a key, under which the page carries it for
programs (`<data data-fact="total_steps" value="631">`), so that a test can compare them all.

    8:188, 1024:443      "Rows grow from 8 to 1,024 tokens (linear); they have 1,024 from step 188 on."
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from curriculum.manifest import Manifest
from curriculum.plan import Plan
from pipeline.counted import counted
from pipeline.length_runs import grows, length_runs
from pipeline.page.draw_flow import percent_of
from pipeline.page.visible_text import visible

MOST_CHARACTERS = 60
"""Of a name that a manifest may choose."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """A number or a name."""

    key: str
    label: str
    value: int | str
    note: str = ""

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.value:,}" if isinstance(self.value, int) else self.value

    @property
    def large(self) -> str:
        """In few characters: 8.65 million."""
        if isinstance(self.value, str) or self.value < 1_000_000:
            return self.shown
        for size, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
            if self.value >= size:
                return f"{self.value / size:.3g} {name}"
        raise AssertionError


def lede(manifest: Manifest) -> str:
    """The dataset in two or three sentences."""
    plan, a = manifest.plan, manifest.accounting
    trained = f"{a.trained_tokens:,} tokens are trained, {percent_of(a.trained_tokens, a.corpus_tokens)} of the corpus."
    if a.repeated_tokens:  # a percentage would say how much of it was seen, which nobody has counted
        trained = (
            f"{a.trained_tokens:,} tokens are trained from a corpus of {a.corpus_tokens:,}, of which "
            f"{a.repeated_tokens:,} are read again in further epochs."
        )
    return (
        f"A training run, compiled: {counted(plan.total_steps, 'step')} whose rows lie on disk in the order in which "
        f"they are trained. {growth(plan)} {trained}"
    )


def growth(plan: Plan) -> str:
    """How the length of planned rows goes, whatever the schedule was asked for: a budget of shapes moves the steps."""
    runs = length_runs(plan)
    shortest, longest = min(run.seq_len for run in runs), plan.max_seq_len
    if len(runs) == 1:
        return f"All rows have {longest:,} tokens."
    if plan.mode == "document":
        cycles = plan.schedule.get("cycles")
        turns = f" in {counted(cycles, 'cycle')}" if isinstance(cycles, int) else ", shuffled"
        return f"Rows are cut inside documents, in lengths from {shortest:,} to {longest:,} tokens{turns}."
    if not grows(runs):
        return f"Rows have {shortest:,} to {longest:,} tokens, in {len(runs):,} stretches of equal length."
    how = f"in {len(runs):,} stretches of equal length"
    if "length_warmup_steps" in plan.schedule:
        how = f"({visible(str(plan.schedule['name'])[:MOST_CHARACTERS])})"
    since = f"they have {longest:,} from step {runs[-1].first:,} on."
    return f"Rows grow from {shortest:,} to {longest:,} tokens {how}; {since}"


def growth_title(plan: Plan) -> str:
    """The same in a few words."""
    runs = length_runs(plan)
    if len(runs) == 1:
        return "How long rows are"
    return "How row length grows" if grows(runs) else "How row length changes"


def cards(manifest: Manifest, bytes_on_disk: int) -> list[Fact]:
    """The numbers that come first."""
    plan, a = manifest.plan, manifest.accounting
    shortest = min(phase.seq_len for phase in plan.phases)
    lengths = f"{shortest:,} → {plan.max_seq_len:,}" if shortest < plan.max_seq_len else f"{plan.max_seq_len:,}"
    least, most = min(plan.tokens_per_step), max(plan.tokens_per_step)
    batch = f"{least:,} to {most:,}" if least < most else f"{most:,}"
    return [
        Fact(key="total_steps", label="steps", value=plan.total_steps, note=f"{batch} tokens each"),
        Fact(key="trained_tokens", label="trained tokens", value=a.trained_tokens),
        Fact(key="lengths", label="tokens in a row", value=lengths),
        Fact(key="num_shapes", label="tensor shapes", value=plan.num_shapes, note=counted(len(plan.phases), "phase")),
        Fact(key="documents", label="documents", value=a.documents, note=f"{a.corpus_tokens:,} tokens"),
        Fact(key="bytes_on_disk", label="on disk", value=size(bytes_on_disk), note=f"{manifest.dtype} ids"),
    ]


def identity(manifest: Manifest) -> list[Fact]:
    """What tells this dataset from others."""
    t, build, plan = manifest.tokenizer, manifest.build, manifest.plan
    hub = asdict(t).get("hub")  # said of a tokenizer that came from the Hub
    origin = [Fact(key="tokenizer_hub", label="tokenizer", value=f"{hub['name']}@{hub['revision']}")] if hub else []
    schedule = visible(", ".join(f"{key} {value}" for key, value in plan.schedule.items())[: 10 * MOST_CHARACTERS])
    return [
        Fact(key="id", label="id", value=manifest.id),
        Fact(key="mode", label="mode", value=plan.mode),
        Fact(key="seed", label="seed", value=manifest.seed),
        Fact(key="schedule", label="schedule", value=schedule),
        *about(manifest),
        *origin,
        Fact(key="vocab_size", label="vocabulary", value=t.vocab_size, note="1 + the largest id"),
        Fact(key="eos_id", label="end of document", value=t.eos_id, note="id of EOS"),
        Fact(
            key="bos_id",
            label="begin of document",
            value="none" if t.bos_id is None else t.bos_id,
            note=f"BOS: {visible(build.bos[:MOST_CHARACTERS])}",
        ),
        Fact(key="tokenizer_sha256", label="tokenizer.json", value=t.sha256, note="sha256"),
        Fact(key="window_tokens", label="shuffle window", value=build.window_tokens, note="tokens"),
        Fact(key="requires", label="needs of a reader", value=", ".join(manifest.requires) or "nothing more"),
        Fact(key="world_sizes", label="ranks that divide every step", value=_listed(plan.world_sizes)),
    ]


def size(num_bytes: int) -> str:
    """Bytes for people."""
    for unit, one in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= one:
            return f"{num_bytes / one:,.3g} {unit}" if num_bytes < 1000 * one else f"{num_bytes / one:,.0f} {unit}"
    return f"{num_bytes} bytes"


def about(manifest: Manifest) -> list[Fact]:
    """Licence and languages, if they were said."""
    said = manifest.about
    facts = [] if said.license is None else [Fact(key="license", label="licence", value=said.license)]
    return [
        *facts,
        *([Fact(key="language", label="languages", value=", ".join(said.language))] if said.language else []),
    ]


def _listed(numbers: tuple[int, ...], most: int = 12) -> str:
    more = f" and {len(numbers) - most:,} more" if len(numbers) > most else ""
    return f"{', '.join(f'{number:,}' for number in numbers[:most])}{more}"
