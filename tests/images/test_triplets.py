"""Triplets"""

from collections import Counter

import numpy as np
import pytest
import torch

from conformask.errors import ConformaskError, ImageError, InvalidArgumentError, MissingFileError
from conformask.images.read import write_image
from conformask.images.rows import FRACTIONS, PARTS, part_of, part_of_tile, uniform
from conformask.images.triplets import Triplets, refuse_others


def image(seed, shape=(1, 8, 8)):
    return (np.random.default_rng(seed).integers(0, 255, shape) / 255).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate("cab"):
        write_image(tmp_path / "x" / f"{name}.png", image(index, (1, 4, 4)))
        write_image(tmp_path / "y_hat" / f"{name}.tif", image(index + 10))
        write_image(tmp_path / "y" / f"{name}.npy", image(index + 20))
    return tmp_path


def manifest(folder, text):
    (folder / "manifest.csv").write_text(text)
    return folder


def arrays(count, **more):
    stack = np.zeros((count, 4, 4), np.uint8)
    return Triplets.from_arrays(stack, stack, stack, **more)


def test_a_folder_is_matched_by_stem(folder):
    triplets = Triplets.from_folder(folder)
    assert triplets.names == ("a", "b", "c") == triplets.groups
    assert len(triplets) == 3
    assert triplets.has_truth
    assert not triplets.has_split
    second = triplets[1]
    np.testing.assert_array_equal(second.x, image(2, (1, 4, 4)))
    np.testing.assert_array_equal(second.y_hat, image(12))
    np.testing.assert_array_equal(second.y, image(22))
    assert [triplet.name for triplet in triplets] == ["a", "b", "c"]


def test_a_folder_without_truth(folder):
    for path in (folder / "y").iterdir():
        path.unlink()
    (folder / "y").rmdir()
    triplets = Triplets.from_folder(str(folder))
    assert not triplets.has_truth
    assert triplets[0].y is None
    assert next(triplets.batches(2)).y is None


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("x/a.png", r"y_hat: a\.tif has no partner of the same name in .*/x;"),
        ("y_hat/b.tif", r"x: b\.png has no partner of the same name in .*/y_hat;"),
        ("y/c.npy", r"x: c\.png has no partner of the same name in .*/y;"),
    ],
)
def test_a_missing_partner_is_named(folder, lost, message):
    (folder / lost).unlink()
    with pytest.raises(MissingFileError, match=message):
        Triplets.from_folder(folder)


def test_folders_that_hold_no_triplets(folder, tmp_path):
    with pytest.raises(MissingFileError, match="not a folder"):
        Triplets.from_folder(folder / "none")
    (folder / "only" / "x").mkdir(parents=True)
    with pytest.raises(MissingFileError, match="no folder y_hat/"):
        Triplets.from_folder(folder / "only")
    (folder / "only" / "y_hat").mkdir()
    with pytest.raises(MissingFileError, match="contains no images"):
        Triplets.from_folder(folder / "only")


def test_two_images_of_one_stem(folder):
    write_image(folder / "x" / "a.tif", image(0))
    with pytest.raises(ImageError, match="the same stem"):
        Triplets.from_folder(folder)


def test_a_manifest_says_everything(folder):
    manifest(
        folder,
        "\ufeffname,x,y_hat,y,group,category,weight,split,remark\n"
        "one,x/a.png,y_hat/a.tif,y/a.npy,p1,dark,2.5,train,hello\n"
        "two,x/b.png,y_hat/b.tif,,,light,1,test,\n",
    )
    triplets = Triplets.from_folder(folder)
    assert triplets.names == ("one", "two")
    assert triplets.groups == ("p1", "two")
    assert triplets.categories == ("dark", "light")
    assert triplets.weights == (2.5, 1.0)
    assert triplets.has_split
    assert not triplets.has_truth
    assert triplets[0].facts["weight"] == 2.5
    assert triplets[0].facts["group"] == "p1"
    assert triplets[1].y is None
    assert triplets.part("test").names == ("two",)
    with pytest.raises(InvalidArgumentError, match=r"calibration part is empty.*2 triplets in 2 groups"):
        triplets.part("calibration")
    with pytest.raises(InvalidArgumentError, match="'tests' is unknown"):
        triplets.part("tests")
    with pytest.raises(
        InvalidArgumentError,
        match=r"selection part is empty: 2 triplets in 2 groups, of which 1 train, 1 test; mark lines as",
    ):
        _ = triplets.split().selection
    assert triplets.split().train.names == ("one",)


def test_a_manifest_names_by_stem(folder):
    manifest(folder, "x,y_hat\nx/a.png,y_hat/b.tif\n")
    assert Triplets.from_manifest(folder / "manifest.csv").names == ("b",)


