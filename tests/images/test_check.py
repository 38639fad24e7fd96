import csv
from pathlib import Path

import numpy as np
import pytest

from conformask.images.check import CheckReport, check_triplets
from conformask.images.read import write_image
from conformask.images.scan import RoleDistances, swap_question
from conformask.images.triplets import Triplets
from conformask.records.reading import Reading
from photographs import packaged_photographs

SIDE = 96


def scenes() -> list[np.ndarray]:
    """Tiles of photographs that show different things, (3, H, W)."""
    found = []
    for pixels in packaged_photographs().values():
        image = np.moveaxis(pixels.astype(np.float32) / 255, -1, 0)
        found += [image[:, :SIDE, :SIDE], image[:, -SIDE:, -SIDE:]]
    return found


def noisy(image: np.ndarray) -> np.ndarray:
    return image + np.random.default_rng(0).normal(0, 0.05, image.shape)


def found_in(folder: Path) -> CheckReport:
    return check_triplets(Triplets.from_folder(folder), needed=9)


def test_errors_and_lookalikes_of_a_manifest(tmp_path: Path) -> None:
    images = [*scenes()[:10], noisy(scenes()[3]).clip(0, 1)]
    rows = []
    for index, image in enumerate(images):
        paths = {role: f"{role}/{index}.png" for role in ("x", "y_hat", "y")}
        for role, path in paths.items():
            wrong = 0.01 * index if role == "y_hat" else 0.0
            write_image(tmp_path / path, (0.8 * image + wrong).astype(np.float32), bits=16)
        rows.append({**paths, "split": "test" if index == 10 else "calibration"})
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = found_in(tmp_path)
    assert found.near_duplicates == (("3", "10"),)
    assert any("look alike, for example 3 and 10" in warning for warning in found.warnings)
    assert found.duplicates == ()
    assert found.worst == "10"
    assert found.error_quantiles == pytest.approx((0.01, 0.05, 0.09), abs=1e-3)


@pytest.mark.parametrize(("high", "warned"), [(4095.0, True), (255.0, False)])
def test_a_range_that_is_hardly_used_is_asked_about(high: float, warned: bool) -> None:
    images = list(np.random.default_rng(0).uniform(0, 255, (9, 8, 8)).astype(np.float32).round())
    images[0][0, 0] = 255
    found = check_triplets(Triplets.from_arrays(images, images, images, data_range=(0, high)), needed=2)
    told = [warning for warning in found.warnings if "no value above 255 of 4095" in warning]
    assert [warning.split(" ")[0] for warning in told] == (["y_hat", "y"] if warned else [])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([f"slide{s:02d}_t{t}z0" for s in range(3) for t in range(4)], "3 sources, such as slide00"),
        ([f"patient{p}-slice{s}" for p in range(2) for s in range(4)], "2 sources, such as patient0"),
        ([f"{year}_{number:06d}" for year in (2007, 2008) for number in range(4)], None),
        ([f"{number:04d}" for number in range(8)], None),
        ([f"cell_{number}" for number in range(8)], None),
        ([f"img{number}_a" for number in range(8)], None),
        ([*(f"slide0_{z}" for z in range(7)), "other"], None),
    ],
)
def test_names_that_tell_of_stacks_are_asked_about(names: list[str], told: str | None) -> None:
    images = list(np.random.default_rng(0).random((len(names), 8, 8), np.float32))
    found = check_triplets(Triplets.from_arrays(images, images, images, names=names), needed=2)
    asked = [warning for warning in found.warnings if "their names suggest" in warning]
    assert bool(asked) == (told is not None)
    assert told is None or told in asked[0]
    grouped = Triplets.from_arrays(images, images, images, names=names, groups=["one"] * len(names))
    apart = Triplets.from_arrays(images, images, images, names=names).grouped("(.+)")  # which is an answer
    for answered in (grouped, apart):
        assert not any("their names suggest" in each for each in check_triplets(answered, needed=2).warnings)


def test_swapped_folders_are_asked_about() -> None:
    generator = np.random.default_rng(0)
    y = np.cumsum(generator.random((12, 24, 24), np.float32), axis=2) / 24
    x = (y + 0.1 * generator.standard_normal(y.shape)).clip(0, 1).astype(np.float32)
    y_hat = (x + np.roll(x, 1, axis=2) + np.roll(x, -1, axis=2)) / 3
    questions = {
        "none": (x, y_hat, y),
        "are x and y_hat swapped?": (y_hat, x, y),
        "are y and y_hat swapped?": (x, y, y_hat),
    }
    for question, roles in questions.items():
        asked = [
            text for text in check_triplets(Triplets.from_arrays(*roles), 9).warnings if "swapped" in text
        ]
        assert len(asked) == (question != "none")
        assert all(question in text for text in asked)


@pytest.mark.parametrize(("share", "asked"), [(0.89, False), (0.9, True)])
def test_nine_in_ten_images_ask_about_a_swap(share: float, asked: bool) -> None:
    apart = RoleDistances(x_to_y_hat=0.2, x_to_y=0.3, y_hat_to_y=0.1)
    for near in (RoleDistances(0.2, 0.1, 0.15), RoleDistances(0.2, 0.1, 0.05)):
        distances = [near] * round(100 * share) + [apart] * round(100 * (1 - share))
        assert (swap_question([None, *distances]) is not None) is asked
    assert swap_question([None]) is None


def test_values_that_are_clipped_are_asked_about() -> None:
    y = np.random.default_rng(0).uniform(0, 1, (12, 24, 24)).astype(np.float32)
    cut = Triplets.from_arrays(y, y, y, reading=Reading((0, 0.8), clip="all"))
    (asked,) = [text for text in check_triplets(cut, 9).warnings if "clipped" in text]
    assert asked.startswith(f"{100 * np.mean(y > 0.8):.1f}")
    assert not any("clipped" in text for text in check_triplets(Triplets.from_arrays(y, y, y), 9).warnings)
