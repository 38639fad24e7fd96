"""Changes that a monitor sees, and what it says of them; the verb and its state."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import conformask as cm
from conformask.arrays import Batch, Score
from conformask.cli import main
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
from conformask.extras.watch.monitor import SIZE, Monitoring, changes_of, changes_text, monitor
from conformask.extras.watch.stream import stream_text
from conformask.images.read import write_image
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masker.admission import SCORES, appearance
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.masker.validation import shift_of
from conformask.masks.critical import features_of, loss_under
from conformask.masks.families import family
from conformask.promises import coverage_test as law
from conformask.records.record import State, to_jsonable
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import selection_record
from made_maskers import calibrated
from promised import simulated
from synthetic_triplets import arrays, scale_of, triplets

SCORER = Heuristic(scale_of, channels=1, family="water_filling")
KEPT = selection_record(SCORER, triplets(30, 1), loss("l1"), [family("binary")])
KNOWING = replace(SCORER, selection=KEPT)


def masker_of(calibration, **more):
    return calibrated(KNOWING, calibration, threshold=0.03, level="one", **more)


def louder(count, seed, factor):
    """Scores and errors are factor times as large."""
    x, y_hat, y = arrays(count, seed)
    return Triplets.from_arrays(factor * x, (y + factor * (y_hat - y)).clip(0, 1), y)


def test_one_place_of_each_group_is_compared_with_the_same_place_of_others():
    """Images of a group may differ, such as the base and the top of a brain."""

    def of_groups(count, seed):
        images, groups = arrays(2 * count, seed), [str(index // 2) for index in range(2 * count)]
        images[0][1::2] *= 5
        return Triplets.from_arrays(*images, groups=groups)

    masker = calibrated(KNOWING, of_groups(40, 3), threshold=0.03, unit="group", level="one")
    new = of_groups(40, 4)
    scores = [masker.scorer(batch.x, batch.y_hat) for batch in new.batches()]
    features = dict(zip(new.names, np.concatenate([features_of(score) for score in scores]), strict=True))
    assert shift_of(masker, features, new) is None
    backwards = new.select(range(len(new) - 1, -1, -1))
    assert shift_of(masker, features, backwards) is not None


@pytest.mark.thorough
def test_images_like_those_of_the_calibration_are_rarely_called_shifted():
    level, runs = 0.1, 60
    alarms = [
        monitor(masker_of(triplets(25, 1000 + k)), triplets(20, 5000 + k), level=level).shifted
        for k in simulated(runs)
    ]
    assert np.mean(alarms) <= level + 3 * np.sqrt(level * (1 - level) / runs)


def test_medians_of_a_scores_own_features_are_those_of_the_features():
    """Those of conformask's own, which are logarithms, are shown as what they are the logarithms of."""

    class Counting(Heuristic):
        def __call__(self, x, y_hat):
            return Score(x, torch.full((len(x), 1), -40.0))

    masker = calibrate(Counting(scale_of, channels=1), triplets(30, 0), threshold=0.03, loss="l1")
    comparisons = monitor(masker, triplets(20, 1)).comparisons
    own = next(each for each in comparisons if each.measure not in (*SCORES, SIZE))
    assert (own.calibration, own.new) == (-40, -40)
    mean = comparisons[0]
    expected = np.median([each.x.mean() for each in triplets(20, 1)])
    assert (mean.measure, mean.new) == (SCORES[0], pytest.approx(expected))


@pytest.mark.thorough
@pytest.mark.parametrize("guarantee", ["expected", "conditional_mean"])
def test_lambdas_by_image_are_compared_with_those_of_the_calibration(guarantee):
    """With 1 - size for a bound of calibration images, but the tight one for new ones, most alarmed."""
    level, runs = 0.05, 40
    alarms, alike = [], []
    for k in simulated(runs):
        masker = masker_of(triplets(40, 1000 + k), guarantee=guarantee)
        found = monitor(masker, Triplets.from_arrays(*arrays(30, 5000 + k)[:2]), level=level)
        alarms.append(found.shifted)
        alike.append(found.comparisons[-1].p_value)
    assert np.mean(alarms) <= level + 3 * np.sqrt(level * (1 - level) / runs)
    assert np.median(alike) > 0.2, "mask sizes"


