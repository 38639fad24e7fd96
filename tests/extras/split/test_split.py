"""conformask split: parts of images that lie in folders."""

import numpy as np
import pytest

import conformask as cm
from conformask.images.read import write_image

ROLES = ("x", "y_hat", "y")


def write(folder, names):
    generator = np.random.default_rng(0)
    for name in names:
        for role in ROLES:
            write_image(folder / role / f"{name}.png", generator.random((1, 8, 8), np.float32))
    return folder


@pytest.fixture
def images(tmp_path):
    """Five images of each of twenty slides."""
    return write(
        tmp_path / "images", [f"slide{slide:02d}-{tile}" for slide in range(20) for tile in range(5)]
    )


def slides(triplets):
    return {name.split("-")[0] for name in triplets.names}


def test_folders_are_divided_by_groups(conformask, images):
    before = {path: path.read_bytes() for path in images.rglob("*.png")}
    terms = ("--train", "0.4", "--selection", "0.1", "--calibration", "0.3", "--test", "0.2")
    answer = conformask("split", images, *terms, "--group-from", "^(slide[0-9]+)")
    assert answer.status == 0, answer.err
    parts = cm.Triplets.from_folder(images).split()
    of_parts = [parts.train, parts.selection, parts.calibration, parts.test]
    assert [len(part) for part in of_parts] == [30, 10, 45, 15], "9 slides at least for calibration"
    assert len(set().union(*map(slides, of_parts))) == sum(len(slides(part)) for part in of_parts) == 20
    assert before == {path: path.read_bytes() for path in images.rglob("*.png")}
    again = conformask("split", images, *terms, "--group-from", "^(slide[0-9]+)")
    assert again.out == answer.out


def test_images_for_choices_and_tests_stay_so(conformask, images):
    conformask("split", images, "--test", "0.3", "--train", "0.4")
    first = cm.Triplets.from_folder(images)
    answer = conformask("split", images, "--train", "0.2", "--calibration", "0.55", "--seed", "1")
    assert answer.status == 0, answer.err
    second = cm.Triplets.from_folder(images)
    for part in ("selection", "test"):
        assert first.part(part).names == second.part(part).names
    divided = {*first.part("train").names, *first.part("calibration").names}
    assert {*second.part("train").names, *second.part("calibration").names} == divided
    assert len(second.part("train")) == round(len(divided) * 0.2 / 0.75)


def test_another_folder_lists_the_files_where_they_are(conformask, images, tmp_path):
    assert conformask("split", images, "--out", tmp_path / "parts").status == 0
    assert not (images / "manifest.csv").exists()
    assert len(cm.Triplets.from_folder(tmp_path / "parts").part("train")) == 55


def test_somebody_elses_manifest_stays(conformask, images):
    lines = [
        "x,y_hat,y,category",
        *(f"x/{n.name},y_hat/{n.name},y/{n.name},a" for n in (images / "x").iterdir()),
    ]
    (images / "manifest.csv").write_text("\n".join(lines))
    refused = conformask("split", images)
    assert refused.status == 1
    assert "is in the way" in refused.err
    assert (images / "manifest.csv").read_text() == "\n".join(lines)
    assert conformask("split", images, "--out", images / "parts").status == 0
    assert set(cm.Triplets.from_folder(images / "parts").categories) == {"a"}


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (("--train", "0.9"), "sum to 1"),
        (("--train", "0", "--test", "0.7"), "positive fractions"),
    ],
)
def test_shares_that_are_none_are_refused(conformask, images, terms, words):
    answer = conformask("split", images, *terms)
    assert answer.status == 1
    assert words in answer.err
    assert not (images / "manifest.csv").exists()
