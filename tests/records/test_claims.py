"""conformask replaces and removes what a record of its own claims by name, and nothing else."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from conformask.errors import OutputError
from conformask.records.record import (
    State,
    atomic_write,
    claim,
    is_claimed,
    publish,
    refuse_unclaimed,
    refuse_unclaimed_in,
    remove,
    remove_claimed,
    write_arrays,
    write_json,
)


def write(path, text="new"):
    with atomic_write(path) as aside:
        aside.write_text(text)


def test_a_file_of_the_users_is_not_replaced(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"report\.html is in the way: no record"):
        write(path)
    with pytest.raises(OutputError, match="is in the way"):
        remove(path)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_record_claims_itself_and_what_it_lists(tmp_path):
    for name in ("masks/a.png", "masks/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    claim(tmp_path / "masks.json", {"promise": "p"}, ["masks/a.png"])
    (tmp_path / "masks/b.png").write_text("mine")
    write(tmp_path / "masks/a.png", "old")
    write(tmp_path / "masks/a.png", "new")
    assert (tmp_path / "masks/a.png").read_text() == "new"
    assert is_claimed(tmp_path / "masks.json")
    with pytest.raises(OutputError, match=r"b\.png is in the way"):
        write(tmp_path / "masks/b.png")
    with pytest.raises(OutputError, match=r"b\.png is in the way"):
        claim(tmp_path / "masks.json", {}, ["masks/b.png"])
    with pytest.raises(OutputError, match=r"b\.png is in the way"):
        refuse_unclaimed_in(tmp_path / "masks")
    remove_claimed(tmp_path / "masks.json")
    assert (tmp_path / "masks/b.png").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b.png", "masks"]


def test_what_was_claimed_before_stays_claimed_while_it_is_there(tmp_path):
    claim(tmp_path / "parts.json", {}, ["one", "two"])
    write(tmp_path / "one")
    claim(tmp_path / "parts.json", {}, ["three"])
    assert json.loads((tmp_path / "parts.json").read_text())["files"] == ["three", "one"]


@pytest.mark.parametrize("name", ["../mine", "/etc/mine", "masks/../../mine"])
def test_a_record_claims_nothing_outside_its_folder(tmp_path, name):
    (tmp_path / "mine").write_text("mine")
    folder = tmp_path / "folder"
    write_json(folder / "masks.json", {"files": [name, str(tmp_path / "mine")]})
    remove_claimed(folder / "masks.json")
    assert (tmp_path / "mine").read_text() == "mine"
    write_json(folder / "masks.json", {"files": [name]})
    with pytest.raises(OutputError, match="is in the way"):
        write(tmp_path / "mine")


def test_a_record_claims_nothing_behind_a_link(tmp_path):
    photos, folder = tmp_path / "photos", tmp_path / "folder"
    photos.mkdir()
    (photos / "holiday.png").write_text("mine")
    folder.mkdir()
    (folder / "masks").symlink_to(photos)
    write_json(folder / "masks.json", {"files": ["masks/holiday.png"]})
    remove_claimed(folder / "masks.json")
    assert (photos / "holiday.png").read_text() == "mine"


def test_a_folder_of_many_files_is_asked_about_once(tmp_path, monkeypatch):
    names = [f"masks/{index}.png" for index in range(50)]
    claim(tmp_path / "masks.json", {}, names)
    for name in names:
        write(tmp_path / name)
    asked, load = [], json.loads
    monkeypatch.setattr(json, "loads", lambda text: asked.append(1) or load(text))
    refuse_unclaimed_in(tmp_path / "masks")
    assert len(asked) <= 2


FOREIGN = [
    "", "{}", '{"files": ["a"]}', '{"schema": 2, "files": ["a"]}', "[" * 100_000,
    '{"packages": {"conformask": "0.2.0"}, "files": ["a"]}',
]  # fmt: skip


@pytest.mark.parametrize("text", FOREIGN)
def test_a_record_of_somebody_else_claims_nothing(tmp_path, text):
    (tmp_path / "masks.json").write_text(text)
    (tmp_path / "a").write_text("mine")
    for name in ("a", "masks.json"):
        with pytest.raises(OutputError, match="is in the way"):
            refuse_unclaimed([tmp_path / name])


@pytest.mark.parametrize("files", [3, "a", None, [3, None, {}], {"a": 1}])
def test_a_damaged_list_claims_what_can_be_read(tmp_path, files):
    write_json(tmp_path / "record.json", {"files": files})
    (tmp_path / "a").write_text("?")
    assert is_claimed(tmp_path / "a") == isinstance(files, dict)


@pytest.mark.leaf("view")
def test_pages_and_pictures_say_who_made_them(tmp_path):
    from conformask.extras.view.page import png

    path = tmp_path / "picture.png"
    path.write_bytes(png(Image.new("L", (4, 4))))
    assert is_claimed(path)
    Image.new("L", (4, 4)).save(path)
    assert not is_claimed(path)


@pytest.mark.parametrize("to", ["precious.html", "nothing.html"])
def test_a_link_of_the_users_is_not_replaced(tmp_path, to):
    (tmp_path / "precious.html").write_text("mine")
    link = tmp_path / "report.html"
    link.symlink_to(tmp_path / to)
    with pytest.raises(OutputError, match="is in the way"):
        write(link)
    assert os.readlink(link) == str(tmp_path / to)
    assert (tmp_path / "precious.html").read_text() == "mine"


def test_a_folder_is_a_file_where_a_record_says_so(tmp_path):
    mask = tmp_path / "mask.zarr"
    mask.mkdir()
    (mask / "chunk").write_text("mine")
    with pytest.raises(OutputError, match=r"mask\.zarr is in the way"), atomic_write(mask) as aside:
        aside.mkdir()
    assert (mask / "chunk").read_text() == "mine"
    write_json(tmp_path / "masks.json", {"files": ["mask.zarr"]})
    with atomic_write(mask) as aside:
        aside.mkdir()
    assert not list(mask.iterdir())


def test_only_what_the_record_before_named_is_swept(tmp_path):
    mine = tmp_path / "curves-20261128.npz"
    mine.write_text("mine")
    for number in (1.0, 2.0):
        publish(tmp_path / "record.json", {}, {"curves": {"a": np.array([number])}})
    assert mine.read_text() == "mine"
    assert len(list(tmp_path.glob("curves-*"))) == 2


def test_arrays_that_a_killed_process_left_are_taken(tmp_path):
    publish(tmp_path / "record.json", {}, {"curves": {"a": np.ones(3)}})
    (left,) = tmp_path.glob("curves-*")
    (tmp_path / "record.json").unlink()
    publish(tmp_path / "record.json", {}, {"curves": {"a": np.ones(3)}})
    (tmp_path / "record.json").unlink()
    left.write_text("mine")
    with pytest.raises(OutputError, match="is in the way"):
        publish(tmp_path / "record.json", {}, {"curves": {"a": np.ones(3)}})


def test_of_two_processes_neither_loses_what_it_knows(tmp_path):
    path, first, second = tmp_path / "state.json", State(), State()
    first.publish(path, {"seen": 1}, {})
    second.read(path, ())
    first.publish(path, {"seen": 2}, {})
    with pytest.raises(OutputError, match="is not the state that this one continues"):
        second.publish(path, {"seen": 1}, {})
    second.read(path, ())
    second.publish(path, {"seen": 3}, {})
    with pytest.raises(OutputError, match="is not the state"):
        State().publish(path, {"seen": 1}, {})
    State().publish(tmp_path / "other.json", {"seen": 1}, {})


def test_what_does_not_exist_is_removed_without_a_word(tmp_path):
    remove(tmp_path / "nothing")
    remove_claimed(tmp_path / "nothing.json")
    write_arrays(tmp_path / "a.npz", {"a": np.ones(1)})
