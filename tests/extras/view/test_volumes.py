"""What the server answers about volumes and very large images, beside what the library says."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import nibabel
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from view_worlds import AFFINE, HU, SPACE

import conformask as cm
from conformask.errors import ImageError, InvalidArgumentError
from conformask.extras.view import viewed_image as opened, viewed_image as planes
from conformask.extras.view.app import application
from conformask.extras.view.session import Session
from conformask.extras.view.share import shared_case
from conformask.extras.view.sliders import is_measurable, losses_of, mask_level
from conformask.extras.view.viewed_image import CollectionImage, open_image as open_image
from conformask.images.pictures import AS_STORED, Contrast, as_bytes, overlay, presets, views_of
from conformask.images.read import read_image
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masks.critical import loss_under, mask_size, unmasked_loss
from conformask.promises.promise import Promise
from conformask.records.reading import Geometry, Reading
from conformask.scores.scorer import Tiled
from conformask.scores.scoring import scored_batches

pytestmark = pytest.mark.xdist_group("viewer")

OURS = "http://127.0.0.1:8000"
TURNED = {
    "Axial": (1, lambda v, k: v[::-1, k, :].T),
    "Coronal": (2, lambda v, k: v[::-1, ::-1, k].T),
    "Sagittal": (0, lambda v, k: v[k, ::-1, :]),
}
"""How planes of a volume (R, S, P) are shown: the patient's right on the left, superior at the top."""
STORED = {"XY": (0, lambda v, k: v[k]), "XZ": (1, lambda v, k: v[:, k]), "YZ": (2, lambda v, k: v[:, :, k])}


def untold(done, total):
    """Nobody waits for the tiles."""


def asking(masker, triplets):
    return TestClient(application(Session(masker, triplets), 8000, None), base_url=OURS)


def picture(client, name, what, **asked):
    answer = client.get(f"/api/images/{name}/{what}.png", params=asked)
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def score(client, name, **asked):
    return np.frombuffer(client.get(f"/api/images/{name}/score", params=asked).content, "<f4")


def scored(masker, triplets, index=0):
    return next(scored_batches(masker.scorer, triplets.select([index]), 1))


@pytest.mark.parametrize("name", TURNED)
def test_planes_are_turned_as_a_radiologist_expects(volume_client, volumes, name):
    told = volume_client.get("/api/images/v50").json()
    axis, turned = TURNED[name]
    view = next(view for view in told["views"] if view["name"] == name)
    assert (view["axis"], view["letters"]) == (
        axis,
        {"Axial": "RLAP", "Coronal": "RLSI", "Sagittal": "APSI"}[name],
    )
    triplet, at = volumes.shown[0], SPACE[axis] - 3
    for what, image in (("input", triplet.x), ("output", triplet.y_hat), ("truth", triplet.y)):
        shown = picture(volume_client, "v50", what, axis=axis, at=at)
        np.testing.assert_array_equal(shown, as_bytes(turned(image[0], at)[None]))
    expected = turned(scored(volumes.masker, volumes.shown).score.map[0, 0].numpy(), at)
    np.testing.assert_array_equal(score(volume_client, "v50", axis=axis, at=at), expected.ravel())


def rotation(degrees, axes):
    turned, (a, b) = np.eye(3), axes
    turned[[a, a, b, b], [a, b, a, b]] = np.cos(np.deg2rad(degrees)) * np.array([1, 0, 0, 1]) + np.sin(
        np.deg2rad(degrees)
    ) * np.array([0, -1, 1, 0])
    return turned


def geometry(steps):
    affine = np.eye(4)
    affine[:3, :3] = steps
    lengths = np.linalg.norm(steps, axis=0)[::-1]
    return Geometry(tuple(lengths), "mm", tuple(map(tuple, affine)))


