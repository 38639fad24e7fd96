"""A promise about the clean image from one noisy repeat of each and a model of its noise."""

import json
import math
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tifffile
import torch

import conformask as cm
from conformask.cli import main
from conformask.errors import ImageError, InvalidArgumentError, MissingFileError
from conformask.extras.noise.repeats import noise_of
from conformask.masks.families import family
from conformask.records.reading import CLEAN
from conformask.scores.network_scorer import head
from conformask.scores.scoring import selection_record
from promised import simulated

SIDE, THRESHOLD, CONFIDENCE = 64, 8e-4, 0.9
MODEL = cm.NoiseModel(0.004, 0.05, 0.01)
SHUFFLED = torch.from_numpy(np.random.default_rng(5).permutation(SIDE**2).reshape(1, 1, SIDE, SIDE) + 1.0)
ANY = cm.Heuristic(lambda x, y_hat: SHUFFLED.expand(len(x), -1, -1, -1).float(), channels=1)
"""A score that hides pixels in one order, so that a mask of every image hides the same share."""


def clean(count, seed):
    """15 % of the images are a little beyond the threshold without a mask, the others well within it."""
    generator = np.random.default_rng(seed)
    y = generator.uniform(0.25, 0.65, (count, 1, 1)) + 0.1 * generator.random((count, SIDE, SIDE))
    losses = np.where(generator.random(count) < 0.15, 1.005, 0.5) * THRESHOLD
    y_hat = y + np.sqrt(losses)[:, None, None] * generator.choice([-1.0, 1.0], y.shape)
    arrays = {"x": taken(y, 5000 + seed), "y_hat": y_hat, "y": y}
    return {role: each.astype(np.float32) for role, each in arrays.items()}


def taken(y, seed):
    """An acquisition with the noise of MODEL: photons, an offset and read noise."""
    generator = np.random.default_rng(seed)
    photons = generator.poisson((y - MODEL.offset) / MODEL.gain) * MODEL.gain
    b = photons + MODEL.offset + MODEL.read * generator.standard_normal(y.shape)
    assert b.min() > 0
    assert b.max() < 1
    return b.astype(np.float32)


def repeated(count, seed, model=MODEL):
    arrays = clean(count, seed)
    b = taken(arrays.pop("y"), 1000 + seed)
    return cm.Triplets.from_arrays(**arrays, repeats=b, reading=cm.Reading(noise_model=model))


def masker_by(seed, model=MODEL):
    scorer, loss = with_selection(model), cm.CleanMean("l2", reach=1)
    return cm.calibrate(scorer, repeated(150, 3 * seed, model), threshold=THRESHOLD, loss=loss)


@cache
def with_selection(model):
    """The score with what the selection images say, measured once for all calibrations."""
    loss = cm.CleanMean("l2", reach=1)
    record = selection_record(ANY, repeated(20, 1, model), loss, [family(loss.traits.family)])
    return replace(ANY, selection=record)


def clean_coverage(masker, seed):
    """By the sentence alone: the mean of m^2 (y - y_hat)^2 is at most the threshold; and the hidden share."""
    new = cm.Triplets.from_arrays(**clean(100, seed))
    batches = list(new.batches(50))
    masks = torch.cat([masker.masks(each.x, each.y_hat) for each in batches])
    errors = torch.cat([(each.y - each.y_hat).square() for each in batches])
    losses = (masks.square() * errors).double().mean(dim=(1, 2, 3))
    return float((losses <= THRESHOLD).double().mean()), float(1 - masks.double().mean())


@cache
def deployed(model, seeds=6):
    """Mean clean coverage of masks calibrated by noisy images, its standard error, and the hidden share."""
    found = [clean_coverage(masker_by(seed, model), 3 * seed + 2) for seed in simulated(seeds)]
    covered, hidden = np.transpose(found)
    return float(covered.mean()), float(covered.std() / math.sqrt(seeds)), float(hidden.mean())


