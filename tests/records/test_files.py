"""Files are whole or not there, records and arrays appear as one, one process at a time writes a folder."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from conformask.errors import MismatchError, OutputError
from conformask.records.record import (
    MARK,
    atomic_write,
    exclusive_folder,
    publish,
    read_json,
    read_published,
    sweep,
    verify,
    write_json,
)


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_json(tmp_path / "record.json", {"files": ["deep/file.txt"]})
    with atomic_write(path) as aside:
        aside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as aside:
        aside.write_text("half\udcff", encoding="utf-8")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".png", ".ome.tiff"])
def test_the_longest_name_that_a_folder_takes(tmp_path, suffix):
    path = tmp_path / f"{'n' * (255 - len(suffix))}{suffix}"
    with atomic_write(path) as aside:
        aside.write_text("whole")
    assert path.read_text() == "whole"


def test_a_longer_name_is_refused(tmp_path):
    with pytest.raises(OutputError, match="shorter name"), atomic_write(tmp_path / ("n" * 256)) as aside:
        aside.write_text("whole")
    assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(OutputError, match="No space left on device; choose another folder"),
        atomic_write(tmp_path / "a"),
    ):
        raise full
    assert not list(tmp_path.iterdir())


KILLED = """
import os, sys
from pathlib import Path
from conformask.records.record import atomic_write
with atomic_write(Path(sys.argv[1]) / "file") as aside:
    aside.write_text("half") if len(sys.argv) < 3 else (aside.mkdir(), (aside / "chunk").write_text("half"))
    os._exit(9)
"""


@pytest.mark.parametrize("more", [[], ["folder"]])
def test_what_a_killed_process_left_is_swept(tmp_path, more):
    subprocess.run([sys.executable, "-c", KILLED, tmp_path, *more], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(MARK)
    with atomic_write(tmp_path / "other") as aside:
        aside.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_what_living_processes_or_other_machines_write_stays(tmp_path):
    with atomic_write(tmp_path / "file") as aside:
        living = aside.name
        aside.write_text("half")
    for name in (living, f"{MARK}0badcafe-{os.getpid()}-01234567", f"{MARK}what"):
        (tmp_path / name).write_text("half")
    sweep.cache_clear()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {living, f"{MARK}0badcafe-{os.getpid()}-01234567"}


ARRAYS = {"curves": {"a": np.arange(5.0)}, "critical": {"b": np.ones(3)}}


def published(path, number=1, sealed=()):
    arrays = {stem: {name: values * number for name, values in each.items()} for stem, each in ARRAYS.items()}
    publish(path, {"number": number}, arrays, sealed)


def test_what_was_published_is_read(tmp_path):
    path = tmp_path / "record.json"
    for number in (1, 2):
        published(path, number)
        found = read_published(path, ARRAYS)
        assert found.record["number"] == number
        np.testing.assert_array_equal(found.arrays["curves"]["a"], number * np.arange(5.0))
    assert len(list(tmp_path.iterdir())) == 3, "the files of the first are gone"


def test_what_did_not_change_is_not_written_again(tmp_path):
    path = tmp_path / "record.json"
    published(path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npz")}
    publish(path, {"number": 2}, ARRAYS)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npz")} == before
    assert read_published(path, ARRAYS).record["number"] == 2


def test_a_damaged_file_is_written_again(tmp_path):
    path = tmp_path / "record.json"
    published(path)
    for file in tmp_path.glob("*.npz"):
        file.write_bytes(b"damaged")
    published(path)
    read_published(path, ARRAYS)


@pytest.mark.parametrize("part", ["record.json", "curves-*.npz", "scorer.safetensors"])
def test_every_file_is_sealed(tmp_path, part):
    (tmp_path / "scorer.safetensors").write_text("weights")
    published(tmp_path / "record.json", sealed=("scorer.safetensors",))
    (path,) = tmp_path.glob(part)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"number": 1', b'"number": 2') if content[:1] == b"{" else content[:-1])
    with pytest.raises(MismatchError, match=f"{path.name} is damaged"):
        read_published(tmp_path / "record.json", ARRAYS)


def test_the_seal_knows_no_order_of_keys(tmp_path):
    path = tmp_path / "record.json"
    published(path)
    path.write_text(json.dumps(dict(reversed(read_json(path).items()))))
    verify(path, read_json(path))


def _write_on(path, stop):
    number = 1
    while not stop.is_set():
        number += 1
        published(path, number)


def test_a_reader_sees_one_of_them(tmp_path):
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


HOLD = """
import sys, time
from pathlib import Path
from conformask.records.record import exclusive_folder
with exclusive_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused(holder, tmp_path):
    with (
        pytest.raises(OutputError, match=rf"is being written by process {holder.pid} on .*wait"),
        exclusive_folder(tmp_path),
    ):
        pass


def test_the_lock_dies_with_its_process(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with exclusive_folder(tmp_path):
        pass


def test_one_process_may_nest(tmp_path):
    with exclusive_folder(tmp_path), exclusive_folder(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", HOLD, tmp_path], capture_output=True, text=True, check=False
        )
        assert f"is being written by process {os.getpid()}" in done.stderr
    with exclusive_folder(tmp_path):
        pass


def test_other_ranks_do_not_ask(holder, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with exclusive_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"), exclusive_folder(tmp_path / "file" / "sub"):
        pass
