"""Intervals of numbers: the promise by Monte Carlo on deployed ones, reference values, refusals, files."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from crepes import WrapRegressor

import conformask as cm
from conformask.cli import main
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.extras.measure import calibrate, interval
from conformask.extras.measure.calibrate import measure
from conformask.extras.measure.files import load_all, save
from conformask.extras.measure.interval import kept
from conformask.masker.remarks import remarks_on_images
from conformask.testing import small_masker, small_triplets

MASKER = small_masker()
SIDE = 16


def triplets(y_hat, y, **facts):
    """Images of one value each, so that their mean is that value."""
    flat = [np.full((SIDE, SIDE), value, np.float32) for value in y_hat]
    truths = [np.full((SIDE, SIDE), value, np.float32) for value in y]
    return cm.Triplets.from_arrays(flat, flat, truths, **facts)


def world(generator, n, ties=False, **facts):
    """Outputs that are biased, by more where they are bright; with ties, by one of three amounts."""
    y_hat = generator.uniform(0.2, 0.6, n)
    noise = generator.integers(0, 3, n) / 2 if ties else generator.exponential(size=n).clip(max=4)
    return triplets(y_hat, (y_hat * (1 + 0.1 * noise)).clip(0, 1), **facts)


def coverage(number, new):
    """By the sentence alone: the true number lies from the one to the other end."""
    truths = [float(each.truth().mean(dtype=np.float64)) for each in new]
    found = number.intervals(new)
    return float(np.mean([each.low <= y <= each.high for each, y in zip(found, truths, strict=True)]))


@pytest.mark.quick(1)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("n", "symmetric", "promise"),
    [(9, True, "marginal"), (19, False, "marginal"), (40, False, "marginal"), (60, True, "pac")],
)
def test_nine_of_ten_intervals_hold_the_true_number(n, symmetric, promise, ties):
    generator = np.random.default_rng(n)
    shares = []
    for _ in range(120):
        number = measure(MASKER, world(generator, n, ties), "mean", symmetric=symmetric, promise=promise)
        shares.append(coverage(number, world(generator, 30, ties)))
    error = np.std(shares) / np.sqrt(len(shares))
    if promise == "pac":
        assert np.mean(np.array(shares) >= 0.9 - 0.1) >= 0.95, "nearly all calibration sets, and 30 images"
    assert np.mean(shares) >= 0.9 - 3 * error
    assert ties or np.mean(shares) <= 0.9 + 2 / (n + 1) + 3 * error + 0.1 * (promise == "pac")


def cells(generator, n, of, output, truth):
    """Outputs of `output` of 225 pixels, each a cell; the truth has as many or, as often, `truth`."""
    y_hat, y = np.zeros((2, n, 225), np.uint16)
    for image in range(n):
        y_hat[image, generator.permutation(225)[:output]] = 1 + np.arange(output)
        size = generator.choice([output, truth])
        y[image, generator.permutation(225)[:size]] = 1 + np.arange(size)
    y_hat, y = y_hat.reshape(n, 15, 15), y.reshape(n, 15, 15)
    if of == "mean":
        return cm.Triplets.from_arrays(*(np.float32(each > 0) for each in (y, y_hat, y)))
    x = generator.random((n, 15, 15)).astype(np.float32)
    return cm.Triplets.from_arrays(x, x**2, x**3, labels=list(y_hat), y_labels=list(y))


@pytest.mark.quick(1)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    ("of", "ends", "output", "truth"),
    [
        ("area", "relative", 22, 7),
        ("count", "relative", 11, 60),
        ("count", "absolute", 22, 7),
        ("mean", "absolute", 12, 1),
        ("mean", "absolute", 13, 42),
    ],
)
def test_nine_of_ten_intervals_hold_whole_numbers(of, ends, output, truth, symmetric):
    """In numbers, half of the truths lie exactly at an end, where floats may round them out of it."""
    generator, shares = np.random.default_rng(0), []
    for _ in range(5):
        calibration = cells(generator, 25, of, output, truth)
        number = measure(MASKER.scorer, calibration, of, ends=ends, symmetric=symmetric)
        found = number.intervals(cells(generator, 40, of, output, truth))
        shares.append(np.mean([each.low <= each.truth <= each.high for each in found]))
    assert np.mean(shares) >= 0.9


@pytest.mark.parametrize("unit", [1, 225])
@pytest.mark.parametrize("relative", [True, False])
def test_ends_at_the_residuals_of_whole_numbers_hold_these_and_hardly_more(relative, unit):
    outputs, truths = (each.ravel() / unit for each in np.mgrid[1:226, :226])
    measured = interval.Measured(outputs, truths, np.ones(len(outputs)), ())
    widths = interval.widths_of(measured, relative=relative, exponent=0)
    for sign in (1, -1):
        residuals = calibrate._residuals(measured, widths, sign)
        ends = sign * outputs + interval.offsets(widths, residuals)
        assert (ends >= sign * truths).all()
        np.testing.assert_allclose(ends, sign * truths, rtol=0, atol=1e-12)


@pytest.mark.thorough
def test_an_end_that_is_one_image_too_near_breaks_the_promise(monkeypatch):
    limits = interval.Side.limits

    def too_near(side, facts):
        shifted = interval.Side(side.rule, (*side.residuals[2:], side.residuals[-1], side.residuals[-1]))
        return limits(shifted, facts)

    monkeypatch.setattr(interval.Side, "limits", too_near)
    generator = np.random.default_rng(0)
    shares = [
        coverage(measure(MASKER, world(generator, 19), "mean"), world(generator, 30)) for _ in range(100)
    ]
    assert np.mean(shares) < 0.85


@pytest.mark.thorough
def test_each_category_has_its_own_interval():
    generator = np.random.default_rng(3)
    category = ["a", "b"] * 30
    scale = np.array([0.01, 0.3] * 30)
    shares = []
    for _ in range(60):
        y_hat = generator.uniform(0.2, 0.5, 120)
        y = y_hat * (1 + np.tile(scale, 2) * generator.random(120))
        calibration = triplets(y_hat[:60], y[:60], categories=category)
        number = measure(MASKER, calibration, "mean", promise=cm.Promise(per_category=True), symmetric=True)
        shares.append(coverage(number, triplets(y_hat[60:], y[60:], categories=category)))
        narrow, wide = number.intervals(triplets(y_hat[60:62], y[60:62], categories=["a", "b"]))
        assert (wide.high - wide.low) > 3 * (narrow.high - narrow.low)
    assert np.mean(shares) >= 0.9
    assert "For each category by itself" in number.sentence
    assert "interval that is given for it" in number.sentence


IN_EACH = 10
"""Images of a patient."""


def patients(generator, k):
    """Patients with 4 images that are too dark, 4 that are too bright, and 2 that are right, each nearly."""
    size = np.repeat(generator.exponential(size=k).clip(max=3), IN_EACH)
    effect = size * np.tile([-1] * 4 + [0] * 2 + [1] * 4, k) + 0.1 * generator.normal(size=IN_EACH * k)
    y_hat = generator.uniform(0.4, 0.5, IN_EACH * k)
    groups = generator.integers(10**9, size=k)
    return triplets(y_hat, y_hat + 0.1 * effect, groups=np.repeat(groups, IN_EACH))


def of_patients(share=None):
    return cm.Promise(unit="group", group_name="patient", share=share)


def patients_kept(share, n=25):
    """The share of new patients of whose images at least `share` have their true mean in the interval."""
    generator = np.random.default_rng(4)
    shares = []
    for _ in range(n):
        number = measure(MASKER, patients(generator, 19), "mean", promise=of_patients(share))
        new = patients(generator, 10)
        truths = np.array([float(each.truth().mean(dtype=np.float64)) for each in new])
        found = number.intervals(new)
        within = [each.low <= y <= each.high for each, y in zip(found, truths, strict=True)]
        shares.append(np.mean(np.reshape(within, (10, IN_EACH)).mean(axis=1) >= share))
    return np.mean(shares), np.std(shares) / np.sqrt(n)


@pytest.mark.thorough
@pytest.mark.parametrize("share", [0.6, 1.0])
def test_nine_of_ten_patients_have_as_many_true_intervals_as_promised(share):
    mean, error = patients_kept(share)
    assert mean >= 0.9 - 3 * error


@pytest.mark.thorough
def test_ends_that_each_leave_out_all_that_both_may_break_the_promise(monkeypatch):
    half = calibrate._half
    monkeypatch.setattr(calibrate, "_half", lambda promise: replace(half(promise), share=promise.share))
    mean, error = patients_kept(0.6)
    assert mean < 0.9 - 3 * error


def test_what_is_measured_is_counted_as_it_is_promised():
    generator = np.random.default_rng(4)
    calibration, new = patients(generator, 19), patients(generator, 60)
    with pytest.raises(CalibrationError, match="dependent"):
        measure(MASKER, calibration, "mean")
    number = measure(MASKER, calibration, "mean", promise=of_patients())
    assert number.sentence.startswith("For at least 9 of 10 new patients, in every image, the true mean")
    found = number.intervals(new)
    in_all = np.reshape([each.within for each in found], (60, IN_EACH)).all(axis=1).sum()
    assert 40 < in_all < 60
    assert kept(number, found, new).startswith(f"Measured: {in_all} of 60 patients kept it in every image (")
    of_images = measure(MASKER, calibration, "mean", promise="groups")
    found = of_images.intervals(new)
    text = kept(of_images, found, new)
    assert " % of 600 images kept it, each group counting alike (" in text
    both = cm.Triplets(calibration._rows + new._rows)
    in_one = of_images.intervals(both)
    assert sum(each.used for each in in_one) == len(calibration)
    assert kept(of_images, in_one, both) == text, "patients of the calibration are left out"
    assert kept(of_images, of_images.intervals(calibration), calibration) is None


def test_of_a_promise_for_each_category_the_worst_is_named():
    generator = np.random.default_rng(5)
    category = ["a", "b"] * 30
    number = measure(
        MASKER, world(generator, 60, categories=category), "mean",
        promise=cm.Promise(per_category=True), symmetric=True,
    )  # fmt: skip
    y_hat = np.full(60, 0.4)
    y = 0.4 * (1 + np.where(np.arange(60) % 4 == 1, 0.9, 0.05))  # every second image of b is far off
    new = triplets(y_hat, y, categories=category)
    text = kept(number, number.intervals(new), new)
    assert text.startswith("Measured: 45 of 60 images kept it (")
    assert "; in the worst category, b, 50 % of 30 (95 % interval " in text


def test_ends_are_those_of_crepes():
    generator = np.random.default_rng(5)
    images = world(generator, 95)  # where no product of crepes is rounded: 0.1 * 96
    y_hat, y = (np.array([float(getattr(each, role).mean()) for each in images]) for role in ("y_hat", "y"))

    class AsIs:
        def fit(self, *_):
            return self

        def predict(self, values):
            return values[:, 0]

    wrapped = WrapRegressor(AsIs())
    wrapped.fit(y_hat[:, None], y)
    wrapped.calibrate(y_hat[:, None], y)
    low, high = wrapped.predict_int(np.array([[0.5]]), confidence=0.9)[0]
    number = measure(MASKER, images, "mean", symmetric=True)
    found = number.intervals(triplets([0.5], [0.5]))[0]
    np.testing.assert_allclose((found.low, found.high), (low, high), atol=1e-6)


def test_uncertain_images_have_wider_intervals_where_that_pays():
    generator = np.random.default_rng(6)

    def noisy(n):
        """The score of the masker is |x - y_hat|, which is here the error of the mean."""
        spread = generator.choice([0.005, 0.1], n)
        y_hat = generator.uniform(0.3, 0.5, n)
        x = [np.full((SIDE, SIDE), value, np.float32) for value in y_hat + spread]
        flat = [np.full((SIDE, SIDE), value, np.float32) for value in y_hat]
        y = y_hat + spread * generator.uniform(-1, 1, n)
        return cm.Triplets.from_arrays(x, flat, [np.full((SIDE, SIDE), value, np.float32) for value in y])

    number = measure(MASKER, noisy(60), "mean", selection=noisy(40))
    assert number.exponent > 0
    assert "the true mean lies in the interval that is given for it" in number.sentence
    assert "(mean score)" in number.formula
    plain = measure(MASKER, noisy(60), "mean")
    new = noisy(400)
    by_score, of_all = (
        np.mean([each.high - each.low for each in each_number.intervals(new)])
        for each_number in (number, plain)
    )
    assert by_score < 0.7 * of_all
    assert coverage(number, new) > 0.85


def test_a_sentence_and_its_formula():
    y_hat = np.full(39, 0.4)
    number = measure(MASKER, triplets(y_hat, 0.4 * (1 + np.linspace(-0.05, 0.1, 39))), "sum")
    assert number.sentence == (
        "In at least 9 of 10 new images, the true sum lies between 4.61 % below and 9.61 % above that of the "
        "output."
    )
    assert number.formula == (
        "P(-0.0461 <= (sum(y) - sum(y_hat)) / |sum(y_hat)| <= 0.0961) >= 0.90 for new images like the 39 "
        "calibration images (marginal)"
    )
    inside, outside = number.intervals(triplets([0.4, 0.4], [0.4 * 1.096, 0.4 * 1.0965]))
    assert (inside.within, outside.within) == (True, False)


def test_a_formula_about_patients_says_what_its_sentence_says():
    world = patients(np.random.default_rng(1), 21)
    number = measure(MASKER, world, "mean", promise=of_patients())
    low, high = number.ends
    assert number.sentence.startswith("For at least 9 of 10 new patients, in every image, the true mean lies")
    assert number.formula == (
        f"P({low:.4g} <= mean(y) - mean(y_hat) <= {high:.4g} on every image of a new patient) >= 0.90 "
        f"for new patients like the 21 calibration patients of {len(world)} images (marginal)"
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_an_output_without_errors_has_the_true_number(symmetric):
    number = measure(MASKER, triplets(np.full(39, 0.4), np.full(39, 0.4)), "sum", symmetric=symmetric)
    assert number.sentence == "In at least 9 of 10 new images, the true sum equals that of the output."
    assert number.formula.startswith("P(0 <= (sum(y) - sum(y_hat)) / |sum(y_hat)| <= 0) >= 0.90 for ")


def labelled(n=25, seed=0):
    """Squares, and how many pixels of them the output has."""
    generator = np.random.default_rng(seed)
    y = generator.random((n, SIDE, SIDE), np.float32)
    labels, y_labels = (np.zeros((n, SIDE, SIDE), np.uint16) for _ in range(2))
    for index in range(n):
        labels[index, 2:8, 2 : 8 + generator.integers(0, 3)] = 1
        y_labels[index, 2:8, 2:9] = 1
        labels[index, 10:12, 10:12] = y_labels[index, 10:12, 10:12] = 2
    return cm.Triplets.from_arrays(y, y, y, labels=labels, y_labels=y_labels)


def test_numbers_of_labels():
    images = labelled()
    for of, label, truth in (("area", None, 46), ("area", 1, 42), ("area", 2, 4), ("count", None, 2)):
        found = measure(MASKER, images, of, label=label).intervals(images.select([0]))[0]
        assert found.truth == truth
    means = measure(MASKER, images, "mean", label=2).intervals(images.select([0]))[0]
    assert means.value == pytest.approx(float(images[0].y_hat[0, 10:12, 10:12].mean()), abs=1e-6)
    assert means.used, "it is one of the calibration images"

    def brightest(image, labels):
        return image[0][labels == 1].max()

    own = measure(MASKER, images, brightest)
    assert own.quantity.name == "brightest"
    assert own.intervals(labelled(3, seed=1))[0].within


def test_images_are_scored_only_where_the_width_follows_the_score(monkeypatch):
    def scored(scorer, batch):
        raise AssertionError("scored")

    monkeypatch.setattr(interval, "score_of_batch", scored)
    images = small_triplets(40, seed=1)
    measure(MASKER, images, "mean").intervals(small_triplets(2, seed=2))
    with pytest.raises(AssertionError, match="scored"):
        measure(MASKER, images, "mean", selection=small_triplets(20, seed=3))


def test_what_cannot_be_measured_is_refused():
    images = small_triplets(40, seed=1)
    flat = triplets([0.3] * 30, [0.3] * 30)
    for arguments, error, message in (
        ({"of": "weight"}, InvalidArgumentError, "no number is called 'weight': give volume, area"),
        ({"of": "volume"}, InvalidArgumentError, "have 2 axes: measure their area"),
        ({"of": "area"}, InvalidArgumentError, "some images have no labels"),
        ({"of": "mean", "promise": "expected"}, InvalidArgumentError, "takes the guarantees marginal, pac"),
        ({"of": lambda image, labels: np.nan}, cm.ConformaskError, "must be a finite number"),
    ):
        with pytest.raises(error, match=message):
            measure(MASKER, images, **arguments)
    with pytest.raises(CalibrationError, match=r"symmetric ones \(--symmetric\) need about half as many"):
        measure(MASKER, images.select(range(18)), "mean")
    with pytest.raises(CalibrationError, match="at least 9 calibration images"):
        measure(MASKER, images.select(range(8)), "mean", symmetric=True)
    assert measure(MASKER, flat, "mean").intervals(flat)[0].within, "no error at all"
    without = cm.Triplets.from_arrays(*([each.x[0] for each in images] for _ in range(2)))
    with pytest.raises(InvalidArgumentError, match="with y, and some have none"):
        measure(MASKER, without, "mean")


def test_outputs_of_nothing():
    """A relative interval around 0 is 0; where the truth is not 0, the image counts as failing."""
    y = np.r_[np.zeros(5), np.full(1, 0.2), np.linspace(0.2, 0.4, 60)]
    y_hat = np.r_[np.zeros(6), np.linspace(0.2, 0.4, 60)]
    number = measure(MASKER, triplets(y_hat, y), "sum", symmetric=True)
    zero, wrong = number.intervals(triplets([0, 0], [0, 0.3]))
    assert (zero.low, zero.high, zero.within, wrong.within) == (0, 0, True, False)


def test_a_number_is_kept_with_its_run(tmp_path):
    masker = MASKER.save(tmp_path / "run")
    images, new = small_triplets(40, seed=1), small_triplets(5, seed=2)
    number = save(measure(masker, images, "mean"), tmp_path / "run")
    (loaded,) = load_all(tmp_path / "run", scorer=masker.scorer)
    assert loaded.intervals(new) == number.intervals(new)
    assert (loaded.sentence, loaded.formula) == (number.sentence, number.formula)
    assert not save(number, tmp_path / "run").exploratory, "the same settings give the same number"
    again = save(measure(masker, images, "mean", symmetric=True), tmp_path / "run")
    assert again.sentence.startswith("If this had been fixed beforehand: in at least 9 of 10 new images")
    assert not save(measure(masker, small_triplets(40, seed=3), "mean"), tmp_path / "run").exploratory
    masker.recalibrate(threshold=0.2).save(tmp_path / "run")
    assert load_all(tmp_path / "run", scorer=masker.scorer), "masks of another promise leave it as it is"
    with pytest.raises(MismatchError, match="a number with another score"):
        load_all(tmp_path / "run", scorer=cm.Heuristic(cm.gradient, channels=1))
    (tmp_path / "run" / "numbers" / "mean.json").unlink()
    with pytest.raises(MissingFileError, match="no number is calibrated"):
        load_all(tmp_path / "run", scorer=masker.scorer)


def with_confidence(record):
    record["promise"]["confidence"] = 0.99


def with_narrow_intervals(record):
    for side in record["sides"]:
        side["residuals"] = [residual / 10 for residual in side["residuals"]]


def with_another_sentence(record):
    record["sentence"] = "In all images, the true mean equals that of the output."


def without_seal(record):
    for name in ("files", "replaced", "seal"):
        del record[name]


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("change", [with_confidence, with_narrow_intervals, with_another_sentence])
def test_a_number_that_was_changed_by_hand_is_refused(change, folders, capsys):
    main(["measure", "data", "--of", "mean", "--out", "run"])
    edit(Path("run/numbers/mean.json"), change)
    for arguments in (["measure", "run", "new"], ["info", "run"]):
        assert "mean.json is damaged, or is not the file that was written" in refused(arguments, capsys)
    main(["measure", "run", "data", "--of", "mean"])
    main(["measure", "run", "new"])


def test_a_number_without_a_seal_is_of_an_early_version_and_is_read(folders, capsys):
    main(["measure", "data", "--of", "mean", "--out", "run"])
    (sealed,) = load_all(Path("run"))
    edit(Path("run/numbers/mean.json"), without_seal)
    with pytest.warns(cm.ConformaskWarning, match=r"mean.json was written without a seal, by an early"):
        (number,) = load_all(Path("run"))
    assert (number.sides, number.formula) == (sealed.sides, sealed.formula)
    capsys.readouterr()
    main(["info", "run"])
    assert number.sentence in capsys.readouterr().out


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A folder data with y and a folder new without, which lie in the folder of this process."""
    monkeypatch.chdir(tmp_path)
    for folder, part in (("data", small_triplets(60, seed=1)), ("new", small_triplets(4, seed=2))):
        for index, triplet in enumerate(part):
            for role in ("x", "y_hat", "y"):
                if folder == "data" or role != "y":
                    (tmp_path / folder / role).mkdir(parents=True, exist_ok=True)
                    np.save(tmp_path / folder / role / f"{index}.npy", getattr(triplet, role)[0])