def test_an_oblique_volume_is_shown_by_its_nearest_axes():
    steps = AFFINE[:3, :3]
    straight = views_of(SPACE, geometry(steps))
    assert [view.name for view in straight] == list(TURNED)
    tilted = rotation(20, (0, 1)) @ rotation(-25, (1, 2)) @ steps
    assert views_of(SPACE, geometry(tilted)) == straight
    over = rotation(70, (1, 2)) @ steps
    assert views_of(SPACE, geometry(over)) != straight


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_each_axis_is_turned_round_where_it_rises_to_right_anterior_or_superior(signs):
    for view in views_of(SPACE, geometry(np.diag(signs).astype(float))):
        for along in (view.down, view.right):
            assert along.backwards == (signs[2 - along.axis] > 0)


def test_without_an_affine_planes_are_shown_as_stored(volumes):
    y_hat = np.moveaxis(volumes.shown[0].y_hat, 0, -1)[..., 0]
    client = asking(
        volumes.masker, Triplets.from_arrays([y_hat], [y_hat], names=["stack"], reading=Reading(axes="ZYX"))
    )
    told = client.get("/api/images/stack").json()
    assert [(view["name"], view["letters"]) for view in told["views"]] == [(name, "") for name in STORED]
    assert (told["unit"], told["steps"]) == (None, [1, 1, 1])
    for axis, stored in STORED.values():
        shown = picture(client, "stack", "output", axis=axis, at=4)
        np.testing.assert_array_equal(shown, as_bytes(stored(y_hat, 4)[None]))


def test_values_of_x_have_the_range_of_x():
    image = np.zeros((6, 5), np.float32)
    for x_range, expected in (((-200.0, 3800.0), (-200, 3800)), (None, (0, 2))):
        reading = Reading((0, 2), x_range=x_range)
        shown = CollectionImage(Triplets.from_arrays([image], [image], reading=reading), 0)
        assert (shown.x_range, shown.data_range) == (expected, (0, 2))


