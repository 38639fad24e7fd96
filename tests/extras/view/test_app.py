"""What the server answers, beside what the library says."""

import io
import re
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from playwright.sync_api import expect

import conformask as cm
from conformask.extras.view.app import application
from conformask.extras.view.page import render
from conformask.extras.view.session import Session
from conformask.extras.view.share import shared_case
from conformask.extras.view.viewed_image import (
    OUTSIDE,
    THUMBNAIL,
    VEIL,
    ByteCache,
    CollectionImage,
)
from conformask.images.pictures import Contrast, as_bytes, first_contrast, map_ends
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.release import release
from conformask.promises.promise import Promise
from conformask.records.selection import ScoreComparison, Selection
from screens import violations

pytestmark = pytest.mark.xdist_group("viewer")
SPACE = "\N{NO-BREAK SPACE}"
OURS = "http://127.0.0.1:8000"


def pixels(image):
    """(C, H, W) -> (H, W, C)."""
    return np.moveaxis(image, 0, -1)


def mask_of(masker, triplet):
    return np.asarray(masker(pixels(triplet.x), pixels(triplet.y_hat)))


def promise(client, **asked):
    return client.get("/api/promise", params=asked).json()


def test_the_gallery_learns_every_size(client, session, world):
    before = client.get("/api/images").json()["images"]
    assert [entry["name"] for entry in before] == list(world.shown.names)
    assert {entry["size"] for entry in before} == {None}
    assert list(session.look_through()) == list(world.shown.names)
    for entry, triplet in zip(client.get("/api/images").json()["images"], world.shown, strict=True):
        assert entry["size"] == pytest.approx(1 - mask_of(world.masker, triplet).mean(), abs=1e-6)
        assert entry["truth"]
        assert not entry["uploaded"]


def test_as_calibrated_the_promise_is_the_masker_s(client, world):
    told = promise(client, image=world.shown.names[0])
    assert told["sentence"] == world.masker.sentence
    assert told["formula"] == world.masker.formula
    assert told["status"]["name"] == "calibrated"
    assert told["opening"]["lam"] == pytest.approx(world.masker.rule.lam)


def test_a_moved_slider_is_a_recalibration(client, world):
    triplet = world.shown[1]
    threshold = 0.6 * world.masker.card.threshold
    moved = world.masker.recalibrate(threshold=threshold, confidence=0.8)
    told = promise(client, image=triplet.name, threshold=threshold, confidence=0.8)
    assert told["status"]["name"] == "exploratory"
    assert told["sentence"] == moved.sentence
    assert told["opening"]["lam"] == pytest.approx(moved.rule.lam, rel=1e-12)
    mask = mask_of(moved, triplet)
    assert told["opening"]["size"] == pytest.approx(1 - mask.mean(dtype=np.float64), abs=1e-7)
    measured = client.get(
        "/api/loss", params={"image": triplet.name, "threshold": threshold, "confidence": 0.8}
    ).json()
    distance = np.abs(mask * (triplet.y - triplet.y_hat)).mean()
    assert measured["loss"] == pytest.approx(distance, rel=1e-5)
    assert measured["unmasked"] == pytest.approx(np.abs(triplet.y - triplet.y_hat).mean(), rel=1e-5)
    assert measured["met"] == bool(distance <= threshold)


def test_what_was_measured_stands_beside_what_is_promised(client, session, world):
    assert client.get("/api/images").json()["measured"] is None, "nothing has been looked at yet"
    list(session.look_through())
    distances = np.array([np.abs(mask_of(world.masker, t) * (t.y - t.y_hat)).mean() for t in world.shown])
    met = int((distances <= world.masker.card.threshold * (1 + 1e-6)).sum())
    told = client.get("/api/images").json()
    assert told["measured"].startswith(f"{met} of {len(distances)} images kept it (")
    assert told["promised"]["status"]["name"] == "calibrated"
    name = world.shown.names[0]
    assert promise(client, image=name)["measured"] == told["measured"]
    assert promise(client, image=name, confidence=0.8)["measured"] is None, "measured at another setting"


