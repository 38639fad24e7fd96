"""Manifests, and the check of what is in a folder of triplets, which finds copies."""

import csv
import io
import os
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from conformask.errors import InvalidArgumentError, MissingFileError
from conformask.images.check import check_triplets
from conformask.images.read import Image, write_image
from conformask.images.scan import RoleDistances, find_copies, perceptual_hash, swap_question
from conformask.images.triplets import Triplets
from conformask.records.reading import Reading
from leaves import asking
from real_images import packaged_photographs

LINES = [
    ["name", "x", "y_hat", "group", "category", "weight"],
    ["eins", "x/a.png", "y_hat/ä.png", "Müller, A.", "hell", "2.5"],
    ["zwei", "x/b.png", "y_hat/b.png", "Żak; B.", "dunkel", "1"],
]


@pytest.fixture
def folder(tmp_path):
    for path in ("x/a.png", "x/b.png", "y_hat/ä.png", "y_hat/b.png"):
        write_image(tmp_path / path, np.zeros((1, 4, 4), np.float32))
    return tmp_path


def text(separator, newline="\n", decimal="."):
    rows = [[cell.replace(".", decimal) if at == 5 else cell for at, cell in enumerate(row)] for row in LINES]
    quoted = [[f'"{cell}"' if {*separator, '"'} & {*cell} else cell for cell in row] for row in rows]
    return "".join(separator.join(row) + newline for row in quoted)


def read(folder, content):
    (folder / "manifest.csv").write_bytes(content)
    return Triplets.from_folder(folder)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), (";", ","), (";", "."), ("\t", ",")])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [(b"", "utf-8"), (BOM_UTF8, "utf-8"), (BOM_UTF16_LE, "utf-16-le"), (BOM_UTF16_BE, "utf-16-be")],
    ids=["UTF-8", "UTF-8 with a mark", "UTF-16 LE", "UTF-16 BE"],
)
def test_every_way_of_saving_says_the_same(folder, mark, encoding, separator, decimal, newline):
    triplets = read(folder, mark + text(separator, newline, decimal).encode(encoding))
    assert triplets.names == ("eins", "zwei")
    assert triplets.groups == ("Müller, A.", "Żak; B.")
    assert triplets.categories == ("hell", "dunkel")
    assert triplets.weights == (2.5, 1.0)
    assert triplets[0].y_hat.shape == (1, 4, 4)


def test_other_separators_in_the_first_line_do_not_confuse(folder):
    triplets = read(folder, b'x,y_hat,"remark; of A;B;C;D"\nx/a.png,y_hat/b.png,none\n')
    assert triplets.names == ("b",)


def test_a_space_before_a_column_does_not_hide_it(folder):
    """Else the truth would be taken for unknown."""
    triplets = read(folder, b"x, y_hat, y , weight\nx/a.png, y_hat/b.png, x/b.png, 2\n")
    assert triplets.has_truth
    assert triplets.weights == (2.0,)


GOOD = "x/a.png,y_hat/b.png"
LONG = "z" * 200_000
CP1252 = text(";").replace("Ż", "Z").encode("cp1252")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CP1252, r'line 2 is not text in UTF-8; save it as "CSV UTF-8"'),
        (text(",").encode("utf-16-le"), r"line \d is not text in UTF-8"),
        (text(",").encode("utf-32"), r"line 1 is not text in UTF-8"),
        (BOM_UTF16_LE + text(",").encode("utf-16-le")[:-1], r"line 3 is not text in UTF-8"),
        (f"x,y_hat\n{GOOD}\nx/b\0.png,y_hat/b.png\n".encode(), r"line 3 is not text in UTF-8"),
        (f'x,y_hat\n{GOOD}\n"x/b.png,y_hat/b.png\n'.encode(), r"line 3: unexpected end .*quotation mark"),
        (f"x,y_hat\n{GOOD},{LONG}\n".encode(), r"line 2: field larger than field limit"),
        (f"{LONG},x,y_hat\n{GOOD}\n".encode(), r"line 1: field larger than field limit"),
        (f"x,y_hat,x\n{GOOD},x/b.png\n".encode(), "line 1: two columns 'x'; keep one"),
        (f"x,y_hat,note,note\n{GOOD},1,2\n".encode(), "line 1: two columns 'note'"),
        (f"x,y_hat\n{GOOD}\n{GOOD},more\n".encode(), "line 3: more cells than line 1 has columns"),
        (f"x,y_hat,weight\n{GOOD},2,5\n".encode(), "line 2: more cells than line 1 has columns"),
        (f'x,y_hat,weight\n{GOOD},"2,5"\n'.encode(), "line 2: weight is '2,5'"),
        (b"x;y_hat;weight\nx/a.png;y_hat/b.png;1.234,5\n", "line 2: weight is '1.234.5'"),
        (f"x,y_hat,name\n{GOOD},{'n' * 250}\n".encode(), "line 2: name 'nnn.* 250 bytes; rename it"),
        (b"x|y_hat\nx/a.png|y_hat/b.png\n", r"line 1: no column 'x' among \['x\|y_hat'\]"),
    ],
    ids=lambda text: repr(text)[:40],
)
def test_what_is_no_manifest_is_refused_with_its_line(folder, content, message):
    with pytest.raises(InvalidArgumentError, match=rf"manifest\.csv {message}"):
        read(folder, content)


