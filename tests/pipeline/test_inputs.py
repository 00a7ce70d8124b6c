"""Which files a corpus is made of, in which order, and how they are divided among workers."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.errors import ConfigError
from pipeline.inputs import InputFile, Inputs, find_inputs, split_units
from pipeline.units import default_unit_bytes

MIB = 1 << 20


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def relatives(inputs: Inputs) -> list[str]:
    return [file.relative for file in inputs.files]


def fake(relative: str, size: int, kind: str = "text") -> InputFile:
    return InputFile(path=f"/nowhere/{relative}", relative=relative, size=size, mtime_ns=1, kind=kind)


def test_every_ending_has_its_kind_whatever_its_case(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.md", "c.py", "d.jsonl", "e.jsonl.gz", "f.jsonl.zst", "g.parquet", "h.arrow", "I.TXT")
    kinds = {file.relative: file.kind for file in find_inputs([str(tmp_path)]).files}
    assert kinds == {
        "I.TXT": "text",
        "a.txt": "text",
        "b.md": "text",
        "c.py": "text",
        "d.jsonl": "jsonl",
        "e.jsonl.gz": "jsonl.gz",
        "f.jsonl.zst": "jsonl.zst",
        "g.parquet": "parquet",
        "h.arrow": "arrow",
    }


def test_a_folder_is_read_by_name_without_hidden_names_and_other_endings_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "b/z.txt", "a.txt", "b/a.txt", "B.txt", "b.txt", "x.png", "b/x.json", ".git/c.txt", "b/.d.txt")
    inputs = find_inputs([str(tmp_path)])
    assert relatives(inputs) == ["B.txt", "a.txt", "b.txt", "b/a.txt", "b/z.txt"]
    assert inputs.num_ignored == 2
    assert inputs.total_bytes == sum(map(len, relatives(inputs)))
    assert [Path(file.path) for file in inputs.files] == [tmp_path / name for name in relatives(inputs)]


def test_the_order_on_disk_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, *(f"{number % 3}/{number}.txt" for number in range(30)))
    expected = find_inputs([str(tmp_path)])
    listing = Path.iterdir
    order = random.Random(1)

    def shuffled(folder: Path) -> list[Path]:
        paths = list(listing(folder))
        order.shuffle(paths)
        return paths

    monkeypatch.setattr(Path, "iterdir", shuffled)
    assert all(find_inputs([str(tmp_path)]) == expected for _ in range(5))


def test_relative_paths_start_at_the_folder_the_file_or_the_fixed_part_of_the_glob(tmp_path: Path) -> None:
    write(tmp_path, "a/x.txt", "a/b/y.txt", "a/b/z.md", "a/c/y.txt", "a/.h/y.txt", "q.txt")
    assert relatives(find_inputs([f"{tmp_path}/a"])) == ["b/y.txt", "b/z.md", "c/y.txt", "x.txt"]
    assert relatives(find_inputs([f"{tmp_path}/a/b/y.txt"])) == ["y.txt"]
    assert relatives(find_inputs([f"{tmp_path}/a/*/y.txt"])) == ["b/y.txt", "c/y.txt"]
    assert relatives(find_inputs([f"{tmp_path}/**/y.txt"])) == ["a/b/y.txt", "a/c/y.txt"]
    assert relatives(find_inputs([f"{tmp_path}/a/?"])) == ["b/y.txt", "b/z.md", "c/y.txt"]
    everything = ["b/y.txt", "b/z.md", "c/y.txt", "x.txt"]
    assert relatives(find_inputs([f"{tmp_path}/a/**"])) == everything
    assert relatives(find_inputs([f"{tmp_path}/a/b", f"{tmp_path}/q.txt"])) == ["q.txt", "y.txt", "z.md"]


def test_relative_arguments_give_the_same_files_as_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a/x.txt", "a/b/y.txt")
    monkeypatch.chdir(tmp_path)
    assert find_inputs(["a"]) == find_inputs([f"{tmp_path}/a"])
    assert find_inputs(["a/*"]) == find_inputs([f"{tmp_path}/a/*"])
    assert relatives(find_inputs(["**/*.txt"])) == ["a/b/y.txt", "a/x.txt"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    write(tmp_path, "a[1].txt", "a1.txt")
    assert relatives(find_inputs([f"{tmp_path}/a[1].txt"])) == ["a[1].txt"]


def test_two_inputs_of_one_relative_path_are_refused_naming_both(tmp_path: Path) -> None:
    write(tmp_path, "a/x.txt", "b/x.txt")
    with pytest.raises(ConfigError) as caught:
        find_inputs([f"{tmp_path}/a", f"{tmp_path}/b"])
    assert f"same relative path x.txt: {tmp_path}/a/x.txt and {tmp_path}/b/x.txt;" in str(caught.value)
    with pytest.raises(ConfigError, match=r"same relative path x\.txt"):
        find_inputs([f"{tmp_path}/a/x.txt", f"{tmp_path}/a/x.txt"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("missing", "There is no file or folder '{root}/missing'; a corpus is made of files, folders"),
        ("x.png", "{root}/x.png is not a file that can be read; read are .txt .md .py .jsonl .jsonl.gz"),
        ("only", "The folder '{root}/only' holds no file that can be read (1 with other endings); read are .txt"),
        ("*.png", "The glob '{root}/*.png' holds no file that can be read (1 with other endings)"),
        ("*.none", "The glob '{root}/*.none' holds no file that can be read (0 with other endings)"),
        ("dangling", "{root}/dangling/x.txt cannot be read (No such file or directory); it belongs to the corpus"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_can(tmp_path: Path, argument: str, message: str) -> None:
    write(tmp_path, "x.png", "only/y.png", "only/.hidden.txt", "dangling/a.txt")
    (tmp_path / "dangling/x.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError) as caught:
        find_inputs([f"{tmp_path}/{argument}"])
    assert message.format(root=tmp_path) in str(caught.value)


@pytest.mark.parametrize("argument", ["", "*"])
def test_a_dataset_of_ours_is_no_corpus(tiny: Path, argument: str) -> None:
    """The natural slip after `build` and `train`: its rows would be read as records without a text."""
    with pytest.raises(
        ConfigError, match=r"tiny\d/dataset is a dataset that `curriculum build` made.* inspect .*dataset`"
    ):
        find_inputs([str(tiny if not argument else tiny.parent / argument)])


def test_a_manifest_of_somebody_else_is_no_sign_of_a_dataset_of_ours(tmp_path: Path) -> None:
    write(tmp_path, "x.txt")
    (tmp_path / "manifest.json").write_text('{"format": "web", "name": "a site"}')
    assert [file.relative for file in find_inputs([str(tmp_path)]).files] == ["x.txt"]


@pytest.mark.parametrize("corpus", [[], [""]])
def test_no_corpus_is_refused(corpus: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"No corpus was given|There is no file or folder ''"):
        find_inputs(corpus)


def test_links_are_followed_but_never_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path, "data/a/x.txt", "other/y.txt")
    (tmp_path / "data/a/up").symlink_to(tmp_path / "data")
    (tmp_path / "data/self").symlink_to(".")
    (tmp_path / "data/b").symlink_to(tmp_path / "other")
    (tmp_path / "data/z.txt").symlink_to(tmp_path / "other/y.txt")
    expected = ["a/x.txt", "b/y.txt", "z.txt"]
    assert relatives(find_inputs([f"{tmp_path}/data"])) == expected
    assert relatives(find_inputs([f"{tmp_path}/data/**"])) == expected
    assert relatives(find_inputs([f"{tmp_path}/data/**/*.txt"])) == expected


def test_a_pipe_named_like_a_text_is_passed_over_instead_of_hanging_the_build(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "b.txt")
    inputs = find_inputs([str(tmp_path)])
    assert (relatives(inputs), inputs.num_ignored) == (["a.txt"], 1)


def test_names_that_are_not_utf8_are_found_and_their_messages_and_identities_can_be_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_bytes(b"x")
    inputs = find_inputs([str(tmp_path)])
    assert relatives(inputs) == [name]
    (unit,) = split_units(inputs.files, None)
    identity = json.dumps(unit.identity(), ensure_ascii=False).encode()
    assert b"\\u0000636166e92e747874" in identity
    with pytest.raises(ConfigError) as caught:
        find_inputs([str(tmp_path), str(tmp_path / name)])
    assert "caf\\xe9.txt" in str(caught.value).encode().decode()


def save_dataset(folder: Path, texts: list[str], num_shards: int = 1) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": texts}).save_to_disk(folder, num_shards=num_shards)


def test_a_datasets_folder_is_one_input_wherever_it_lies(tmp_path: Path) -> None:
    save_dataset(tmp_path / "all/mine", ["a", "b", "c"], num_shards=2)
    write(tmp_path, "all/x.txt")
    (file,) = find_inputs([f"{tmp_path}/all/mine"]).files
    data = [path for path in (tmp_path / "all/mine").iterdir() if path.suffix in (".arrow", ".json")]
    assert len(data) == 4
    assert (file.relative, file.kind, file.size) == ("mine", "datasets", sum(p.stat().st_size for p in data))
    assert file.mtime_ns == max(path.stat().st_mtime_ns for path in data)
    for argument in ("all", "all/*", "all/**", "all/**/*"):
        inputs = find_inputs([f"{tmp_path}/{argument}"])
        assert [(each.relative, each.kind) for each in inputs.files] == [("mine", "datasets"), ("x.txt", "text")]
        assert inputs.num_ignored == 0
    arrow_files = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert relatives(find_inputs([f"{tmp_path}/all/mine/*.arrow"])) == arrow_files
    # A cache that a later `map` leaves in the folder does not make it another corpus.
    (tmp_path / "all/mine/cache-1234.arrow").write_bytes(b"x")
    assert find_inputs([f"{tmp_path}/all/mine"]).files == (file,)


@pytest.mark.parametrize("argument", ["dict", ".", "*"])
def test_a_datasetdict_is_refused_naming_its_splits(tmp_path: Path, argument: str) -> None:
    write(tmp_path, "a.txt", "dict/train/state.json")
    (tmp_path / "dict/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(ConfigError) as caught:
        find_inputs([f"{tmp_path}/{argument}"])
    assert str(caught.value).endswith(f"out of: {tmp_path}/dict/train, {tmp_path}/dict/test.")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_datasets_folder_with_a_broken_state_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(ConfigError, match=r"state\.json is not (valid JSON|a JSON object).*save the folder again"):
        find_inputs([str(tmp_path)])


def test_the_default_unit_is_a_32nd_as_a_power_of_two_from_16_to_128_mib() -> None:
    sizes = [0, 1, 256 * MIB, 512 * MIB, 512 * MIB + 1, 1025 * MIB, 4096 * MIB, 4096 * MIB + 1, 10**15]
    expected = [16, 16, 16, 16, 32, 64, 128, 128, 128]
    assert [default_unit_bytes(size) // MIB for size in sizes] == expected


def test_very_many_very_small_units_are_refused() -> None:
    """A file of 3 MB was divided into 3 million parts, one for each byte."""
    large = [fake("a.jsonl", 3_000_000, "jsonl"), fake("b.txt", 70_000)]
    with pytest.raises(ConfigError, match=r"--unit-bytes 1 would give more than 4,096 units, .* at least 65,536"):
        split_units(large, 1)
    assert len(split_units(large, 750)) > 4_000
    with pytest.raises(ConfigError, match=r"units"):
        split_units([fake("a.jsonl", 1 << 40, "jsonl")], (64 << 10) - 1)
    assert len(split_units([fake("a.jsonl", 1 << 30, "jsonl")], 64 << 10)) == 16_384
    assert len(split_units([fake(f"{n}.jsonl", 9, "jsonl") for n in range(5_000)], 100)) == 5_000


@pytest.mark.parametrize("unit_bytes", [0, -1])
def test_a_unit_below_one_byte_is_refused(unit_bytes: int) -> None:
    with pytest.raises(ConfigError, match=rf"--unit-bytes {unit_bytes} is below 1"):
        split_units([fake("a.txt", 3)], unit_bytes)


def test_byte_ranges_tile_a_jsonl_file_for_every_size() -> None:
    for size in range(40):
        for unit_bytes in range(1, size + 2):
            units = split_units([fake("a.jsonl", size, "jsonl")], unit_bytes)
            edges = [0, *(unit.stop for unit in units)]
            assert [unit.start for unit in units] == edges[:-1]
            assert edges[-1] == size
            assert all(0 < unit.stop - unit.start == unit.num_bytes <= unit_bytes for unit in units)


def test_adding_a_container_leaves_every_other_unit_as_it_was() -> None:
    files = [fake(f"{name}.jsonl", size * MIB, "jsonl") for name, size in (("a", 30), ("c", 3), ("d", 700))]
    before = [unit.identity() for unit in split_units(files, None)]
    files.insert(1, fake("b.jsonl.gz", 5000 * MIB, "jsonl.gz"))
    after = [unit.identity() for unit in split_units(files, None)]
    assert [identity for identity in after if identity not in before] == [
        ["jsonl.gz", 0, 0, [["b.jsonl.gz", 5000 * MIB, 1, ""]]]
    ]
    assert [identity for identity in after if identity in before] == before


def test_adding_a_text_file_changes_one_group_and_no_container() -> None:
    files = [fake(f"{number}.txt", 1000) for number in range(5000)] + [fake("c.jsonl.gz", 9, "jsonl.gz")]
    before = split_units(files, 100_000)
    assert len(before) == 1 + 64
    after = split_units([*files, fake("new.txt", 1000)], 100_000)
    changed = {json.dumps(u.identity()) for u in after} - {json.dumps(u.identity()) for u in before}
    assert len(changed) == 1
    assert len(after) == len(before)


def test_text_groups_hold_each_file_once_by_name_whatever_order_workers_see() -> None:
    files = tuple(fake(f"{number:03}.txt", number) for number in range(300))
    for unit_bytes in (None, 1, 100, 1000, 10**9):
        units = split_units(files, unit_bytes)
        assert sorted(file.relative for unit in units for file in unit.files) == [f.relative for f in files]
        assert all(list(unit.files) == sorted(unit.files, key=lambda f: f.relative) for unit in units)
        assert sum(unit.num_bytes for unit in units) == sum(file.size for file in files)
    assert len(split_units(files, None)) == 1


def test_an_identity_holds_the_content_and_not_the_place() -> None:
    file = fake("a.jsonl", 9, "jsonl")
    identity = split_units([file], None)[0].identity()
    assert identity == ["jsonl", 0, 9, [["a.jsonl", 9, 1, ""]]]
    assert split_units([dataclasses.replace(file, path="/elsewhere")], None)[0].identity() == identity
    for change in ({"relative": "b.jsonl"}, {"size": 8}, {"mtime_ns": 2}, {"stamp": "1:2:3"}, {"kind": "jsonl.gz"}):
        assert split_units([dataclasses.replace(file, **change)], None)[0].identity() != identity


def test_empty_files_are_no_work_but_an_empty_text_is_a_document_to_count() -> None:
    assert split_units([], None) == ()
    assert split_units([fake("a.jsonl", 0, "jsonl")], None) == ()
    (unit,) = split_units([fake("a.txt", 0)], None)
    assert unit.files == (fake("a.txt", 0),)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(0, 60), group_rows=st.integers(1, 20), unit_bytes=st.integers(1, 3000), data=st.data())
def test_parquet_units_are_whole_row_groups(
    tmp_path_factory: pytest.TempPathFactory, rows: int, group_rows: int, unit_bytes: int, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    sizes = data.draw(st.lists(st.integers(0, 300), min_size=rows, max_size=rows))
    pq.write_table(pa.table({"text": pa.array(["x" * size for size in sizes])}), path, row_group_size=group_rows)
    units = split_units(find_inputs([str(path)]).files, unit_bytes)
    edges = [0, *(unit.stop for unit in units)]
    assert [unit.start for unit in units] == edges[:-1]
    assert edges[-1] == rows
    assert all(edge % group_rows == 0 for edge in edges[:-1])
    assert not rows or sum(unit.num_bytes for unit in units) == path.stat().st_size


def test_arrow_rows_are_divided_inside_large_batches_but_not_in_compressed_ones(tmp_path: Path) -> None:
    table = pa.table({"text": ["x" * 100] * 50})
    for name, codec, expected in (("plain", None, 7), ("packed", "lz4", 1)):
        path = tmp_path / f"{name}.arrow"
        with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
            writer.write_table(table)
        units = split_units(find_inputs([str(path)]).files, -(-path.stat().st_size // 7))
        assert len(units) == expected
        assert units[-1].stop == (50 if codec is None else 0)
        assert sum(unit.num_bytes for unit in units) == path.stat().st_size
