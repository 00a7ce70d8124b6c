"""Compressed shards: every zstd program decodes them, ranges are read alone, and nothing hostile gets through."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from struct import pack, unpack
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.errors import BuildError, DataError
from pipeline.sharing import frames
from pipeline.sharing.frames import compress_file, decompress_file, read_range
from pipeline.sharing.seek_table import LEAST_BLOCK_BYTES, seek_table

BLOCK = LEAST_BLOCK_BYTES
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest that are allowed, so that small files have several."""
    monkeypatch.setattr(frames, "BLOCK_BYTES", BLOCK)


def plain_bytes(size: int) -> bytes:
    """Ids as in a shard: they compress, but not to nothing."""
    ids = np.random.default_rng(7).zipf(1.3, size // 2 + 1).clip(0, 50_000).astype("<u2")
    return ids.tobytes()[:size]


def compressed(folder: Path, plain: bytes, **options: Any) -> Path:
    """The file that `plain` travels as."""
    (folder / "plain").write_bytes(plain)
    compress_file(folder / "plain", folder / "plain.zst", lambda amount: None, **options)
    return folder / "plain.zst"


def test_the_seek_table_is_that_of_the_published_format() -> None:
    """Two frames, byte for byte; other readers find them by it."""
    said = "5e2a4d18 19000000 05000000 0a000000 03000000 04000000 02000000 00 b1ea928f"
    assert seek_table([(5, 10), (3, 4)]) == bytes.fromhex(said)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17])
def test_a_file_comes_back_and_is_the_same_with_any_number_of_threads(size: int, tmp_path: Path) -> None:
    """Sizes around the borders of blocks; progress adds up to the plain bytes both ways."""
    plain = plain_bytes(size)
    files = [compressed(tmp_path, plain, threads=threads).read_bytes() for threads in (1, 2, 7)]
    assert files[0] == files[1] == files[2]
    seen: list[int] = []
    digest = compress_file(tmp_path / "plain", tmp_path / "plain.zst", seen.append)
    assert digest == hashlib.sha256(plain).hexdigest()
    assert decompress_file(tmp_path / "plain.zst", tmp_path / "back", size, seen.append, threads=3) == digest
    assert (tmp_path / "back").read_bytes() == plain
    assert sum(seen) == 2 * size


def test_other_zstd_programs_decode_it(tmp_path: Path) -> None:
    """The library's own stream reader, `zstd -d` where it is, and the seekable reader of another package."""
    import pyzstd

    plain = plain_bytes(3 * BLOCK + 1000)
    path = compressed(tmp_path, plain)
    with zstandard.open(path, "rb") as file:
        assert file.read() == plain
    if shutil.which("zstd"):
        assert subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout == plain
    with pyzstd.SeekableZstdFile(path) as theirs:
        assert theirs.seek(2 * BLOCK - 5) == 2 * BLOCK - 5
        assert theirs.read(11) == plain[2 * BLOCK - 5 : 2 * BLOCK + 6]


def test_a_seekable_file_of_another_writer_is_read(tmp_path: Path) -> None:
    """`pyzstd` writes another level and block size, and no checksum in its frames."""
    import pyzstd

    plain = plain_bytes(5 * BLOCK)
    with pyzstd.SeekableZstdFile(tmp_path / "theirs.zst", "w", max_frame_content_size=2 * BLOCK) as theirs:
        theirs.write(plain)
    assert read_range(tmp_path / "theirs.zst", BLOCK, 4 * BLOCK, len(plain)) == plain[BLOCK : 4 * BLOCK]


PLAIN = plain_bytes(4 * BLOCK + 321)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of five frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "BLOCK_BYTES", BLOCK)
        return compressed(tmp_path_factory.mktemp("shard"), PLAIN)


@given(st.integers(0, len(PLAIN)), st.integers(0, len(PLAIN)))
@settings(max_examples=60)
def test_a_range_is_what_a_slice_is(shard: Path, one: int, other: int) -> None:
    """Any range, empty ones too."""
    start, stop = sorted((one, other))
    assert read_range(shard, start, stop, len(PLAIN)) == PLAIN[start:stop]


class Watched(io.BytesIO):
    """A file that remembers how much of it was read."""

    num_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.num_read += len(data)
        return data


