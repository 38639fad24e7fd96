"""Objects in the viewer: their labels, outlines in two colours, and the facts of the one that is clicked."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import conformask as cm
from conformask.extras.objects.labels import COLORS
from object_worlds import SCORER, objects

pytestmark = [
    pytest.mark.xdist_group("viewer"),
    pytest.mark.filterwarnings("ignore:.*(masks|images):UserWarning"),
]
PLANES, VOLUMES = "planes", "volumes"


def shown_images(count, seed, kind):
    """Images with nine objects; volumes have three planes, the last one without objects."""
    images = objects(count, seed, 6, (9,))
    if kind == PLANES:
        return images
    deep = {role: np.repeat(each[:, None], 3, axis=1) for role, each in images.items()}
    for role in ("x", "labels", "y_labels"):
        deep[role][:, 2] = 0
    return deep


@pytest.fixture(scope="module", params=[PLANES, VOLUMES])
def world(request):
    reading = cm.Reading(axes="ZYX" if request.param == VOLUMES else "YX")
    sets = (shown_images(count, seed, request.param) for count, seed in ((60, 1), (4, 2)))
    calibration, shown = (cm.Triplets.from_arrays(**images, reading=reading) for images in sets)
    masker = cm.calibrate(SCORER, calibration, threshold=0.3, loss=cm.Objects("missed"))
    return SimpleNamespace(masker=masker, shown=shown, kind=request.param)


def plane_of(client, name, kind, **place):
    return np.frombuffer(client.get(f"/api/images/{name}/{kind}", params=place).content, "<f4")


def test_the_mask_and_the_labels_are_those_of_the_masker(world, client):
    sizes = cm.evaluate(world.masker, world.shown).images.size
    for triplet, size in zip(world.shown, sizes, strict=True):
        labels, mask = triplet.layers["labels"][0], np.asarray(world.masker(triplet))
        opening = client.get("/api/promise", params={"image": triplet.name}).json()["opening"]
        facts = client.get(f"/api/images/{triplet.name}").json()
        assert opening["size"] == pytest.approx(size, abs=1e-6)  # of the objects, as evaluate has it
        assert (facts["region"], facts["map_range"]) == (False, None)  # labels are no map
        axis, at = (1, 6) if world.kind == VOLUMES else (0, 0)
        of_plane = (slice(None), at) if world.kind == VOLUMES else ()
        view = next(view for view in facts["views"] if view["axis"] == axis)
        turned = [slice(None, None, -1 if view[side]["backwards"] else 1) for side in ("down", "right")]
        shown = plane_of(client, triplet.name, "labels", axis=axis, at=at)
        np.testing.assert_array_equal(shown, labels[of_plane][tuple(turned)].ravel())
        score = plane_of(client, triplet.name, "score", axis=axis, at=at)
        trusted = mask[of_plane][tuple(turned)].ravel() > 0
        np.testing.assert_array_equal(score < opening["level"][0], trusted)
    assert 0 < sizes.min() < sizes.max()


def test_a_pixel_is_known_by_its_object(world, client):
    triplet = world.shown[0]
    labels = triplet.layers["labels"][0]
    for y, x in ((0, 0), (7, 6), (4, 4)):
        facts = client.get(f"/api/images/{triplet.name}/values", params={"x": x, "y": y, "z": 0}).json()
        label = int(labels.reshape(-1, *labels.shape[-2:])[0, y, x])
        known = {"id": label, "pixels": int((labels == label).sum()), "extent": None, "unit": None}
        assert facts["object"] == (known if label else None)
        assert facts["labels"] == [label]


@pytest.mark.thorough
def test_hidden_shares_are_called_those_of_objects(world, page, address, tmp_path):
    page.goto(address)
    expect(page.locator(".mask-size").first).to_contain_text("% hidden of the objects")
    shared = cm.share(world.masker, world.shown, tmp_path / "look.html").read_text(encoding="utf-8")
    assert "Hidden of the objects" in shared


def npy(image):
    buffer = io.BytesIO()
    np.save(buffer, image)
    return buffer.getvalue()


def test_an_upload_brings_its_labels(world, client):
    assert client.get("/api/session").json()["upload"]["needs"] == ["labels"]
    triplet = world.shown[1]
    images = {
        "x": triplet.x[0],
        "y_hat": triplet.y_hat[0],
        "labels": triplet.layers["labels"][0].astype(np.uint16),
    }
    files = {role: ("mine.npy", npy(image)) for role, image in images.items()}
    answer = client.post("/api/uploads", files=files)
    assert answer.json() == {"name": "mine"}
    ours, theirs = (
        client.get("/api/promise", params={"image": name}).json()["opening"]["size"]
        for name in ("mine", triplet.name)
    )
    assert ours == theirs
    if world.kind == PLANES:
        jpeg = io.BytesIO()
        Image.fromarray(images["labels"].astype(np.uint8)).save(jpeg, "JPEG")
        answer = client.post("/api/uploads", files={**files, "labels": ("mine.jpg", jpeg.getvalue())})
        assert "mine.jpg is compressed as JPEG, which changes labels" in answer.json()["error"]
    del files["labels"]
    answer = client.post("/api/uploads", files=files)
    assert answer.status_code == 400
    assert "without the labels that its score needs" in answer.json()["error"]


@pytest.mark.thorough
def test_outlines_have_two_colours_and_a_click_shows_facts(world, page, address):
    triplet = world.shown[0]
    labels, mask = triplet.layers["labels"][0], np.asarray(world.masker(triplet))
    if world.kind == VOLUMES:
        labels, mask = labels[0], mask[0]
    page.goto(f"{address}#/image/{triplet.name}?at=0,7,7")
    page.wait_for_selector("#plane:not([hidden])")
    expect(page.locator("#legend")).to_contain_text("outlined in green where trusted")
    expect(page.locator("#facts")).to_contain_text("Hidden of the objects")
    width, *pixels = page.evaluate(
        "() => { const c = document.querySelector('.hidden-marks');"
        "return [c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"
    )
    marks = np.reshape(pixels, (-1, width, 4))  # the page is shown at one pixel of the canvas per pixel
    canvas, box = (page.locator(each).first.bounding_box() for each in (".hidden-marks", "#front-canvas"))
    for place, text in (((mask > 0) & (labels > 0), "trusted"), (mask == 0, "hidden")):
        row, column = (int(each) for each in np.argwhere(place)[0])  # the upper left corner of an object
        side = box["width"] / labels.shape[1]
        x, y = box["x"] + column * side, box["y"] + (row + 0.5) * side
        assert marks[int(y - canvas["y"]), int(x - canvas["x"])].tolist() == [*COLORS[text], 255]
        page.mouse.click(x + side / 2, y)
        label = int(labels[row, column])
        expect(page.locator("#readout")).to_contain_text(f"Object {label}, {text}")
        count = (triplet.layers["labels"][0] == label).sum()
        expect(page.locator("#readout")).to_contain_text(f"Size {count} pixels")
