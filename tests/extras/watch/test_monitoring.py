import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conformask.arrays import Images, Score
from conformask.cli import main
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
from conformask.extras.watch.monitor import SIZE, Monitoring, monitor
from conformask.images.read import write_image
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masker.calibrate import calibrate
from conformask.masker.looks import SCORES
from conformask.masker.masker import Masker
from conformask.masker.validation import shift_of
from conformask.masks.critical import features_of, loss_under
from conformask.masks.families import family
from conformask.promises import coverage_test as law
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import selection_record
from simulation import simulated
from stated import calibrated
from synthetic_triplets import arrays, scale_of, triplets

SCORER = Heuristic(scale_of, channels=1, family="water_filling")
KEPT = selection_record(SCORER, triplets(30, 1), loss("l1"), [family("binary")])
KNOWING = replace(SCORER, selection=KEPT)


def masker_of(calibration: Triplets, **more: object) -> Masker:
    return calibrated(KNOWING, calibration, threshold=0.03, level="one", **more)


def louder(count: int, seed: int, factor: float) -> Triplets:
    """Scores and errors are factor times as large."""
    x, y_hat, y = arrays(count, seed)
    return Triplets.from_arrays(factor * x, (y + factor * (y_hat - y)).clip(0, 1), y)


def test_one_place_of_each_group_is_compared_with_the_same_place_of_others() -> None:
    """Images of a group may differ, such as the base and the top of a brain."""

    def of_groups(count: int, seed: int) -> Triplets:
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
def test_images_like_those_of_the_calibration_are_rarely_called_shifted() -> None:
    level, runs = 0.1, 60
    alarms = [
        monitor(masker_of(triplets(25, 1000 + k)), triplets(20, 5000 + k), level=level).shifted
        for k in simulated(runs)
    ]
    assert np.mean(alarms) <= level + 3 * np.sqrt(level * (1 - level) / runs)


def test_medians_of_a_scores_own_features_are_those_of_the_features() -> None:
    """Those of conformask's own, which are logarithms, are shown as what they are the logarithms of."""

    class Counting(Heuristic):
        def __call__(self, x: Images, y_hat: Images) -> Score:
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
def test_lambdas_by_image_are_compared_with_those_of_the_calibration(guarantee: str) -> None:
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


def test_bounds_that_are_not_stored_are_asked_for() -> None:
    masker = masker_of(triplets(60, 0)).recalibrate(promise="expected")
    with pytest.raises(MismatchError, match=r"no bound, which this promise needs: calibrate the images"):
        monitor(masker, triplets(40, 1))


@pytest.mark.thorough
@pytest.mark.parametrize("guarantee", ["marginal", "categories", "groups", "expected"])
def test_failure_is_rarely_seen_where_there_is_none_and_seen_where_there_is(
    guarantee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def labelled(count: int, seed: int, guarantee: str, images: list[np.ndarray] | None = None) -> Triplets:
    """With the columns that the guarantee takes."""
    columns: dict[str, dict[str, object]] = {
        "categories": {"categories": ["stain A" if k % 3 else "stain B" for k in range(count)]},
        "groups": {"groups": [k // 3 for k in range(count)]},
    }
    return Triplets.from_arrays(*(images or arrays(count, seed)), **columns.get(guarantee, {}))


def test_a_shift_is_seen_without_truth() -> None:
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


def test_a_monitoring_says_what_it_found() -> None:
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


def test_coverage_is_that_of_the_masks() -> None:
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


def test_mask_sizes_are_compared_at_the_same_lambda() -> None:
    calibration = triplets(60, 0)
    seen = monitor(masker_of(calibration), calibration)
    assert [each.p_value for each in seen.comparisons] == [1.0] * 4, "the very images of the calibration"
    size = seen.comparisons[-1]
    assert size.measure == "mask size"
    assert size.new == pytest.approx(size.calibration, abs=1e-6)


def test_mask_sizes_are_compared_at_the_point_below_lambda() -> None:
    """Between grid points sizes are not known; those above would be of masks that nobody gets."""
    masker = masker_of(triplets(60, 0))
    below = masker.grid[masker.grid <= masker.rule.lam].max()
    assert below < masker.rule.lam
    new = next(triplets(40, 3).batches(40))
    mask = masker.family.apply(new.x, masker.family.level(new.x, torch.full((40,), below)))
    seen = monitor(masker, triplets(40, 3)).comparisons[-1]
    assert seen.new == pytest.approx(float((1 - mask).mean((1, 2, 3)).median()), abs=0.003)
    assert seen.new == pytest.approx(float(np.median((1 - mask).mean((1, 2, 3)))), abs=1e-6)


def test_of_each_group_one_image_is_compared() -> None:
    calibration = triplets(30, 0, groups=[k // 2 for k in range(30)])
    masker = masker_of(calibration, guarantee="groups")
    first = monitor(masker, calibration.select(range(0, 30, 2))).comparisons
    assert [each.p_value for each in first] == [1.0] * 4, "the very images that are compared"
    once = monitor(masker, triplets(10, 3))
    assert (once.n_calibration, once.n_new) == (15, 10)
    x, y_hat, y = (np.repeat(images, 6, axis=0) for images in arrays(10, 3))
    repeated = Triplets.from_arrays(x, y_hat, y, groups=[k // 6 for k in range(60)])
    assert monitor(masker, repeated).comparisons == once.comparisons


def test_what_cannot_be_monitored_is_refused() -> None:
    masker = masker_of(triplets(30, 0))
    for level in (0.0, 1.0, -1.0):
        with pytest.raises(InvalidArgumentError, match="level"):
            monitor(masker, triplets(5, 2), level=level)
    with pytest.raises(MismatchError, match="no curves are stored"):
        monitor(replace(masker, curves=None), triplets(5, 2))
    weighted = masker_of(triplets(30, 0, weights=[1.0] * 30), guarantee="weighted")
    with pytest.raises(InvalidArgumentError, match="weighted promise"):
        monitor(weighted, triplets(5, 2))


def written(folder: Path, collection: Triplets) -> Path:
    for triplet in collection:
        for role in ("x", "y_hat", "y"):
            write_image(folder / role / f"{triplet.name}.png", getattr(triplet, role), bits=16)
    return folder


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
