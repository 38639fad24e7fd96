"""What is told of images beside their files: axes, ranges, NaN, groups; and datasets of torch."""

import csv
import struct
import warnings
import zlib
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow, ImageOps

import conformask as cm
from conformask.arrays import Batch, Score
from conformask.errors import ImageError, InvalidArgumentError
from conformask.images.check import check_triplets
from conformask.images.read import decode, open_raster, read_header, read_image, write_image
from conformask.images.scan import role_distances
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masks.critical import (
    critical_lambdas,
    features_of,
    loss_under,
    mask_size,
    measures,
    paper_oracle,
)
from conformask.masks.families import FAMILIES, family as family_by_name
from conformask.records.reading import Reading
from conformask.scores.network_scorer import mask_loss, pinball

SHAPE = (4, 6, 5)


def volumes(count=3, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.random(SHAPE, dtype=np.float32) for _ in range(count)]


def write(folder, arrays, suffix=".npy"):
    for role, images in arrays.items():
        (folder / role).mkdir(parents=True)
        for index, image in enumerate(images):
            np.save(folder / role / f"sub-{index:02d}_a{suffix}", image)
    return folder


def nifti(folder, role, name, array, affine=None):
    nibabel = pytest.importorskip("nibabel")
    (folder / role).mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine)
    image.to_filename(folder / role / f"{name}.nii.gz")


def test_axes_are_brought_to_ours(tmp_path):
    y = volumes()
    moved = [np.stack([image, 1 - image], axis=-1).transpose(2, 3, 0, 1) for image in y]
    folder = write(tmp_path, {"x": moved, "y_hat": moved})
    triplet = Triplets.from_folder(folder, reading=Reading(axes="XCZY"))[1]
    assert triplet.y_hat.shape == (2, *SHAPE)
    np.testing.assert_array_equal(triplet.y_hat[0], y[1])
    arrays = Triplets.from_arrays(moved, moved, reading=Reading(axes="XCZY"))
    np.testing.assert_array_equal(arrays[1].y_hat, triplet.y_hat)
    assert arrays.dimensions == 3


@pytest.mark.parametrize("axes", ["ZY", "ZYXX", "zyx", "ABYX", ""])
def test_axes_that_are_none(axes):
    with pytest.raises(InvalidArgumentError, match="letters of TCZYX"):
        Reading(axes=axes)


def test_a_stack_without_axes_is_no_image_of_many_channels(tmp_path):
    folder = write(tmp_path, {"x": [np.zeros((12, 96, 112))], "y_hat": [np.zeros((12, 96, 112))]})
    with pytest.raises(ImageError, match=r"sub-00_a\.npy has shape \(12, 96, 112\).*--axes ZYX.*YXC"):
        Triplets.from_folder(folder)[0]
    assert Triplets.from_folder(folder, reading=Reading(axes="ZYX"))[0].y_hat.shape == (1, 12, 96, 112)
    assert Triplets.from_folder(folder, reading=Reading(axes="YXC"))[0].y_hat.shape == (112, 12, 96)


def test_other_axes_than_the_array_has(tmp_path):
    folder = write(tmp_path, {"x": volumes(1), "y_hat": volumes(1)})
    with pytest.raises(ImageError, match=r"shape \(4, 6, 5\), which does not match the given axes CZYX"):
        Triplets.from_folder(folder, reading=Reading(axes="CZYX"))[0]


def test_each_time_point_is_an_image_of_one_group(tmp_path):
    films = [np.stack(volumes(3, seed)) for seed in (0, 1)]
    folder = write(tmp_path, {"x": films, "y_hat": films, "y": films})
    triplets = Triplets.from_folder(folder, reading=Reading(axes="TZYX"))
    assert triplets.names == tuple(f"sub-{a:02d}_a_t{t:03d}" for a in (0, 1) for t in range(3))
    assert triplets.groups == ("sub-00_a",) * 3 + ("sub-01_a",) * 3
    np.testing.assert_array_equal(triplets[4].truth()[0], films[1][1])
    assert triplets.source(0) != triplets.source(1)
    with (folder / "manifest.csv").open("w") as file:
        csv.writer(file).writerows([["x", "y_hat"], ["x/sub-00_a.npy#t=2", "y_hat/sub-00_a.npy#t=2"]])
    one = Triplets.from_folder(folder, reading=Reading(axes="TZYX"))
    assert one.names == ("sub-00_a_t002",)
    np.testing.assert_array_equal(one[0].y_hat[0], films[0][2])


