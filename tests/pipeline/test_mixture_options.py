"""How a mixture is said: flags, tables of a file, and what is refused before anything is read."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curriculum.errors import ConfigError, CurriculumError, PlanError
from pipeline.cli import main
from pipeline.corpus import find_corpus
from pipeline.option_sources import load_options
from pipeline.options import Options
from pipeline.progress import Silent
from pipeline.requested_plan import check_requested, compile_requested
from pipeline.sources import NamedSource, Weight, mixture_of, named_sources
from small_mixture import write_sources

TWO = ("a=one.jsonl", "b=two.jsonl")


def test_a_name_said_again_adds_a_path() -> None:
    """A source is often several folders."""
    found = named_sources((), ("a=one", "b=two", "a=three"), ("b=0.25", "a=0.75"), ("b=3",), 2)
    assert [(one.name, one.paths, one.epochs) for one in found] == [("a", ("one", "three"), 2), ("b", ("two",), 3)]
    assert mixture_of(found, [8, 16], None).weights == ((3, 1), (3, 1))


def test_weights_are_exact() -> None:
    """0.1 + 0.2 is 0.3 here: as floats, equal mixtures would give unequal datasets."""
    found = named_sources((), ("a=x", "b=x", "c=x"), ("a=0.1", "b=0.2", "c=0.30"), (), 1)
    assert mixture_of(found, [8], None).weights == ((1, 2, 3),)
    assert mixture_of(named_sources((), TWO, (), (), 1), [8], [600, 400]).weights == ((3, 2),), "by tokens"
    assert str(Weight(values=(Fraction("0.50"), Fraction(".2")), lengths=(8, 64))) == "8:1/2,64:1/5"


def test_weights_by_length_hold_from_that_length_on() -> None:
    """And by phase in that phase."""
    found = named_sources((), ("a=x", "b=x"), ("a=8:0.9,64:0.5", "b=0.1,0.5,0.5"), (), 1)
    assert mixture_of(found, [8, 56, 64], None).weights == ((9, 1), (9, 5), (1, 1))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"source": ("a",)}, r"source is 'a'; write NAME=PATH"),
        ({"source": ("=x",)}, r"write NAME=PATH"),
        ({"source": ("a/b=x", "c=y")}, r"with a name of letters"),
        ({"source": TWO, "corpus": ("c",)}, r"corpus and source are both given; .* --source corpus=c"),
        ({"source": TWO, "weight": ("a=0.3",)}, r"source 'b' has no weight, but 'a' has"),
        ({"source": TWO, "weight": ("a=1", "b=1", "c=1")}, r"weight names 'c', which is no source; there are a, b"),
        ({"source": TWO, "weight": ("a=1", "b=1", "a=2")}, r"weight of 'a' is given twice, '1' and '2'"),
        ({"source": TWO, "weight": ("a=-1", "b=1")}, r"weight of 'a' is '-1'; write a decimal such as 0.3"),
        ({"source": TWO, "weight": ("a=1e9", "b=1")}, r"write a decimal such as 0.3"),
        ({"source": TWO, "weight": ("a=8:1,2", "b=1")}, r"write a decimal such as 0.3"),
        ({"source": TWO, "weight": ("a=64:1,8:1", "b=1")}, r"its lengths have to grow"),
        ({"source": TWO, "weight": ("a=16:1", "b=1")}, r"weight of 'a' begins at length 16, but there are rows of 8"),
        ({"source": TWO, "weight": ("a=8:1,2048:0", "b=1")}, r"from length 2048 on, but no row is longer than 1024"),
        ({"source": TWO, "weight": ("a=1,2", "b=1")}, r"lists 2 weights, one for each entry of phases, which are not"),
        (
            {"source": TWO, "weight": ("a=1,2,3", "b=1"), "phases": "8:5,16:*"},
            r"lists 3 weights, one for each entry of phases, of which there are 2",
        ),
        (
            {"source": TWO, "weight": (f"a={'9' * 15}.{'9' * 15}", f"b=.{'0' * 14}1")},
            r"weights from 1e-15 to 1e\+15 are 999,999,999,999,999,999,999,999,999,999 and less .* fewer digits",
        ),
        ({"source": TWO, "weight": (f"a=8:1,64:.{'1' * 15}", f"b={'9' * 15}.7")}, r"give them fewer digits"),
        (
            {"source": TWO, "weight": (f"a=1,{'9' * 15}.7", f"b=1,.{'1' * 15}"), "phases": "8:5,16:*"},
            r"give them fewer digits",
        ),
        ({"source": TWO, "source_epochs": ("a=0",)}, r"source_epochs of 'a' is '0'; give a whole number from 1"),
        ({"source": TWO, "source_epochs": ("c=2",)}, r"source_epochs names 'c', which is no source"),
        ({"source": ("a=x",), "weight": ("a=1",)}, r"weight is given, and there is one source, 'a'"),
        ({"source": TWO, "mode": "best-fit"}, r"mode is 'best-fit' and there are 2 sources; .* segment or truncate"),
        ({"source": TWO, "mode": "document"}, r"mode is 'document' and there are 2 sources"),
        ({"source": TWO, "corpus_tokens": 9}, r"corpus_tokens is given together with several sources"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(said: dict[str, Any], message: str) -> None:
    """Before any file is looked for."""
    with pytest.raises(ConfigError, match=message):
        Options(**said)


def test_the_largest_weight_that_a_manifest_keeps() -> None:
    """Just that one, and one more is refused where the plan is made, too."""
    for weight, fits in ((2**63 - 1, True), (2**63, False)):
        most = Weight(values=(Fraction(weight),))
        found = [replace(source, weight=most if source.name == "a" else source.weight) for source in _two()]
        if fits:
            assert mixture_of(found, [8], None).weights == ((weight, 1),)
        else:
            with pytest.raises(ConfigError, match="fewer digits"):
                mixture_of(found, [8], None)


def _two() -> tuple[NamedSource, ...]:
    return named_sources((), TWO, ("a=1", "b=1"), (), 1)


def test_every_phase_needs_somebody_to_fill_it() -> None:
    """A weight of 0 is fine, all of them are not."""
    options = Options(weight=("a=8:0,16:1", "b=8:0,24:1"), steps=50, max_length=32)
    with pytest.raises(ConfigError, match=r"All weights are 0 in phase 0, of rows of 8"):
        mixture_of(options.sources(), [8, 16, 24], None)
    with pytest.raises(ConfigError, match=r"weight names 'a', but no source of that name is given"):
        find_corpus(options, Silent())


def test_equal_entries_of_phases_stay_phases_only_where_weights_ask_for_it() -> None:
    """An anneal at the maximum needs two phases of one length; nobody else's plan may change."""
    phases = "8:2,16:3,16:1"
    plain = compile_requested(Options(phases=phases, weight=("a=1", "b=2")), None)
    assert plain == compile_requested(Options(phases=phases), None)
    assert [(phase.seq_len, phase.num_steps) for phase in plain.phases] == [(8, 2), (16, 4)]
    anneal = compile_requested(Options(phases=phases, weight=("a=1,1,0", "b=2")), None)
    assert [(phase.seq_len, phase.num_steps) for phase in anneal.phases] == [(8, 2), (16, 3), (16, 1)]
    assert (anneal.num_shapes, anneal.order) == (2, ((0, 2), (1, 3), (2, 1)))
    assert type(anneal).from_json(json.loads(json.dumps(anneal.to_json()))) == anneal
    with pytest.raises(PlanError, match=r"max_shapes 2 would merge phases"):
        check_requested(Options(phases=phases, weight=("a=1,1,0", "b=2"), max_shapes=2))