GOOD = "x/a.png,y_hat/a.tif"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\nx/a.png,y/a.npy\n", r"line 1: no column 'y_hat'"),
        ("", r"line 1: no column 'x'"),
        ("x,y_hat\n", "lists no triplets"),
        (f"x,y_hat,spilt\n{GOOD},train\n", "line 1: unknown column 'spilt'; did you mean 'split'"),
        (f"x,y_hat\n{GOOD}\n{GOOD}\n", r"line 3: the name 'a' is already used"),
        (f"x,y_hat,split\n{GOOD},tests\n", r"line 2: split is 'tests'; choose from \['train'"),
        (f"x,y_hat,split\n{GOOD},\n", r"line 2: split is ''"),
        (f"x,y_hat,category\n{GOOD},\n", "line 2: category is empty"),
        (f"x,y_hat,name\n{GOOD},../up\n", r"line 2: name '\.\./up'"),
        ("x,y_hat\n,y_hat/a.tif\n", "line 2: x is empty"),
        ("x,y_hat\nx/none.png,y_hat/a.tif\n", r"line 2: x names .*none\.png, which does not exist"),
        (f"x,y_hat,y\n{GOOD},y/none.npy\n", r"line 2: y names .*none\.npy"),
        *[
            (f"x,y_hat,weight\n{GOOD},{bad}\n", f"line 2: weight is '{bad}'")
            for bad in ("0", "-1", "nan", "", "a")
        ],
        (f"x,y_hat,weight\n{GOOD},inf\n", "weight is 'inf'"),
    ],
)
def test_bad_lines_of_a_manifest(folder, text, message):
    with pytest.raises(ConformaskError, match=message):
        Triplets.from_folder(manifest(folder, text))


def test_arrays_by_the_rules_of_files():
    x = [np.full((4, 4), 51, np.uint8), np.full((4, 4), 255, np.uint8)]
    colour = np.zeros((2, 8, 8, 3), np.uint16)
    triplets = Triplets.from_arrays(
        x, colour, names=["one", "two"], groups=[1, 1], weights=np.array([1.0, 2])
    )
    assert triplets.names == ("one", "two")
    assert triplets.groups == ("1", "1")
    assert triplets.weights == (1.0, 2.0)
    assert triplets[0].x[0, 0, 0] == pytest.approx(0.2)
    assert triplets[0].y_hat.shape == (3, 8, 8)
    assert arrays(2).names == ("00000", "00001")
    shown = arrays(2, data_range=(-255, 255))[0]
    assert (shown.x.max(), shown.y_hat.max()) == (0, 0.5), "x of 8 bits keeps 0 to 255"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": ["a"]}, "groups has 1 items but x has 2"),
        ({"categories": list("abc")}, "categories has 3 items"),
        ({"names": ["a", "a"]}, "'a' is already used"),
        ({"names": ["a", "b/c"]}, "'b/c'"),
        ({"weights": [1, 0]}, "weight is 0"),
        ({"weights": [1, np.nan]}, "weight is nan"),
    ],
)
def test_bad_arrays(settings, message):
    with pytest.raises(InvalidArgumentError, match=message):
        arrays(2, **settings)


def test_no_arrays_and_lost_arrays():
    with pytest.raises(InvalidArgumentError, match="x is empty"):
        arrays(0)
    with pytest.raises(InvalidArgumentError, match="y has 1 items"):
        Triplets.from_arrays(np.zeros((2, 4, 4)), np.zeros((2, 4, 4)), np.zeros((1, 4, 4)))
    bad = Triplets.from_arrays(np.zeros((1, 4, 4)), np.full((1, 4, 4), 2.0), names=["odd"])
    with pytest.raises(ImageError, match="y_hat of triplet 'odd' contains the value 2"):
        bad[0]


def test_y_and_y_hat_of_different_shapes():
    triplets = Triplets.from_arrays(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), np.zeros((1, 4, 5)))
    with pytest.raises(ImageError, match=r"'00000': y has shape \(1, 4, 5\), but y_hat has \(1, 4, 4\)"):
        triplets[0]


def test_reading_is_lazy(folder):
    (folder / "y_hat" / "b.tif").write_bytes(b"broken")
    triplets = Triplets.from_folder(folder)
    assert triplets[0].name == "a"
    seen = []
    with pytest.raises(ImageError, match=r"b\.tif"):
        triplets.validate(seen.append)
    assert seen == [1]


def test_a_split_keeps_groups_together_and_forgets_nothing():
    groups = [f"patient{index // 3}" for index in range(600)]
    triplets = arrays(600, groups=groups)
    split = triplets.split(seed=3)
    parts = {name: getattr(split, name) for name in PARTS}
    assert sorted(name for part in parts.values() for name in part.names) == list(triplets.names)
    for name, part in parts.items():
        assert {part_of(group, 3) for group in part.groups} == {name}
    assert split.train.names != triplets.split(seed=4).train.names
    assert triplets.part("train") is triplets


def test_a_split_does_not_depend_on_the_other_images():
    triplets = arrays(300)
    few = triplets.select(range(0, 300, 2))
    whole = triplets.split()
    for name in PARTS:
        part = getattr(few.split(), name)
        assert set(part.names) == set(getattr(whole, name).names) & set(few.names)


def test_too_few_groups_to_split():
    with pytest.raises(InvalidArgumentError, match=r"part is empty: 50 triplets in 1 group,"):
        arrays(50, groups=["one"] * 50).split()


