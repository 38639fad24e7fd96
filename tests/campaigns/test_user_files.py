"""Every verb with a user's files in every place that it writes to: each is refused by name, none is touched.

For each verb the places are found by running it. Then it is run again where a file of the user's lies in one
of them, and where one lies beside them in each of its folders.
"""

import json
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from test_kills import TILES, VERBS, command, done, in_child, in_two, prepared, told_by

MINE = b"mine"
ALL = bool(int(os.environ.get("CONFORMASK_PLACES", "0")))
"""Whether each place is tried, instead of the first of each kind in a folder."""
RESPECTED = 1
"""The exit status of a refusal."""
DEMO = ("demo", "--out", "/new")
PAPER = ("paper", "--photos", "/photos", "--out", "/new", "--rows", "9", "--preset", "smoke")
WRITING = {name: verb.action for name, verb in VERBS.items()} | {
    "calibrate a packaged score": command(
        "calibrate", "/first", "--scorer", "packaged", "--threshold", "0.05", "--out", "/new"
    ),
    "monitor": command("monitor", "/run", "/test", "--state", "/watch.json"),
    "export for the Hub": command("export", "/run", "/new", "--format", "huggingface"),
    "export for bioimage.io": command("export", "/run", "/new", "--format", "bioimageio"),
}
MASKS = ("masks/mine.png", "overlays/mine.jpg", "segmentations/mine.dcm", "sizes_mine.csv", "notes.txt")
"""Files of the user's beside masks of another promise, which --overwrite is asked to replace."""
KNOWN = {
    "demo": [
        "report.html", "run/evaluation.json", "run/calibration.json", "run/CARD.md", "data/y/mine.png",
        "data/x/astronaut-1.png", "data/manifest.csv", "data/triplets.json",
    ],
    "paper": ["paper.csv", "paper.md", "paper.html", "figures/mine.svg"],
}  # fmt: skip
"""Places of verbs that take minutes, which say before what is in the way."""
ORIGINALS = {
    "true images in y/": ("triplets", "/made/y", "/made", "--predictor", "bicubic", *TILES),
    "true images in x/": ("triplets", "/made/x", "/made", "--predictor", "bicubic", *TILES),
}


WORKS = [*WRITING, *ORIGINALS, "mask --overwrite", *KNOWN]
SOME = ["mask", *ORIGINALS, "mask --overwrite", "demo"]
"""What deletes most where it is wrong."""


def files(folder):
    """All files but the hidden ones, by their names relative to the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def kinds(places):
    """The first place of each kind in a folder, or all."""
    first = {(place if ALL else (Path(place).parent, Path(place).suffix)): place for place in places[::-1]}
    return sorted(first.values())


def attempts(places, before):
    """Where the user's file lies, and whether the verb would write just there."""
    for place in kinds(places):
        yield place, True
    for parent in sorted({str(Path(place).parent) for place in places}):
        if not any(name.startswith(f"{parent}/") for name in before):
            yield f"{parent}/notes_of_mine.txt", False


def spoilt(before, folder, place, action):
    """Run a verb where a user's file lies in a place; its exit status, and what it said."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(MINE)
    status = in_child(folder, action)
    assert path.is_file(), f"{place} is gone"
    assert path.read_bytes() == MINE, f"{place} was replaced"
    return status, folder.with_name("said").read_text()


def walk(before, folder, action):
    """Put a user's file into each place of a verb, one by one; how many."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    there = files(folder)
    done(folder, action)
    written = files(folder)
    gone = {name for name in there.keys() - written.keys() if not name.startswith(("run/", "masked/"))}
    assert not gone, f"removed {gone}"
    places = sorted(written.keys() - there.keys())
    tried = list(attempts(places, there))
    for place, exactly in tried:
        status, said = spoilt(before, folder, place, action)
        if exactly:
            assert status == RESPECTED, f"{place}: status {status}, {said}"
            named = Path(place).name in said or f"{(folder / place).parent} " in said
            assert named, f"{place} is not named: {said}"
        else:
            assert status in (0, RESPECTED), f"{place}: status {status}, {said}"
    return len(tried)


def overwritten(before, folder):
    """Masks of another promise go with --overwrite; nothing else does."""
    for place in MASKS:
        status, said = spoilt(
            before, folder, f"masked/{place}", command("mask", "/run", "/test", "/masked", "--overwrite")
        )
        in_the_way = "/" in place
        assert status == (RESPECTED if in_the_way else 0), f"{place}: status {status}, {said}"
        assert (Path(place).name in said) == in_the_way, said
    return len(MASKS)


def refused_at_once(before, folder, words, places):
    """As walk, of a verb that takes minutes unless it looks before it begins."""
    for place in places:
        status, said = spoilt(before, folder, f"new/{place}", command(*words))
        assert status == RESPECTED, f"{place}: status {status}, {said}"
        assert place in said, f"{place} is not named: {said}"
    return len(places)


def keeps_originals(before, folder, words):
    """True images in a folder that triplets would be written to."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    shutil.copytree(folder / "images", Path(f"{folder}{words[1]}"))
    there = files(folder)
    status = in_child(folder, command(*words))
    said = folder.with_name("said").read_text()
    assert status == RESPECTED, said
    assert files(folder) == there
    assert "is a true image" in said
    return 1


def campaign(names):
    """Print what came of each verb, a line of JSON each."""
    with TemporaryDirectory() as temporary:
        before = prepared(Path(temporary).resolve() / "before")
        work = before.with_name("work")
        done(before, command("mask", "/run", "/test", "/masked"))
        done(before, command("recalibrate", "/run", "--confidence", "0.5"))
        shutil.copytree(before / "images", before / "photos")
        works: dict[str, Callable[[], int]] = {
            name: lambda action=action: walk(before, work, action) for name, action in WRITING.items()
        }
        works |= {
            name: lambda words=words: keeps_originals(before, work, words)
            for name, words in ORIGINALS.items()
        }
        works |= {
            "mask --overwrite": lambda: overwritten(before, work),
            "demo": lambda: refused_at_once(before, work, DEMO, KNOWN["demo"]),
            "paper": lambda: refused_at_once(before, work, PAPER, KNOWN["paper"]),
        }
        assert list(works) == WORKS
        for name in names:
            try:
                outcome = {"places": works[name]()}
            except Exception:
                outcome = {"wrong": traceback.format_exc()}
            print(json.dumps({"verb": name, **outcome}), flush=True)


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
@in_two(SOME, WORKS)
def test_no_file_of_the_users_is_touched(works, warm):
    lines = told_by(__file__, works, warm)
    assert sum(line["places"] for line in lines) >= (22 if works == SOME else 45)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    campaign(sys.argv[1:] or WORKS)
