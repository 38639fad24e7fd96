"""Maps of a user's as scores: any range and direction, ties, other shapes, files, tiles, and the promise."""

import json
import shutil
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import conformask as cm
from conformask.cli import main
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.masker.write import write_masks
from conformask.scores.untrained import BY_VALUE

SIDE = 16
THRESHOLD = 0.03


def arrays(count, seed, side=SIDE):
    """Images whose error is up to what a map says at each pixel."""
    generator = np.random.default_rng(seed)
    y = generator.random((count, side, side), np.float32)
    spread = (generator.random((count, 1, 1)) * generator.random(y.shape)).astype(np.float32)
    y_hat = y + spread * generator.uniform(-0.5, 0.5, y.shape).astype(np.float32)
    x = y + 0.3 * generator.standard_normal(y.shape).astype(np.float32)
    return {"x": x.clip(0, 1), "y_hat": y_hat.clip(0, 1), "y": y, "cues": spread}


def triplets(count, seed, change=None, **more):
    columns = arrays(count, seed)
    if change is not None:
        columns["cues"] = change(columns["cues"]).astype(np.float32)
    return cm.Triplets.from_arrays(**columns, **more)


def calibrated(images, higher="distrusted", **more):
    return cm.calibrate(cm.Given(higher), images, threshold=THRESHOLD, loss="l1", **more)


CHANGES = {
    "any range": (lambda spread: 1000 * spread - 200, "distrusted"),
    "a logarithm": (lambda spread: np.log(spread + 1e-6), "distrusted"),
    "a confidence": (lambda spread: 1 - spread, "trusted"),
    "a confidence above 1": (lambda spread: 1 / (spread + 0.01), "trusted"),
}


@pytest.mark.parametrize(("change", "higher"), CHANGES.values(), ids=CHANGES)
def test_only_the_order_of_the_values_counts(change, higher):
    plain, changed = calibrated(triplets(40, 0)), calibrated(triplets(40, 0, change), higher)
    for one, other in zip(triplets(20, 1), triplets(20, 1, change), strict=True):
        assert np.mean(plain(one) != changed(other)) < 2e-3, "but for values that float32 makes equal"


WORLDS = {
    "as it is": (None, "distrusted"),
    "inverted by mistake": (None, "trusted"),
    "saturated": (lambda spread: np.where(spread > 0.2, 0.9999, 0.0001), "distrusted"),
    "constant": (np.zeros_like, "distrusted"),
    "of few levels": (lambda spread: np.round(4 * spread), "distrusted"),
}


@pytest.mark.thorough
@pytest.mark.parametrize(("change", "higher"), WORLDS.values(), ids=WORLDS)
def test_the_promise_is_kept_whatever_the_maps_say(change, higher):
    """P(sum |y - y_hat| over shown pixels / pixels <= threshold) on new images, over calibration sets."""
    kept = []
    for seed in range(60):
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            masker = calibrated(triplets(19, 2 * seed, change), higher)
        for triplet in triplets(10, 2 * seed + 1, change):
            shown = np.asarray(masker(triplet)) == 1
            kept.append(abs(triplet.y - triplet.y_hat)[0, shown].sum() / shown.size <= THRESHOLD)
    assert np.mean(kept) >= 0.9 - 3 * np.sqrt(0.09 / 60)


def with_a_spike(count, seed):
    """Images that are wrong where a confidence is 0; one is wrong where it is 1, with one value of 1e6."""
    generator = np.random.default_rng(seed)
    y = (0.2 + 0.01 * generator.random((count, 8, 8))).astype(np.float32)
    confidence = np.zeros_like(y)
    confidence[:, :, :2] = confidence[0, :, :4] = 1
    error = generator.uniform(0.3, 0.6, (count, 1, 1)).astype(np.float32) * (1 - confidence)
    error[0] = 0.11 * confidence[0]
    error[0, 0, 0], confidence[0, 0, 0] = 0, 1e6
    return {"x": y, "y_hat": y + error, "y": y, "cues": confidence}


def largest_mean(mask, error):
    return float(np.lib.stride_tricks.sliding_window_view(mask * error, (3, 3)).mean(axis=(2, 3)).max())


def mean(mask, error):
    return float((mask * error).mean())


PROMISES = {
    "binary by value": ({"loss": "l1", "threshold": 0.05}, mean, "binary"),
    "reciprocal": ({"loss": cm.MaskedWindow("l1", 3), "threshold": 0.1}, largest_mean, "reciprocal"),
    **{
        family: ({"loss": "l1", "threshold": 0.05, "family": family}, mean, family)
        for family in ("water_filling", "trusted_mean")
    },
}