def test_the_noise_of_a_model_is_unbiased_also_where_it_is_negative():
    """Of a dark image, whose noise takes it below the offset; cut off at 0 it would be too large."""
    model, generator = cm.NoiseModel(0.01, 0.5, 0.01), np.random.default_rng(0)
    dark = 0.502 + 0.01 * generator.standard_normal((1, 400, 400))
    b = dark.clip(0, 1).astype(np.float32)
    (triplet,) = cm.Triplets.from_arrays(b, b, repeats=b, reading=cm.Reading(noise_model=model))
    error = 0.01 * 0.01 / 400
    assert noise_of(triplet).min() < 0
    assert abs(noise_of(triplet).mean() - model.variance(np.array(0.502))) < 4 * error
    assert abs(noise_of(triplet).clip(0).mean() - model.variance(np.array(0.502))) > 12 * error


@pytest.mark.thorough
def test_the_loss_is_that_of_the_clean_image_on_average():
    arrays = clean(1, 0)
    draws = np.concatenate([taken(arrays["y"], seed) for seed in range(3000)])
    triplets = cm.Triplets.from_arrays(
        draws[:, :8], np.broadcast_to(arrays["y_hat"], draws.shape)[:, :8], repeats=draws[:, :8],
        reading=cm.Reading(noise_model=MODEL),
    )  # fmt: skip
    products = np.stack([np.square(t.y - t.y_hat) - noise_of(t) for t in triplets])
    errors = np.square(arrays["y"] - arrays["y_hat"])[:, :8]
    deviation = products.std(axis=0) / math.sqrt(len(draws))
    assert np.abs((products.mean(axis=0) - errors) / deviation).max() < 5


@pytest.mark.thorough
def test_the_promise_holds_for_clean_images_that_calibration_never_saw():
    """Without the allowance it holds for 0.875 of them; without subtracting noise 0.77 is hidden."""
    covered, _, hidden = deployed(MODEL)
    assert covered >= CONFIDENCE - 0.002
    assert 0 < hidden < 0.4


@pytest.mark.thorough
def test_a_gain_that_is_wrong_by_a_tenth_breaks_it_or_hides_more():
    high, low = (cm.NoiseModel(share * MODEL.gain, MODEL.offset, MODEL.read) for share in (1.1, 0.9))
    right, too_high, too_low = map(deployed, (MODEL, high, low))
    assert too_high[0] < CONFIDENCE - 0.002 - 2 * too_high[1]
    assert too_low[0] >= right[0] - 2 * right[1]
    assert too_low[2] > right[2] + 0.05


def test_gradients_agree_with_the_clean_ones_on_average():
    """The error head, whose loss is linear in the squared error: mean gradient over draws of the noise."""
    arrays = clean(1, 0)
    y, y_hat = (torch.from_numpy(arrays[role])[None] for role in ("y", "y_hat"))
    fitted = head("error", cm.CleanMean("l2", reach=1))

    def gradient(y, noise):
        output = torch.full_like(y_hat, 0.05).requires_grad_()
        fitted.loss(output, y, y_hat, noise).sum().backward()
        return output.grad

    truly, draws = gradient(y, None), []
    for seed in range(400):
        b = taken(arrays["y"], seed)
        noise = MODEL.variance(b).astype(np.float32)
        draws.append(gradient(torch.from_numpy(b)[None], torch.from_numpy(noise)[None]))
    found = torch.stack(draws)
    deviation = found.std(dim=0) / math.sqrt(len(found))
    assert ((found.mean(dim=0) - truly) / deviation).abs().max() < 5
    biased = torch.stack(
        [gradient(torch.from_numpy(taken(arrays["y"], seed))[None], None) for seed in range(20)]
    )
    assert ((biased.mean(dim=0) - truly).mean() / truly.mean()).abs() > 0.5