@pytest.mark.parametrize(
    "path", [f"{300 * 'x'}.png", "x/" * 3000, asking("formats", "none.zarr"), "x/\n.png"]
)
def test_a_path_that_cannot_be_is_missing(folder, path):
    with pytest.raises(MissingFileError, match=r"line \d: x names"):
        read(folder, f'x,y_hat\n"{path}",y_hat/b.png\n'.encode())


def test_names_of_files_that_are_not_utf8(folder):
    for role in ("x", "y_hat"):
        os.rename(folder / role / "b.png", os.fsencode(folder / role) + b"/caf\xe9.png")
    with pytest.raises(InvalidArgumentError, match=r"'.*/x/caf\\udce9\.png': name .* not UTF-8; rename it"):
        Triplets.from_folder(folder)


SIDE = 96


def scenes():
    """Tiles of photographs that show different things, (3, H, W)."""
    found = []
    for pixels in packaged_photographs().values():
        image = np.moveaxis(pixels.astype(np.float32) / 255, -1, 0)
        found += [image[:, :SIDE, :SIDE], image[:, -SIDE:, -SIDE:]]
    return found


def noisy(image):
    return image + np.random.default_rng(0).normal(0, 0.05, image.shape)


def found_in(folder):
    return check_triplets(Triplets.from_folder(folder), needed=9)


def test_errors_and_lookalikes_of_a_manifest(tmp_path):
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
    assert any("looks alike, for example 3 and 10" in warning for warning in found.warnings)
    (tmp_path / "manifest.csv").unlink()
    unsplit = found_in(tmp_path)
    assert unsplit.near_duplicates == (("10", "3"),)
    copies = "2 of 11 images look like copies .* such as '10' of '3'. If they are, keep one of each"
    assert any(re.match(copies, warning) for warning in unsplit.warnings), "as calibrate says"
    assert found.duplicates == ()
    assert found.worst == "10"
    assert found.error_quantiles == pytest.approx((0.01, 0.05, 0.09), abs=1e-3)


@pytest.mark.parametrize(("high", "warned"), [(4095.0, True), (255.0, False)])
def test_a_range_that_is_hardly_used_is_asked_about(high, warned):
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
def test_names_that_tell_of_stacks_are_asked_about(names, told):
    images = list(np.random.default_rng(0).random((len(names), 8, 8), np.float32))
    found = check_triplets(Triplets.from_arrays(images, images, images, names=names), needed=2)
    asked = [warning for warning in found.warnings if "their names suggest" in warning]
    assert bool(asked) == (told is not None)
    assert told is None or told in asked[0]
    grouped = Triplets.from_arrays(images, images, images, names=names, groups=["one"] * len(names))
    apart = Triplets.from_arrays(images, images, images, names=names).grouped("(.+)")  # which is an answer
    for answered in (grouped, apart):
        assert not any("their names suggest" in each for each in check_triplets(answered, needed=2).warnings)


def test_swapped_folders_are_asked_about():
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
def test_nine_in_ten_images_ask_about_a_swap(share, asked):
    apart = RoleDistances(x_to_y_hat=0.2, x_to_y=0.3, y_hat_to_y=0.1)
    for near in (RoleDistances(0.2, 0.1, 0.15), RoleDistances(0.2, 0.1, 0.05)):
        distances = [near] * round(100 * share) + [apart] * round(100 * (1 - share))
        assert (swap_question([None, *distances]) is not None) is asked
    assert swap_question([None]) is None


def test_values_that_are_clipped_are_asked_about():
    y = np.random.default_rng(0).uniform(0, 1, (12, 24, 24)).astype(np.float32)
    cut = Triplets.from_arrays(y, y, y, reading=Reading((0, 0.8), clip="all"))
    (asked,) = [text for text in check_triplets(cut, 9).warnings if "clipped" in text]
    assert asked.startswith(f"{100 * np.mean(y > 0.8):.1f}")
    assert not any("clipped" in text for text in check_triplets(Triplets.from_arrays(y, y, y), 9).warnings)


DATA = Path(__file__).parents[2].parent / "shared" / "data"


