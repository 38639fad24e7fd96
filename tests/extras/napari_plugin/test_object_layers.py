"""Trusted objects in napari: a layer of labels, with what objects.csv says of each."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile

import conformask as cm
from object_worlds import SCORER, objects, triplets

pytestmark = [
    pytest.mark.xdist_group("napari"),
    pytest.mark.filterwarnings("ignore:.*(masks|images):UserWarning"),
]
NAMES = ("f2", "f10")  # in the order of napari, not of the alphabet


@pytest.fixture(scope="module")
def masker() -> cm.Masker:
    return cm.calibrate(SCORER, triplets(60, 1, 6, (9,)), threshold=0.3, loss=cm.Objects("missed"))


def written(masker: cm.Masker, folder: Path, names: tuple[str, ...]) -> Path:
    images = objects(len(names), 2, 6, (9,))
    for role, subfolder in {"x": "x", "y_hat": "y_hat", "labels": "cells/y_hat"}.items():
        (folder / subfolder).mkdir(parents=True)
        for name, image in zip(names, images[role], strict=True):
            stored = image.astype(np.uint16) if role == "labels" else image
            tifffile.imwrite(folder / subfolder / f"{name}.tif", stored)
    new = cm.Triplets.from_folder(folder, reading=cm.Reading(objects="cells"))
    cm.write_masks(masker, new, folder / "out")
    return folder / "out"


@pytest.mark.parametrize("names", [NAMES, NAMES[:1]], ids=["two images", "one image"])
def test_trusted_objects_are_labels_with_features(qt, masker, tmp_path: Path, names: tuple[str, ...]) -> None:
    from napari.components import ViewerModel

    out, viewer = written(masker, tmp_path, names), ViewerModel()
    viewer.open(out, plugin="conformask")
    masks, layer = viewer.layers
    assert (type(layer).__name__, layer.data.shape) == ("Labels", masks.data.shape)
    features = layer.features.set_index("index")
    rows = {(row["image"], row["id"]): row for row in csv.DictReader((out / "objects.csv").open())}
    assert len(features) == len(rows) == 9 * len(names)
    stack = np.asarray(layer.data).reshape(-1, 15, 15)
    for name, labels in zip(names, stack, strict=True):
        own = tifffile.imread(out / "labels" / f"{name}.tif")
        np.testing.assert_array_equal(labels > 0, own > 0)
        for index in set(labels.ravel()) - {0}:
            fact = features.loc[index]
            assert set(own[labels == index]) == {fact["id"]}
            row = rows[fact["image"], str(fact["id"])]
            assert fact["image"] == name
            assert fact["trusted"]
            assert (fact["pixels"], fact["score"]) == (int(row["pixels"]), float(row["score"]))
            assert (labels == index).sum() == fact["pixels"]
    shown = {index for index in np.unique(stack) if index}
    assert shown == set(features.index[features["trusted"]])
    assert len(shown) < len(features)


def test_time_points_of_a_film_are_one_layer(qt, tmp_path: Path) -> None:
    from napari.components import ViewerModel

    reading = cm.Reading(objects="components:0.5")
    arrays = [{role: objects(count, 1, 6, (9,))[role] for role in ("x", "y_hat", "y")} for count in (60, 3)]
    calibration = cm.Triplets.from_arrays(**arrays[0], reading=reading)
    masker = cm.calibrate(SCORER, calibration, threshold=0.3, loss=cm.Objects("missed"))
    for role in ("x", "y_hat"):
        (tmp_path / role).mkdir()
        tifffile.imwrite(tmp_path / role / "film.ome.tif", arrays[1][role], metadata={"axes": "TYX"})
    cm.write_masks(masker, cm.Triplets.from_folder(tmp_path, reading=reading), tmp_path / "out")
    viewer = ViewerModel()
    viewer.open(tmp_path / "out", plugin="conformask")
    masks, layer = viewer.layers
    assert layer.data.shape == masks.data.shape == (3, 15, 15)
    labels = np.asarray(layer.data)
    features = layer.features.set_index("index")
    assert set(features.loc[np.unique(labels[2])[1:], "image"]) == {"film_t002"}
    assert (np.asarray(masks.data)[labels > 0] == 1).all()


def test_the_widget_says_where_masks_of_objects_come_from(qt, masker, tmp_path: Path) -> None:
    from conformask.extras.napari.layers import trouble_of

    masker.save(tmp_path / "run")
    assert "conformask mask" in (trouble_of(tmp_path / "run") or "")
