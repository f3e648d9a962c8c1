"""Reading DBN files: every good form gives the same records, every bad one a clear line."""

from __future__ import annotations

import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import databento
import numpy as np
import pytest
import zstandard

from shared.dbn import Metadata, Reader, Writer, blocks, identity
from shared.dbn.blocks import BLOCK_BYTES, zstd_is_complete
from shared.dbn.metadata import encode
from shared.errors import SourceError
from shared.records import MBO, Rows
from tests.support.dbn_files import metadata, write
from tests.support.mbo import random_rows

RECORDS = random_rows(40_000)


def read(path: Path, chunk: int = 65_536) -> tuple[Rows, Reader]:
    with Reader(path) as reader:
        rows = [part.records for part in reader.parts(chunk) if part.records is not None]
    return (np.concatenate(rows) if rows else np.empty(0, MBO)), reader


@pytest.mark.parametrize("name", ["a.dbn", "a.dbn.zst"])
@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("chunk", [1000, 65_536])
def test_records_come_back_as_written(tmp_path: Path, name: str, version: int, chunk: int) -> None:
    path = write(tmp_path / name, RECORDS, metadata(version=version))
    rows, reader = read(path, chunk)
    assert rows.tobytes() == RECORDS.tobytes()
    assert (reader.cut_bytes, reader.truncated, reader.skipped) == (0, False, {})


def test_the_form_of_a_file_does_not_change_its_identity(tmp_path: Path) -> None:
    names = set()
    for version in (1, 2, 3):
        for name in ("a.dbn", "b.dbn.zst"):
            with Reader(write(tmp_path / name, RECORDS, metadata(version=version))) as reader:
                parts = (part.records for part in reader.parts(77) if part.records is not None)
                names.add(identity(reader.metadata, parts))
    assert len(names) == 1


@pytest.mark.parametrize("change", ["dataset", "record"])
def test_other_content_has_another_identity(change: str) -> None:
    other = RECORDS.copy()
    other["size"][999] += 1
    meta = metadata("OTHER" if change == "dataset" else "TEST.SET")
    assert identity(meta, [other if change == "record" else RECORDS]) != identity(metadata(), [RECORDS])
    late = RECORDS.copy()
    late["size"][1000] += 1
    assert identity(metadata(), [late]) == identity(metadata(), [RECORDS]), "only the first 1,000 count"


def test_the_databento_client_reads_our_files(tmp_path: Path) -> None:
    for name in ("a.dbn", "a.dbn.zst"):
        store = databento.DBNStore.from_bytes(write(tmp_path / name, RECORDS).read_bytes())
        assert (store.dataset, str(store.schema), store.symbols) == ("TEST.SET", "mbo", ["ONE"])
        array = store.to_ndarray()
        assert len(array) == len(RECORDS)
        assert (array["order_id"] == RECORDS["order_id"]).all()


def test_frames_and_skippable_frames_of_zstd_are_one_file(tmp_path: Path) -> None:
    pack = zstandard.ZstdCompressor().compress
    half = RECORDS.tobytes()[: 20_000 * 56 + 13]
    path = tmp_path / "a.dbn.zst"
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    path.write_bytes(pack(encode(metadata())) + skippable + pack(half) + pack(RECORDS.tobytes()[len(half) :]))
    rows, reader = read(path)
    assert rows.tobytes() == RECORDS.tobytes()
    assert not reader.truncated


def test_ts_out_is_cut_off_every_record(tmp_path: Path) -> None:
    wide = np.zeros((len(RECORDS), 64), np.uint8)
    wide[:, :56] = RECORDS.view(np.uint8).reshape(-1, 56)
    wide[:, 0] = 16
    path = tmp_path / "a.dbn"
    path.write_bytes(encode(metadata(ts_out=True)) + wide.tobytes())
    assert read(path)[0].tobytes() == RECORDS.tobytes()


