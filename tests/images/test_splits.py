from collections import Counter

import pytest

from conformask.errors import InvalidArgumentError
from conformask.images.rows import FRACTIONS, PARTS, part_of, part_of_tile, uniform

NAMES = [f"image{index:05d}" for index in range(20000)]


def test_the_fractions_are_kept():
    counts = Counter(part_of(name) for name in NAMES)
    for part, fraction in zip(PARTS, FRACTIONS, strict=True):
        assert counts[part] / len(NAMES) == pytest.approx(fraction, abs=0.012)
    assert sum(FRACTIONS) == pytest.approx(1)


def test_a_split_on_record_never_changes():
    assert uniform(0, "image00000") == RECORDED_DRAW
    assert [part_of(name)[:2] for name in NAMES[:12]] == RECORDED_PARTS
    assert [part_of(name, seed=1)[:2] for name in NAMES[:12]] == RECORDED_PARTS_OF_SEED_1


RECORDED_DRAW = 0.32573392863413647
RECORDED_PARTS = ["tr", "tr", "tr", "tr", "se", "ca", "ca", "tr", "te", "tr", "te", "tr"]
RECORDED_PARTS_OF_SEED_1 = ["te", "se", "tr", "tr", "te", "se", "tr", "ca", "ca", "ca", "tr", "tr"]


def test_seeds_and_names_are_independent():
    same = sum(part_of(name, 0) == part_of(name, 1) for name in NAMES[:4000]) / 4000
    assert same == pytest.approx(sum(fraction**2 for fraction in FRACTIONS), abs=0.03)
    assert uniform(1, "2a") != uniform(12, "a")


def test_by_file_all_tiles_go_together():
    for file in NAMES[:50]:
        assert {part_of_tile(file, f"{file}_{tile}", "file") for tile in range(20)} == {part_of(file)}


def test_within_deals_only_the_tiles_of_files_that_are_not_for_choices():
    files = Counter()
    tiles = Counter()
    for file in NAMES[:2000]:
        parts = {part_of_tile(file, f"{file}_{tile}", "within") for tile in range(20)}
        kind = parts.pop() if len(parts) == 1 else "rest"
        files[kind if kind in PARTS[:2] else "rest"] += 1
        if kind in PARTS[:2]:
            assert kind == part_of(file)
        else:
            tiles.update(part_of_tile(file, f"{file}_{tile}", "within") for tile in range(20))
    assert files["train"] / 2000 == pytest.approx(0.55, abs=0.04)
    assert files["rest"] / 2000 == pytest.approx(0.35, abs=0.04)
    assert set(tiles) == {"calibration", "test"}
    assert tiles["calibration"] / tiles.total() == pytest.approx(0.2 / 0.35, abs=0.02)


def test_tile_deals_all_four_by_tile():
    counts = Counter(part_of_tile("one file", name, "tile") for name in NAMES)
    for part, fraction in zip(PARTS, FRACTIONS, strict=True):
        assert counts[part] / len(NAMES) == pytest.approx(fraction, abs=0.012)


def test_unknown_way_of_splitting():
    with pytest.raises(InvalidArgumentError, match="'slide' is unknown; choose from"):
        part_of_tile("a", "b", "slide")