def test_what_the_page_is_told_is_small_and_right(volume_client, volumes):
    answer = volume_client.get("/api/images/v50")
    assert len(answer.content) < 3000
    told = answer.json()
    assert (told["size"], told["steps"], told["unit"]) == ([*SPACE], [3, 1.5, 2], "mm")
    assert told["range"] == told["x_range"] == [*HU]
    mask = np.asarray(volumes.masker.open(scored(volumes.masker, volumes.shown))[0, 0])
    trusted = [mask.mean(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    assert min(map(np.ptp, trusted)) > 0.01
    assert told["most_hidden"] == [int(share.argmin()) for share in trusted]


def test_the_level_is_that_of_the_whole_volume(volume_client, volumes):
    told = volume_client.get("/api/promise", params={"image": "v50"}).json()
    item = scored(volumes.masker, volumes.shown)
    mask = volumes.masker.open(item)
    level = torch.tensor([told["opening"]["level"]])
    for at in range(SPACE[0]):
        plane = score(volume_client, "v50", axis=0, at=at).reshape(1, 1, SPACE[1], SPACE[2])
        drawn = volumes.masker.family.apply(torch.from_numpy(plane.copy()), level)
        torch.testing.assert_close(drawn[0, 0], mask[0, 0, at].flip(0), rtol=0, atol=1e-6)
    assert told["opening"]["size"] == pytest.approx(float(mask_size(mask)[0]), abs=1e-9)


def test_a_window_shows_its_values_from_black_to_white(volume_client, volumes):
    level, width = 40, 400
    low, high = ((end - HU[0]) / (HU[1] - HU[0]) for end in (level - width / 2, level + width / 2))
    stored = nibabel.load(volumes.folder / "y_hat" / "v50.nii.gz").get_fdata().T
    expected = np.clip((stored[4] - (level - width / 2)) / width, 0, 1)[::-1]
    assert expected.std() > 0.05
    for what in ("input", "output"):
        shown = picture(volume_client, "v50", what, axis=0, at=4, low=low, high=high)
        assert np.abs(shown - 255 * expected).max() <= 0.51
    plain = picture(volume_client, "v50", "error", axis=0, at=4)
    windowed = picture(volume_client, "v50", "error", axis=0, at=4, low=low, high=high)
    np.testing.assert_array_equal(windowed, plain)


@pytest.mark.parametrize("bad", [{"low": 0.5, "high": 0.5}, {"low": "nan"}, {"high": "inf"}, {"low": 2}])
def test_a_window_that_is_none_is_refused(volume_client, bad):
    answer = volume_client.get("/api/images/v50/output.png", params=bad)
    assert answer.status_code == 400
    assert "a contrast window from" in answer.json()["error"]
    with pytest.raises(InvalidArgumentError):
        Contrast(1.0, 0.0)


@pytest.mark.parametrize(
    ("data_range", "names"),
    [
        (HU, ["Brain", "Lung", "Bone", "Soft tissue"]),
        ((-1000, 1000), ["Brain", "Lung", "Bone", "Soft tissue"]),
        ((-160, 240), ["Brain", "Soft tissue"]),
        ((0, 255), []),
        ((0, 4095), []),
        ((-1, 1), []),
        ((-32768, 32767), []),
        ((-4096, 4094), []),
    ],
)
def test_presets_of_ct_are_offered_for_ct_only(data_range, names):
    assert [preset.name for preset in presets(data_range)] == names


def test_the_values_of_a_pixel_are_those_of_the_files(volume_client, volumes):
    stored = {
        what: nibabel.load(volumes.folder / role / "v50.nii.gz").get_fdata().T
        for what, role in (("input", "x"), ("output", "y_hat"), ("truth", "y"))
    }
    z, y, x = 7, 3, 11
    told = volume_client.get("/api/images/v50/values", params={"x": x, "y": y, "z": z}).json()
    length = HU[1] - HU[0]
    for what, values in stored.items():
        assert HU[0] + length * told[what][0] == pytest.approx(values[z, y, x], abs=1e-3)
    error = abs(stored["truth"][z, y, x] - stored["output"][z, y, x])
    assert length * told["error"][0] == pytest.approx(error, abs=1e-3)
    item = scored(volumes.masker, volumes.shown)
    assert told["score"] == [pytest.approx(float(item.score.map[0, 0, z, y, x]))]


@pytest.mark.parametrize("place", [{"x": 18, "y": 0}, {"x": -1, "y": 0}, {"x": 0, "y": 0, "z": 10}])
def test_values_beside_the_image_are_refused(volume_client, place):
    answer = volume_client.get("/api/images/v50/values", params=place)
    assert answer.status_code == 404
    assert "there is no pixel x" in answer.json()["error"]


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ({"axis": 0, "at": 10}, 404, "there is no plane 10 along axis 0: the image has 10"),
        ({"axis": 1, "at": -1}, 404, "there is no plane -1"),
        ({"axis": 3}, 404, "there is no view along axis 3"),
        ({"axis": -1}, 404, "there is no view along axis -1"),
        ({"top": 3, "bottom": 3}, 404, "there is no such part"),
        ({"right": 19}, 404, "there is no such part"),
        ({"left": -1}, 404, "there is no such part"),
        ({"step": 0}, 404, "there is no such part"),
        ({"at": "middle"}, 422, "at=middle"),
    ],
)
def test_planes_that_an_image_does_not_have_are_refused(volume_client, asked, status, told):
    for what in ("score", "output.png"):
        answer = volume_client.get(f"/api/images/v50/{what}", params=asked)
        assert answer.status_code == status
        assert told in answer.json()["error"]


def test_the_other_axes_are_not_those_of_a_plane_image(client, world):
    answer = client.get(f"/api/images/{world.shown.names[0]}/score", params={"axis": 1})
    assert answer.status_code == 404


def test_a_smaller_input_lies_under_the_output(volumes):
    triplet = volumes.shown[0]
    small = triplet.x[0, ::2, ::2, ::3]
    whole = triplet.y_hat[0]
    client = asking(
        volumes.masker, Triplets.from_arrays([small], [whole], names=["low"], reading=Reading(axes="ZYX"))
    )
    expected = small.repeat(2, 0).repeat(2, 1).repeat(3, 2)
    for axis, stored in STORED.values():
        shown = picture(client, "low", "input", axis=axis, at=5)
        np.testing.assert_array_equal(shown, as_bytes(stored(expected, 5)[None]))
    told = client.get("/api/images/low/values", params={"x": 7, "y": 5, "z": 3}).json()
    assert told["input"] == [pytest.approx(float(small[1, 2, 2]))]