def test_a_plain_file_costs_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn", np.tile(RECORDS, 5))
    tracemalloc.start()
    with Reader(path) as reader:
        count = sum(len(part.records) for part in reader.parts() if part.records is not None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 2_000_000, "11 MB of records are never copied"


def test_arrays_stay_valid_after_the_reader_has_gone_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn.zst", np.tile(RECORDS, 3))
    with Reader(path) as reader:
        held = [part.records for part in reader.parts(5_000) if part.records is not None]
    assert np.concatenate(held).tobytes() == np.tile(RECORDS, 3).tobytes()


def test_a_reader_can_be_left_in_the_middle(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn.zst", np.tile(RECORDS, 20))
    with Reader(path) as reader:
        next(reader.parts(100))
    assert reader._blocks._thread is not None  # type: ignore[attr-defined]
    assert not reader._blocks._thread.is_alive()  # type: ignore[attr-defined]


def bad(tmp_path: Path, content: bytes | None, name: str = "bad.dbn") -> str:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text.removeprefix(str(path))


GOOD = encode(metadata()) + RECORDS[:10].tobytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"hello, world", "is not a DBN file"),
        (b"E", "is not a DBN file"),
        (b"D", "is cut off before its metadata ends"),
        (GOOD[:6], "is cut off before its metadata ends"),
        (GOOD[:100], "is cut off in its metadata, byte 100 of"),
        (b"DBN\x09" + GOOD[4:], "DBN version 9 is newer"),
        (b"DBN\x03\xff\xff\xff\xff", "metadata claims"),
        (encode(metadata(schema="mbp-10")), "has schema mbp-10, books need mbo"),
        (b"P*M\x18\x90\x00\x00\x00DBZ\x01GLBX.MDP3", "is legacy DBZ"),
        (zstandard.ZstdCompressor().compress(b"not dbn at all"), "is not a DBN file"),
        (zstandard.ZstdCompressor().compress(GOOD)[:20], "is cut off before its metadata ends"),
        (GOOD + bytes(56), r"record 10 at byte \d+ is damaged \(length 0, type 0\)"),
        (GOOD + b"\x0e\x77" + bytes(54), r"record 10 at byte \d+ is damaged \(length 56, type 119\)"),
        (GOOD + b"\x0d\xa0" + bytes(50), r"record 10 at byte \d+ is damaged \(length 52, type 160\)"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path: Path, content: bytes | None, says: str) -> None:
    import re

    assert re.search(says, bad(tmp_path, content))


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder"):
        Reader(tmp_path)


def test_a_pipe_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.dbn")
    with pytest.raises(SourceError, match="is a pipe or a device"):
        Reader(tmp_path / "p.dbn")


@pytest.mark.parametrize("name", ["a.dbn", "a.dbn.zst"])
def test_files_behind_each_other_in_one_are_said(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, RECORDS)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(SourceError, match=r"record 40000 .* another DBN file begins: give them as two"):
        read(path)


def test_records_before_the_damage_are_given_out(tmp_path: Path) -> None:
    path = tmp_path / "a.dbn"
    path.write_bytes(encode(metadata()) + RECORDS.tobytes() + bytes(100))
    rows: list[Rows] = []
    with Reader(path) as reader, pytest.raises(SourceError, match="record 40000"):
        rows.extend(part.records for part in reader.parts() if part.records is not None)
    assert np.concatenate(rows).tobytes() == RECORDS.tobytes()


@pytest.mark.parametrize("cut", [1, 2, 30, 55])
def test_a_cut_file_is_read_to_its_last_whole_record(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.dbn"
    path.write_bytes(encode(metadata()) + RECORDS.tobytes()[:-cut])
    rows, reader = read(path)
    assert rows.tobytes() == RECORDS[:-1].tobytes()
    assert reader.cut_bytes == 56 - cut
    assert f"its last {56 - cut} bytes" in (reader.truncation() or "")


def test_a_cut_compressed_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn.zst", RECORDS)
    whole = path.read_bytes()
    assert zstd_is_complete(path)
    path.write_bytes(whole[: len(whole) // 2])
    assert not zstd_is_complete(path)
    rows, reader = read(path)
    assert 0 < len(rows) < len(RECORDS)
    assert rows.tobytes() == RECORDS[: len(rows)].tobytes()
    assert "its compressed stream has no end" in (reader.truncation() or "")


def test_damaged_compression_is_an_error_after_the_good_records(tmp_path: Path) -> None:
    many = np.tile(RECORDS, 3)
    assert many.nbytes > 2 * BLOCK_BYTES
    path = write(tmp_path / "a.dbn.zst", many)
    blob = bytearray(path.read_bytes())
    for at in range(len(blob) * 2 // 3, len(blob) * 2 // 3 + 400):
        blob[at] ^= 0x5A
    path.write_bytes(bytes(blob))
    rows: list[Rows] = []
    with Reader(path) as reader, pytest.raises(SourceError, match="compressed data is damaged"):
        rows.extend(part.records for part in reader.parts() if part.records is not None)
    assert np.concatenate(rows)[:20_000].tobytes() == many[:20_000].tobytes()


def test_metadata_without_records_is_an_empty_file(tmp_path: Path) -> None:
    with Writer(tmp_path / "a.dbn", Metadata(dataset="X")):
        pass
    rows, reader = read(tmp_path / "a.dbn")
    assert len(rows) == 0
    assert not reader.truncated


def test_a_file_that_is_emptied_while_it_is_read_is_an_error_and_no_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.dbn.zst", RECORDS)

    def emptied(found: Path) -> bool:
        found.write_bytes(b"")
        return zstd_is_complete(found)

    monkeypatch.setattr(blocks, "zstd_is_complete", emptied)
    with ThreadPoolExecutor(1) as pool, pytest.raises(SourceError, match="empty"):
        pool.submit(read, path).result(10)