@pytest.mark.leaf("train")
def test_a_score_is_trained_by_one_repeat(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        scorer = cm.fit_scorer(
            repeated(24, 0), selection=repeated(12, 1), out=tmp_path / "run", scorer="error",
            loss=cm.CleanMean("l2", reach=1), training=cm.TrainingConfig(epochs=1),
        )  # fmt: skip
    assert scorer.card.reading.noise_model == MODEL
    with pytest.raises(InvalidArgumentError, match="noise of one repeat cannot be subtracted"):
        cm.fit_scorer(
            repeated(24, 0, None), selection=repeated(12, 1, None), out=tmp_path / "other", scorer="error",
            loss=cm.CleanMean("l2", reach=1),
        )  # fmt: skip


# what is refused, with what is not


def test_one_repeat_alone_promises_means_and_nothing_else():
    images, selection = repeated(60, 0, None), repeated(20, 1, None)
    masker = cm.calibrate(
        ANY, images, threshold=0.04, loss="l1", promise=cm.Promise("expected"), selection=selection
    )
    assert masker.formula.endswith("(expected, from one noisy repeat)")
    assert "on average at least that to the clean image" in masker._repr_html_()
    new = cm.Triplets.from_arrays(**clean(100, 2))
    assert np.mean([np.mean(masker(t) * np.abs(t.y - t.y_hat)) for t in new]) <= 0.04
    for loss in (cm.CleanMean("l2", reach=1), "l1", cm.MeanShown("l2")):
        with pytest.raises(InvalidArgumentError, match=r"second repeat.*noise.model.*expected or rcps"):
            cm.calibrate(ANY, images, threshold=0.04, loss=loss, selection=selection)
    with pytest.raises(InvalidArgumentError, match="one noisy repeat in the place of a truth"):
        cm.calibrate(
            ANY, images, threshold=0.04, loss=cm.MissRate("l1", 0.1), promise="expected", selection=selection
        )


def test_by_a_model_nothing_is_exact():
    with pytest.raises(InvalidArgumentError, match=r"assumed, not measured.*take allowance clt"):
        cm.calibrate(
            ANY, repeated(60, 0), threshold=THRESHOLD, loss=cm.CleanMean("l2", "exact", reach=1),
            selection=repeated(20, 1),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: cm.NoiseModel(-0.1, 0, 0), "at least 0"),
        (lambda: cm.NoiseModel(0.1, math.nan, 0), "finite"),
        (lambda: cm.Reference(2, MODEL), "is for one repeat, not for 2"),
    ],
)
def test_values_that_mean_nothing_are_refused(make, words):
    with pytest.raises(InvalidArgumentError, match=words):
        make()


def test_a_test_by_references_without_a_theorem_is_refused():
    arrays = clean(60, 0)
    masker = cm.calibrate(ANY, cm.Triplets.from_arrays(**arrays), threshold=0.04, loss="l1")
    with pytest.raises(InvalidArgumentError, match="one noisy repeat in the place of a truth"):
        cm.evaluate(masker, repeated(30, 3, None))


def test_clean_and_noisy_references_are_not_mixed():
    noisy, sure = repeated(30, 0), cm.Triplets.from_arrays(**clean(30, 1), names=[f"c{n}" for n in range(30)])
    mixed = cm.Triplets([*noisy._rows, *sure._rows], noisy.reading)
    with pytest.raises(
        InvalidArgumentError, match=r"y of '00000' is one noisy .* but that of 'c0' is the clean"
    ):
        cm.calibrate(
            ANY, mixed, threshold=THRESHOLD, loss=cm.CleanMean("l2", reach=1), selection=repeated(20, 3)
        )


# what is said


@pytest.mark.leaf("view")
def test_sentence_card_json_and_evaluation_say_by_what(tmp_path):
    masker = masker_by(0)
    by = "from one noisy repeat and a noise model of gain 0.004, offset 0.05, read noise 0.01"
    assert masker.formula.endswith(f"(marginal, {by})")
    masker.save(tmp_path)
    card = (tmp_path / "CARD.md").read_text()
    assert "y = b and v = 0.004 (b − 0.05) + 0.01^2, b the repeat" in card
    assert "The noise model is assumed, not measured" in card
    record = json.loads((tmp_path / "calibration.json").read_text())
    assert record["repeats"] == 1
    assert record["noise_model"] == {"gain": 0.004, "offset": 0.05, "read": 0.01}
    again = cm.load(tmp_path, scorer=ANY)
    assert again.card.reference == cm.Reference(1, MODEL)
    assert again.fingerprint == masker.fingerprint

    test = repeated(30, 5)
    evaluation = cm.evaluate(again, test, out=tmp_path)
    read = cm.Evaluation.load(tmp_path)
    assert read.reference == cm.Reference(1, MODEL)
    floor = np.mean([MODEL.variance(triplet.y).mean() for triplet in test])
    assert read.noise_floor == evaluation.noise_floor == pytest.approx(floor, rel=1e-5)
    page = cm.write_report(evaluation, tmp_path / "report.html").read_text()
    assert "Error to the noisy reference |y − ŷ|" in page
    assert "Noisy reference y" in page
    assert "Noise floor" in page
    assert "Truth y" not in page
    sure = cm.evaluate(again, cm.Triplets.from_arrays(**clean(30, 6)))
    assert (sure.reference, sure.noise_floor) == (CLEAN, None)