def test_times_that_do_not_agree(tmp_path):
    folder = write(tmp_path, {"x": [np.zeros((3, 8, 8))], "y_hat": [np.zeros((2, 8, 8))]})
    with pytest.raises(ImageError, match=r"x/sub-00_a\.npy has 3 time points, but .*y_hat.* has 2"):
        Triplets.from_folder(folder, reading=Reading(axes="TYX"))


def test_a_time_that_is_not_there(tmp_path):
    folder = write(tmp_path, {"x": [np.zeros((3, 8, 8))], "y_hat": [np.zeros((3, 8, 8))]})
    row = ["x/sub-00_a.npy#t=3", "y_hat/sub-00_a.npy#t=3"]
    with (folder / "manifest.csv").open("w") as file:
        csv.writer(file).writerows([["x", "y_hat"], row])
    with pytest.raises(ImageError, match="3 time points, counted from 0: there is no 3"):
        Triplets.from_folder(folder, reading=Reading(axes="TYX"))[0]
    write_image(folder / "a.png", np.zeros((1, 8, 8), np.float32))
    with pytest.raises(ImageError, match=r"a\.png#t=7: .* no time points: leave out #t=7"):
        read_image(folder / "a.png#t=7")


def test_values_beyond_the_range_of_x_alone(tmp_path):
    y = volumes(1)
    folder = write(tmp_path, {"x": [3 * y[0] - 1], "y_hat": y})
    with pytest.raises(ImageError, match="outside its range"):
        Triplets.from_folder(folder, reading=Reading(axes="ZYX"))[0]
    x = Triplets.from_folder(folder, reading=Reading(axes="ZYX", clip="x"))[0].x
    np.testing.assert_allclose(x[0], np.clip(3 * y[0] - 1, 0, 1), atol=1e-6)
    (folder / "x").rename(folder / "z")
    (folder / "y_hat").rename(folder / "x")
    (folder / "z").rename(folder / "y_hat")
    with pytest.raises(ImageError, match="outside its range"):
        Triplets.from_folder(folder, reading=Reading(axes="ZYX", clip="x"))[0]
    assert Triplets.from_folder(folder, reading=Reading(axes="ZYX", clip="all"))[0].y_hat.max() == 1


def test_a_range_for_x_alone(tmp_path):
    """Counts of a camera before the network, floats in [0, 1] after it."""
    y = volumes(2)
    folder = write(tmp_path, {"x": [4000 * image - 200 for image in y], "y_hat": y, "y": y})
    reading = Reading(x_range=(-200, 3800), axes="ZYX")
    triplets = Triplets.from_folder(folder, reading=reading)
    for read in (
        triplets[1],
        Triplets.from_dataset([(4000 * v[None] - 200, v[None]) for v in y], reading=reading)[1],
    ):
        np.testing.assert_allclose(read.x[0], y[1], atol=1e-6)
        np.testing.assert_array_equal(read.y_hat[0], y[1])
    np.testing.assert_allclose(triplets.raster(1, "x").read((slice(0, 4),) * 3), read.x[:, :, :4, :4])
    assert triplets.source(1) != Triplets.from_folder(folder, reading=Reading(axes="ZYX")).source(1)
    expected = r"sub-00_a\.npy contains the value .*outside its range \(0, 1000\); .*--x-range LOW HIGH"
    with pytest.raises(ImageError, match=expected):
        Triplets.from_folder(folder, reading=Reading(x_range=(0, 1000), axes="ZYX"))[0]
    with pytest.raises(ImageError, match=r"outside its range \(0, 1\); .*x_range=\(low, high\)"):
        Triplets.from_folder(folder, reading=Reading(axes="ZYX"))[0]