def test_whether_the_promise_is_broken_is_asked_once(broken):
    """Asked after each image, chance would sooner or later say so of a promise that is kept."""
    names = broken.look_through()
    for _ in range(len(broken.entries()) - 1):
        next(names)
    assert broken.doubt is None
    assert broken.measurement_text.startswith("0 of 11 images kept it (")
    list(names)
    assert broken.doubt.title == "Broken here"


def test_nothing_green_stands_where_the_truth_says_otherwise(world, broken):
    """At the calibrated setting as at every other; before the truth was looked at nothing can be said."""
    asking, name = TestClient(application(broken, 8000, None), base_url=OURS), world.shown.names[0]
    assert promise(asking, image=name)["status"]["name"] == "calibrated"
    list(broken.look_through())
    for asked in ({}, {"confidence": 0.8}, {"threshold": 0.5 * world.masker.card.threshold}):
        promised = promise(asking, image=name, **asked)
        assert promised["sentence"] is None, "a sentence that the images contradict"
        told = promised["status"]
        assert (told["name"], told["title"]) == ("broken", "Broken here")
        assert "0 of 12 images met the threshold (" in told["text"]
        assert f"at least 90{SPACE}% was promised" in told["text"]
    assert (
        asking.get("/api/images").json()["measured"].startswith("BROKEN: 0 of 12 images met the threshold (")
    )


def test_channels_are_shown_in_chosen_colours(stained, client, world):
    asking = TestClient(application(Session(stained.masker, stained.shown), 8000, None), base_url=OURS)
    address = f"/api/images/{stained.shown.names[0]}"
    first, second = stained.shown[0].y_hat
    assert asking.get(address).json()["colors"] == ["00ff00", "ff00ff"]
    for colors, expected in (
        ("", [second, first, second]),
        ("ff8000,0000ff", [first, first * 128 / 255, second]),
        ("000000,ffffff", [second, second, second]),
    ):
        answer = asking.get(f"{address}/output.png", params={"colors": colors})
        shown = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert np.abs(shown - 255 * pixels(np.stack(expected))).max() <= 0.51, colors
    for colors in ("00ff0,ff00ff", "green", "00ff00,"):
        answer = asking.get(f"{address}/output.png", params={"colors": colors})
        assert answer.status_code == 400
        assert "give rrggbb for each channel" in answer.json()["error"]
    assert client.get(f"/api/images/{world.shown.names[0]}").json()["colors"] is None, "RGB"


def test_what_is_outside_the_region_is_grey(regional, client, world):
    session, region = Session(regional.masker, regional.shown), regional.region
    list(session.look_through())
    asking, name = TestClient(application(session, 8000, None), base_url=OURS), regional.shown.names[0]
    assert asking.get(f"/api/images/{name}").json()["region"]
    answer = asking.get(f"/api/images/{name}/outside.png")
    grey, alpha = np.moveaxis(np.asarray(Image.open(io.BytesIO(answer.content))), -1, 0)
    np.testing.assert_array_equal(alpha, 255 * (1 - region))
    assert (grey == OUTSIDE).all()
    size = promise(asking, image=name)["opening"]["size"]
    assert session.entries()[0].size == pytest.approx(size), "counted in the region alone"
    small = np.asarray(Image.open(io.BytesIO(session.thumbnail(name))).convert("L").resize((48, 48)))
    output = np.asarray(Image.fromarray(as_bytes(regional.shown[0].y_hat)).convert("L"))
    expected = output + VEIL * (OUTSIDE - output.astype(float))
    assert np.abs(small - expected)[37:].mean() < 4, "no hatch there"
    told = client.get(f"/api/images/{world.shown.names[0]}").json()
    assert not told["region"]
    assert client.get(f"/api/images/{world.shown.names[0]}/outside.png").status_code == 404


