"""Layers, readers and the widget of napari."""

import csv
import errno
import re
import shutil
from dataclasses import replace
from html import unescape

import dask.array as da
import numpy as np
import pytest
import tifffile
from runs_of_fields import Run, pair, run_of, spread

import conformask as cm
from conformask.errors import MismatchError
from conformask.extras.view.sliders import SliderSetting, bound_text, recalibrated_at
from conformask.images.read import read_image
from conformask.masker.arguments import given
from conformask.records.numbers import rounded_share
from conformask.records.reading import Geometry
from object_worlds import SCORER, objects, triplets

pytestmark = pytest.mark.xdist_group("napari")
SPACE = "\N{NO-BREAK SPACE}"


def stack(seeds, shape, channels=1):
    """x and y_hat, the images along the first axis."""
    x, y_hat, _ = zip(*(pair(seed, shape, channels) for seed in seeds), strict=True)
    return np.stack(x), np.stack(y_hat)


def layers_of(widget, x, y_hat, **where):
    viewer = widget._viewer
    return viewer.add_image(x, name="raw"), viewer.add_image(y_hat, name="restored", **where)


def said():
    from napari.utils.notifications import notification_manager

    return [record.message for record in notification_manager.records]


def test_white_letters_are_read_on_every_tone(qt):
    from conformask.extras.napari.widget import BAD, TONES

    tones = sorted({*TONES.values(), BAD})
    channels = np.array([[int(tone[at : at + 2], 16) for at in (1, 3, 5)] for tone in tones]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    assert (1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5).all()


UM = {"units": ("µm", "µm"), "axis_labels": ("y", "x"), "scale": (0.5, 0.25), "translate": (3, 4)}


def test_a_plane(widget, masked, planes):
    x, y_hat, _ = pair(50, (48, 40))
    registered = np.array([[1, 0, 7], [0, 1, 8], [0, 0, 1]])
    mask = masked(planes, *layers_of(widget, x, y_hat, rotate=30, affine=registered, **UM))
    expected = planes.masker(x, y_hat)
    assert 0.02 < 1 - expected.mean() < 0.98, "a mask that says something"
    np.testing.assert_array_equal(np.asarray(mask.data), expected)
    assert mask.data.dtype == np.float32
    restored = widget._viewer.layers["restored"]
    for what in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_array_equal(getattr(mask, what), getattr(restored, what))
    assert (mask.units, mask.axis_labels) == (restored.units, ("y", "x"))
    np.testing.assert_array_equal(mask.affine.affine_matrix, registered)
    assert mask.affine is not restored.affine, "moving one would move the other"
    assert mask.name == "mask of restored"
    assert said() == []


@pytest.mark.parametrize(("scale", "unit"), [((0.5, 0.25), "µm"), ((500, 250), "nm"), ((0.5, 0.25), "pixel")])
def test_another_spacing_than_that_of_the_calibration_is_said(widget, masked, planes, tmp_path, scale, unit):
    card = replace(planes.masker.card, geometry=Geometry((0.5, 0.5), "µm"))
    run = Run(tmp_path, replace(planes.masker, card=card).save(tmp_path))
    x, y_hat, _ = pair(50, (48, 40))
    masked(run, *layers_of(widget, x, y_hat, scale=scale, units=(unit, unit)))
    about = "a spacing of 0.5 x 0.25 µm: the promise was calibrated on 0.5 x 0.5 µm"
    assert (about in widget.about_image.value) == (unit != "pixel")


def test_an_image_far_outside_of_the_calibration_images_is_said_to_be_so(widget, masked, planes):
    x, y_hat, _ = pair(50, (48, 40))
    masked(planes, *layers_of(widget, np.stack([x, x // 50]), np.stack([y_hat, y_hat // 50])))
    for at, far in ((0, False), (1, True)):
        widget._viewer.dims.set_point(0, at)
        assert ("far outside of the calibration images (x: darker" in widget.about_image.value) == far


def test_colour_and_opacity(widget, masked, colour):
    x, y_hat, _ = pair(50, (48, 40), channels=3)
    opaque = np.concatenate([y_hat, np.full((48, 40, 1), 255, np.uint8)], axis=-1)
    mask = masked(colour, *layers_of(widget, x, opaque))
    np.testing.assert_array_equal(np.asarray(mask.data), colour.masker(x, y_hat))
    assert (mask.rgb, mask.data.shape) == (False, (48, 40))


def test_each_time_point_is_an_image_of_its_own(widget, masked, planes):
    x, y_hat = stack(range(50, 54), (48, 40))
    x = x[:, ::2, ::2]
    where = {"scale": (10, 0.5, 0.5), "units": ("s", "µm", "µm"), "axis_labels": ("t", "y", "x")}
    mask = masked(planes, *layers_of(widget, x, y_hat, **where))
    expected = [planes.masker(*each) for each in zip(x, y_hat, strict=True)]
    np.testing.assert_array_equal(np.asarray(mask.data), np.stack(expected))
    assert mask.axis_labels == ("t", "y", "x")
    for at in (0, 3):
        widget._viewer.dims.set_point(0, 10 * at)
        hidden = rounded_share(float(1 - expected[at].mean(dtype=np.float64)))
        assert f"restored at {at}: <b>{hidden} hidden</b>" in widget.about_image.value


def test_time_points_of_volumes(widget, masked, volumes):
    x, y_hat = stack((50, 51), (6, 32, 24))
    where = {"scale": (9, 2, 0.5, 0.5), "units": ("s", *["µm"] * 3), "axis_labels": ("t", "z", "y", "x")}
    mask = masked(volumes, *layers_of(widget, x, y_hat, **where))
    expected = [volumes.masker(*each) for each in zip(x, y_hat, strict=True)]
    np.testing.assert_array_equal(np.asarray(mask.data), np.stack(expected))
    np.testing.assert_array_equal(mask.scale, (9, 2, 0.5, 0.5))
    assert mask.axis_labels == ("t", "z", "y", "x")


def test_an_input_that_is_larger_than_its_output(widget, masked, planes):
    x, y_hat, _ = pair(50, (48, 40))
    larger = np.repeat(x, 2, axis=0)
    mask = masked(planes, *layers_of(widget, larger, y_hat))
    np.testing.assert_array_equal(np.asarray(mask.data), planes.masker(larger, y_hat))


def test_the_finest_resolution_of_a_pyramid(widget, masked, planes):
    x, y_hat, _ = pair(50, (48, 40))
    pyramid = widget._viewer.add_image([y_hat, y_hat[::2, ::2]], name="restored", multiscale=True)
    mask = masked(planes, widget._viewer.add_image(x), pyramid)
    np.testing.assert_array_equal(np.asarray(mask.data), planes.masker(x, y_hat))


def test_the_range_is_that_of_the_type_or_stated(widget, masked, planes):
    x, y_hat, _ = pair(50, (48, 40))
    expected = planes.masker(x, y_hat)
    counts = [image.astype(np.float32) * 16 for image in (x, y_hat)]
    layers = layers_of(widget, *counts)
    masked(planes, *layers)
    (text,) = said()
    assert "outside its range (0, 1); give the right range as data_range" in text
    assert len(widget._viewer.layers) == 2
    mask = masked(planes, *layers, data_range="0 4080")
    np.testing.assert_allclose(np.asarray(mask.data), expected, atol=1e-3)


def test_the_slider_says_how_far_the_promise_can_be_relied_on(widget, masked, planes):
    x, y_hat, _ = pair(50, (48, 40))
    mask = masked(planes, *layers_of(widget, x, y_hat))
    calibrated = recalibrated_at(planes.masker, SliderSetting())[1]
    home = widget.threshold.value
    assert "✓ As calibrated" in widget.promise.value
    assert calibrated.sentence in widget.promise.value
    item, _ = planes.masker.admit_and_score(given(planes.masker.card, x, y_hat))
    assert bound_text(planes.masker, item) in widget.about_image.value
    for place in (home // 2, home + (1000 - home) // 2):
        widget.threshold.value = place
        threshold = widget._scores.threshold(place)
        moved, promised = recalibrated_at(planes.masker, SliderSetting(threshold))
        assert "~ Exploratory" in widget.promise.value
        assert promised.status.text in widget.promise.value
        assert promised.sentence in widget.promise.value
        assert widget.threshold.label == f"Threshold {threshold:.4g}"
        np.testing.assert_array_equal(np.asarray(mask.data), moved(x, y_hat))
        assert mask.metadata == {"sentence": moved.sentence, "masker": planes.masker.fingerprint}
    widget.reset.native.click()
    assert "✓ As calibrated" in widget.promise.value
    np.testing.assert_array_equal(np.asarray(mask.data), planes.masker(x, y_hat))
    assert len(widget._viewer.layers) == 3, "the slider makes no layer"


def test_a_simultaneous_promise_holds_wherever_the_slider_is(widget, masked, tmp_path):
    promise = cm.Promise("simultaneous", confidence=0.5, delta=0.3)
    run = run_of(tmp_path, (48, 40), threshold="q0.5", promise=promise)
    x, y_hat, _ = pair(50, (48, 40))
    masked(run, *layers_of(widget, x, y_hat))
    for place in (widget.threshold.value, 300):
        widget.threshold.value = place
        assert "✓ Simultaneous" in widget.promise.value


def test_an_impossible_promise_masks_everything(widget, masked, planes, monkeypatch):
    x, y_hat, _ = pair(50, (48, 40))
    mask = masked(planes, *layers_of(widget, x, y_hat))
    promise = cm.Promise("pac", planes.masker.card.promise.confidence, delta=1e-6)
    few = replace(planes.masker.card, promise=promise)
    monkeypatch.setattr(widget, "_scores", replace(widget._scores, masker=replace(planes.masker, card=few)))
    widget.threshold.value = 10
    assert "✗ No promise here" in widget.promise.value
    assert "Everything is masked." in widget.promise.value
    assert not np.asarray(mask.data).any()


class Watched:
    """An array that remembers how much is read of it at once."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.largest = 0

    def __getitem__(self, places):
        window = self.array[places]
        self.largest = max(self.largest, window.size)
        return window


def test_what_is_larger_than_a_tile_is_read_by_tiles(widget, masked, tiled, monkeypatch):
    """An array of dask, and one that is read as it is indexed."""
    monkeypatch.setattr("conformask.masker.whole.MIDDLE", 96 * 96)
    x, y_hat, _ = pair(60, (160, 100))
    watched = [Watched(image) for image in (x, y_hat)]
    lazy = da.from_array(watched[0], chunks=-1, meta=np.empty((0, 0), np.uint8))
    layers = layers_of(widget, lazy, y_hat)
    layers[1].data = watched[1]
    for each in watched:
        each.largest = 0
    mask = masked(tiled, *layers)
    assert [each.largest for each in watched] == [96 * 100] * 2, "a tile, and not the 160 x 100 pixels"
    np.testing.assert_array_equal(np.asarray(mask.data), tiled.masker(x, y_hat))
    assert not widget.threshold.tracking


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, y: (x, y[:3]), "each output needs its own"),
        (lambda x, y: (x, y.astype(np.int64)), "contains int64, but the calibration"),
        (lambda x, y: (x, np.where(y > 99, np.nan, y / 255)), "contains NaN: replace it before use"),
    ],
)
def test_errors_are_notifications_in_the_words_of_the_library(widget, masked, planes, make, message):
    layers = layers_of(widget, *make(*stack(range(50, 54), (48, 40))))
    masked(planes, *layers)
    (text,) = said()
    assert message in text
    assert len(widget._viewer.layers) == 2


def test_colour_for_a_masker_of_grey_images(widget, masked, planes):
    masked(planes, *layers_of(widget, *pair(50, (48, 40), channels=3)[:2]))
    (text,) = said()
    assert text.endswith("this masker takes y_hat with 1 channel, not 3")


def test_a_plane_for_a_masker_of_volumes(widget, masked, volumes):
    masked(volumes, *layers_of(widget, *pair(50, (48, 40))[:2]))
    (text,) = said()
    assert "layer 'raw' has 2 axes, but the calibration images have 3 spatial axes" in text


def test_a_folder_that_is_no_run_and_a_range_that_is_none(widget, masked, planes, tmp_path):
    layers = layers_of(widget, *pair(50, (48, 40))[:2])
    masked(Run(tmp_path, planes.masker), *layers)
    masked(planes, *layers, data_range="0 to 9")
    of_folder, of_range = said()
    assert "is not calibrated" in of_folder
    assert "data range '0 to 9': give two numbers" in of_range


def test_sizes_that_the_promise_does_not_cover(widget, masked, planes):
    masked(planes, *layers_of(widget, *pair(50, (60, 40))[:2]))
    assert "the promise covers only images of" in widget.about_image.value


@pytest.fixture
def follows(widget):
    """The widget as napari docks it: its choices follow the layers."""
    events = widget._viewer.layers.events
    for event in (events.inserted, events.removed):
        event.connect(widget.reset_choices)
    return widget


def chosen(widget):
    return [layer and layer.name for layer in (widget.x.value, widget.y_hat.value)]


PLANE = np.zeros((48, 40), np.uint8)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a"], ["a", None]),
        (["a", "b"], ["a", "b"]),
        (["y_hat"], [None, "y_hat"]),
        (["restored", "raw"], ["raw", "restored"]),
        (["a", "b", "c"], ["a", "b"]),
    ],
)
def test_input_and_output_are_preselected_and_never_the_same(follows, names, expected):
    for name in names:
        follows._viewer.add_image(PLANE, name=name)
    assert chosen(follows) == expected


def test_an_output_is_told_by_its_folder(follows, tmp_path):
    for role in ("y_hat", "x"):
        (tmp_path / role).mkdir()
        tifffile.imwrite(tmp_path / role / "cell.tif", PLANE)
    output, image = (
        follows._viewer.open(tmp_path / role / "cell.tif", plugin="napari")[0] for role in ("y_hat", "x")
    )
    assert (follows.x.value, follows.y_hat.value) == (image, output)


def test_what_was_chosen_stays(follows):
    a, b = (follows._viewer.add_image(PLANE, name=name) for name in "ab")
    follows.x.value, follows.y_hat.value = b, a
    follows._viewer.add_image(PLANE, name="output")
    b.name = "renamed"
    follows.reset_choices()
    assert chosen(follows) == ["renamed", "a"]
    follows._viewer.layers.remove(a)
    assert chosen(follows) == ["renamed", "output"]


def test_masks_are_not_offered(follows, masked, planes, tmp_path):
    x, y_hat, _ = pair(50, (48, 40))
    masked(planes, *layers_of(follows, x, y_hat))
    cm.write_masks(planes.masker, cm.Triplets.from_arrays([x], [y_hat], names=["cell"]), tmp_path)
    follows._viewer.open(tmp_path, plugin="conformask")
    follows._viewer.open(tmp_path / "masks", plugin="napari")
    (file,) = (tmp_path / "masks").iterdir()
    follows._viewer.open(file, plugin="napari")
    assert len(follows._viewer.layers) == 6
    for selector in (follows.x, follows.y_hat, follows.cues):
        assert [layer.name for layer in selector.choices if layer is not None] == ["raw", "restored"]


@pytest.fixture(scope="module")
def by_maps(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("by-maps"), (48, 40), scorer=cm.Given(), maps=spread)


def test_a_layer_is_the_map_where_the_run_needs_one(widget, masked, planes, by_maps):
    """Each time point has its own; its values are those of the layer, whatever the data range."""
    x, y_hat = stack(range(50, 53), (48, 40))
    maps = np.stack([spread(each) for each in y_hat])
    layers = layers_of(widget, x, y_hat)
    masked(by_maps, *layers)
    assert not widget.cues.native.isHidden()
    assert said() == ["the score is read from a map beside ŷ: choose its layer"]
    layer = widget._viewer.add_image(maps, name="spread")
    mask = masked(by_maps, *layers, data_range="0 255")
    assert widget.cues.value is layer, "the layer that is left"
    expected = [by_maps.masker(*each, cues=cues) for *each, cues in zip(x, y_hat, maps, strict=True)]
    assert 0.02 < 1 - np.mean(expected) < 0.98, "masks that say something"
    np.testing.assert_array_equal(np.asarray(mask.data), np.stack(expected))
    widget._viewer.layers.remove(layer)
    widget._viewer.add_image(maps[:, :40], name="smaller")
    masked(by_maps, *layers)
    assert "layer 'smaller' at 0 has 40 x 40 pixels, but y_hat has 48 x 40" in said()[-1]
    widget.run.value = planes.folder
    assert widget.cues.native.isHidden()


def test_one_layer_chosen_twice_is_refused_and_said(widget, masked, planes):
    x, y_hat, _ = pair(50, (48, 40))
    raw, restored = layers_of(widget, x, y_hat)
    widget.reset_choices()
    assert widget.about_layers.native.isHidden()
    widget.y_hat.value = raw
    assert "input x and output ŷ are the same layer" in unescape(widget.about_layers.value)
    assert not widget.about_layers.native.isHidden()
    masked(planes, raw, raw)
    (text,) = said()
    assert text in unescape(widget.about_layers.value)
    assert [layer.name for layer in widget._viewer.layers] == ["raw", "restored"]
    widget.y_hat.value = restored
    assert widget.about_layers.native.isHidden()
    mask = masked(planes, raw, restored)
    np.testing.assert_array_equal(np.asarray(mask.data), planes.masker(x, y_hat))


def test_what_went_wrong_stays_in_the_widget(widget, masked, planes):
    x, y_hat, _ = pair(50, (48, 40))
    raw, restored = layers_of(widget, x, y_hat)
    wrong = widget._viewer.add_image(y_hat.astype(np.int64))
    masked(planes, raw, wrong)
    (text,) = said()
    assert text in unescape(widget.about_layers.value)
    masked(planes, raw, restored)
    assert widget.about_layers.native.isHidden()


def test_a_full_disk_is_said_without_a_traceback(widget, masked, planes, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("conformask.extras.napari.widget.score_images", full)
    masked(planes, *layers_of(widget, *pair(50, (48, 40))[:2]))
    (text,) = said()
    assert "the disk for temporary files is full" in text
    assert text in unescape(widget.about_layers.value)


def test_text_is_never_cut(widget, qt, masked, planes):
    widget.native.show()
    masked(planes, *layers_of(widget, *pair(50, (48, 40))[:2]))
    for width, height in ((300, 400), (420, 900)):
        widget.native.resize(width, height)
        for _ in range(9):
            qt()
        for label in (widget.promise.native, widget.about_image.native):
            assert label.height() >= label.heightForWidth(label.width())


def test_a_wrong_run_is_named_as_soon_as_it_is_chosen(widget, planes, tmp_path):
    trained, file, damaged = tmp_path / "trained", tmp_path / "file", tmp_path / "damaged"
    trained.mkdir()
    (trained / "scorer.json").write_text("{}")
    file.touch()
    damaged.mkdir()
    (damaged / "calibration.json").write_text("{}")
    wrong = {
        tmp_path / "typo": "typo does not exist: choose the folder",
        file: "file is not a folder: choose the folder",
        tmp_path: "is not a run, because it contains no calibration.json: choose the folder",
        trained: "trained is not calibrated: run `conformask calibrate ",
        damaged: "calibration.json is not a record of conformask: copy it again",
    }
    for folder, text in wrong.items():
        widget.run.value = folder
        assert text in widget.about_run.value
        assert not widget.about_run.native.isHidden()
    for right in (planes.folder, None):
        widget.run.value = right
        assert widget.about_run.value == ""
        assert widget.about_run.native.isHidden()


def test_layers_that_lie_apart_are_named_and_can_be_laid_over_the_output(widget, masked, planes, tmp_path):
    """Opened by a reader that gives the scale, and one that does not; the masks first."""
    x, y_hat, _ = pair(50, (48, 40))
    cm.write_masks(planes.masker, cm.Triplets.from_arrays([x], [y_hat], names=["cell"]), tmp_path)
    widget._viewer.open(tmp_path, plugin="conformask")
    masked(planes, *layers_of(widget, x[::2, ::2], y_hat, **UM))
    about = unescape(widget.about_image.value)
    assert "Layer 'raw' does not lie over 'restored'" in about
    assert "Layer 'mask of cell' does not lie over 'restored'" in about
    lines = re.findall(r"viewer\.layers\[[^<;]*", about)
    for line in lines:
        exec(line, {"viewer": widget._viewer})
    widget._show_image_facts()
    assert "does not lie over" not in widget.about_image.value
    layers = widget._viewer.layers
    np.testing.assert_array_equal(layers["mask of cell"].scale, (0.5, 0.25))
    np.testing.assert_array_equal(layers["raw"].scale, (1, 0.5))
    assert layers["raw"].units == layers["mask of cell"].units == layers["restored"].units


def test_lengths_in_other_units_do_not_lie_apart(widget, masked, planes):
    x, y_hat, _ = pair(50, (48, 40))
    raw, restored = layers_of(widget, x, y_hat, **UM)
    raw.units, raw.scale, raw.translate = ("nm", "nm"), (500, 250), (3000, 4000)
    masked(planes, raw, restored)
    assert "does not lie over" not in widget.about_image.value


SHAPE = (48, 40)
MICROMETRES = {
    "PhysicalSizeX": 0.25,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.5,
    "PhysicalSizeYUnit": "µm",
}


@pytest.fixture(scope="session")
def written(planes, tmp_path_factory):
    """Masks of a field with pixel sizes, of a film of three time points, and of a PNG."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("masks")
    for place, role in enumerate(("x", "y_hat")):
        (data / role).mkdir()
        film = np.stack([pair(seed, SHAPE)[place] for seed in (50, 51, 52)])
        tifffile.imwrite(data / role / "film.ome.tif", film, metadata={"axes": "TYX", **MICROMETRES})
        tifffile.imwrite(data / role / "field.ome.tif", film[0], metadata={"axes": "YX", **MICROMETRES})
        tifffile.imwrite(data / role / "plain.tif", film[1])
    cm.write_masks(planes.masker, cm.Triplets.from_folder(data), out)
    return out


@pytest.fixture(scope="session")
def alike(planes, tmp_path_factory):
    """Images of one size with names that count to 10, one of another size, and two films of one length."""
    folder = tmp_path_factory.mktemp("alike")
    images = {f"cell{seed}": pair(seed, SHAPE) for seed in (1, 2, 10)} | {"wide": pair(3, (48, 56))}
    for place, role in enumerate(("x", "y_hat")):
        (folder / role).mkdir()
        for name, image in images.items():
            tifffile.imwrite(
                folder / role / f"{name}.ome.tif", image[place], metadata={"axes": "YX", **MICROMETRES}
            )
        for film, seeds in {"fast": (60, 61), "slow": (70, 71)}.items():
            frames = np.stack([pair(seed, SHAPE)[place] for seed in seeds])
            tifffile.imwrite(
                folder / role / f"{film}.ome.tif", frames, metadata={"axes": "TYX", **MICROMETRES}
            )
    with pytest.warns(UserWarning, match="the promise covers only images of"):
        cm.write_masks(planes.masker, cm.Triplets.from_folder(folder), folder / "out")
    return folder


def on_disk(folder, name):
    return read_image(folder / "out" / "masks" / name)[0]


@pytest.fixture
def viewer(qt, monkeypatch):
    """A viewer without a canvas that the reader takes for the current one."""
    from napari.components import ViewerModel
    from napari.utils.notifications import notification_manager

    import conformask.extras.napari.layers

    notification_manager.records.clear()
    made = ViewerModel()
    monkeypatch.setattr(conformask.extras.napari.layers, "current_viewer", lambda: made)
    return made


def opened(path):
    """The layers that napari makes of a path."""
    from napari.components import ViewerModel

    viewer = ViewerModel()
    viewer.open(path, plugin="conformask")
    return {layer.name: layer for layer in viewer.layers}


def test_the_manifest_is_valid(qt):
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("conformask")
    manifest.validate_imports()
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["Masks"]


@pytest.mark.parametrize("file", ["", "masks.json"])
def test_a_folder_of_masks(qt, written, planes, file):
    layers = opened(written / file)
    assert list(layers) == ["mask of field", "mask of film", "mask of plain"]
    field, film, plain = layers.values()
    np.testing.assert_array_equal(np.asarray(field.data), read_image(written / "masks" / "field.ome.tif")[0])
    expected = [read_image(written / "masks" / f"film.ome.tif#t={time}")[0] for time in range(3)]
    np.testing.assert_array_equal(np.asarray(film.data), np.stack(expected))
    assert (field.axis_labels, film.axis_labels, plain.axis_labels) == (
        ("y", "x"),
        ("t", "y", "x"),
        ("y", "x"),
    )
    np.testing.assert_array_equal(film.scale, (1, 0.5, 0.25))
    np.testing.assert_array_equal(plain.scale, (1, 1))
    assert [f"{unit:~}" for unit in film.units] == ["pixel", "µm", "µm"]
    assert [layer.visible for layer in layers.values()] == [True, False, False]
    assert film.metadata["sentence"] == planes.masker.sentence
    sizes = [1 - mask.mean(dtype=np.float64) for mask in expected]
    assert list(film.metadata["mask_sizes"].values()) == pytest.approx(sizes, abs=1e-4)


def test_a_sentence_changed_by_hand_is_not_shown(qt, written, tmp_path):
    folder = shutil.copytree(written, tmp_path / "masks")
    path = folder / "masks.json"
    path.write_text(path.read_text().replace(" new images, ", " images of anything, "))
    with pytest.raises(MismatchError, match=r"masks.json is damaged, or is not the file that was written"):
        opened(folder)


@pytest.mark.parametrize("inside", ["", "masks"])
def test_masks_of_one_size_and_scale_are_one_layer(qt, alike, inside):
    cells, films, wide = opened(alike / "out" / inside).values()
    assert cells.metadata["names"] == ["cell1", "cell2", "cell10"], "in the order of napari, 2 before 10"
    assert isinstance(cells.data, da.Array)
    expected = [on_disk(alike, f"cell{number}.ome.tif") for number in (1, 2, 10)]
    np.testing.assert_array_equal(np.asarray(cells.data), np.stack(expected))
    assert (cells.name, cells.axis_labels) == ("masks of 3 images", ("image", "y", "x"))
    np.testing.assert_array_equal(cells.scale, (1, 0.5, 0.25))
    sizes = [1 - mask.mean(dtype=np.float64) for mask in expected]
    assert list(cells.metadata["mask_sizes"].values()) == pytest.approx(sizes, abs=1e-4)
    assert (wide.name, wide.data.shape) == ("mask of wide", (48, 56))
    assert (films.data.shape, films.axis_labels) == ((2, 2, *SHAPE), ("image", "t", "y", "x"))
    assert films.metadata["names"] == ["fast", "slow"]
    np.testing.assert_array_equal(np.asarray(films.data[1, 0]), on_disk(alike, "slow.ome.tif#t=0"))


def test_of_a_stack_only_what_is_shown_is_read(qt, alike, monkeypatch):
    import conformask.extras.napari.layers as readers

    files, open_raster = [], readers.open_raster
    monkeypatch.setattr(readers, "open_raster", lambda file: files.append(file.name) or open_raster(file))
    cells = opened(alike / "out")["masks of 3 images"]
    files.clear()
    for place in (2, 2, 0):
        np.asarray(cells.data[place])
    assert files == ["cell10.ome.tif", "cell1.ome.tif"]


def test_a_selection_of_masks(qt, alike):
    from conformask.extras.napari.layers import reader_of

    paths = [str(alike / "out" / "masks" / f"{name}.ome.tif") for name in ("cell10", "cell1")]
    ((data, how, _),) = reader_of(paths)(paths, stack=True)
    assert (how["metadata"]["names"], data.shape) == (["cell1", "cell10"], (2, *SHAPE))
    assert reader_of([*paths, str(alike / "y_hat" / "cell1.ome.tif")]) is None


def lies(layer):
    """Where a layer lies along its last two axes."""
    return (*layer.scale[-2:], *layer.translate[-2:], *map(str, layer.units[-2:]))


BY_FILE = (0.5, 0.25, 0, 0, "micrometer", "micrometer")


@pytest.mark.parametrize("stack", [True, False])
def test_masks_lie_over_images_whose_reader_does_not_give_their_scale(viewer, alike, stack):
    files = [alike / "y_hat" / f"cell{number}.ome.tif" for number in (1, 2, 10)]
    image, *_ = viewer.open(files, plugin="napari", stack=stack)
    cells, films, wide = viewer.open(alike / "out", plugin="conformask")
    assert lies(cells) == lies(films) == lies(image) == (1, 1, 0, 0, "pixel", "pixel")
    assert lies(wide) == BY_FILE, "no image of its size is open"
    assert len(said()) == 2
    assert all("not the 0.5 x 0.25 µm of their files" in text for text in said())


def test_a_mask_lies_over_the_image_of_its_name_before_others(viewer, alike):
    from conformask.extras.napari.layers import reader_of

    files = [alike / "y_hat" / f"cell{number}.ome.tif" for number in (1, 2)]
    first, second = viewer.open(files, plugin="napari")
    first.translate = (7, 8)
    for name, image in (("cell1", first), ("cell2", second), ("cell10", second)):
        path = str(alike / "out" / "masks" / f"{name}.ome.tif")
        ((_, how, _),) = reader_of(path)(path, stack=False)
        np.testing.assert_array_equal(how["translate"], image.translate)


def test_masks_beside_masks_have_the_scale_of_their_files(viewer, alike):
    masks = [
        *viewer.open(alike / "out", plugin="conformask"),
        *viewer.open(alike / "out", plugin="conformask"),
    ]
    assert [lies(each) for each in masks] == [BY_FILE] * 6
    assert said() == []


def test_masks_of_volumes_and_of_one_file(qt, volumes, tmp_path):
    from conformask.extras.napari.layers import reader_of

    x, y_hat, _ = pair(50, (6, 32, 24))
    one = cm.Triplets.from_arrays([x], [y_hat], names=["stack"], reading=cm.Reading(axes="ZYX"))
    cm.write_masks(volumes.masker, one, tmp_path)
    (file,) = (tmp_path / "masks").iterdir()
    ((data, how, kind),) = reader_of(str(file))(str(file))
    np.testing.assert_array_equal(np.asarray(data), read_image(file)[0])
    assert (how["axis_labels"], how["name"], kind) == (("z", "y", "x"), "mask of stack", "image")


def test_a_run_is_chosen_in_the_widget(qt, planes):
    import napari

    viewer = napari.Viewer(show=False)
    try:
        assert viewer.open(planes.folder, plugin="conformask") == []
        _, widget = viewer.window.add_plugin_dock_widget("conformask", "Masks")
        assert widget.run.value == planes.folder
    finally:
        viewer.close()


def test_a_run_that_is_not_calibrated_goes_to_the_widget_too(qt, tmp_path):
    from conformask.extras.napari.layers import NOTHING, reader_of

    (tmp_path / "scorer.json").touch()
    assert reader_of(str(tmp_path))(str(tmp_path)) == NOTHING


def test_other_folders_and_files_are_left_to_others(qt, tmp_path):
    from conformask.extras.napari.layers import reader_of

    (tmp_path / "image.png").touch()
    others = [str(tmp_path), str(tmp_path / "image.png"), [str(tmp_path)]]
    assert [reader_of(path) for path in others] == [None] * 3


NAMES = ("f2", "f10")  # in the order of napari, not of the alphabet


@pytest.fixture(scope="module")
def masker():
    return cm.calibrate(SCORER, triplets(60, 1, 6, (9,)), threshold=0.3, loss=cm.Objects("missed"))


def written_with_labels(masker, folder, names):
    images = objects(len(names), 2, 6, (9,))
    for role, subfolder in {"x": "x", "y_hat": "y_hat", "labels": "cells/y_hat"}.items():
        (folder / subfolder).mkdir(parents=True)
        for name, image in zip(names, images[role], strict=True):
            stored = image.astype(np.uint16) if role == "labels" else image
            tifffile.imwrite(folder / subfolder / f"{name}.tif", stored)
    new = cm.Triplets.from_folder(folder, reading=cm.Reading(objects="cells"))
    cm.write_masks(masker, new, folder / "out")
    return folder / "out"


@pytest.mark.filterwarnings("ignore:.*(masks|images):UserWarning")
@pytest.mark.parametrize("names", [NAMES, NAMES[:1]], ids=["two images", "one image"])
def test_trusted_objects_are_labels_with_features(qt, masker, tmp_path, names):
    from napari.components import ViewerModel

    out, viewer = written_with_labels(masker, tmp_path, names), ViewerModel()
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


@pytest.mark.filterwarnings("ignore:.*(masks|images):UserWarning")
def test_time_points_of_a_film_are_one_layer(qt, tmp_path):
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


@pytest.mark.filterwarnings("ignore:.*(masks|images):UserWarning")
def test_the_widget_says_where_masks_of_objects_come_from(qt, masker, tmp_path):
    from conformask.extras.napari.layers import trouble_of

    masker.save(tmp_path / "run")
    assert "conformask mask" in (trouble_of(tmp_path / "run") or "")