def test_a_stated_range_leaves_x_of_8_bits_alone():
    """A photograph whose depth a network estimates, in metres."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    y = generator.uniform(0, 22, (30, 16, 16)).astype(np.float32)
    triplets = Triplets.from_arrays(x, (y + 1).clip(0, 22), y, data_range=(0, 22))
    np.testing.assert_allclose(triplets[0].x, np.moveaxis(x[0], -1, 0) / 255, atol=1e-6)
    np.testing.assert_allclose(triplets[0].y, y[:1] / 22, atol=1e-6)
    assert (triplets.range_of("x"), triplets.range_of("y_hat")) == ((0, 255), (0, 22))
    masker = cm.calibrate(cm.packaged_scorer(), triplets, threshold=0.01)
    expected = masker(triplets[0])
    np.testing.assert_array_equal(masker(x[0], (y[0] + 1).clip(0, 22)), expected)
    tensors = torch.from_numpy(triplets[0].x[None]), torch.from_numpy((y[:1, None] + 1).clip(0, 22))
    np.testing.assert_allclose(masker(*tensors)[0, 0], expected, atol=1e-6)
    stated = replace(triplets.reading, x_range=(0, 510))
    assert Triplets.from_arrays(x, y, y, reading=stated)[0].x.max() <= 0.5
    before = replace(masker.card, range_of_x=(0, 22))  # as up to 0.2
    assert before.reading.x_range == (0, 22)


def test_nan_is_outside_the_region(tmp_path):
    x, y_hat, y = volumes(3)
    y_hat[0], y[:, 0] = np.nan, np.nan
    folder = write(tmp_path, {"x": [x], "y_hat": [y_hat], "y": [y]})
    with pytest.raises(ImageError, match=r"contains NaN: .*--nan outside"):
        Triplets.from_folder(folder, reading=Reading(axes="ZYX"))[0]
    triplets = Triplets.from_folder(folder, reading=Reading(axes="ZYX", nan="outside"))
    triplet = triplets[0]
    assert triplets.has_regions
    expected = np.ones(SHAPE)
    expected[0], expected[:, 0] = 0, 0
    np.testing.assert_array_equal(triplet.layers["region"][0], expected)
    error = np.abs(np.clip(y_hat, 0, 1) - y)[expected == 1].mean()
    assert check_triplets(triplets, needed=1).mean_error == pytest.approx(error, rel=1e-5), "not of missing y"
    assert role_distances(triplet).y_hat_to_y == pytest.approx(error, rel=1e-5)
    assert all(np.isfinite(image).all() for image in (triplet.x, triplet.y_hat, triplet.truth()))
    np.save(folder / "y" / "sub-00_a.npy", np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(ImageError, match="sub-00_a' is NaN or without truth everywhere"):
        triplets[0]


@pytest.mark.leaf("formats")
def test_images_that_lie_in_other_places(tmp_path):
    y = volumes(1)[0]
    for role in ("x", "y_hat", "y"):
        nifti(tmp_path, role, "a", y)
    assert Triplets.from_folder(tmp_path)[0].geometry.spacing == (3.0, 2.0, 2.0)
    shifted = np.diag([2.0, 2.0, 3.0, 1.0])
    shifted[0, 3] = 5
    nifti(tmp_path, "x", "a", y, shifted)
    with pytest.raises(ImageError, match=r"triplet 'a': x and y_hat have affines that differ by 5 mm"):
        Triplets.from_folder(tmp_path)[0]
    nifti(tmp_path, "x", "a", y)
    nifti(tmp_path, "y", "a", y, np.diag([1.0, 2.0, 3.0, 1.0]))
    with pytest.raises(ImageError, match="y_hat have different spacings, 3 x 2 x 1 mm and 3 x 2 x 2 mm"):
        Triplets.from_folder(tmp_path)[0]
    nifti(tmp_path, "y", "a", y)
    nifti(tmp_path, "region", "a", np.ones(SHAPE, np.uint8), shifted)
    with pytest.raises(ImageError, match=r"region/a\.nii\.gz and y_hat have affines"):
        Triplets.from_folder(tmp_path)[0]


def test_a_volume_beside_a_plane(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "y_hat").mkdir()
    tifffile.imwrite(tmp_path / "x" / "a.ome.tif", np.zeros(SHAPE, np.uint8), metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "y_hat" / "a.ome.tif", np.zeros(SHAPE[1:], np.uint8))
    with pytest.raises(ImageError, match="one is a volume, the other is not"):
        Triplets.from_folder(tmp_path)[0]


def test_groups_from_names(tmp_path):
    folder = write(tmp_path, {"x": volumes(), "y_hat": volumes()})
    reading = Reading(axes="ZYX")
    grouped = Triplets.from_folder(folder, reading=reading, group_from=r"sub-(\d)")
    assert grouped.groups == ("0", "0", "0")
    assert Triplets.from_folder(folder, reading=reading, group_from=r"sub-\d(\d)").groups == ("0", "1", "2")
    for wrong, match in (
        (r"ses-(\w+)", "does not match the name 'sub-00_a'"),
        (r"sub-\d+", "has 0 groups in brackets"),
        (r"(s)(u)", "has 2 groups in brackets"),
        ("(", "is not a regular expression"),
        ("patient", "name no patient"),
    ):
        with pytest.raises(InvalidArgumentError, match=match):
            Triplets.from_folder(folder, reading=reading, group_from=wrong)


def test_groups_are_found_as_before_where_nothing_states_them(tmp_path):
    folder = write(tmp_path, {"x": volumes(), "y_hat": volumes()})
    kept = Triplets.from_folder(folder, reading=Reading(axes="ZYX"), group_from=r"sub-(\d)").reading
    assert kept.group_from == r"sub-(\d)"
    assert Triplets.from_folder(folder, reading=kept).groups == ("0", "0", "0")
    assert Triplets.from_folder(folder, reading=kept, group_from=r"sub-\d(\d)").groups == ("0", "1", "2")
    other = replace(kept, group_from=r"ses-(\w+)")
    said = r"does not match the name 'sub-00_a' and 2 others: each image is a group of its own here"
    with pytest.warns(UserWarning, match=said) as given:
        assert len(set(Triplets.from_folder(folder, reading=other).groups)) == 3
    assert len(given) == 1
    alone = write(tmp_path / "alone", {"x": volumes(1), "y_hat": volumes(1)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Triplets.from_folder(alone, reading=other)) == 1
    arrays = Triplets.from_arrays(volumes(), volumes(), groups=["a", "b", "b"], reading=kept)
    assert arrays.groups == ("a", "b", "b")


@pytest.mark.leaf("formats")
def test_check_shows_spacing_orientation_and_what_does_not_fit(tmp_path):
    for index, y in enumerate(volumes(4)):
        affine = np.diag([2.0, 2.0, 3.0 if index else 6.0, 1.0])
        affine[0, 0] *= -1 if index == 2 else 1
        for role in ("x", "y_hat", "y"):
            nifti(tmp_path, role, f"s{index}_a", y, affine)
    findings = check_triplets(Triplets.from_folder(tmp_path), 1)
    assert findings.spacings == {"3 x 2 x 2 mm": 3, "6 x 2 x 2 mm": 1}
    assert findings.orientations == {"RAS": 3, "LAS": 1}
    text = " ".join(findings.warnings)
    assert "3 images differ from s0_a in spacing, for example s1_a" in text
    assert "1 image differs from s0_a in orientation, for example s2_a" in text


class Pairs(torch.utils.data.Dataset):
    """Tensors in [-1, 1]."""

    def __init__(self, images):
        self.images, self.asked = images, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.asked.append(index)
        y = self.images[index]
        return {"degraded": y, "output": (0.5 * y).requires_grad_(), "truth": y}


KEYS = ("degraded", "output", "truth")


def test_a_dataset_of_torch_is_asked_only_when_needed():
    dataset = Pairs([2 * torch.rand(2, *SHAPE) - 1 for _ in range(3)])
    triplets = Triplets.from_dataset(dataset, keys=KEYS, data_range=(-1, 1), groups=["a", "b", "b"])
    assert set(dataset.asked) <= {0}
    triplet = triplets[2]
    assert triplet.y_hat.shape == (2, *SHAPE)
    np.testing.assert_allclose(triplet.truth(), (dataset.images[2].numpy() + 1) / 2, atol=1e-6)
    np.testing.assert_allclose(triplet.y_hat, (0.5 * dataset.images[2].numpy() + 1) / 2, atol=1e-6)
    assert triplets.groups == ("a", "b", "b")
    assert len(list(triplets.batches(2))) == 2


def test_sequences_of_tuples():
    items = [(torch.rand(1, 8, 8), torch.rand(1, 8, 8)) for _ in range(2)]
    triplets = Triplets.from_dataset(items)
    assert not triplets.has_truth
    np.testing.assert_array_equal(triplets[1].y_hat, items[1][1].numpy())
    swapped = Triplets.from_dataset(items, keys=(1, 0))
    np.testing.assert_array_equal(swapped[1].x, items[1][1].numpy())
    halved = Triplets.from_dataset([tuple(image.bfloat16() for image in items[0])])
    np.testing.assert_array_equal(halved[0].x, items[0][0].bfloat16().float().numpy())


def test_datasets_that_cannot_be_used():
    items = [(torch.rand(1, 8, 8),) * 3]
    loader = torch.utils.data.DataLoader(items)
    for bad, match in (
        (loader, r"DataLoader has no items by index: .* its \.dataset"),
        ([], "is empty"),
        ([(torch.rand(1, 8, 8),) * 4], "tuple of 4"),
        ([{"input": 0, "target": 1}], r"mapping with \['input', 'target'\]"),
    ):
        with pytest.raises(InvalidArgumentError, match=match):
            Triplets.from_dataset(bad)
    with pytest.raises(ImageError, match="has 2 axes"):
        Triplets.from_dataset([(torch.rand(8, 8),) * 2])
    with pytest.raises(ImageError, match=r"has shape \(8, 8, 3\): put the channels first"):
        Triplets.from_dataset([(np.zeros((8, 8, 3)),) * 2])
    items = [dict.fromkeys(("x", "y_hat"), torch.rand(1, 8, 8))]
    with pytest.raises(ImageError, match="item 0 of the dataset has no 'truth'"):
        Triplets.from_dataset(items, keys=("x", "y_hat", "truth"))[0]


VOLUME, FLAT = (3, 2, 4, 6, 8), (3, 2, 24, 8)
GRID = np.array([0.0, 1e-3, 0.02, 0.1, 1.0, np.inf])


@pytest.fixture(scope="module")
def scored():
    generator = torch.Generator().manual_seed(0)
    y, y_hat, score = (torch.rand(VOLUME, generator=generator) for _ in range(3))
    names = ("a", "b", "c")
    volume = Batch(names, y_hat, y_hat, y).with_score(Score(score * score))
    images = [images.reshape(FLAT) for images in (y_hat, y_hat, y, score * score)]
    return volume, Batch(names, *images[:3]).with_score(Score(images[3]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("distance", ["l1", "l2", "l1.5"])
def test_what_calibration_measures(scored, family, distance):
    used = loss(distance)
    masks = family_by_name(family, used.traits.exponent)
    volume, flat = (measures(item, masks, used, GRID, 0.05, bounded=True) for item in scored)
    for name in volume:
        np.testing.assert_array_equal(volume[name], flat[name])
    lambdas = torch.from_numpy(critical_lambdas(scored[0], masks, used, GRID, 0.05))
    opened = [masks.apply(item.score.map, masks.level(item.score.map, lambdas)) for item in scored]
    assert opened[0].shape == VOLUME
    assert torch.equal(opened[0].reshape(FLAT), opened[1])
    assert torch.equal(mask_size(opened[0]), mask_size(opened[1]))
    distances = loss_under(used, opened[0], scored[0])
    # a binary mask ends with a whole pixel
    np.testing.assert_allclose(distances, 0.05, rtol=0.05 if family == "binary" else 1e-5)
    assert (distances <= 0.05 * (1 + 1e-6)).all()
    np.testing.assert_array_equal(*(features_of(item.score) for item in scored))


@pytest.mark.parametrize("distance", ["l1", "l2", "l1.5"])
def test_the_best_masks(scored, distance):
    used, found = loss(distance), []
    for item in scored:
        y, y_hat = item.truth(), item.y_hat
        exact = used.of_batch(item, y_hat.shape[1]).oracle(0.05)
        opt, reached = paper_oracle(used.error_map, y, y_hat, 0.05, per_channel=True)
        assert reached.all()
        found.append((exact.reshape(FLAT), opt.reshape(FLAT)))
    for volume, flat in zip(*found, strict=True):
        torch.testing.assert_close(volume, flat, rtol=0, atol=1e-6)


def test_losses(scored):
    used = loss("l1")
    losses = []
    for item in scored:
        y, y_hat = item.truth(), item.y_hat
        losses.append(torch.stack([mask_loss(item.score.map, y, y_hat, used), pinball(y_hat, y, 0.95)]))
    torch.testing.assert_close(*losses)


PIXELS = np.random.default_rng(0).integers(0, 256, (48, 32, 3)).astype(np.uint8)
DEEP = PIXELS.astype(np.uint16) * 257 ^ 3
PALETTE = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)


def exif(orientation):
    tags = Pillow.Exif()
    tags[274] = orientation
    return tags


def turned(pixels, orientation):
    """By Pillow, channel by channel."""
    planes = []
    for plane in np.moveaxis(np.atleast_3d(pixels), -1, 0):
        image = Pillow.fromarray(plane)
        image.getexif()[274] = orientation
        planes.append(np.asarray(ImageOps.exif_transpose(image)))
    return np.stack(planes)


def png(pixels, orientation, late=False):
    """With the orientation before or after the pixels."""
    content, tags = imagecodecs.png_encode(pixels), b"eXIf" + exif(orientation).tobytes()[6:]
    at = len(content) - 12 if late else 33
    chunk = struct.pack(">I", len(tags) - 4) + tags + struct.pack(">I", zlib.crc32(tags))
    return content[:at] + chunk + content[at:]


def tiff(path, pixels, orientation, **more):
    tifffile.imwrite(path, pixels, extratags=[(274, "H", 1, orientation, True)], **more)


def write_turned(folder, kind, orientation):
    """A file of that kind, and the pixels that are stored in it."""
    path = folder / f"a.{kind.split()[-1]}"
    stored = PIXELS[..., 0].copy() if kind in ("grey png", "palette tif", "white tif") else PIXELS
    if kind == "jpg":
        Pillow.fromarray(PIXELS).save(path, exif=exif(orientation))
        stored = np.asarray(Pillow.open(path))
    elif kind.endswith("png"):
        stored = DEEP if kind == "deep png" else stored
        path.write_bytes(png(stored, orientation, kind == "late png"))
    elif kind == "tif":
        stored = DEEP
        tiff(path, DEEP, orientation, photometric="rgb", byteorder=">")
    elif kind == "tiles tif":
        tiff(path, PIXELS, orientation, photometric="rgb", tile=(16, 16), compression="zlib")
    elif kind == "planes tif":
        tiff(path, np.moveaxis(PIXELS, -1, 0), orientation, photometric="rgb", planarconfig="separate")
    elif kind == "white tif":
        tiff(path, 255 - stored, orientation, photometric="miniswhite")
    else:
        tiff(path, stored, orientation, photometric="palette", colormap=PALETTE)
        stored = np.moveaxis((PALETTE >> 8).astype(np.uint8)[:, stored], 0, -1)
    return path, stored


KINDS = ("jpg", "png", "grey png", "late png", "deep png", "tif", "tiles tif", "planes tif", "palette tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [*KINDS, "white tif"])
def test_every_format_is_turned_upright(tmp_path, kind, orientation):
    path, stored = write_turned(tmp_path, kind, orientation)
    expected = turned(stored, orientation)
    array, header, raster = decode(path), read_header(path), open_raster(path)
    np.testing.assert_array_equal(np.moveaxis(np.atleast_3d(array), -1, 0), expected)
    assert header.shape == expected.shape
    assert raster.size == expected.shape[1:]
    whole = read_image(path)
    np.testing.assert_array_equal(raster.read((slice(5, 21), slice(3, 30))), whole[:, 5:21, 3:30])
    np.testing.assert_array_equal(raster.read(header.everywhere), whole)


@pytest.mark.parametrize("value", [0, 9, 65535])
@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_a_value_that_is_no_orientation_turns_nothing(tmp_path, kind, value):
    path, stored = write_turned(tmp_path, kind, value)
    np.testing.assert_array_equal(decode(path), stored)


def test_the_same_photograph_in_two_formats_is_the_same_image(tmp_path):
    """x as the camera saved it, y_hat as another program did."""
    flat = np.repeat(np.repeat([[[200, 40, 90], [20, 200, 10]]], 32, 0), 16, 1).astype(np.uint8)
    Pillow.fromarray(flat).save(tmp_path / "a.jpg", exif=exif(6), quality=95, subsampling=0)
    (tmp_path / "a.png").write_bytes(png(flat, 6))
    tiff(tmp_path / "a.tif", flat, 6, photometric="rgb")
    camera = read_image(tmp_path / "a.jpg")
    for name in ("a.png", "a.tif"):
        np.testing.assert_allclose(read_image(tmp_path / name), camera, atol=0.1)