def test_two_repeats_are_said_to_be_two():
    arrays = clean(30, 0)
    y = arrays.pop("y")
    images = cm.Triplets.from_arrays(**arrays, y=taken(y, 1), repeats=taken(y, 2))
    assert images.reference == cm.Reference(2)
    assert "with y, two noisy repeats" in repr(images)
    masker = cm.calibrate(
        ANY, images, threshold=THRESHOLD, loss=cm.CleanMean("l2", reach=1), selection=repeated(20, 1)
    )
    assert masker.formula.endswith("(marginal, from two noisy repeats)")
    assert "The noise of one repeat must be independent of that of the other" in masker._repr_html_()


@pytest.mark.thorough
@pytest.mark.leaf("view")
def test_a_strip_says_that_its_reference_is_noisy_and_measures_as_evaluate_does():
    masker, test = masker_by(0), repeated(3, 7)
    losses = cm.evaluate(masker, test).images.loss
    for triplet, loss in zip(test, losses, strict=True):
        (row,) = cm.show(masker, triplet).rows
        assert "Noisy reference y" in row.pictures
        assert f"masked {loss:.4g} of" in row.facts[1]


# where it comes from


def written(folder, count, names="cell{}_1"):
    arrays = clean(count, 0)
    b = taken(arrays["y"], 1)
    for role, images, name in (
        ("x", arrays["x"], "cell{}"),
        ("y_hat", arrays["y_hat"], "cell{}"),
        ("repeats", b, names),
    ):
        (folder / role).mkdir(parents=True, exist_ok=True)
        for at, image in enumerate(images):
            tifffile.imwrite(folder / role / f"{name.format(at)}.tif", image)
    return folder


@pytest.mark.thorough
def test_a_folder_with_one_repeat_of_each(tmp_path, capsys):
    data, run = written(tmp_path / "data", 90), tmp_path / "run"
    assert cm.Triplets.from_folder(data).reference == cm.Reference(1)
    option = f"--noise-model={MODEL.option}"
    main(["check", str(data)])
    assert "only with --noise-model or a second repeat" in " ".join(capsys.readouterr().out.split())
    main(["check", str(data), option, "--json"])
    assert json.loads(capsys.readouterr().out)["reference"] == {"repeats": 1, "model": vars(MODEL)}
    calibrate = "calibrate", str(data), "--scorer", "spread", "--loss", "l2", "--over", "clean"
    with pytest.raises(SystemExit):
        main([*calibrate, "--threshold", str(THRESHOLD), "--out", str(run), option])
    assert "give reach= (--reach)" in " ".join(capsys.readouterr().err.split())
    calibrate = *calibrate, "--reach", "1"
    main([*calibrate, "--threshold", str(THRESHOLD), "--out", str(run), option, "--json"])
    assert json.loads(capsys.readouterr().out)["noise_model"]["gain"] == MODEL.gain
    new = written(tmp_path / "new", 20)
    main(["mask", str(run), str(new), str(tmp_path / "masks")])  # the run keeps the model
    assert "of 20 images kept it" in capsys.readouterr().out


def test_a_bad_noise_model_on_the_command_line(tmp_path, conformask):
    assert "is not GAIN,OFFSET,READ" in conformask("check", tmp_path, "--noise-model", "0.01,0").err


