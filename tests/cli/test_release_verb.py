"""conformask release: what is printed, the CSV file, and what a run remembers."""

import csv
from pathlib import Path


def test_release_says_what_is_released_and_remembers_it(conformask, own: Path) -> None:
    asked = ("release", own / "run", own / "data", "--share", "0.03")
    told = conformask(*asked, "--out", own / "released.csv")
    assert told.status == 0, told.err
    assert told.out.startswith(
        "Nothing is released: with 35 calibration images and a share of 0.03, at least "
    )
    assert "\n\nOf the images released under their masks, at most 3" in told.out
    record = conformask(*asked, "--json").record
    assert not any(image["released"] for image in record["images"])
    assert [power["share"] for power in record["power"]] == [0.01, 0.02, 0.03, 0.05, 0.1]
    with (own / "released.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [image["name"] for image in record["images"]]
    assert [row["released"] for row in rows] == [str(image["released"]) for image in record["images"]]
    again = conformask(*asked[:3], "--share", "0.2")
    assert again.status == 1
    assert "were judged before" in again.err


def test_out_is_a_new_csv_file_and_replaces_none(conformask, own: Path) -> None:
    """Not even one of conformask's own, such as the calibration or the record of releases."""
    kept = [own / "run" / "calibration.json", own / "run" / "metrics.csv", own / "mine.csv"]
    kept[-1].write_text("mine", encoding="utf-8")
    before = [path.read_bytes() for path in kept]
    for path in (*kept, own / "run" / "released.json", own / "new", own / "run"):
        told = conformask("release", own / "run", own / "data", "--share", "0.1", "--out", path)
        assert told.status == 1
        assert ("is in the way" if path.suffix == ".csv" else "give the name of a CSV file") in told.err
    assert [path.read_bytes() for path in kept] == before
    assert not (own / "run" / "released.json").exists(), "nothing was judged"


def test_masks_say_what_is_released(conformask, own: Path) -> None:
    names = [line["name"] for line in _test_part(own / "data" / "manifest.csv", own / "new")]
    told = conformask("mask", own / "run", own / "new", own / "masks", "--release", "0.03")
    assert told.status == 0, told.err
    assert f"of {len(names)} images have to be released together" in told.out
    assert "calibrate with more. Of the images released under their masks" in told.out
    with (own / "masks" / "sizes.csv").open(encoding="utf-8") as file:
        assert {row["released"] for row in csv.DictReader(file)} <= {"True", "False"}


def _test_part(manifest: Path, folder: Path) -> list[dict[str, str]]:
    """Write a manifest of the test part, without y."""
    with manifest.open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["split"] == "test"]
    folder.mkdir()
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", "y_hat", "name"])
        for line in lines:
            writer.writerow([*(manifest.parent / line[role] for role in ("x", "y_hat")), line["name"]])
    return lines