def test_a_thumbnail_is_the_most_hidden_slice_in_true_proportions(volume_client, volumes):
    at = volume_client.get("/api/images/v50").json()["most_hidden"][0]
    small = Image.open(io.BytesIO(volume_client.get("/api/images/v50/thumbnail.jpg").content))
    rows, columns = 14 * 1.5, 18 * 2.0
    assert small.width / small.height == pytest.approx(columns / rows, rel=0.06)
    mask = volumes.masker.open(scored(volumes.masker, volumes.shown))[0].numpy()

    def far(place):
        images = (volumes.shown[0].y_hat[:, place], mask[:, place])
        y_hat, opened = (
            np.asarray(Image.fromarray(as_bytes(image)[::-1]).resize(small.size, Image.Resampling.BOX))
            for image in images
        )
        drawn = overlay(y_hat, opened)
        return float(np.abs(drawn.astype(float) - np.asarray(small)).mean())

    assert min(range(SPACE[0]), key=far) == at


def test_images_of_other_axes_than_those_of_the_calibration_are_refused(volumes, world):
    flat = np.zeros((24, 24), np.float32)
    answer = asking(volumes.masker, Triplets.from_arrays([flat], [flat], names=["flat"])).get(
        "/api/images/flat"
    )
    assert answer.status_code == 400
    assert "flat: the promise is about volumes, but these are planes" in answer.json()["error"]


def test_an_image_of_another_spacing_is_shown_with_a_word_on_it(volumes):
    """The same word wherever an image is shown that states its spacing."""
    (*first, last), unit = volumes.masker.card.geometry.spacing, volumes.masker.card.geometry.unit
    finer = replace(volumes.masker.card.geometry, spacing=(*first, last / 2))
    masker = replace(volumes.masker, card=replace(volumes.masker.card, geometry=finer))
    shown, name = volumes.shown, volumes.shown.names[0]
    spacing = volumes.masker.card.geometry.text
    said = f"a spacing of {spacing}: the promise was calibrated on {finer.text} and may not hold for others"
    assert unit == "mm"
    assert said in asking(masker, shown).get(f"/api/images/{name}").json()["notes"]
    assert said in shared_case(masker, shown, 1).images[0].notes
    for show in (masker, partial(cm.show, masker)):
        with pytest.warns(UserWarning, match=f"{name}: {said}"):
            show(shown[0])
    assert asking(volumes.masker, shown).get(f"/api/images/{name}").json()["notes"] == []
    assert shared_case(volumes.masker, shown, 1).images[0].notes == []


def test_several_who_ask_for_an_image_wait_for_one(volumes, monkeypatch):
    session, calls = Session(volumes.masker, volumes.shown), []
    really = opened.scored_in_memory
    monkeypatch.setattr(opened, "scored_in_memory", lambda *given: calls.append(given) or really(*given))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(session.viewed_image, ["v51"] * 4))
    assert len(calls) == 1
    assert all(image is found[0] for image in found)


@pytest.fixture
def in_files(monkeypatch):
    """Every image counts as too large for memory."""
    monkeypatch.setattr(opened, "MOST_DECODED", 0)


def test_an_image_that_stays_in_its_files_is_shown_as_one_in_memory(volumes, monkeypatch):
    held = open_image(volumes.masker, CollectionImage(volumes.shown, 0), untold)
    monkeypatch.setattr(opened, "MOST_DECODED", 0)
    read = open_image(volumes.masker, CollectionImage(volumes.shown, 0), untold)
    assert (held.in_memory, read.in_memory) == (True, False)
    assert read.item.x.numel() == 0
    assert held.sources.keys() == read.sources.keys()
    for what, source in held.sources.items():
        places = slice(2, 5), slice(0, 14), slice(3, 4)
        np.testing.assert_allclose(read.sources[what].read(places), source.read(places), atol=1e-6)
    assert mask_level(volumes.masker, read) == mask_level(volumes.masker, held)
    assert read.error_scale == pytest.approx(held.error_scale, rel=1e-5)
    one, other = (losses_of(volumes.masker, image) for image in (read, held))
    assert (one.loss, one.unmasked) == pytest.approx((other.loss, other.unmasked), rel=1e-5)
    assert one.met == other.met
    item = held.item
    mask = volumes.masker.open(item)
    assert other.loss == pytest.approx(float(loss_under(volumes.masker.loss, mask, item)[0]))
    assert other.unmasked == pytest.approx(float(unmasked_loss(volumes.masker.loss, item)[0]))