def structures():
    """Tiles of photographs that show different things, and anything at all, (3, H, W)."""
    tiles = []
    for pixels in packaged_photographs().values():
        image = np.moveaxis(pixels.astype(np.float32) / 255, -1, 0)
        tiles += [image[:, :SIDE, :SIDE], image[:, -SIDE:, -SIDE:]]
    return [tile for tile in tiles if tile.std() > 0.05]


def pillow(image):
    return Pillow.fromarray(np.rint(255 * np.moveaxis(image, 0, -1).clip(0, 1)).astype(np.uint8).squeeze())


def array(image):
    return np.moveaxis(np.atleast_3d(np.asarray(image, np.float32) / 255), -1, 0)


def saved_again(image):
    buffer = io.BytesIO()
    pillow(image).save(buffer, "JPEG", quality=50)
    return array(Pillow.open(buffer))


def halved(image):
    picture = pillow(image)
    return array(picture.resize((picture.width // 2, picture.height // 2), Pillow.Resampling.BICUBIC))


def with_noise(image):
    return (image + np.random.default_rng(0).normal(0, 0.04, image.shape)).clip(0, 1).astype(np.float32)


def cropped(image, share=0.95):
    height, width = (round(share * side) for side in image.shape[1:])
    top, left = (image.shape[1] - height) // 3, image.shape[2] - width
    return image[:, top : top + height, left : left + width]


CHANGES: dict[str, Callable[[Image], Image]] = {
    "the same": lambda image: image,
    "saved again": saved_again,
    "mirrored": lambda image: image[:, :, ::-1],
    "upside down": lambda image: image[:, ::-1],
    "turned": lambda image: np.rot90(image, axes=(1, 2)),
    "turned back and mirrored": lambda image: np.rot90(image, 3, axes=(1, 2))[:, ::-1],
    "halved": halved,
    "grey": lambda image: image.mean(axis=0, keepdims=True),
    "brightened": lambda image: 0.7 * image + 0.15,
    "noisy": with_noise,
    "cropped": cropped,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_copies_are_found_from_either_side_and_nothing_else(change):
    perceptual_hashes = np.stack([perceptual_hash(image) for image in structures()])
    changed = np.stack([perceptual_hash(np.ascontiguousarray(change(image))) for image in structures()])
    same = [(place, place) for place in range(len(perceptual_hashes))]
    assert find_copies(changed, perceptual_hashes) == same
    assert find_copies(perceptual_hashes, changed) == same


def test_empty_fields_are_no_copies_of_each_other():
    generator = np.random.default_rng(0)
    empty = [np.full((1, 64, 64), level) + generator.normal(0, 1e-3, (1, 64, 64)) for level in (0.1, 0.5)]
    black = np.zeros((1, 64, 64))
    perceptual_hashes = np.stack(
        [perceptual_hash(image.astype(np.float32)) for image in (*empty, black, black)]
    )
    assert find_copies(perceptual_hashes, perceptual_hashes) == []


def test_shading_that_all_images_share_makes_no_copies():
    generator = np.random.default_rng(0)
    shade = np.linspace(0, 0.7, 64)[None, :, None]
    perceptual_hashes = np.stack(
        [perceptual_hash(shade + 0.3 * generator.random((1, 64, 64))) for _ in range(40)]
    )
    assert find_copies(perceptual_hashes, perceptual_hashes) == [(place, place) for place in range(40)]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 64), (500, 70)])
def test_any_size_has_a_look(size):
    look = perceptual_hash(np.random.default_rng(1).random((3, *size), dtype=np.float32))
    assert look.shape == (28, 32)
    assert look.dtype == np.uint8


REAL = {"photos": "*.jpg", "nuclei": "*.png", "cells": "*.png", "oct": "*_clean.png"}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", REAL)
def test_real_images(kind):
    """Of 200 images of a kind copies are found, and at most one pair of others (nuclei repeat a field)."""
    files = sorted((DATA / kind).glob(REAL[kind]))[:200]
    if not files:
        pytest.skip(f"{DATA / kind} is not there")
    images = [array(Pillow.open(file).convert("L")) for file in files]
    perceptual_hashes = np.stack([perceptual_hash(image) for image in images])
    others = [(a, b) for a, b in find_copies(perceptual_hashes, perceptual_hashes) if a < b]
    assert len(others) <= 1
    for name in ("saved again", "mirrored", "turned", "halved", "brightened", "cropped"):
        changed = [perceptual_hash(np.ascontiguousarray(CHANGES[name](image))) for image in images[::4]]
        found = sum(
            bool(find_copies(look[None], perceptual_hashes[4 * k : 4 * k + 1]))
            for k, look in enumerate(changed)
        )
        assert found >= 0.95 * len(changed), name