def test_where_only_closed_masks_keep_the_promise_it_is_said(client, world):
    told = promise(client, image=world.shown.names[0], threshold=1e-9)
    assert (told["status"]["name"], told["status"]["title"]) == ("hidden", "Everything is hidden")
    assert "Only hiding every image completely keeps" in told["status"]["text"]
    assert told["sentence"].endswith("; this is kept only by hiding every image completely.")
    assert told["opening"]["size"] == 1


def test_what_cannot_be_promised_is_said_and_everything_masked(client, world):
    told = promise(client, image=world.shown.names[0], confidence=0.9999)
    assert told["status"]["name"] == "impossible"
    assert "too few for confidence 0.9999" in told["status"]["text"]
    assert told["sentence"] is None
    assert told["opening"]["size"] == 1


def test_an_endless_lambda_is_json(client, world):
    told = promise(client, image=world.shown.names[0], threshold=1)
    assert told["opening"]["lam"] == "inf"
    assert told["opening"]["size"] == 0


def columns(*parts):
    return ([pixels(getattr(t, role)) for part in parts for t in part] for role in ("x", "y_hat", "y"))


@pytest.mark.thorough
def test_a_simultaneous_promise_says_so_and_takes_declared_thresholds(world, tiles):
    parts = [tiles.select(range(start, len(tiles), 3)) for start in range(3)]
    wide = calibrate(
        world.masker.scorer,
        Triplets.from_arrays(*columns(parts[0], parts[2])),
        selection=parts[1],
        loss="l1",
        promise=Promise("simultaneous", confidence=0.6, delta=0.2),
        threshold="q0.5",
    )
    client = TestClient(application(Session(wide, world.shown), 8000, None), base_url=OURS)
    declared = wide.card.thresholds
    told = promise(client, image=world.shown.names[0], threshold=1.001 * declared[40])
    assert told["status"]["name"] == "simultaneous"
    assert told["threshold"] == declared[40]
    ends = client.get("/api/session").json()["sliders"]["threshold"]
    assert ends == [declared[0], declared[-1]]
    assert promise(client, image=world.shown.names[0])["status"]["name"] == "simultaneous"


def test_the_sliders_ends_can_be_reached(client, world):
    ends = client.get("/api/session").json()["sliders"]
    assert ends["stuck"] is None
    for threshold in ends["threshold"]:
        assert promise(client, image=world.shown.names[0], threshold=threshold)["opening"]["size"] <= 1
    n = world.masker.card.n_calibration
    low, high = ends["confidence"]
    assert low == 0.5
    assert high <= n / (n + 1) < high + 1e-3


def test_without_curves_the_sliders_say_why_they_are_stuck(world):
    bare = replace(world.masker, curves=None)
    client = TestClient(application(Session(bare, world.shown), 8000, None), base_url=OURS)
    assert "no curves are stored" in client.get("/api/session").json()["sliders"]["stuck"]
    assert promise(client, image=world.shown.names[0])["status"]["name"] == "calibrated"


def test_pictures_and_scores_are_those_of_the_image(client, world):
    triplet = world.shown[0]
    told = client.get(f"/api/images/{triplet.name}").json()
    assert (told["channels"], told["size"]) == (1, [1, *triplet.y_hat.shape[1:]])
    enlarged = triplet.x.repeat(4, axis=1).repeat(4, axis=2)
    for name, role in (("input", enlarged), ("output", triplet.y_hat), ("truth", triplet.y)):
        shown = Image.open(io.BytesIO(client.get(f"/api/images/{triplet.name}/{name}.png").content))
        np.testing.assert_array_equal(np.asarray(shown), as_bytes(role))
    score = np.frombuffer(client.get(f"/api/images/{triplet.name}/score").content, "<f4")
    again = np.abs(np.diff(triplet.y_hat, axis=1, append=triplet.y_hat[:, -1:]))
    again = again + np.abs(np.diff(triplet.y_hat, axis=2, append=triplet.y_hat[:, :, -1:]))
    np.testing.assert_allclose(score, again.mean(axis=0).ravel(), atol=1e-6)
    small = Image.open(io.BytesIO(client.get(f"/api/images/{triplet.name}/thumbnail.jpg").content))
    assert small.size == (THUMBNAIL, THUMBNAIL)