def test_a_range_reads_its_frames_and_the_table_only(shard: Path) -> None:
    """From a store every byte costs time: of five frames one is read, at a border two."""
    ends = np.cumsum([0, *(size for size, _ in entries(shard.read_bytes()))])
    table_bytes = 8 + 5 * 8 + 9
    for start, stop, first, last in ((BLOCK, 2 * BLOCK, 1, 2), (2 * BLOCK - 1, 2 * BLOCK + 1, 1, 3), (7, 7, 0, 0)):
        watched = Watched(shard.read_bytes())
        assert read_range(watched, start, stop, len(PLAIN)) == PLAIN[start:stop]
        assert watched.num_read == table_bytes + 9 + ends[last] - ends[first]


def entries(file: bytes) -> list[tuple[int, int]]:
    """Compressed and plain sizes of the frames, by the table."""
    (count,) = unpack("<I", file[-9:-5])
    table = file[-9 - 8 * count : -9]
    return [unpack("<II", table[8 * i : 8 * i + 8]) for i in range(count)]  # type: ignore[misc]


def split(file: bytes) -> list[bytes]:
    """The frames, without the table."""
    ends = np.cumsum([0, *(size for size, _ in entries(file))])
    return [file[start:stop] for start, stop in pairwise(ends)]


def joined(parts: list[tuple[bytes, int]]) -> bytes:
    """Frames that claim so many plain bytes, and a table that says so."""
    return b"".join(part for part, _ in parts) + seek_table([(len(part), size) for part, size in parts])


def bomb(size: int) -> bytes:
    """A frame of zeros."""
    return zstandard.ZstdCompressor(level=1).compress(bytes(size))


def stream_frame(plain: bytes, **parameters: Any) -> bytes:
    """A frame that does not say how long it is."""
    chosen = zstandard.ZstdCompressionParameters(write_content_size=False, **parameters)
    writer = zstandard.ZstdCompressor(compression_params=chosen).compressobj()
    return bytes(writer.compress(plain) + writer.flush())


def with_dictionary(plain: bytes) -> bytes:
    """A frame that cannot be decoded without a dictionary."""
    samples = [plain[i : i + 500] for i in range(0, len(plain), 500)]
    words = zstandard.train_dictionary(4096, samples)
    return bytes(zstandard.ZstdCompressor(dict_data=words).compress(plain))


def exchanged(file: bytes, i: int, part: bytes, size: int | None = None) -> bytes:
    """With another frame in place of one, and a table of it."""
    parts = list(zip(split(file), (size for _, size in entries(file)), strict=True))
    parts[i] = (part, parts[i][1] if size is None else size)
    return joined(parts)


def moved(file: bytes, i: int, amount: int) -> bytes:
    """The table gives `amount` plain bytes of a frame to the next one: the sum is right."""
    sizes = entries(file)
    sizes[i], sizes[i + 1] = (sizes[i][0], sizes[i][1] - amount), (sizes[i + 1][0], sizes[i + 1][1] + amount)
    return b"".join(split(file)) + seek_table(sizes)