def test_check_prints_the_model_as_the_option_takes_it(tmp_path, capsys):
    data = written(tmp_path, 12)
    for at, image in enumerate(taken(clean(12, 0)["y"], 2)):
        tifffile.imwrite(data / "repeats" / f"cell{at}_2.tif", image)
    main(["check", str(data)])
    text = "".join(capsys.readouterr().out.split())
    option = text.split("--noise-model")[1].split("forone")[0]
    found = cm.NoiseModel(*map(float, option.split(",")))
    assert found.variance(np.array(0.5)) == pytest.approx(MODEL.variance(np.array(0.5)), rel=0.05)


@pytest.mark.parametrize(("axes", "told"), [("TYX", "4 time points"), ("CYX", "no time points")])
def test_time_points_or_channels_of_a_file_are_two_repeats(tmp_path, axes, told):
    data = written(tmp_path, 3)
    for path in (data / "repeats").iterdir():
        path.unlink()
    y = clean(3, 0)["y"]
    pairs = [np.stack([taken(image, at), taken(image, at + 10)]) for at, image in enumerate(y)]
    for at, pair in enumerate(pairs):
        tifffile.imwrite(data / "repeats" / f"cell{at}.ome.tif", pair, metadata={"axes": axes})
    images = cm.Triplets.from_folder(data)
    assert images.reference == cm.Reference(2)
    for triplet, (b, c) in zip(images, pairs, strict=True):
        np.testing.assert_allclose(triplet.y[0], (b + c) / 2, atol=1e-6)
        np.testing.assert_allclose(noise_of(triplet)[0], np.square(b - c) / 4, atol=1e-6)
    tifffile.imwrite(
        data / "repeats" / "cell1.ome.tif", np.concatenate([pairs[1], pairs[1]]), metadata={"axes": axes}
    )
    with pytest.raises(ImageError, match=f"has {told}, and not twice the channels of y_hat: give a file"):
        cm.Triplets.from_folder(data)


def test_one_repeat_of_some_and_two_of_others_are_refused(tmp_path):
    data = written(tmp_path, 3)
    (data / "repeats" / "cell1_1.tif").rename(data / "repeats" / "cell1_2.tif")
    with pytest.raises(MissingFileError, match="cell0_2, cell1_1, cell2_2"):
        cm.Triplets.from_folder(data)


def test_a_manifest_and_a_dataset_with_one_repeat(tmp_path):
    data = written(tmp_path, 3)
    lines = [f"x/cell{at}.tif,y_hat/cell{at}.tif,repeats/cell{at}_1.tif" for at in range(3)]
    (data / "manifest.csv").write_text("\n".join(["x,y_hat,repeat", *lines]))
    by_manifest = cm.Triplets.from_folder(data, reading=cm.Reading(noise_model=MODEL))
    b = [tifffile.imread(data / "repeats" / f"cell{at}_1.tif")[None] for at in range(3)]
    x, y_hat = (
        [tifffile.imread(path)[None] for path in sorted((data / role).iterdir())] for role in ("x", "y_hat")
    )
    named = [{"x": x[at], "y_hat": y_hat[at], "repeat": b[at]} for at in range(3)]
    placed = list(zip(x, y_hat, b, b[::-1], strict=True))
    reading = cm.Reading(noise_model=MODEL)
    by_names = cm.Triplets.from_dataset(named, reading=reading)
    by_places = cm.Triplets.from_dataset(placed, keys={"x": 0, "y_hat": 1, "repeat": 2}, reading=reading)
    two = cm.Triplets.from_dataset(placed, keys={"x": 0, "y_hat": 1, "y": 2, "repeat": 3})
    for images in (by_manifest, by_names, by_places):
        assert images.reference == cm.Reference(1, MODEL)
        np.testing.assert_allclose(images[2].y, b[2], atol=1e-6)
        np.testing.assert_allclose(noise_of(images[2]), MODEL.variance(b[2]), atol=1e-6)
    assert two.reference == cm.Reference(2)
    np.testing.assert_allclose(two[0].y, (b[0] + b[2]) / 2, atol=1e-6)
    with pytest.raises(InvalidArgumentError, match="name the keys of x"):
        cm.Triplets.from_dataset(placed, keys={"x": 0, "y_hat": 1, "why": 2})