def test_the_bound_of_an_image_is_the_masker_s(client, world, broken):
    triplet = world.shown[0]
    bounds = world.masker.error_bounds(pixels(triplet.x), pixels(triplet.y_hat))
    told = client.get(f"/api/images/{triplet.name}").json()
    assert told["bound"] == f"at most {bounds[0]:.3g}, for 90{SPACE}% of images"
    list(broken.look_through())
    doubted = TestClient(application(broken, 8000, None), base_url=OURS)
    assert doubted.get(f"/api/images/{triplet.name}").json()["bound"] is None


@pytest.mark.thorough
def test_the_caveat_of_ssim_stands_beside_its_promise(world, tiles):
    parts = [tiles.select(range(start, len(tiles), 3)) for start in range(3)]
    ssim = calibrate(
        world.masker.scorer,
        parts[0],
        selection=parts[1],
        loss="ssim",
        promise=Promise(confidence=0.6),
        threshold="q0.5",
    )
    client = TestClient(application(Session(ssim, world.shown), 8000, None), base_url=OURS)
    told = promise(client, image=world.shown.names[0])
    assert "the mask need not cover what is wrong" in told["about_masks"]
    assert "ssim_map" in told["about_masks"]


def test_an_image_without_a_truth_has_none_to_show(world):
    triplet = world.shown[0]
    blind = Triplets.from_arrays([pixels(triplet.x)], [pixels(triplet.y_hat)], names=["blind"])
    client = TestClient(application(Session(world.masker, blind), 8000, None), base_url=OURS)
    assert client.get("/api/images/blind").json()["truth"] is False
    for path in ("images/blind/truth.png", "images/blind/error.png", "loss?image=blind"):
        answer = client.get(f"/api/{path}")
        assert answer.status_code == 404
        assert "blind" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("images/nobody", 404, "there is no image 'nobody'"),
        ("images/nobody/thumbnail.jpg", 404, "there is no image 'nobody'"),
        ("promise?image=nobody", 404, "there is no image 'nobody'"),
        ("promise?image=NAME&threshold=wide", 422, "threshold=wide"),
        ("promise?threshold=1", 422, "threshold=1"),
        ("images/NAME/secret.png", 404, "no picture 'secret'"),
        (f"images/NAME/output.png?step={2**63}", 400, "step 9223372036854775808: give at most"),
    ],
)
def test_bad_questions_are_answered_in_words(client, world, path, status, told):
    answer = client.get(f"/api/{path}".replace("NAME", world.shown.names[0]))
    assert answer.status_code == status
    assert told in answer.json()["error"]


@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf"])
def test_a_threshold_that_is_no_distance_promises_nothing(client, world, value):
    told = promise(client, image=world.shown.names[0], threshold=value)
    assert told["status"]["name"] == "impossible"
    assert "threshold" in told["status"]["text"]


def test_a_broken_image_is_told_and_does_not_stop_the_others(world, tmp_path):
    from conformask.images.read import write_image

    for role in ("x", "y_hat"):
        write_image(tmp_path / role / "good.png", getattr(world.shown[0], role))
        (tmp_path / role / "bad.png").write_bytes(b"no image")
    session = Session(world.masker, Triplets.from_folder(tmp_path))
    client = TestClient(application(session, 8000, None), base_url=OURS)
    assert list(session.look_through()) == ["bad", "good"]
    bad, good = client.get("/api/images").json()["images"]
    assert "bad.png cannot be read as an image" in bad["error"]
    assert good["size"] is not None
    assert "cannot be read" in client.get("/api/images/bad").json()["error"]