FIRST = PLAIN[:BLOCK]
HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda file: b"", "too few"),
    "cut in a frame": (lambda file: file[: len(file) // 2], "does not end with a zstd seek table"),
    "cut in the table": (lambda file: file[:-20], "does not end with a zstd seek table"),
    "without a table": (lambda file: b"".join(split(file)), "does not end with a zstd seek table"),
    "junk behind it": (lambda file: file + b"junk", "does not end with a zstd seek table"),
    "junk before it": (lambda file: b"junk" + file, "bytes of frames, there are"),
    "plain Arrow": (lambda file: b"ARROW1\0\0" + bytes(100) + b"ARROW1", "does not end with a zstd seek table"),
    "a bomb in a true frame": (lambda file: exchanged(file, 1, bomb(1 << 30)), r"claims 1,073,741,824 plain bytes"),
    "a bomb that the table tells": (lambda file: exchanged(file, 1, bomb(32 * MIB), 32 * MIB), "frames stand for"),
    "a bomb that hides its size": (lambda file: exchanged(file, 1, stream_frame(bytes(32 * MIB))), "is damaged"),
    "a wide window": (lambda file: exchanged(file, 0, stream_frame(FIRST, window_log=27)), "window of 134,217,728"),
    "a dictionary": (lambda file: exchanged(file, 0, with_dictionary(FIRST)), "dictionary [1-9]"),
    "two frames in one": (lambda file: exchanged(file, 0, bomb(BLOCK) + bomb(BLOCK)), "is damaged"),
    "a frame and junk": (lambda file: exchanged(file, 0, split(file)[0] + b"x"), "is damaged"),
    "a skippable frame": (lambda file: exchanged(file, 0, pack("<II", 0x184D2A50, BLOCK) + bytes(BLOCK)), "the frame"),
    "an empty frame": (lambda file: joined([*zip(split(file), BLOCKS, strict=True), (bomb(0), 0)]), "too many"),
    "a frame cut short": (lambda file: exchanged(file, 0, split(file)[0][:-9]), "is damaged"),
    "a frame swollen": (lambda file: exchanged(file, 4, bytes(4 * BLOCK)), "no push writes"),
    "sizes exchanged": (lambda file: moved(file, 3, -1), "claims 65,536 plain bytes"),
    "a small frame first": (lambda file: moved(file, 0, 1), "no push writes"),
    "a table of 2^32 frames": (lambda file: file[:-9] + pack("<IBI", 2**32 - 1, 0, 0x8F92EAB1), "4,294,967,295 frames"),
    "reserved bits": (lambda file: file[:-9] + pack("<IBI", 5, 4, 0x8F92EAB1), "does not end with a zstd seek table"),
    "a table of fewer": (lambda file: file[:-9] + pack("<IBI", 4, 0, 0x8F92EAB1), "seek table is damaged"),
}
"""What a place may hold in place of a shard, and what is said of it."""
BLOCKS = [BLOCK] * 4 + [321]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, shard: Path, tmp_path: Path) -> None:
    """In one sentence, with little memory, and nothing stays on the disk."""
    change, said = HOSTILE[name]
    path = tmp_path / "hostile.zst"
    path.write_bytes(change(shard.read_bytes()))
    tracemalloc.start()
    with pytest.raises(DataError, match=said) as refused:
        decompress_file(path, tmp_path / "back", len(PLAIN), lambda amount: None, threads=1)
    assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    tracemalloc.stop()
    assert str(refused.value).startswith(str(path))
    assert str(refused.value).endswith("Fetch it again, or push the dataset again.")
    assert [each.name for each in tmp_path.iterdir()] == ["hostile.zst"], "nothing was left behind"


@pytest.mark.parametrize("other", [len(PLAIN) - 1, len(PLAIN) + 1, 0, 1 << 62])
def test_a_size_that_is_not_the_manifests_is_refused(shard: Path, tmp_path: Path, other: int) -> None:
    """A bomb is more bytes than the manifest says: it is known before anything is decoded."""
    with pytest.raises(DataError, match=r"the manifest says|too many"):
        decompress_file(shard, tmp_path / "back", other, lambda amount: None)
    assert not list(tmp_path.iterdir())


def test_every_flipped_bit_is_found_or_harmless(tmp_path: Path) -> None:
    """Of a file of two frames, each bit: what is read is the shard, or nothing."""
    plain = bytes(BLOCK) + b"the end"
    file = compressed(tmp_path, plain).read_bytes()
    assert len(file) < 120
    harmless = 0
    for bit in range(8 * len(file)):
        hurt = bytearray(file)
        hurt[bit // 8] ^= 1 << bit % 8
        try:
            found = read_range(io.BytesIO(hurt), 0, len(plain), len(plain))
        except DataError:
            continue
        assert found == plain
        harmless += 1
    assert harmless <= 8, "bits that the formats do not use"


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    """A download that ended early, wherever."""
    plain = bytes(BLOCK) + b"the end"
    file = compressed(tmp_path, plain).read_bytes()
    for size in range(len(file)):
        with pytest.raises(DataError):
            read_range(io.BytesIO(file[:size]), 0, len(plain), len(plain))


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_noise_is_refused(noise: bytes) -> None:
    """Also behind a true end of a table."""
    for file in (noise, noise + seek_table([(len(noise), 70_000)])):
        with pytest.raises(DataError):
            read_range(io.BytesIO(file), 0, 70_000, 70_000)


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    """A place that is not there is no bad data."""
    with pytest.raises(BuildError, match=r"nowhere: cannot be read: No such file"):
        compress_file(tmp_path / "nowhere", tmp_path / "out", lambda amount: None)
    with pytest.raises(BuildError, match=r"nowhere: cannot be read: No such file"):
        decompress_file(tmp_path / "nowhere", tmp_path / "out", 10, lambda amount: None)
    with pytest.raises(ValueError, match="choose 0 <= start <= stop <= 10"):
        read_range(io.BytesIO(), 0, 11, 10)
    path = compressed(tmp_path, b"small")
    (tmp_path / "a file").write_bytes(b"")
    with pytest.raises(BuildError, match="cannot be written"):
        decompress_file(path, tmp_path / "a file" / "out", 5, lambda amount: None)