@pytest.mark.quick(2)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("n", "higher"), [(9, "trusted"), (19, "distrusted")])
@pytest.mark.parametrize(("terms", "loss_of", "family"), PROMISES.values(), ids=PROMISES)
def test_of_exchangeable_images_no_more_fail_than_promised(terms, loss_of, family, n, higher):
    """Each of n + 1 images is the new one in turn: at most a tenth of them may fail, whatever the maps."""
    columns = with_a_spike(n + 1, n)
    if higher == "distrusted":
        columns["cues"] = -columns["cues"]
    images, failures = cm.Triplets.from_arrays(**columns), 0
    for new in range(n + 1):
        known = images.select(index for index in range(n + 1) if index != new)
        masker = cm.calibrate(cm.Given(higher), known, **terms)
        assert masker.family.name == family
        mask = np.asarray(masker(images[new]), np.float64)[0]
        failures += loss_of(mask, abs(images[new].y - images[new].y_hat)[0]) > terms["threshold"] * (1 + 2e-6)
    assert failures <= 0.1 * (n + 1) + 1e-9


@pytest.mark.parametrize("zero", [-3.0, 0.25, 100.0])
@pytest.mark.parametrize("higher", ["trusted", "distrusted"])
def test_where_scores_are_0_does_not_change_masks_by_value(higher, zero):
    """Nor for values beyond it; they are multiples of 1/256, so that float32 holds all differences."""
    change = lambda spread: np.round(256 * (3 * spread - 1)) / 256  # noqa: E731
    scorer, masks = cm.Given(higher).of(triplets(20, 0, change)), []
    for each in (scorer, replace(scorer, zero=zero)):
        masker = cm.calibrate(each, triplets(20, 0, change), threshold=THRESHOLD, loss="l1")
        masks.append([masker(triplet) for triplet in triplets(20, 1, change)])
    np.testing.assert_array_equal(*masks)
    assert 0 < np.mean(masks) < 1


def test_scores_start_at_the_most_trusted_value_of_a_typical_selection_image():
    known, others = triplets(20, 0, lambda spread: -spread), triplets(20, 1, lambda spread: -spread)
    lows, highs = ([float(end(each.layers["cues"])) for each in others] for end in (np.min, np.max))
    assert cm.Given().of(known, others).zero == sorted(lows)[9]
    assert cm.Given("trusted").of(known, others).zero == sorted(highs)[9]
    assert (cm.Given().of(known).zero, cm.Given("trusted").of(known).zero) == (0, 1)
    assert cm.Given().of(known, triplets(20, 1)).zero == 0, "a variance is 0 where the network is certain"
    scorers = [
        cm.Given(way).of(known, after) for way in ("trusted", "distrusted") for after in (None, others)
    ]
    assert len({scorer.fingerprint for scorer in scorers}) == 4
    masker = calibrated(known, selection=others)
    assert masker.scorer.zero == sorted(lows)[9]


def test_what_is_shown_is_stated_in_values_of_the_map():
    for higher, side in (("trusted", "above"), ("distrusted", "below")):
        scorer = cm.Given(higher).of(triplets(5, 0))
        for value in (-2500.0, -3.125, -1e-3, 0.0, 1e-6, 0.5, 1.0, 1.25, 7e5):
            lam = scorer(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([[value]])).map.double().item()
            text = scorer.shown_text(lam)
            stated = float(text.removeprefix(f"Shown are the pixels whose map is {side} ").removesuffix("."))
            assert stated == pytest.approx(value, rel=1e-5, abs=1e-7)
        assert scorer.shown_text(0.0) is None


def test_grey_masks_do_not_depend_on_the_scale_of_maps():
    how = {"threshold": 0.1, "loss": cm.MaskedWindow("l1", 3)}
    plain = cm.calibrate(cm.Given(), triplets(20, 0), **how)
    small = cm.calibrate(cm.Given(), triplets(20, 0, lambda spread: 1e-6 * spread), **how)
    for one, other in zip(triplets(5, 1), triplets(5, 1, lambda spread: 1e-6 * spread), strict=True):
        np.testing.assert_allclose(plain(one), small(other), rtol=1e-4)