def test_of_such_an_image_too_only_the_region_counts(regional, monkeypatch):
    masker, region = regional.masker, regional.region
    held = open_image(masker, CollectionImage(regional.shown, 0), untold)
    monkeypatch.setattr(opened, "MOST_DECODED", 0)
    read = open_image(masker, CollectionImage(regional.shown, 0), untold)
    everywhere = slice(0, 1), slice(0, 48), slice(0, 48)
    for image in (held, read):
        np.testing.assert_array_equal(image.sources["region"].read(everywhere)[0, 0], region)
        mask, error = (image.sources[what].read(everywhere)[0, 0] for what in ("score", "error"))
        level = torch.tensor([mask_level(masker, image).level])
        mask = masker.family.apply(torch.from_numpy(mask)[None, None], level)[0, 0].numpy()
        assert 0.1 < mask.mean() < 0.9
        assert mask_level(masker, image).size == pytest.approx((region * (1 - mask)).sum() / region.sum())
        measured = losses_of(masker, image)
        assert measured.loss == pytest.approx((region * mask * error).sum() / region.sum(), rel=1e-5)
        assert measured.unmasked == pytest.approx((region * error).sum() / region.sum(), rel=1e-5)
    triplet = regional.shown[0]
    x, y_hat, y = ([np.moveaxis(image, 0, -1)] for image in (triplet.x, triplet.y_hat, triplet.y))
    bare = Triplets.from_arrays(x, y_hat, y)
    assert not is_measurable(masker, open_image(masker, CollectionImage(bare, 0), untold)), "no region"
    given = Triplets.from_arrays(x, y_hat, y, regions=[np.float32(0.25 + 0.5 * region)])
    inside = open_image(masker, CollectionImage(given, 0), untold).sources["region"].read(everywhere)[0, 0]
    np.testing.assert_array_equal(inside, 0.25 + 0.5 * region)
    empty = Triplets.from_arrays(x, y_hat, y, regions=[0 * region])
    with pytest.raises(ImageError, match="is empty"):
        open_image(masker, CollectionImage(empty, 0), untold)


@pytest.fixture
def strip():
    """An image of two tiles."""
    image = np.zeros((1100, 48, 3), np.float32)
    return Triplets.from_arrays([image], [image], names=["strip"])


@pytest.mark.parametrize("most", [opened.MOST_DECODED, 0])
def test_while_an_image_is_scored_its_tiles_are_counted(world, strip, monkeypatch, most):
    monkeypatch.setattr(opened, "MOST_DECODED", most)
    client, told, really = asking(world.masker, strip), [], Tiled.part

    def part(*given, **more):
        told.append(client.get("/api/progress").json())
        return really(*given, **more)

    monkeypatch.setattr(Tiled, "part", part)
    assert client.get("/api/images/strip").status_code == 200
    assert told == [{"name": "strip", "done": done, "total": 2} for done in range(2)]
    assert client.get("/api/progress").json() is None


@pytest.mark.thorough
def test_other_losses_of_such_an_image_are_not_measured(world, tiles, in_files):
    parts = [tiles.select(range(start, len(tiles), 3)) for start in range(2)]
    masker = calibrate(
        world.masker.scorer,
        parts[0],
        selection=parts[1],
        loss="ssim",
        promise=Promise(confidence=0.6),
        threshold="q0.5",
    )
    client, name = asking(masker, world.shown), world.shown.names[0]
    told = client.get(f"/api/images/{name}").json()
    assert (told["truth"], told["measurable"]) == (True, False)
    answer = client.get("/api/loss", params={"image": name})
    assert answer.status_code == 400
    assert "for lp distances only" in answer.json()["error"]