TOML = """
max_length = 64
[[source]]
name = "a"
path = "one"
weight = 0.7
[[source]]
name = "b"
path = ["two", "s3://bucket/three"]
weight = {8 = 0.3, 64 = 1e-1}
epochs = 4
"""


def test_a_file_says_the_same_and_flags_win_by_name(tmp_path: Path) -> None:
    """Paths are relative to the file; changing one weight must not mean repeating all of them."""
    path = tmp_path / "mix.toml"
    path.write_text(TOML, "utf-8")
    options = load_options(path, {})
    assert options.source == (f"a={tmp_path}/one", f"b={tmp_path}/two", "b=s3://bucket/three")
    assert (options.weight, options.source_epochs) == (("a=0.7", "b=8:0.3,64:0.1"), ("b=4",))
    changed = load_options(path, {"weight": ("a=0.5",), "source": ("b=four",)})
    assert changed.weight == ("b=8:0.3,64:0.1", "a=0.5")
    assert changed.source == (f"a={tmp_path}/one", "b=four")
    alone = load_options(path, {"corpus": ("text",)})
    assert (alone.corpus, alone.source, alone.weight, alone.source_epochs) == (("text",), (), (), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source = 3", r"source is '3', expected tables \[\[source\]\] with name and path"),
        ("[[source]]\nname = 'a'", r"\[\[source\]\] needs a name and a path"),
        ("[[source]]\nname = 'a'\npath = 'x'\nsize = 3", r"\[\[source\]\] has the key 'size'"),
        ("[[source]]\nname = 'a'\npath = 'x'\nweight = true", r"source 'a': weight is 'True', expected a number"),
        ("[[source]]\nname = 'a'\npath = 'x'\nweight = {8 = nan}", r"expected a number"),
        ("[[source]]\nname = 'a'\npath = 'x'\nweight = 1e99999", r"expected a number"),
        ("weight = ['a=1']", r"unknown key 'weight'"),
    ],
)
def test_a_file_that_says_it_wrong_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """In the words of the file."""
    (tmp_path / "mix.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message):
        load_options(tmp_path / "mix.toml", {})


def plan(*arguments: object) -> Result:
    """`curriculum plan` in this process."""
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


def test_plan_shows_shares_without_data(tmp_path: Path) -> None:
    """Who asks for a mixture must see what it means before a terabyte is tokenized."""
    flags = ["--phases", "8:10,16:10", "--batch-rows", 10, "--weight", "a=8:0.9,16:0.5", "--weight", "b=8:0.1,16:0.5"]
    shown = plan(*flags)
    assert shown.exit_code == 0, shown.stderr
    assert "1,520   63.3 %" in shown.stdout
    (a, b) = json.loads(plan(*flags, "--json").stdout)["analysis"]["sources"]
    assert [phase["rows"] for phase in a["phases"]] == [90, 50]
    assert (b["trained_tokens"], b["epochs"]) == (10 * 8 + 50 * 16, None)
    assert "Nothing says how long" in plan("--weight", "a=1", "--weight", "b=1").stderr


def test_plan_of_sources_and_of_their_store(tmp_path: Path) -> None:
    """Tokens and epochs of every source and phase; the same from the store alone."""
    sources = [word for entry in write_sources(tmp_path) for word in ("--source", entry)]
    flags = ["--tokenizer", "bytes", "--max-length", 24, "--batch-rows", 4, "--store", tmp_path / "store"]
    flags += ["--workers", 1]
    weights = ["--weight", "web=3", "--weight", "code=8:1,24:2", "--weight", "wiki=1"]
    shown = plan(*sources, *flags, *weights)
    assert shown.exit_code == 0, shown.output
    assert all(f"{name}  " in shown.stdout for name in ("web", "code", "wiki"))
    found = json.loads(plan(*sources, *flags, *weights, "--json").stdout)
    assert found == json.loads(plan(*flags, *weights, "--json").stdout)
    for source in found["analysis"]["sources"]:
        assert source["consumed_tokens"] < source["training_tokens"]
        assert source["epochs"] == source["consumed_tokens"] / source["training_tokens"]
        assert sum(phase["trained_tokens"] for phase in source["phases"]) == source["trained_tokens"]
    refused = plan(*sources, *flags, *weights, "--steps", 500)
    assert refused.exit_code == 2
    assert "--source-epochs" in refused.stderr


def test_a_path_that_is_not_there_is_said_with_its_source(tmp_path: Path) -> None:
    """Of twenty sources one is missing: which?"""
    (source, *_) = write_sources(tmp_path)
    refused = plan("--source", source, "--source", f"books={tmp_path}/none")
    assert refused.exit_code == 2
    assert f"Source 'books': There is no file or folder '{tmp_path}/none'" in refused.stderr


def test_a_source_without_text_is_refused(tmp_path: Path) -> None:
    """Unless nothing is asked of it."""
    write_sources(tmp_path)
    (tmp_path / "void.jsonl").write_text('{"text": ""}\n', "utf-8")
    flags = ["--source", f"web={tmp_path}/web.jsonl", "--source", f"void={tmp_path}/void.jsonl", "--tokenizer", "bytes"]
    flags += ["--max-length", 16, "--batch-rows", 2, "--store", tmp_path / "store", "--workers", 1, "--weight", "web=1"]
    assert "Source 'void' has no text to train on" in plan(*flags, "--weight", "void=1").stderr
    assert plan(*flags, "--weight", "void=0").exit_code == 0


def test_shapes_of_a_mixture_land_on_its_sources(tmp_path: Path) -> None:
    """--max-shapes moves steps to the maximum: the budget of every source still holds, and is used up."""
    options: dict[str, Any] = {"source": write_sources(tmp_path), "max_length": 64, "batch_rows": 2}
    from pipeline.mixture_plan import SourceSize, plan_mixture

    sizes = [
        SourceSize(name=name, num_tokens=tokens, epochs=1)
        for name, tokens in (("web", 9_000), ("code", 5_000), ("wiki", 1_000))
    ]
    found, mixture = plan_mixture(Options(**options, max_shapes=3), sizes, 2)
    assert mixture.weights[0] == (9, 5, 1)
    assert found.num_shapes == 3
    assert 15_000 - 2 * 64 - 3 * 64 <= found.total_tokens < 15_000
    ideal, _ = plan_mixture(Options(**options), sizes, 2)
    assert found.schedule["length_warmup_steps"] == ideal.schedule["length_warmup_steps"]
    with pytest.raises(CurriculumError, match="takes"):
        plan_mixture(Options(**options, length_warmup_tokens=20_000), sizes, 2)