def test_a_run_of_0_2_whose_scores_started_at_an_extreme_gives_the_same_masks(tmp_path):
    scorer = replace(cm.Given().of(triplets(20, 0)), zero=0.25)
    masker = cm.calibrate(scorer, triplets(20, 0), threshold=THRESHOLD, loss="l1")
    masker.save(tmp_path)
    again, lam = cm.load(tmp_path), np.float32(masker.card.rule.lam)
    for triplet in triplets(5, 1):
        np.testing.assert_array_equal(
            again(triplet), (triplet.layers["cues"][0] - np.float32(0.25)).clip(0) < lam
        )


def test_constant_and_saturated_maps_are_named():
    with pytest.warns(UserWarning, match="40 of 40 maps hold one value alone, such as that of '00000'"):
        calibrated(triplets(40, 0, np.zeros_like))
    saturated = triplets(40, 0, lambda spread: np.where(spread > 0.2, 0.9999, 0.0001))
    with pytest.warns(UserWarning, match=r"100% of the pixels of the maps hold 0\.0001 or 0\.9999"):
        calibrated(saturated)
    with pytest.warns(UserWarning, match=r"100% of the pixels of the maps hold 0: .* give their logarithms"):
        cm.Given("trusted").of(triplets(40, 0, lambda spread: 1e-9 * spread))


def test_an_inverted_map_is_noticed():
    with pytest.warns(
        UserWarning, match=r"hides more than another.*are higher values trusted \(--higher trusted\)"
    ):
        calibrated(triplets(40, 0), "trusted", selection=triplets(64, 5))
    masker = calibrated(triplets(40, 0), selection=triplets(64, 5))
    assert masker.comparison is not None
    assert masker.comparison.hidden < min(masker.comparison.others.values())
    packaged = cm.calibrate(
        cm.packaged_scorer(), triplets(40, 0), threshold=THRESHOLD, selection=triplets(64, 5)
    )
    assert packaged.comparison is not None
    assert masker.comparison.others["packaged"] == packaged.comparison.hidden, "as it would be by itself"