def test_bounds_that_are_not_stored_are_asked_for():
    masker = masker_of(triplets(60, 0)).recalibrate(promise="expected")
    with pytest.raises(MismatchError, match=r"no bound, which this promise needs: calibrate the images"):
        monitor(masker, triplets(40, 1))


@pytest.mark.thorough
@pytest.mark.parametrize("guarantee", ["marginal", "categories", "groups", "expected"])
def test_failure_is_rarely_seen_where_there_is_none_and_seen_where_there_is(guarantee, monkeypatch):
    """A binomial interval around the coverage of new images called a fourth of these failing."""
    monkeypatch.setattr(law, "DRAWS", 39)
    level, runs = 0.05, 24
    options = {} if guarantee == "expected" else {"confidence": 0.8}
    alarms = []
    for k in simulated(runs):
        masker = masker_of(labelled(90, 1000 + k, guarantee), guarantee=guarantee, **options)
        alarms.append(monitor(masker, labelled(150, 5000 + k, guarantee), level=level).failing)
    assert np.mean(alarms) <= level + 3 * np.sqrt(level * (1 - level) / runs)
    x, y_hat, y = arrays(150, 9)
    worse = [x, (y + 3 * (y_hat - y)).clip(0, 1), y]
    broken = monitor(masker, labelled(150, 9, guarantee, worse), level=level)
    assert broken.failing, "three times the error at the same scores"
    assert not broken.shifted
    assert broken.measurement is not None
    assert broken.measurement.p_worse is not None
    assert broken.measurement.p_worse < level