def test_another_size_is_said_not_to_be_covered(world):
    triplet = world.shown[0]
    half = pixels(triplet.y_hat)[: triplet.y_hat.shape[1] // 2]
    client = TestClient(
        application(Session(world.masker, Triplets.from_arrays([half], [half], names=["half"])), 8000, None),
        base_url=OURS,
    )
    assert "the promise covers only images of" in client.get("/api/images/half").json()["notes"][0]


def test_the_cache_keeps_what_was_used_last_and_always_the_last():
    cache = ByteCache(5, len)
    for key, value in (("a", "aa"), ("b", "bb")):
        cache.put(key, value)
    assert cache.get("a") == "aa"
    cache.put("c", "cc")
    assert [cache.get(key) for key in "abc"] == ["aa", None, "cc"]
    cache.put("d", "much too large")
    assert [cache.get(key) for key in "acd"] == [None, None, "much too large"]


@pytest.mark.parametrize(("constant", "is_useless"), [(0.6, False), (0.4, True)])
def test_how_much_the_score_hides_beside_others_stands_with_the_promise(constant, is_useless, world):
    masker = world.masker
    compared = ScoreComparison(20, 0.03, 0.5, {"constant": constant}, 0.1, None)
    selection = Selection(masker.loss, np.zeros(20), {}, compared)
    scored = replace(masker, scorer=replace(masker.scorer, selection=selection))
    session = Session(scored, world.shown)
    told = TestClient(application(session, 8000, None), base_url=OURS).get("/api/images").json()["promised"]
    assert f"a constant score would hide {2 * constant:g} times as much" in told["score"]
    assert "the best possible masks 0.2 times as much" in told["score"]
    assert (told["useless"] is not None) == is_useless
    if is_useless:
        assert "no better than one value everywhere, which on 20 selection images" in told["useless"]


def test_only_images_that_nothing_has_used_are_measured(world, tiles, tmp_path):
    """A split says which are; the others are shown, and say what they were used for."""
    parts = ["train", "selection", "calibration", "test"] * 4
    rows = [replace(row, part=part) for row, part in zip(world.shown._rows, parts, strict=False)]
    session = Session(world.masker, Triplets(rows))
    order = list(session.look_through())
    tested = [name for name, part in zip(world.shown.names, parts, strict=False) if part == "test"]
    assert order[: len(tested)] == tested
    assert {entry.part for entry in session.entries()} == {"train", "selection", "calibration", None}
    assert session.measurement().n == len(tested)
    losses = [session._losses[name] for name in tested]
    assert session.measurement().mean_loss == pytest.approx(np.mean(losses))
    assert session.use(tested[0]) is None
    assert "trained the score network" in session.use(world.shown.names[0])
    with_test = TestClient(application(session, 8000, None), base_url=OURS)
    told = with_test.get(f"/api/images/{world.shown.names[2]}").json()
    assert told["notes"] == [
        "This image is one of those that the promise was made with: what is measured on it says nothing "
        "about new ones."
    ]


def test_images_that_made_the_promise_are_recognised_without_a_split(world, tiles):
    session = Session(world.masker, Triplets([*tiles.select([0, 3, 6])._rows, *world.shown._rows]))
    assert list(session.look_through()) == list(session._images)
    alone = Session(world.masker, world.shown)
    assert list(alone.look_through())
    assert session.measurement() == alone.measurement()
    assert [entry.part for entry in session.entries()] == ["used"] * 3 + [None] * len(world.shown)
    told = "3 images with truth not measured: training, selection or calibration has seen them."
    assert session.measurement_text == f"{alone.measurement_text} {told}"
    assert "was used for training, selection or calibration" in session.use(tiles.names[0])


def test_the_window_and_the_histogram_are_those_of_the_output(client, world):
    triplet = world.shown[0]
    told = client.get(f"/api/images/{triplet.name}").json()
    assert sum(told["histogram"]) == triplet.y_hat.size
    np.testing.assert_array_equal(told["histogram"], np.histogram(triplet.y_hat, 64, (0, 1))[0])
    low, high = np.quantile(triplet.y_hat, [0.005, 0.995])
    assert told["most_values"] == pytest.approx([(low + high) / 2, high - low], rel=1e-5)


@pytest.mark.parametrize(
    ("data_range", "most", "shown"),
    [
        ((0, 255), (0.1, 0.9), None),
        ((0, 255), (0.0, 0.2), "0 to 20"),
        ((0, 255), (0.1, 0.49), "10 to 49"),
        ((0, 255), (0.1, 0.51), None),
        ((0, 255), (0.7, 0.9), "70 to 90"),
        ((0, 4095), (0.012, 0.5), "1 to 50"),
        ((0, 1), (0.012, 0.03), "1.2 to 3.0"),
        ((0, 1), (0.5, 0.5), "50.0 to 50.1"),
        ((-1024, 3071), (0.2, 0.3), None),  # HU have presets
        ((0, 65535), (0.05, 0.95), None),
    ],
)
def test_images_that_hardly_fill_their_range_are_shown_by_their_values(data_range, most, shown):
    expected = "" if shown is None else f"Contrast stretched to {shown}\N{NO-BREAK SPACE}% of the range"
    assert first_contrast(tuple(map(float, data_range)), most).text == expected


def test_dim_images_are_shown_by_their_values_wherever_they_are_and_it_is_said(dim):
    triplet = dim.shown[0]
    contrast = first_contrast((0.0, 1.0), map_ends(triplet.y_hat))
    assert re.fullmatch(f"Contrast stretched to \\d to 1\\d{SPACE}% of the range", contrast.text)
    session = Session(dim.masker, dim.shown.select([0]))
    list(session.look_through())
    assert session.entries()[0].contrast == asked(session, f"/api/images/{triplet.name}")["contrast"]
    assert session.entries()[0].contrast == contrast.text
    expected = as_bytes(contrast(triplet.y_hat)).mean()
    small = Image.open(io.BytesIO(session.thumbnail(triplet.name)))
    assert np.asarray(small).mean() == pytest.approx(expected, rel=0.3), "but for the hatch"
    assert shared_case(dim.masker, dim.shown.select([0]), 1).images[0].contrast == contrast.text
    (row,) = cm.show(dim.masker, triplet).rows
    assert contrast.text in row.facts
    np.testing.assert_array_equal(row.pictures["Output ŷ"], as_bytes(contrast(triplet.y_hat)))
    evaluation = cm.evaluate(dim.masker, dim.shown)
    by_name = {image.name: image for image in dim.shown}
    for example in evaluation.examples:
        image, shown = by_name[example.name], Contrast(example.black, example.white)
        assert shown == first_contrast((0.0, 1.0), map_ends(image.y_hat))
        np.testing.assert_array_equal(example.y, as_bytes(shown(image.truth())))
        assert shown.text.lower() in render(evaluation)


def test_runs_of_hidden_pixels_are_counted_in_rows(session, world):
    triplet = world.partly
    hidden = mask_of(world.masker, triplet).reshape(triplet.y_hat.shape[1:]) < 1
    runs = [len(run) for row in hidden for run in "".join("x" if h else " " for h in row).split()]
    assert session.hidden_run(triplet.name) == pytest.approx(np.mean(runs))


def test_images_without_maps_have_none(client, world):
    address = f"/api/images/{world.shown.names[0]}"
    assert client.get("/api/session").json()["maps"] is False
    assert client.get(address).json()["map_range"] is None
    assert client.get(f"{address}/map.png").status_code == 404


@pytest.fixture(scope="module")
def released(world):
    found = release(world.masker, world.shown, 0.05)
    assert 0 < found.n_released < len(found.images)
    return found


@pytest.fixture
def judged(world, released):
    return Session(world.masker, world.shown, released=released)


def asked(session, path, **parameters):
    return TestClient(application(session, 8000, None), base_url=OURS).get(path, params=parameters).json()


def test_the_server_says_what_was_judged_of_each_image(judged, released):
    told = asked(judged, "/api/images")
    assert told["release"]["sentence"].startswith(
        "Released: 9 of 12 images. Held back: 3. Of the images released"
    )
    assert told["release"]["formula"] == released.formula
    flags = {entry["name"]: entry["released"] for entry in told["images"]}
    assert flags == {image.name: image.released for image in released.images}
    for image in released.images:
        promised = asked(judged, "/api/promise", image=image.name)["release"]
        assert (promised["sentence"], promised["formula"]) == (released.sentence, released.formula)
        facts = promised["image"]
        assert (facts["released"], facts["p_value"]) == (image.released, pytest.approx(image.p_value))
        assert tuple(facts["reasons"]) == image.reasons


def test_nothing_is_said_of_other_masks_and_other_images(judged, world):
    """Other masks: at another setting. Other images: those that were uploaded, even with the same pixels."""
    name = judged.add(CollectionImage(world.shown.select([0]), 0))
    assert asked(judged, "/api/promise", image=name)["release"] is None
    assert {entry["released"] for entry in asked(judged, "/api/images")["images"]} == {True, False, None}
    ours = world.shown.names[0]
    assert asked(judged, "/api/promise", image=ours)["release"] is not None
    assert asked(judged, "/api/promise", image=ours, confidence=0.8)["release"] is None


def test_nothing_is_released_where_the_truth_says_otherwise(broken, released):
    broken = Session(broken.masker, broken.triplets, released=released)
    assert asked(broken, "/api/images")["release"] is not None
    list(broken.look_through())
    told = asked(broken, "/api/images")
    assert told["release"] is None
    assert {entry["released"] for entry in told["images"]} == {None}
    assert asked(broken, "/api/promise", image=told["images"][0]["name"])["release"] is None


@pytest.mark.thorough
def test_without_a_release_the_page_says_nothing(page, address, world):
    page.goto(f"{address}#/?held=true")
    expect(page.locator("#image-grid li")).to_have_count(len(world.shown))
    expect(page.locator("#held-back-label")).to_be_hidden()
    expect(page.locator(".released, .release")).to_have_count(0)


@pytest.fixture
def release_page(browser, serving, watching, judged):
    """A page that shows the released images, and its address."""
    list(judged.look_through())
    with serving(judged) as address, watching(browser, address.partition("?")[0]) as page:
        yield page, address


@pytest.mark.thorough
def test_the_gallery_marks_them_and_shows_those_held_back(release_page, released, world):
    page, address = release_page
    page.goto(f"{address}#/?sort=name")
    expect(page.locator("#gallery-promise .release")).to_have_text(released.summary)
    expect(page.locator("#gallery-promise code").first).to_have_text(released.formula)
    cards = page.locator("#image-grid li")
    by_name = {image.name: image.released for image in released.images}
    expect(cards).to_have_count(len(by_name))
    for card in cards.all():
        text = "released" if by_name[card.locator(".card-title").inner_text()] else "held back"
        expect(card.locator(".released")).to_have_text(text)
    page.locator("#held-back-only").check()
    held_back = [name for name in world.shown.names if not by_name[name]]
    assert page.locator("#image-grid .card-title").all_text_contents() == held_back
    page.reload()
    expect(cards).to_have_count(len(held_back))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == [], scheme


@pytest.mark.thorough
def test_an_image_has_its_reasons_beside_its_facts(release_page, released):
    page, address = release_page
    worst = next(image for image in released.images if not image.released)
    best = next(image for image in released.images if image.released)
    page.goto(f"{address}#/image/{quote(worst.name)}")
    facts = page.locator("#facts div")
    expect(facts.filter(has_text="Release")).to_contain_text(f"held back, p = {worst.p_value:.3g}")
    expect(facts.filter(has_text="Why")).to_contain_text("; ".join(worst.reasons))
    expect(page.locator("#image-promise .release")).to_have_text(released.sentence)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{address}#/image/{quote(best.name)}?confidence=0.8")
    expect(page.locator("#image-promise .promise-status")).to_have_text("Exploratory")
    expect(facts.filter(has_text="Release")).to_have_count(0)
    page.locator("#reset").click()
    expect(facts.filter(has_text="Release")).to_contain_text("released, p = ")
    expect(facts.filter(has_text="Why")).to_have_count(0)