def test_the_verb(folders, capsys):
    main(["calibrate", "data", "--scorer", "residual", "--threshold", "0.05", "--out", "run"])
    main(["measure", "run", "data", "--of", "mean"])
    assert "the true mean lies between" in capsys.readouterr().out
    main(["measure", "run", "new", "--out", "numbers.csv"])
    printed = capsys.readouterr().out
    assert "Written: numbers.csv" in printed
    header, *rows = Path("numbers.csv").read_text().splitlines()
    assert header == "name,mean,mean_low,mean_high"
    assert len(rows) == 4
    for row in rows:
        name, _, low, high = row.split(",")
        shown = next(line for line in printed.splitlines() if line.startswith(f"{name} "))
        *_, least, most = map(float, shown.split())
        assert least <= float(low) < float(high) <= most, "rounded outwards"
    main(["measure", "run", "new", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert [each["number"] for each in record["numbers"]] == ["mean"]
    assert len(record["intervals"]["mean"]) == 4
    with pytest.raises(SystemExit):
        main(["measure", "run", "new", "--symmetric"])


def test_a_number_needs_no_masks(folders, capsys):
    main(["measure", "data", "--of", "mean"])
    printed = capsys.readouterr().out
    assert printed.startswith("In at least 9 of 10 new images, the true mean ")
    assert "It was not kept: with --out RUN" in printed
    main(["measure", "data", "--of", "mean", "--out", "run"])
    assert "Next: conformask measure run NEW --out numbers.csv" in capsys.readouterr().out
    main(["measure", "run", "data", "--of", "sum", "--symmetric"])
    capsys.readouterr()
    main(["measure", "run", "new", "--out", "numbers.csv", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert [each["number"] for each in record["numbers"]] == ["mean", "sum"]
    assert Path("numbers.csv").read_text().startswith("name,mean,mean_low,mean_high,sum,sum_low,sum_high\n")
    in_python = measure(cm.packaged_scorer(), cm.Triplets.from_folder("data"), "mean")
    assert cm.load_scorer("run").fingerprint == in_python.scorer.fingerprint
    for arguments, message in (
        (["measure", "data"], "give RUN and DATA; or DATA alone with --of"),
        (["mask", "run", "new", "masks"], "run is not calibrated"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err
    main(["calibrate", "run", "data", "--threshold", "0.05"])
    main(["measure", "run", "new"])
    assert "the true mean" in capsys.readouterr().out, "its numbers stay where a run gets masks"


def test_a_new_run_is_no_place_of_another_score(folders, capsys):
    main(["calibrate", "data", "--scorer", "residual", "--threshold", "0.05", "--out", "run"])
    with pytest.raises(SystemExit):
        main(["measure", "data", "--of", "mean", "--out", "run"])
    assert "run contains another scorer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": "other"}, "is about outputs of ours, but these were made by other"),
        ({"channels": 3}, "takes y_hat with 1 channel, not 3"),
    ],
)
def test_a_number_is_about_images_like_those_of_its_calibration(changed, message):
    def images(n, seed, channels=1, network="ours"):
        y = np.random.default_rng(seed).random((n, SIDE, SIDE, channels), dtype=np.float32)
        return cm.Triplets.from_arrays(y**2, y**1.5, y, network=network)

    number = measure(cm.packaged_scorer(), images(30, seed=0), "mean")
    assert len(number.intervals(images(3, seed=1))) == 3
    with pytest.raises(MismatchError, match=message):
        number.intervals(images(3, seed=1, **changed))
    y = np.random.default_rng(2).random((3, 8, 8), dtype=np.float32)
    with pytest.warns(cm.ConformaskWarning, match="images of 8 x 8 pixels: the promise covers only"):
        number.intervals(cm.Triplets.from_arrays(y, y, y, network="ours"))


@pytest.fixture
def run(folders, capsys):
    """A run with masks and the numbers mean, and area of labels of data, of which new has none."""
    for role in ("y_hat", "y"):
        place = Path("data", "labels", role)
        place.mkdir(parents=True)
        for index in range(60):
            labels = np.zeros((SIDE, SIDE), np.uint8)
            labels[2 : 6 + index % 3, 2 : 6 + (role == "y")] = 1
            np.save(place / f"{index}.npy", labels)
    main(["calibrate", "data", "--scorer", "residual", "--threshold", "0.05", "--out", "run"])
    main(["measure", "run", "data", "--of", "mean"])
    main(["measure", "run", "data", "--of", "area", "--objects", "labels"])
    capsys.readouterr()
    return Path("run")


def test_each_image_that_is_shown_has_its_intervals_beside_its_mask(run):
    images = cm.Triplets.from_folder("data").select([7, 3])
    said = remarks_on_images(run, Path("data"))(images)
    assert list(said) == list(images.names)
    _, number = load_all(run)
    for name, found in zip(images.names, number.intervals(images), strict=True):
        (_, area), (title, mean) = said[name]
        numbers = re.fullmatch(
            r"(.+), true (.+) to (.+) in at least 9 of 10 new images; here it is (.+)", mean
        )
        value, low, high, truth = map(float, numbers.groups())
        assert title == "Mean"
        assert low <= found.low < found.high <= high, "rounded outwards"
        assert (value, truth) == pytest.approx((found.value, found.truth), abs=1e-3)
        true_area = 4 * (4 + int(name) % 3)
        assert area.startswith(f"{true_area} pixels, true ") or area.endswith(
            f"; here it is {true_area} pixels"
        )
    new = cm.Triplets.from_folder("new")
    area, mean = remarks_on_images(run, Path("new"))(new)[new.names[0]]
    assert area == ("Area", "not known: there are no labels")
    assert mean[1].endswith(" in at least 9 of 10 new images")


def test_remarks_say_where_nothing_is_promised(run):
    small = cm.Triplets.from_arrays(*([np.zeros((8, 8), np.float32) + 0.4] for _ in range(2)))
    ((title, text),) = remarks_on_images(run, Path("new"))(small)["00000"]
    assert (title, text.partition("; but ")[2][:24]) == ("Mean", "images of 8 x 8 pixels: ")
    colour = cm.Triplets.from_arrays(*([np.zeros((16, 16, 3), np.float32) + 0.4] for _ in range(2)))
    assert remarks_on_images(run, Path("new"))(colour) == {"00000": []}


def test_numbers_of_a_score_that_was_replaced_are_not_said(folders, capsys):
    masker = MASKER.save("other")
    save(measure(masker, small_triplets(40, seed=1), "mean"), Path("other"))
    main(["measure", "data", "--of", "mean", "--out", "run"])
    shutil.copy("other/numbers/mean.json", "run/numbers/mean.json")
    capsys.readouterr()
    main(["info", "run"])
    assert "true mean" not in capsys.readouterr().out
    with pytest.warns(cm.ConformaskWarning, match="a number with another score than that of its run"):
        says = remarks_on_images(Path("run"), Path("new"))
    assert set(map(len, says(cm.Triplets.from_folder("new")).values())) == {0}


def test_masks_in_a_run_of_a_number_of_labels_need_no_labels(run, capsys):
    main(["measure", "data", "--of", "area", "--objects", "labels", "--out", "alone"])
    main(["calibrate", "alone", "data", "--threshold", "0.05"])
    main(["mask", "alone", "new", "masks"])
    assert len(list(Path("masks", "masks").iterdir())) == 4
    assert "y_hat is not a folder" in refused(["measure", "alone", "new"], capsys)


def refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    return capsys.readouterr().err


def test_a_run_of_a_number_alone_says_what_it_promises(folders, capsys):
    main(["measure", "data", "--of", "mean", "--out", "run"])
    capsys.readouterr()
    for arguments in (["mask", "run", "new", "masks"], ["evaluate", "run", "data"], ["view", "run", "data"]):
        assert "It promises no masks, but this: In at least 9 of 10 new" in refused(arguments, capsys)
    main(["info", "run"])
    printed = capsys.readouterr().out
    assert printed.startswith("In at least 9 of 10 new images, the true mean lies ")
    assert "Nothing is promised" not in printed
    main(["info", "run", "--json"])
    assert json.loads(capsys.readouterr().out)["remarks"][0].startswith("In at least 9 of 10 new images")


@pytest.mark.leaf("view")
def test_report_and_viewer_show_the_interval_of_each_image(run):
    from conformask.extras.view.session import Session

    for role in ("x", "y_hat", "y"):
        Path("test", role).mkdir(parents=True)
        for index, triplet in enumerate(small_triplets(10, seed=5)):
            np.save(Path("test", role, f"t{index}.npy"), getattr(triplet, role)[0])
    main(["evaluate", "run", "test", "--report", "report.html"])
    report = Path("report.html").read_text()
    shown = report.count('<article class="row"')
    assert report.count("Mean <b>") == report.count("Area <b>not known: there are no labels</b>") == shown > 0
    images, says = cm.Triplets.from_folder("test"), remarks_on_images(run, Path("test"))
    session = Session(cm.load(run), images, remarks=says)
    assert session.remarks("t3") == says(images)["t3"]
    assert Session(cm.load(run), images).remarks("t3") == []