def test_where_the_disk_is_full_the_viewer_says_so(world, in_files, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Free", (), {"free": 0}))
    answer = asking(world.masker, world.shown).get(f"/api/images/{world.shown.names[0]}")
    assert answer.status_code == 400
    assert "set TMPDIR to another folder" in answer.json()["error"]


def test_a_large_plane_is_sent_reduced_and_in_parts(world, monkeypatch):
    """Pictures by means, the score by single pixels, so that what is drawn is a mask of this image."""
    monkeypatch.setattr(planes, "MOST_PIXELS", 40 * 40)
    monkeypatch.setattr(planes, "REDUCED_SIDE", 12)
    monkeypatch.setattr(planes, "STRIP", 48 * 10)
    client, triplet = asking(world.masker, world.shown), world.shown[0]
    (view,) = client.get(f"/api/images/{triplet.name}").json()["views"]
    assert view["step"] == 4
    refused = client.get(f"/api/images/{triplet.name}/output.png")
    assert refused.status_code == 400
    assert "ask for a larger step" in refused.json()["error"]
    reduced = picture(client, triplet.name, "output", step=4)
    means = triplet.y_hat.reshape(3, 12, 4, 12, 4).mean(axis=(2, 4))
    assert np.abs(reduced.astype(int) - as_bytes(means)).max() <= 1
    whole = scored(world.masker, world.shown).score.map[0, 0].numpy()
    np.testing.assert_array_equal(score(client, triplet.name, step=4), whole[::4, ::4].ravel())
    part = {"top": 8, "bottom": 29, "left": 5, "right": 44}
    np.testing.assert_array_equal(score(client, triplet.name, **part), whole[8:29, 5:44].ravel())
    shown = picture(client, triplet.name, "truth", **part)
    np.testing.assert_array_equal(shown, as_bytes(triplet.y[:, 8:29, 5:44]))
    odd = picture(client, triplet.name, "output", step=5, top=1, bottom=48, left=0, right=48)
    last = triplet.y_hat[:, 46:48, 45:48].mean(axis=(1, 2))
    assert np.abs(odd[-1, -1].astype(int) - 255 * last).max() <= 1


def test_reduced_planes_are_read_once(world, monkeypatch):
    session, reads = Session(world.masker, world.shown), []
    name = world.shown.names[0]
    image = session.viewed_image(name)
    really = image.sources["output"].read
    image.sources["output"] = replace(
        image.sources["output"], read=lambda places: reads.append(places) or really(places)
    )
    for step, count in ((2, 1), (2, 1), (1, 2), (1, 3)):
        session.plane(name, "output", AS_STORED[0], 0, planes.Part(0, 48, 0, 48, step))
        assert len(reads) == count


@pytest.mark.thorough
def test_an_image_larger_than_4096_is_shown(world, tmp_path):
    """By tiles; it used to be refused."""
    strip = np.broadcast_to(np.float32(0.5), (4300, 4100, 1)).copy()
    strip[4000:, 4000:] = np.random.default_rng(0).random((300, 100, 1), np.float32)
    np.save(tmp_path / "strip.npy", np.repeat(strip, 3, axis=2))
    image = read_image(tmp_path / "strip.npy")
    triplets = Triplets.from_arrays([np.moveaxis(image, 0, -1)], [np.moveaxis(image, 0, -1)], names=["strip"])
    client = asking(world.masker, triplets)
    told = client.get("/api/images/strip").json()
    assert (told["size"], told["views"][0]["step"]) == ([1, 4300, 4100], 3)
    part = score(client, "strip", top=4100, bottom=4290, left=4010, right=4090).reshape(190, 80)
    window = torch.from_numpy(image[None, :, 4099:4292, 4009:4092])
    expected = world.masker.scorer(window, window).map[0, 0].numpy()[1:191, 1:81]
    np.testing.assert_allclose(part, expected, atol=1e-5)