def labelled(count, seed, guarantee, images=None):
    """With the columns that the guarantee takes."""
    columns: dict[str, dict[str, object]] = {
        "categories": {"categories": ["stain A" if k % 3 else "stain B" for k in range(count)]},
        "groups": {"groups": [k // 3 for k in range(count)]},
    }
    return Triplets.from_arrays(*(images or arrays(count, seed)), **columns.get(guarantee, {}))


def test_a_shift_is_seen_without_truth():
    masker = masker_of(triplets(60, 0))
    seen = monitor(masker, louder(40, 7, 1.3))
    assert seen.shifted
    assert (seen.n_calibration, seen.n_new) == (60, 40)
    mean = seen.comparisons[0]
    assert mean.measure == "mean score"
    assert mean.new / mean.calibration == pytest.approx(1.3, rel=0.05)
    assert mean.p_value < 1e-6
    assert seen.p_value == pytest.approx(4 * min(each.p_value for each in seen.comparisons))
    x, y_hat, _ = arrays(40, 7)
    blind = monitor(masker, Triplets.from_arrays(1.3 * x, y_hat))
    assert blind.shifted
    assert (blind.measurement, blind.failing) == (None, False)


def test_a_monitoring_says_what_it_found():
    masker = masker_of(triplets(60, 0))
    said = repr(monitor(masker, louder(40, 7, 1.3)))
    assert said.startswith("Monitoring(Measured: coverage 100.0\N{NO-BREAK SPACE}% (95 % interval 91.2")
    assert "SHIFTED: these images do not look like the calibration images (p = " in said
    assert " What changed in these images: x brighter by a third; y_hat as before. " in said
    assert "Medians of 40 new images and 60 calibration images: mean score 0.07209, was 0.05458 (p = " in said
    x, y_hat, _ = arrays(40, 3)
    named = Triplets.from_arrays(x, y_hat, network="unet")
    with pytest.warns(UserWarning, match="does not record which network"):
        said = repr(monitor(masker, named))
    assert said.startswith(
        "Monitoring(the promise does not record which network it is about, and these outputs were made by "
        "unet."
    )
    assert "No shift is seen in scores and mask sizes (p = " in said
    assert "overage" not in said


def test_coverage_is_that_of_the_masks():
    masker, new = masker_of(triplets(60, 0)), triplets(50, 3)
    batch = next(new.batches(50))
    mask = masker(batch.x, batch.y_hat)
    met = loss_under(masker.loss, mask, batch) <= 0.03 * (1 + 1e-6)
    seen = monitor(masker, new)
    assert seen.measurement.coverage == pytest.approx(float(met.double().mean()))
    assert not seen.failing
    x, y_hat, y = arrays(50, 3)
    worse = monitor(masker, Triplets.from_arrays(x, (y + 3 * (y_hat - y)).clip(0, 1), y))
    assert worse.failing, "three times the error at the same scores"
    assert worse.comparisons == seen.comparisons, "scores cannot tell"


@pytest.fixture
def unknown(monkeypatch):
    """No image is known to be the calibration's."""
    monkeypatch.setattr(Masker, "seen", frozenset())


def test_mask_sizes_are_compared_at_the_same_lambda(unknown):
    x, y_hat, _ = arrays(60, 0)
    seen = monitor(masker_of(triplets(60, 0)), Triplets.from_arrays(x, y_hat))
    assert [each.p_value for each in seen.comparisons] == [1.0] * 4, "the very images of the calibration"
    size = seen.comparisons[-1]
    assert size.measure == "mask size"
    assert size.new == pytest.approx(size.calibration, abs=1e-6)


def test_mask_sizes_are_compared_at_the_point_below_lambda():
    """Between grid points sizes are not known; those above would be of masks that nobody gets."""
    masker = masker_of(triplets(60, 0))
    below = masker.grid[masker.grid <= masker.rule.lam].max()
    assert below < masker.rule.lam
    new = next(triplets(40, 3).batches(40))
    mask = masker.family.apply(new.x, masker.family.level(new.x, torch.full((40,), below)))
    seen = monitor(masker, triplets(40, 3)).comparisons[-1]
    assert seen.new == pytest.approx(float((1 - mask).mean((1, 2, 3)).median()), abs=0.003)
    assert seen.new == pytest.approx(float(np.median((1 - mask).mean((1, 2, 3)))), abs=1e-6)


def test_of_each_group_one_image_is_compared(unknown):
    calibration = triplets(30, 0, groups=[k // 2 for k in range(30)])
    masker = masker_of(calibration, guarantee="groups")
    x, y_hat, _ = arrays(30, 0)
    first = monitor(masker, Triplets.from_arrays(x[::2], y_hat[::2])).comparisons
    assert [each.p_value for each in first] == [1.0] * 4, "the very images that are compared"
    once = monitor(masker, triplets(10, 3))
    assert (once.n_calibration, once.n_new) == (15, 10)
    x, y_hat, y = (np.repeat(images, 6, axis=0) for images in arrays(10, 3))
    repeated = Triplets.from_arrays(x, y_hat, y, groups=[f"new {k // 6}" for k in range(60)])
    assert monitor(masker, repeated).comparisons == once.comparisons


def test_images_that_the_calibration_has_seen_are_left_out_and_said():
    """By their groups, also without truth; a stream does not take them in."""
    masker = masker_of(triplets(30, 0, groups=[f"p{k // 2}" for k in range(30)]), guarantee="groups")
    x, y_hat, _ = arrays(12, 3)
    fresh = Triplets.from_arrays(x[2:], y_hat[2:], groups=[f"q{k // 2}" for k in range(10)])
    mixed = Triplets.from_arrays(x, y_hat, groups=["p0", "p0", *fresh.groups])
    found, alone = monitor(masker, mixed), monitor(masker, fresh)
    assert (found.comparisons, found.n_used, alone.n_used) == (alone.comparisons, 2, 0)
    said = "2 images left out: training, selection or calibration has seen them."
    assert said in repr(found)
    assert said not in repr(alone)
    watch = cm.StreamMonitor(masker)
    assert watch.add(mixed.select([0, 1])).n_seen == 0
    status = watch.add(mixed)
    assert (status.n_new, status.n_seen, status.n_used) == (5, 5, 2)
    assert said in stream_text(masker.card, status)
    with pytest.raises(InvalidArgumentError, match="no image is new: 2 images left out"):
        monitor(masker, mixed.select([0, 1]))


def test_what_cannot_be_monitored_is_refused():
    masker = masker_of(triplets(30, 0))
    for level in (0.0, 1.0, -1.0):
        with pytest.raises(InvalidArgumentError, match="level"):
            monitor(masker, triplets(5, 2), level=level)
    with pytest.raises(MismatchError, match="no curves are stored"):
        monitor(replace(masker, curves=None), triplets(5, 2))
    weighted = masker_of(triplets(30, 0, weights=[1.0] * 30), guarantee="weighted")
    with pytest.raises(InvalidArgumentError, match="weighted promise"):
        monitor(weighted, triplets(5, 2))


def written(folder, collection):
    for triplet in collection:
        for role in ("x", "y_hat", "y"):
            write_image(folder / role / f"{triplet.name}.png", getattr(triplet, role), bits=16)
    return folder


def test_the_verb(tmp_path, capsys):
    scorer = fit_scorer(
        triplets(12, 0),
        selection=triplets(12, 1),
        out=tmp_path / "run",
        training=TrainingConfig(epochs=1),
        network=NetworkOptions(width=4),
    )
    calibrate(scorer, triplets(30, 2), threshold=0.03).save(tmp_path / "run")
    same, other = written(tmp_path / "same", triplets(20, 3)), written(tmp_path / "other", louder(20, 4, 4.0))
    told: list[Monitoring | dict[str, object]] = []
    for data in (same, other):
        main(["monitor", str(tmp_path / "run"), str(data), "--json"])
        told.append(json.loads(capsys.readouterr().out))
    assert [record["shifted"] for record in told] == [False, True]
    assert told[0]["changes"] is None
    brighter = told[1]["changes"][0]
    assert (brighter["role"], brighter["measure"], brighter["text"]) == (
        "x",
        "brightness",
        "brighter (4 times)",
    )
    assert brighter["ratio"] == pytest.approx(4, rel=0.05)
    main(["monitor", str(tmp_path / "run"), str(other)])
    text = capsys.readouterr().out
    assert text.index("BROKEN: ") < text.index("SHIFTED: ") < text.index("mask size")
    assert text.index("SHIFTED: ") < text.index("What changed in these images: x brighter (4 times)")
    main(["monitor", str(tmp_path / "run"), str(same), "--strict"])
    assert " images kept it (" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["monitor", str(tmp_path / "run"), str(other), "--strict"])
    assert stop.value.code == 3
    assert "SHIFTED" in capsys.readouterr().out


@pytest.mark.thorough
def test_a_stream_from_one_call_to_the_next(conformask, own):
    asked = ("monitor", own / "run", own / "data", "--state", own / "state.json")
    first = conformask(*asked, "--json").record
    again = conformask(*asked, "--json").record
    assert (
        first["n_new"]
        == first["n_seen"]
        == again["n_seen"]
        == len(Triplets.from_folder(own / "data").part("test"))
    )
    assert conformask(*asked[:3], "--json").record["n_used"] == first["n_used"] > 0
    assert again["n_new"] == 0
    assert again["failure_evidence"] == first["failure_evidence"] >= 1
    text = conformask(*asked).out
    assert "failed" in text
    assert "so far, 0 new" in text
    assert (conformask(*asked, "--strict").status == 3) == (first["shifted"] or first["failing"])


def test_a_state_goes_with_its_calibration(conformask, own):
    asked = ("monitor", own / "run", own / "data", "--state", own / "state.json")
    assert conformask(*asked).status == 0
    assert conformask("recalibrate", own / "run", "--confidence", "0.7").status == 0
    refused = conformask(*asked)
    assert refused.status == 1
    assert "start a new state after each calibration" in refused.err


Change = Callable[[np.ndarray], np.ndarray]
COLUMNS = ("brightness", "contrast", "noise", "sharpness")


def scenes(count, seed, size=(32, 32)):
    """Blobs and grain of varying strength, in [0, 1]; (count, *size)."""
    generator = np.random.default_rng(seed)
    fields = [
        generator.uniform(0.5, 1.5) * gaussian_filter(generator.normal(0, 3, size), 2)
        + generator.uniform(0.5, 1.5) * gaussian_filter(generator.normal(0, 1, size), 0.8)
        for _ in range(count)
    ]
    return (0.4 + 0.1 * np.stack(fields)).clip(0, 1)


def noise(deviation):
    def added(images):
        return images + np.random.default_rng(9).normal(0, deviation, images.shape)

    return added


def blurred(images):
    return np.stack([gaussian_filter(image, 1) for image in images])


CHANGES: dict[str, tuple[Change, str]] = {
    "darker by a fifth": (lambda images: 0.8 * images, "x darker by a fifth; y_hat darker by a fifth"),
    "brighter by 30\N{NO-BREAK SPACE}%": (lambda images: 1.3 * images, "x brighter by 30\N{NO-BREAK SPACE}%"),
    "less contrast": (lambda images: 0.2 + 0.5 * images, "x less contrast (0.5"),
    "noisier": (noise(0.05), "x noisier ("),
    "blurred": (blurred, "x blurred; y_hat blurred"),
    "sharper": (lambda images: 2 * images - blurred(images), "x sharper"),
    "both": (lambda images: 0.7 * blurred(images), "x darker by 30\N{NO-BREAK SPACE}%, blurred"),
}


def photographed(truths, change=lambda images: images):
    """A camera that adds a little noise to what has changed, and a network that smooths it."""
    generator = np.random.default_rng(len(truths))
    x = (change(truths) + generator.normal(0, 0.01, truths.shape)).clip(0, 1).astype(np.float32)
    y_hat = np.stack([gaussian_filter(image, 0.6) for image in x])
    return cm.Triplets.from_arrays(x, y_hat, truths.astype(np.float32))


def steepness(x, y_hat):
    return 0.001 + (x - y_hat).abs() + x.diff(dim=-1, append=x[..., -1:]).abs() + 0.05 * x


@pytest.fixture(scope="module")
def masker():
    scorer = cm.Heuristic(steepness, channels=1)
    given = {
        "threshold": 0.02,
        "promise": cm.Promise(confidence=0.8),
        "loss": "l1",
        "selection": photographed(scenes(30, 1)),
    }
    return cm.calibrate(scorer, photographed(scenes(80, 2)), **given)


@pytest.fixture
def earlier(masker):
    """As saved by an earlier version."""
    return replace(masker, curves=replace(masker.stored_curves(), appearance=None))


@pytest.mark.parametrize("name", CHANGES)
def test_a_shift_is_described(name, masker):
    change, expected = CHANGES[name]
    new = photographed(scenes(60, 3), change)
    found, watched = monitor(masker, new), cm.StreamMonitor(masker).add(new)
    assert found.shifted
    assert found.changes
    assert found.changes == watched.changes if watched.shifted else watched.changes is None
    assert expected in changes_text(found.changes)
    assert changes_text(found.changes) in repr(found)


def test_a_stream_is_described_by_what_came_last(masker):
    watch = cm.StreamMonitor(masker)
    assert watch.add(photographed(scenes(40, 4))).changes is None
    dark = [watch.add(photographed(scenes(4, 50 + k), lambda images: 0.6 * images)) for k in range(20)][-1]
    assert (dark.shifted, dark.n_latest) == (True, 32)
    said = stream_text(masker.card, dark)[-1]
    assert said.startswith("What changed in the latest 32 images: x darker by 4")
    as_before = watch.add(photographed(scenes(50, 5)))
    assert as_before.shifted, "an alarm stays"
    assert (as_before.changes, as_before.n_latest) == ((), 50)
    assert stream_text(masker.card, as_before)[-1] == (
        "Brightness, contrast, noise and sharpness of the latest 50 images are as before (no clear change)."
    )


def test_unchanged_images_are_rarely_said_to_differ():
    perceptual_hashes = of(scenes(300, 6))
    said = []
    for seed in range(200):
        places = np.random.default_rng(seed).permutation(len(perceptual_hashes))
        said.append(bool(changes_of(perceptual_hashes[places[:60]], perceptual_hashes[places[60:100]], 0.01)))
    assert np.mean(said) <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 200)


def of(images, region=None, channels=0):
    """The appearance of images (n, *space), or (n, C, *space), as x and as y_hat."""
    x = torch.from_numpy(images.astype(np.float32))
    x = x if channels else x[:, None]
    inside = None if region is None else torch.from_numpy(region.astype(np.float32))
    return appearance(
        Batch(tuple(map(str, range(len(x)))), x, x, None, {} if inside is None else {"region": inside})
    )


def ratios(before, after):
    return dict(zip(COLUMNS, np.exp(np.median(after - before, axis=0))[0].tolist(), strict=True))


@pytest.mark.parametrize("size", [(64, 64), (41, 50), (16, 24, 24), (3, 40, 40), (200,)])
def test_each_number_sees_its_change_alone_whatever_the_axes(size):
    images = noise(0.003)(scenes(20, 7, size))
    before = of(images)
    assert before.shape == (20, 2, 4)
    darker = dict(zip(COLUMNS, (0.8, 1, 0.8, 1), strict=True))
    assert ratios(before, of(0.8 * images)) == pytest.approx(darker, abs=1e-4)
    noisy = ratios(before, of(noise(0.03)(images)))
    assert noisy["noise"] > 1.7
    assert noisy["sharpness"] == pytest.approx(1, abs=0.1), "noise does not pass for detail"
    dull = ratios(before, of(0.2 + 0.5 * images))
    assert dull["contrast"] < 0.7
    assert (dull["noise"], dull["sharpness"]) == pytest.approx((0.5, 1), abs=0.01)
    assert ratios(before, of(blurred(images)))["sharpness"] < 0.9


def test_channels_count_alike():
    images = scenes(20, 8)
    tinted = np.stack([images, 0.1 + images, 0.2 + images], axis=1)
    changed = ratios(of(images), of(tinted, channels=3))
    assert changed["brightness"] == pytest.approx(
        np.median((images.mean((1, 2)) + 0.1) / images.mean((1, 2)))
    )
    assert (changed["noise"], changed["sharpness"]) == pytest.approx((1, 1), abs=0.01), "not the tint"


def test_only_the_region_is_looked_at():
    images, region = scenes(5, 9), np.zeros((5, 1, 32, 32))
    region[:, :, 4:29, 3:25] = 1
    spoilt = np.where(region[:, 0] > 0, images, np.random.default_rng(0).random(images.shape))
    np.testing.assert_allclose(of(images, region), of(spoilt, region), atol=1e-6)
    assert not np.allclose(of(images), of(spoilt), atol=0.1)


@pytest.mark.parametrize("images", [np.zeros((2, 16, 16)), np.full((2, 5, 1), 0.5), np.ones((2, 1, 1))])
def test_blank_and_tiny_images_have_numbers(images):
    assert np.isfinite(of(images)).all()


@pytest.mark.parametrize(
    ("column", "ratio", "text"),
    [
        (0, 0.81, "darker by a fifth"),
        (0, 0.6, "darker by 40\N{NO-BREAK SPACE}%"),
        (0, 1.5, "brighter by half"),
        (0, 2.34, "brighter (2.3 times)"),
        (1, 0.7, "less contrast (0.7 times)"),
        (2, 2.1, "noisier (2.1 times)"),
        (2, 0.5, "less noise (0.5 times)"),
        (3, 0.8, "blurred"),
        (3, 1.3, "sharper"),
    ],
)
def test_the_words(column, ratio, text):
    before = np.random.default_rng(0).normal(0, 0.01, (50, 2, 4))
    now = before.copy()
    now[:, 1, column] += np.log(ratio)
    (change,) = changes_of(before, now, 0.01)
    assert (change.measure, change.role, change.text) == (COLUMNS[column], "y_hat", text)
    assert change.ratio == pytest.approx(ratio)


def test_of_noise_and_sharpness_one_explains_the_other():
    before = np.random.default_rng(0).normal(0, (0.1, 0.1, 0.3, 0.3), (50, 2, 4))

    def said(noise, sharpness):
        now = before + np.log([1, 1, noise, sharpness])
        return [change.measure for change in changes_of(before, now, 0.01) if change.role == "x"]

    assert said(0.1, 0.7) == ["sharpness"], "a blurred image has less noise"
    assert said(9, 1.4) == ["noise"]
    assert said(1.4, 9) == ["sharpness"]
    assert said(9, 0.7) == ["noise", "sharpness"]


def test_noise_is_neither_gain_nor_a_dull_scene():
    before = np.random.default_rng(0).normal(0, 0.1, (50, 2, 4))

    def said(*ratios):
        return [each.text for each in changes_of(before, before + np.log(ratios), 0.01) if each.role == "x"]

    assert said(3, 1, 3, 1) == ["brighter (3 times)"]
    assert said(1, 0.5, 1, 1) == ["less contrast (0.5 times)"]
    assert said(2, 1, 4, 1) == ["brighter (2 times)", "noisier (2 times)"]


def test_a_masker_of_an_earlier_version_says_nothing_of_it(masker, earlier, tmp_path):
    new = photographed(scenes(60, 3), CHANGES["both"][0])
    earlier.save(tmp_path / "earlier")
    loaded = cm.load(tmp_path / "earlier", scorer=earlier.scorer)
    found, known = monitor(loaded, new), monitor(masker, new)
    assert found.shifted
    assert found.changes is None
    assert "What changed" not in repr(found)
    assert replace(known, changes=None) == found, "alarms do not depend on descriptions"
    watched = cm.StreamMonitor(loaded).add(new)
    assert watched.changes is None
    assert watched.evidence == cm.StreamMonitor(masker).add(new).evidence
    masker.save(tmp_path / "masker")
    assert monitor(cm.load(tmp_path / "masker", scorer=masker.scorer), new).changes == known.changes


def test_the_state_of_a_stream_keeps_what_came_last(masker, tmp_path):
    path, watch = tmp_path / "state.json", cm.StreamMonitor(masker)
    watch.add(photographed(scenes(50, 3), CHANGES["both"][0]))
    watch.save(path)
    more = photographed(scenes(3, 11), CHANGES["both"][0])
    assert cm.StreamMonitor.load(masker, path).add(more) == watch.add(more)
    assert watch.latest[0] != watch.latest[1]
    assert len(watch.latest) == 32


def test_a_state_of_an_earlier_version_is_read(earlier, tmp_path):
    path, watch = tmp_path / "state.json", cm.StreamMonitor(earlier)
    watch.add(photographed(scenes(50, 3)))
    record = {"fingerprint": earlier.fingerprint, "level": 0.01, "stream": to_jsonable(watch.stream)}
    State().publish(path, record, {})
    more = photographed(scenes(20, 11))
    assert cm.StreamMonitor.load(earlier, path).add(more) == watch.add(more)
