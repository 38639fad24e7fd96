"""Masks of whole images: those of one pass, tile by tile, onto disk."""

import csv
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image

import conformask as cm
import made_maskers
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, OutputError
from conformask.images import formats as memory
from conformask.images.formats import SourceImage
from conformask.images.read import read_image
from conformask.images.triplets import Triplets
from conformask.masker import whole
from conformask.masker.write import write_masks
from conformask.records.reading import PLAIN
from conformask.scores.scorer import Heuristic, Tiled
from leaves import asking
from made_maskers import levelled
from synthetic_triplets import arrays, scale_of, triplets

SIZE = (300, 200)
ROUNDING = 1 / 65535 + 1e-6
SCORER = Heuristic(scale_of, channels=1)
FAMILIES = ["reciprocal", "water_filling", "power"]


def calibrated(scorer=None, count=40, size=(150, 140), **how):
    """On images of one size, by tiles of 128 unless a scorer is given."""
    how = {"threshold": 0.03, "confidence": 0.8, "distance": "l1", "family": "water_filling"} | how
    return made_maskers.calibrated(scorer or Tiled(SCORER, 128, 32), triplets(count, 0, size), **how)


@pytest.fixture(scope="module")
def masker():
    return calibrated()


def write_zarr(path, array):
    axes = [{"name": "y"}, {"name": "x"}]
    image = {"axes": axes, "datasets": [{"path": "0"}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    group.create_array("0", data=array, chunks=(64, 64))


def write_tiff(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, compression="zlib")


def folder_of(folder, suffix, count=2):
    x, y_hat, _ = arrays(count, 9, SIZE)
    write = write_zarr if suffix.endswith("zarr") else write_tiff
    for index in range(count):
        for role, images in (("x", x), ("y_hat", y_hat)):
            write(folder / role / f"{index}{suffix}", images[index, ..., 0])
    return folder


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux, which lists open files")
def test_what_an_image_has_decoded_is_freed_with_its_mask(masker, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SMALL", 0)  # every decoded array has a file
    held = []

    def counted(*given):
        held.append(
            sum("(deleted)" in os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.exists())
        )
        return written(*given)

    written = whole.WholeImage.write
    monkeypatch.setattr(whole.WholeImage, "write", counted)
    write_masks(masker, Triplets.from_folder(folder_of(tmp_path, ".tif", 6)), tmp_path / "out")
    assert len(held) == 6
    assert max(held) <= held[0] + 1, held


def mask_of(path):
    """As zarr and tifffile read it."""
    if path.suffix != ".zarr":
        return tifffile.imread(path) / 65535
    group = zarr.open_group(path, mode="r")
    return group[group.attrs["ome"]["multiscales"][0]["datasets"][0]["path"]][0] / 65535


def with_levels(masker):
    (batch,) = triplets(3, 5, SIZE).batches(3)
    return levelled(masker, batch.x, batch.y_hat)


@pytest.mark.parametrize("of", [lambda masker: masker, with_levels])
@pytest.mark.parametrize("suffix", [asking("formats", ".ome.zarr"), ".ome.tif", ".tif"])
def test_masks_are_those_of_one_call(masker, tmp_path, suffix, recwarn, of, monkeypatch):
    monkeypatch.setattr("conformask.scores.level.BLOCK", 64)
    masker = of(masker)
    data = Triplets.from_folder(folder_of(tmp_path, suffix))
    sizes = write_masks(masker, data, tmp_path / "out").sizes
    assert not recwarn
    for triplet in data:
        expected = masker(triplet.x[0], triplet.y_hat[0])
        found = mask_of(tmp_path / "out" / "masks" / f"{triplet.name}{suffix}")
        assert (found <= expected + 1e-6).all()
        assert np.abs(found - expected).max() < ROUNDING
        assert sizes[triplet.name] == pytest.approx(1 - expected.mean(), abs=1e-6)
    with (tmp_path / "out" / "sizes.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["0", "1"]
    left = {path.name for path in (tmp_path / "out" / "masks").iterdir()}
    assert left == {f"0{suffix}", f"1{suffix}"}


def test_masks_lie_on_the_upright_image(masker, tmp_path):
    """Large and small, of files that state how to turn them: the mask states nothing."""
    for name, size in (("large", SIZE), ("small", (100, 80))):
        x, y_hat, _ = arrays(1, 9, size)
        for role, image in (("x", x), ("y_hat", y_hat)):
            path = tmp_path / role / f"{name}.tif"
            path.parent.mkdir(exist_ok=True)
            stored = np.rot90(image[0, ..., 0])  # orientation 6: turned to the right it is upright
            tifffile.imwrite(path, stored, extratags=[(274, "H", 1, 6, True)])
        write_masks(masker, Triplets.from_folder(tmp_path), tmp_path / "out")
        expected = masker(x[0, ..., 0], y_hat[0, ..., 0])
        path = tmp_path / "out" / "masks" / f"{name}.tif"
        assert np.abs(mask_of(path) - expected).max() < ROUNDING
        assert 274 not in tifffile.TiffFile(path).pages[0].tags


@pytest.mark.leaf("formats")
@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_that_fits_a_tile_is_one_pass(family, tmp_path):
    """By Masker.masks with the scorer alone; a zarr goes by blocks whatever its size."""
    masker = calibrated(Tiled(SCORER), family=family)
    alone = replace(masker, scorer=SCORER, card=replace(masker.card, tiles=None))
    data = Triplets.from_folder(folder_of(tmp_path, ".ome.zarr", 1))
    write_masks(masker, data, tmp_path / "out")
    with pytest.warns(UserWarning, match="the promise covers only images of"):
        expected = alone(data[0].x[0], data[0].y_hat[0])
    found = mask_of(tmp_path / "out" / "masks" / "0.ome.zarr")
    assert np.abs(found - expected).max() < ROUNDING


def test_tiles_and_whole_images_side_by_side_keep_their_order(masker, tmp_path):
    x, y_hat, _ = arrays(1, 9, SIZE)
    x_small, y_small, _ = arrays(1, 8, (100, 100))
    data = Triplets.from_arrays([x[0], x_small[0]], [y_hat[0], y_small[0]], names=["large", "small"])
    assert list(write_masks(masker, data, tmp_path).sizes) == ["large", "small"]
    for name, image in (("large", y_hat[0]), ("small", y_small[0])):
        assert read_image(tmp_path / "masks" / f"{name}.png").shape[1:] == image.shape[:2]


def test_calibrated_on_tiles_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("conformask.masker.admission.tiled", lambda scorer, _: Tiled(scorer, 256))
    masker = calibrated(SCORER, 8)
    with pytest.warns(UserWarning, match=r"300 x 200 .* covers only images of 150 x 140 .*--tiled"):
        write_masks(masker, Triplets.from_folder(folder_of(tmp_path, ".tif", 1)), tmp_path / "out")


@pytest.mark.parametrize("size", [(310, 140), (150, 60)])
def test_calibrated_on_whole_images_of_quite_other_sizes_it_says_so(masker, tmp_path, size):
    x, y_hat, _ = arrays(1, 9, size)
    reason = (
        f"images of {size[0]} x {size[1]} pixels: .* whole images of 150 x 140 pixels, with sides up to 2"
    )
    with pytest.warns(UserWarning, match=reason):
        write_masks(masker, Triplets.from_arrays(x, y_hat), tmp_path)


def test_images_of_the_calibrations_size_are_one_pass(tmp_path, monkeypatch, recwarn):
    """The promise was calibrated on scores of one pass, so tiles would void it."""
    monkeypatch.setattr("conformask.masker.admission.tiled", lambda scorer, _: Tiled(scorer, 256))
    calls = []

    def looking(x, y_hat):
        calls.append(tuple(y_hat.shape[-2:]))
        return x

    masker = calibrated(Heuristic(looking, channels=1), 8, (290, 30))
    calls.clear()
    recwarn.clear()
    x, y_hat, _ = arrays(1, 9, (290, 30))
    write_masks(masker, Triplets.from_arrays(x, y_hat), tmp_path)
    assert calls == [(290, 30)]
    assert not recwarn


def test_saved_and_loaded_it_scores_by_the_same_tiles(masker, tmp_path):
    masker.save(tmp_path)
    loaded = cm.load(tmp_path, scorer=SCORER)
    assert loaded.scorer == Tiled(SCORER, 128, 32)
    assert "whole images" in loaded.sentence
    assert "tiles of 128 that overlap by 32" in (tmp_path / "CARD.md").read_text()
    assert cm.load(tmp_path, scorer=masker.scorer).scorer == masker.scorer


@pytest.mark.leaf("formats")
def test_overviews_are_means(masker, tmp_path, monkeypatch):
    monkeypatch.setattr("conformask.masker.whole.LONGEST", 50)
    monkeypatch.setattr("conformask.images.read.BLOCK_SIDE", 64)
    data = Triplets.from_folder(folder_of(tmp_path, ".tif", 1))
    image = whole.whole_images(masker, data)[0]
    under = SourceImage(data.file(0), image.image.y_hat.header.geometry, data.reading)
    written = image.write(tmp_path / "m.ome.zarr", under)
    for found, full in ((written.y_hat, data[0].y_hat[0]), (written.mask, mask_of(tmp_path / "m.ome.zarr"))):
        means = full[:300, :198].reshape(50, 6, 33, 6).mean(axis=(1, 3))
        np.testing.assert_allclose(found[0, :, :33], means, atol=1e-4)
        np.testing.assert_allclose(
            found[0, :, 33], full[:, 198:].reshape(50, 6, 2).mean(axis=(1, 2)), atol=1e-4
        )
    write_masks(masker, data, tmp_path)
    assert Image.open(tmp_path / "overlays" / "0.jpg").size == (6 * 34, 6 * 50)


def test_the_loss_of_colours_under_partly_open_masks(tmp_path, monkeypatch):
    """mean((m |y - y_hat|)^2) over the values of all channels, of a mask that has one."""
    monkeypatch.setattr("conformask.images.read.BLOCK_SIDE", 64)
    how = {"threshold": 0.002, "promise": cm.Promise(confidence=0.8), "loss": "l2", "family": "reciprocal"}
    scorer = Tiled(Heuristic(scale_of, channels=3), 128, 32)
    masker = cm.calibrate(scorer, triplets(10, 0, (90, 80), 3), **how)
    x, y_hat, y = arrays(1, 9, (140, 100), 3)
    (image,) = whole.whole_images(masker, Triplets.from_arrays(x, y_hat, y)).values()
    found = image.write(tmp_path / "mask.tif", SourceImage(None, None, PLAIN)).loss
    mask = mask_of(tmp_path / "mask.tif")
    assert ((mask > 0.1) & (mask < 0.9)).any()
    assert found == pytest.approx(np.mean((mask[..., None] * (y[0] - y_hat[0])) ** 2), rel=1e-3)


@pytest.mark.leaf("formats")
def test_nothing_is_lost_when_an_image_is_bad(masker, tmp_path):
    folder = folder_of(tmp_path, ".ome.zarr", 3)
    zarr.open_array(folder / "y_hat" / "1.ome.zarr" / "0", mode="r+")[250, 150] = np.nan
    with pytest.raises(ImageError, match=r"1\.ome\.zarr \(rows .* contains NaN"):
        write_masks(masker, Triplets.from_folder(folder), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["0.ome.zarr"]
    assert (tmp_path / "out" / "sizes.csv").read_text().splitlines()[1].startswith("0,")


@pytest.mark.leaf("formats")
def test_missing_chunks_come_before_any_work(masker, tmp_path):
    folder = folder_of(tmp_path, ".ome.zarr", 2)
    (folder / "x" / "1.ome.zarr" / "0" / "c" / "2" / "1").unlink()
    with pytest.raises(ImageError, match=r"x/1\.ome\.zarr is missing chunks c/2/1"):
        write_masks(masker, Triplets.from_folder(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_channels_and_sizes_come_before_any_work(masker, tmp_path):
    y_hat = np.zeros((300, 200, 3), np.float32)
    with pytest.raises(MismatchError, match="1 channel, not 3"):
        write_masks(masker, Triplets.from_arrays([y_hat], [y_hat]), tmp_path / "out")
    with pytest.raises(MismatchError, match="299 x 200"):
        write_masks(masker, Triplets.from_arrays([y_hat[:299, :, 0]], [y_hat[..., 0]]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_said_first(masker, tmp_path, monkeypatch):
    data = Triplets.from_folder(folder_of(tmp_path, ".tif", 1))
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(OutputError, match=r"out.*needs 0\.0 GB in .*: choose another folder"):
        write_masks(masker, data, tmp_path / "out")


@pytest.mark.quick(1)
@pytest.mark.parametrize("guarantee", ["adaptive", "expected"])
def test_rules_that_look_at_the_image(guarantee, tmp_path, monkeypatch):
    """In memory up to a size, then refused, before any work."""
    how = {"guarantee": guarantee, "selection": triplets(40, 5, (150, 140)), "threshold": 0.05}
    masker = calibrated(**how, **({"confidence": None} if guarantee == "expected" else {}))
    assert masker.rule.needs & {"features", "bound_curve"}
    data = Triplets.from_folder(folder_of(tmp_path, ".tif", 1))
    write_masks(masker, data, tmp_path / "out")
    expected = masker(data[0].x[0], data[0].y_hat[0])
    assert np.abs(mask_of(tmp_path / "out" / "masks" / "0.tif") - expected).max() < ROUNDING
    monkeypatch.setattr(whole, "IN_MEMORY", 1000)
    with pytest.raises(InvalidArgumentError, match=f"300 x 200 pixels: the {guarantee} promise"):
        write_masks(masker, data, tmp_path / "out")


def test_a_category_is_read_from_the_manifest(tmp_path):
    x, y_hat, y = arrays(40, 0, (20, 20))
    kinds = ["a", "b"] * 20
    labelled = Triplets.from_arrays(x, y_hat, y, categories=kinds)
    how = {"threshold": 0.03, "promise": cm.Promise("categories", confidence=0.8), "loss": "l1"}
    masker = cm.calibrate(Tiled(SCORER, 128, 32), labelled, **how)
    x, y_hat, _ = arrays(1, 9, SIZE)
    write_masks(masker, Triplets.from_arrays(x, y_hat, categories=["b"]), tmp_path)
    expected = masker(x[0], y_hat[0], category=["b"])
    assert np.abs(read_image(tmp_path / "masks" / "00000.png")[0] - expected).max() < ROUNDING
    with pytest.raises(InvalidArgumentError, match="category"):
        write_masks(masker, Triplets.from_arrays(x, y_hat), tmp_path)


@pytest.mark.leaf("formats")
def test_an_input_larger_than_an_output_in_one_tile_is_seen_whole(tmp_path):
    """An OME-Zarr is masked as whole images are, however small."""
    masker = calibrated(Heuristic(resized, channels=1))
    x, y_hat, _ = arrays(1, 9, (150, 140))
    larger = np.repeat(x[0, ..., 0], 2, axis=0)
    write_zarr(tmp_path / "x" / "0.ome.zarr", larger)
    write_zarr(tmp_path / "y_hat" / "0.ome.zarr", y_hat[0, ..., 0])
    write_masks(masker, Triplets.from_folder(tmp_path), tmp_path / "out")
    expected = masker(larger, y_hat[0, ..., 0])
    found = mask_of(tmp_path / "out" / "masks" / "0.ome.zarr")
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


def resized(x, y_hat):
    """A score of x alone, at the size of y_hat."""
    return torch.nn.functional.interpolate(x, y_hat.shape[2:])


def test_nan_outside_the_region_of_a_whole_image_is_zero(tmp_path):
    x, y_hat, _ = arrays(1, 9, SIZE)
    masker = calibrated()
    masker = replace(masker, card=replace(masker.card, read=cm.Reading(nan="outside")))
    image = y_hat[0, ..., 0].copy()
    image[:20] = np.nan
    write_tiff(tmp_path / "x" / "0.tif", x[0, ..., 0])
    write_tiff(tmp_path / "y_hat" / "0.tif", image)
    shown = Triplets.from_folder(tmp_path, reading=masker.card.reading)
    write_masks(masker, shown, tmp_path / "out")
    expected = masker(x[0, ..., 0], image)
    np.testing.assert_allclose(mask_of(tmp_path / "out" / "masks" / "0.tif"), expected, atol=ROUNDING)