def test_maps_of_a_fraction_of_the_size_are_repeated_and_others_refused():
    coarse = triplets(30, 0, lambda spread: spread[:, ::4, ::2])
    fine = triplets(30, 0, lambda spread: spread[:, ::4, ::2].repeat(4, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(coarse[0].layers["cues"], fine[0].layers["cues"])
    assert calibrated(coarse).card.rule == calibrated(fine).card.rule
    with pytest.raises(ImageError, match="15 x 16 pixels, but y_hat has 16 x 16: give maps of its size"):
        triplets(30, 0, lambda spread: spread[:, :15])[0]
    with pytest.raises(ImageError, match=r"cues of triplet '0000\d' holds NaN"):
        calibrated(triplets(30, 0, lambda spread: np.where(spread > 0.5, np.nan, spread)))
    three = lambda spread: np.stack([spread] * 3, axis=-1)  # noqa: E731
    with pytest.raises(InvalidArgumentError, match="the maps have 3 channels: a score is one map"):
        calibrated(triplets(30, 0, three))


def test_each_channel_may_have_its_own_map():
    columns = {role: np.stack([image, image[:, ::-1]], axis=-1) for role, image in arrays(30, 0).items()}
    masker = calibrated(cm.Triplets.from_arrays(**columns))
    assert (masker.scorer.per_channel, calibrated(triplets(30, 0)).scorer.per_channel) == (True, False)
    mask = masker(*(columns[role][0] for role in ("x", "y_hat")), cues=columns["cues"][0])
    np.testing.assert_array_equal(mask, columns["cues"][0] < np.float32(masker.card.rule.lam))


def test_images_without_maps_are_refused():
    masker, without = calibrated(triplets(30, 0)), {**arrays(2, 1), "cues": None}
    with pytest.raises(InvalidArgumentError, match="these triplets have none"):
        calibrated(cm.Triplets.from_arrays(**{**arrays(30, 0), "cues": None}))
    with pytest.raises(InvalidArgumentError, match="these triplets have none"):
        calibrated(triplets(30, 0), selection=cm.Triplets.from_arrays(**{**arrays(30, 1), "cues": None}))
    with pytest.raises(MismatchError, match="comes without the maps that its score needs"):
        masker(cm.Triplets.from_arrays(**without)[0])
    x, y_hat, _, cues = arrays(1, 1).values()
    with pytest.raises(MismatchError, match="comes without the maps"):
        masker(x[0], y_hat[0])
    mask = masker(x[0], y_hat[0], cues=cues[0])
    np.testing.assert_array_equal(mask, masker(triplets(1, 1)[0]))
    with pytest.raises(ImageError, match="cues of triplet 'this image' has 7 x 16 pixels"):
        masker(x[0], y_hat[0], cues=cues[0, :7])


@pytest.mark.leaf("view")
def test_a_triplet_is_shown_under_its_mask():
    masker, triplet = calibrated(triplets(30, 0)), triplets(1, 1)[0]
    strip = cm.show(masker, triplet)
    low, high = np.quantile(triplet.layers["cues"], [0.005, 0.995])
    assert list(strip.rows[0].pictures)[-1] == f"Map, {low:.3g} to {high:.3g}"
    x, y_hat, y, cues = arrays(1, 1).values()
    assert cm.show(masker, x[0], y_hat[0], y[0], cues=cues[0])._repr_html_() == strip._repr_html_()
    hidden = float(1 - masker(triplet).mean())
    assert any(f"{hidden:.3g}" in fact or f"{hidden:.1%}" in fact for fact in strip.rows[0].facts), (
        strip.rows[0].facts
    )


def test_a_score_of_ones_own_receives_the_maps():
    class Twice(cm.Heuristic):
        cue_channels = 1

        def __call__(self, x, y_hat, cues):
            return cm.Score(2 * cues)

    how = {"threshold": THRESHOLD, "loss": "l1", "family": BY_VALUE}
    own = cm.calibrate(Twice(cm.residual, channels=1), triplets(40, 0), **how)
    given = calibrated(triplets(40, 0))
    for triplet in triplets(10, 1):
        np.testing.assert_array_equal(own(triplet), given(triplet))


def test_by_tiles_the_masks_are_the_same(tmp_path):
    calibration = cm.Triplets.from_arrays(**arrays(30, 0, 64))
    spec = cm.Given().of(calibration)
    tiled = cm.calibrate(cm.Tiled(spec, 128, 32), calibration, threshold=THRESHOLD, loss="l1")
    whole = cm.calibrate(spec, calibration, threshold=THRESHOLD, loss="l1")
    new = cm.Triplets.from_arrays(**arrays(2, 1, 200))
    write_masks(tiled, new, tmp_path)
    for triplet in new:
        mask = np.asarray(Image.open(tmp_path / "masks" / f"{triplet.name}.png")) / 65535
        np.testing.assert_array_equal(mask, whole(triplet))
        np.testing.assert_array_equal(tiled(triplet), whole(triplet))


def written(folder, count, seed, *, truth=True):
    """Files as people have them: maps as float TIFF of any range, in a folder of their own."""
    columns = arrays(count, seed)
    for role in ("x", "y_hat", *["y"] * truth):
        (folder / role).mkdir(parents=True)
        for index, image in enumerate(columns[role]):
            tifffile.imwrite(folder / role / f"{index:03d}.tif", image)
    (folder / "confidence").mkdir()
    for index, spread in enumerate(columns["cues"]):
        tifffile.imwrite(folder / "confidence" / f"{index:03d}.tif", 7 - 3 * spread)
    return folder


@pytest.mark.thorough
def test_from_maps_on_disk_to_masks_in_two_commands(tmp_path, capsys):
    data, new = written(tmp_path / "data", 120, 0), written(tmp_path / "new", 5, 1, truth=False)
    run, out = tmp_path / "run", tmp_path / "masks"
    options = ("--threshold", "0.03", "--data-range", "0", "1", "--out", str(run), "--json")
    main(["calibrate", str(data), "--score-from", "confidence", "--higher", "trusted", *options])
    record = json.loads(capsys.readouterr().out)
    assert record["comparison"]["hidden"] < record["comparison"]["others"]["constant"]
    main(["info", str(run), "--research"])
    of_scorer = capsys.readouterr().out.split("loss  ")[0]
    assert "16x16" in of_scorer
    assert "[0.0, 1.0]" in of_scorer
    assert "none" not in of_scorer
    main(["mask", str(run), str(new), str(out), "--json"])
    capsys.readouterr()
    masker = cm.load(run)
    value = masker.scorer.zero - masker.card.rule.lam
    assert masker.card.read.cues == "confidence"
    for triplet in cm.Triplets.from_folder(new, reading=masker.card.reading):
        mask = tifffile.imread(out / "masks" / f"{triplet.name}.tif") / 65535
        np.testing.assert_array_equal(mask, masker(triplet))
        assert mask.mean() > 0
        confidence = tifffile.imread(new / "confidence" / f"{triplet.name}.tif")
        assert np.mean((mask == 1) != (confidence > value)) < 0.01, "but for the rounding of the boundary"
    assert "network" not in capsys.readouterr().err
    main(["thresholds", str(run)])
    assert "on the selection images" in capsys.readouterr().out
    (new / "confidence" / "003.tif").unlink()
    with pytest.raises(MissingFileError, match=r"003\.tif has no partner"):
        cm.Triplets.from_folder(new, reading=masker.card.reading)
    with pytest.raises(MissingFileError, match="has no folder uncertainty/, which the score needs"):
        cm.Triplets.from_folder(data, reading=cm.Reading(cues="uncertainty"))


def test_a_map_that_is_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    new = written(tmp_path / "new", 1, 1)
    (new / "confidence" / "000.tif").unlink()
    np.savez(new / "confidence" / "000.npz", np.zeros((2 * SIDE, SIDE)))
    triplets = cm.Triplets.from_folder(new, reading=cm.Reading(cues="confidence"))
    monkeypatch.delattr("conformask.images.layers.decode_with_header")
    for read in (partial(triplets.layer, "cues"), triplets.__getitem__):
        with pytest.raises(ImageError, match=r"000\.npz has 32 x 16 pixels, but y_hat has 16 x 16"):
            read(0)


@pytest.mark.parametrize("field", ["cues", "objects"])
def test_a_folder_elsewhere_which_new_images_would_share_is_refused(tmp_path, capsys, field):
    """Also if a run of 0.2 names it."""
    for path in (str(tmp_path / "confidence"), "../confidence"):
        with pytest.raises(InvalidArgumentError, match=r"name a folder beside y_hat/.*calibrated again"):
            cm.Reading(**{field: path})
        masker = calibrated(triplets(30, 0))
        read = cm.Reading()
        vars(read)[field] = path
        replace(masker, card=replace(masker.card, read=read)).save(tmp_path / "run")
        written(tmp_path / "new", 2, 1, truth=False)
        with pytest.raises(SystemExit):
            main(["mask", str(tmp_path / "run"), str(tmp_path / "new"), str(tmp_path / "masks")])
        assert "calibrated with this path has to be calibrated again" in capsys.readouterr().err
        shutil.rmtree(tmp_path)


def test_a_column_of_a_manifest_names_them(tmp_path):
    data = written(tmp_path / "data", 3, 0)
    lines = [f"x/{i:03d}.tif,y_hat/{i:03d}.tif,y/{i:03d}.tif,confidence/{i:03d}.tif" for i in range(3)]
    (data / "manifest.csv").write_text("\n".join(["x,y_hat,y,map", *lines]))
    found = cm.Triplets.from_folder(data, reading=cm.Reading(cues="map"))
    assert found.has_cues
    np.testing.assert_array_equal(
        found[1].layers["cues"][0], tifffile.imread(data / "confidence" / "001.tif")
    )
    with pytest.raises(InvalidArgumentError, match="no column 'sigma'"):
        cm.Triplets.from_folder(data, reading=cm.Reading(cues="sigma"))
    assert not cm.Triplets.from_folder(data).has_cues


def test_items_of_a_dataset_may_have_them():
    columns = arrays(5, 0)
    items = [
        {role: image[index][None] for role, image in columns.items()} for index in range(len(columns["x"]))
    ]
    named = cm.Triplets.from_dataset(items)
    placed = cm.Triplets.from_dataset([tuple(item.values()) for item in items], keys=(0, 1, 2, 3))
    without_truth = cm.Triplets.from_dataset([{k: v for k, v in item.items() if k != "y"} for item in items])
    for triplets_of in (named, placed, without_truth):
        np.testing.assert_array_equal(triplets_of[3].layers["cues"][0], columns["cues"][3])
    assert not without_truth.has_truth
    with pytest.raises(InvalidArgumentError, match="items are a mapping with"):
        cm.Triplets.from_dataset([{"x": item["x"], "y": item["y"]} for item in items])


@pytest.mark.leaf("watch")
def test_a_stream_of_images_brings_its_maps():
    masker = calibrated(triplets(40, 0))
    stream = cm.OnlineMasker(masker)
    for index, triplet in enumerate(triplets(5, 1)):
        mask = stream.mask(f"{index}", triplet.x[0], triplet.y_hat[0], cues=triplet.layers["cues"][0])
        expected = (triplet.layers["cues"][0] < stream.lam).astype(np.float32)
        np.testing.assert_array_equal(mask, expected)
        assert stream.learn(f"{index}", triplet.y[0]) in (True, False)
    with pytest.raises(MismatchError, match="comes without the maps"):
        stream.mask("another", triplet.x[0], triplet.y_hat[0])
