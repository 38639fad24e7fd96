"""A record and its arrays appear as one, whoever reads or dies meanwhile."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from conformask.errors import MismatchError
from conformask.records.record import read_json
from conformask.records.sealed import publish, read_published, verify

ARRAYS = {"curves": {"a": np.arange(5.0)}, "critical": {"b": np.ones(3)}}


def published(path: Path, number: int = 1, sealed: tuple[str, ...] = ()) -> None:
    arrays = {stem: {name: values * number for name, values in each.items()} for stem, each in ARRAYS.items()}
    publish(path, {"number": number}, arrays, sealed)


def test_what_was_published_is_read(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for number in (1, 2):
        published(path, number)
        found = read_published(path, ARRAYS)
        assert found.record["number"] == number
        np.testing.assert_array_equal(found.arrays["curves"]["a"], number * np.arange(5.0))
    assert len(list(tmp_path.iterdir())) == 3, "the files of the first are gone"


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    published(path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npz")}
    publish(path, {"number": 2}, ARRAYS)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npz")} == before
    assert read_published(path, ARRAYS).record["number"] == 2


def test_a_damaged_file_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    published(path)
    for file in tmp_path.glob("*.npz"):
        file.write_bytes(b"damaged")
    published(path)
    read_published(path, ARRAYS)


@pytest.mark.parametrize("part", ["record.json", "curves-*.npz", "scorer.safetensors"])
def test_every_file_is_sealed(tmp_path: Path, part: str) -> None:
    (tmp_path / "scorer.safetensors").write_text("weights")
    published(tmp_path / "record.json", sealed=("scorer.safetensors",))
    (path,) = tmp_path.glob(part)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"number": 1', b'"number": 2') if content[:1] == b"{" else content[:-1])
    with pytest.raises(MismatchError, match=f"{path.name} is damaged"):
        read_published(tmp_path / "record.json", ARRAYS)


def test_the_seal_knows_no_order_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    published(path)
    path.write_text(json.dumps(dict(reversed(read_json(path).items()))))
    verify(path, read_json(path))


def _write_on(path: Path, stop: multiprocessing.Event) -> None:
    number = 1
    while not stop.is_set():
        number += 1
        published(path, number)


def test_a_reader_sees_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    published(path)
    context = multiprocessing.get_context("spawn")
    stop, seen = context.Event(), set()
    writer = context.Process(target=_write_on, args=(path, stop))
    writer.start()
    try:
        while len(seen) < 20:
            found = read_published(path, ARRAYS)
            number = found.record["number"]
            np.testing.assert_array_equal(found.arrays["curves"]["a"], number * np.arange(5.0))
            np.testing.assert_array_equal(found.arrays["critical"]["b"], number * np.ones(3))
            seen.add(number)
    finally:
        stop.set()
        writer.join()