@pytest.mark.parametrize("seed", range(5))
def test_a_split_in_numbers(seed):
    triplets = arrays(40, groups=[f"slide{index // 4}" for index in range(40)])
    split = triplets.split(seed, fractions=(0.4, 0.1, 0.3, 0.2))
    of = [set(getattr(split, name).groups) for name in PARTS]
    assert [len(groups) for groups in of] == [4, 1, 3, 2]
    assert len(set.union(*of)) == 10
    enough = triplets.split(seed, guarantee="groups", confidence=0.8)
    assert [len(set(getattr(enough, name).groups)) for name in PARTS] == [4, 1, 4, 1]
    images = triplets.split(seed, guarantee="marginal")
    assert len(images.calibration) == 12, "three slides hold the nine images that it takes"
    with pytest.raises(InvalidArgumentError, match=r"40 images in 10 groups .* at least 9 groups"):
        triplets.split(seed, guarantee="groups")


def test_what_cannot_be_dealt():
    triplets = arrays(8)
    for wrong in ((0.5, 0.5), (0.4, 0.0, 0.4, 0.2), (0.4, 0.2, 0.4, 0.2)):
        with pytest.raises(InvalidArgumentError, match="that sum to 1"):
            triplets.split(fractions=wrong)
    with pytest.raises(InvalidArgumentError, match="3 images in 3 groups are too few for four parts"):
        triplets.select(range(3)).split(fractions=(0.25, 0.25, 0.25, 0.25))


def test_a_holdout_is_of_whole_groups_and_independent_of_the_split():
    triplets = arrays(2000, groups=[str(index // 2) for index in range(2000)])
    kept, aside = triplets.holdout(0.1, seed=0)
    assert len(kept) + len(aside) == 2000
    assert not set(kept.groups) & set(aside.groups)
    assert len(aside) / 2000 == pytest.approx(0.1, abs=0.03)
    _, of_train = triplets.split(0).train.holdout(0.1, seed=0)
    assert len(of_train) / len(triplets.split(0).train) == pytest.approx(0.1, abs=0.03)
    for fraction in (0, 1, -0.5):
        with pytest.raises(InvalidArgumentError, match="fraction is"):
            triplets.holdout(fraction, 0)
    with pytest.raises(InvalidArgumentError, match="2 triplets in 1 group:"):
        triplets.select([0, 1]).holdout(0.5, 0)


@pytest.mark.parametrize(("groups", "fraction", "expected"), [(2, 0.1, 1), (16, 0.1, 2), (3, 0.9, 2)])
def test_a_holdout_of_few_groups_has_some_on_both_sides(groups, fraction, expected):
    for seed in range(20):
        kept, aside = arrays(groups, groups=list(map(str, range(groups)))).holdout(fraction, seed)
        assert (len(kept), len(aside)) == (groups - expected, expected)


def test_batches_stack_consecutive_images_of_one_shape():
    sizes = [4, 4, 4, 6, 4]
    images = [np.full((size, size), index, np.uint8) for index, size in enumerate(sizes)]
    batches = list(Triplets.from_arrays(images, images, images).batches(2))
    assert [batch.names for batch in batches] == [("00000", "00001"), ("00002",), ("00003",), ("00004",)]
    assert batches[0].y_hat.shape == (2, 1, 4, 4)
    assert batches[0].truth().dtype == torch.float32
    assert [batch.x[-1, 0, 0, 0].item() for batch in batches] == pytest.approx(np.array([1, 2, 3, 4]) / 255)
    with pytest.raises(InvalidArgumentError, match="batch_size is 0"):
        next(arrays(1).batches(0))


def test_batches_part_where_the_truth_is_unknown(folder):
    manifest(folder, f"x,y_hat,y\n{GOOD},y/a.npy\nx/b.png,y_hat/b.tif,\n")
    batches = list(Triplets.from_folder(folder).batches(8))
    assert [batch.y is None for batch in batches] == [False, True]


@pytest.mark.parametrize("role", ["x", "y_hat"])
def test_mixed_channels_are_refused(role):
    grey = [np.zeros((4, 4))] * 3
    mixed = [np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((4, 4, 3))]
    given = {"x": grey, "y_hat": grey, role: mixed}
    triplets = Triplets.from_arrays(**given)
    for read in (triplets.validate, lambda: list(triplets.batches(4))):
        with pytest.raises(ImageError, match=f"mixed channels: {role} of '00002' has 3"):
            read()


def test_validate_tells_its_progress(folder):
    seen = []
    Triplets.from_folder(folder).validate(seen.append)
    assert seen == [1, 2, 3]


def test_what_is_no_triplets_is_told_what_to_give():
    refuse_others(arrays(2), None)
    with pytest.raises(InvalidArgumentError, match=r"not a DataLoader: .*from_dataset\(LOADER.dataset\)"):
        refuse_others(torch.utils.data.DataLoader([1, 2]))
    with pytest.raises(InvalidArgumentError, match=r"not a list: .*from_dataset\(DATASET\)"):
        refuse_others(arrays(2), [1, 2])
    with pytest.raises(InvalidArgumentError, match=r"index is a slice; give the number of one triplet"):
        arrays(3)[:2]


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
