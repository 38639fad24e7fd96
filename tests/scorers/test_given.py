"""Maps of a user's as scores: any range and direction, ties, other shapes, files, tiles, and the promise."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import conformask as cm
from conformask.cli import main
from conformask.deployment.masks import write_masks
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.scorers.given import BY_VALUE

SIDE = 16
THRESHOLD = 0.03


def arrays(count: int, seed: int, side: int = SIDE) -> dict[str, np.ndarray]:
    """Images whose error is up to what a map says at each pixel."""
    generator = np.random.default_rng(seed)
    y = generator.random((count, side, side), np.float32)
    spread = (generator.random((count, 1, 1)) * generator.random(y.shape)).astype(np.float32)
    y_hat = y + spread * generator.uniform(-0.5, 0.5, y.shape).astype(np.float32)
    x = y + 0.3 * generator.standard_normal(y.shape).astype(np.float32)
    return {"x": x.clip(0, 1), "y_hat": y_hat.clip(0, 1), "y": y, "cues": spread}


def triplets(count: int, seed: int, change=None, **more) -> cm.Triplets:
    columns = arrays(count, seed)
    if change is not None:
        columns["cues"] = change(columns["cues"]).astype(np.float32)
    return cm.Triplets.from_arrays(**columns, **more)


def calibrated(images: cm.Triplets, higher="distrusted", **more) -> cm.Masker:
    return cm.calibrate(cm.Given(higher), images, threshold=THRESHOLD, loss="l1", **more)


CHANGES = {
    "any range": (lambda spread: 1000 * spread - 200, "distrusted"),
    "a logarithm": (lambda spread: np.log(spread + 1e-6), "distrusted"),
    "a confidence": (lambda spread: 1 - spread, "trusted"),
    "a confidence above 1": (lambda spread: 1 / (spread + 0.01), "trusted"),
}


@pytest.mark.parametrize(("change", "higher"), CHANGES.values(), ids=CHANGES)
def test_only_the_order_of_the_values_counts(change, higher) -> None:
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


@pytest.mark.parametrize(("change", "higher"), WORLDS.values(), ids=WORLDS)
def test_the_promise_is_kept_whatever_the_maps_say(change, higher) -> None:
    """P(sum |y - y_hat| over shown pixels / pixels <= threshold) on new images, over calibration sets."""
    kept = []
    for seed in range(60):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            masker = calibrated(triplets(19, 2 * seed, change), higher)
        for triplet in triplets(10, 2 * seed + 1, change):
            shown = np.asarray(masker(triplet)) == 1
            kept.append(abs(triplet.y - triplet.y_hat)[0, shown].sum() / shown.size <= THRESHOLD)
    assert np.mean(kept) >= 0.9 - 3 * np.sqrt(0.09 / 60)


def test_constant_and_saturated_maps_are_named() -> None:
    with pytest.warns(UserWarning, match="40 of 40 maps hold one value alone, such as that of '00000'"):
        calibrated(triplets(40, 0, np.zeros_like))
    saturated = triplets(40, 0, lambda spread: np.where(spread > 0.2, 0.9999, 0.0001))
    with pytest.warns(UserWarning, match=r"100% of the pixels of the maps hold 0\.0001 or 0\.9999"):
        calibrated(saturated)


def test_an_inverted_map_is_noticed() -> None:
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


def test_maps_of_a_fraction_of_the_size_are_repeated_and_others_refused() -> None:
    coarse = triplets(30, 0, lambda spread: spread[:, ::4, ::2])
    fine = triplets(30, 0, lambda spread: spread[:, ::4, ::2].repeat(4, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(coarse[0].cues, fine[0].cues)
    assert calibrated(coarse).card.rule == calibrated(fine).card.rule
    with pytest.raises(ImageError, match="15 x 16 pixels, but y_hat has 16 x 16: give maps of its size"):
        triplets(30, 0, lambda spread: spread[:, :15])[0]
    with pytest.raises(ImageError, match=r"cues of triplet '0000\d' holds NaN"):
        calibrated(triplets(30, 0, lambda spread: np.where(spread > 0.5, np.nan, spread)))
    three = lambda spread: np.stack([spread] * 3, axis=-1)  # noqa: E731
    with pytest.raises(InvalidArgumentError, match="the maps have 3 channels: a score is one map"):
        calibrated(triplets(30, 0, three))


def test_images_without_maps_are_refused() -> None:
    masker, without = calibrated(triplets(30, 0)), {**arrays(2, 1), "cues": None}
    with pytest.raises(InvalidArgumentError, match="these triplets have none"):
        calibrated(cm.Triplets.from_arrays(**{**arrays(30, 0), "cues": None}))
    with pytest.raises(MismatchError, match="comes without the maps that its score needs"):
        masker(cm.Triplets.from_arrays(**without)[0])
    x, y_hat, _, cues = arrays(1, 1).values()
    with pytest.raises(MismatchError, match="comes without the maps"):
        masker(x[0], y_hat[0])
    mask = masker(x[0], y_hat[0], cues=cues[0])
    np.testing.assert_array_equal(mask, masker(triplets(1, 1)[0]))
    with pytest.raises(MismatchError, match="have shape"):
        masker(x[0], y_hat[0], cues=cues[0, :8])


def test_a_triplet_is_shown_under_its_mask() -> None:
    masker, triplet = calibrated(triplets(30, 0)), triplets(1, 1)[0]
    strip = cm.show(masker, triplet)
    low, high = np.quantile(triplet.cues, [0.005, 0.995])
    assert list(strip.rows[0].pictures)[-1] == f"Map, {low:.3g} to {high:.3g}"
    x, y_hat, y, cues = arrays(1, 1).values()
    assert cm.show(masker, x[0], y_hat[0], y[0], cues=cues[0])._repr_html_() == strip._repr_html_()
    hidden = float(1 - masker(triplet).mean())
    assert any(f"{hidden:.3g}" in fact or f"{hidden:.1%}" in fact for fact in strip.rows[0].facts), (
        strip.rows[0].facts
    )


def test_a_score_of_ones_own_receives_the_maps() -> None:
    class Twice(cm.Heuristic):
        cue_channels = 1

        def __call__(self, x, y_hat, cues):
            return cm.Score(2 * cues)

    how = {"threshold": THRESHOLD, "loss": "l1", "family": BY_VALUE}
    own = cm.calibrate(Twice(cm.residual, channels=1), triplets(40, 0), **how)
    given = calibrated(triplets(40, 0))
    for triplet in triplets(10, 1):
        np.testing.assert_array_equal(own(triplet), given(triplet))


def test_by_tiles_the_masks_are_the_same(tmp_path: Path) -> None:
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


def written(folder: Path, count: int, seed: int, *, truth: bool = True) -> Path:
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


def test_from_maps_on_disk_to_masks_in_two_commands(tmp_path: Path, capsys) -> None:
    data, new = written(tmp_path / "data", 120, 0), written(tmp_path / "new", 5, 1, truth=False)
    run, out = tmp_path / "run", tmp_path / "masks"
    options = ("--threshold", "0.03", "--out", str(run), "--json")
    main(["calibrate", str(data), "--score-from", "confidence", "--higher", "trusted", *options])
    record = json.loads(capsys.readouterr().out)
    assert record["comparison"]["hidden"] < record["comparison"]["others"]["constant"]
    main(["mask", str(run), str(new), str(out), "--json"])
    capsys.readouterr()
    masker = cm.load(run)
    value = masker.scorer.zero - masker.card.rule["lam"]
    assert masker.card.cues == "confidence"
    for triplet in cm.Triplets.from_folder(new, reading=masker.card.reading):
        mask = tifffile.imread(out / "masks" / f"{triplet.name}.tif") / 65535
        np.testing.assert_array_equal(mask, masker(triplet))
        assert mask.mean() > 0
        confidence = tifffile.imread(new / "confidence" / f"{triplet.name}.tif")
        assert np.mean((mask == 1) != (confidence > value)) < 0.01, "but for the rounding of the boundary"
    assert "network" not in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["thresholds", str(run)])
    assert "reads its score from maps" in capsys.readouterr().err
    (new / "confidence" / "003.tif").unlink()
    with pytest.raises(MissingFileError, match=r"003\.tif have no partner"):
        cm.Triplets.from_folder(new, reading=masker.card.reading)
    with pytest.raises(MissingFileError, match="has no folder uncertainty/, which the score needs"):
        cm.Triplets.from_folder(data, reading=cm.Reading(cues="uncertainty"))


def test_a_column_of_a_manifest_names_them(tmp_path: Path) -> None:
    data = written(tmp_path / "data", 3, 0)
    lines = [f"x/{i:03d}.tif,y_hat/{i:03d}.tif,y/{i:03d}.tif,confidence/{i:03d}.tif" for i in range(3)]
    (data / "manifest.csv").write_text("\n".join(["x,y_hat,y,map", *lines]))
    found = cm.Triplets.from_folder(data, reading=cm.Reading(cues="map"))
    assert found.has_cues
    np.testing.assert_array_equal(found[1].cues[0], tifffile.imread(data / "confidence" / "001.tif"))
    with pytest.raises(InvalidArgumentError, match="no column 'sigma'"):
        cm.Triplets.from_folder(data, reading=cm.Reading(cues="sigma"))
    assert not cm.Triplets.from_folder(data).has_cues


def test_items_of_a_dataset_may_have_them() -> None:
    columns = arrays(5, 0)
    items = [
        {role: image[index][None] for role, image in columns.items()} for index in range(len(columns["x"]))
    ]
    named = cm.Triplets.from_dataset(items)
    placed = cm.Triplets.from_dataset([tuple(item.values()) for item in items], keys=(0, 1, 2, 3))
    without_truth = cm.Triplets.from_dataset([{k: v for k, v in item.items() if k != "y"} for item in items])
    for triplets_of in (named, placed, without_truth):
        np.testing.assert_array_equal(triplets_of[3].cues[0], columns["cues"][3])
    assert not without_truth.has_truth
    with pytest.raises(InvalidArgumentError, match="items are a mapping with"):
        cm.Triplets.from_dataset([{"x": item["x"], "y": item["y"]} for item in items])


def test_a_stream_of_images_brings_its_maps() -> None:
    masker = calibrated(triplets(40, 0))
    stream = cm.OnlineMasker(masker)
    for index, triplet in enumerate(triplets(5, 1)):
        mask = stream.mask(f"{index}", triplet.x[0], triplet.y_hat[0], cues=triplet.cues[0])
        expected = (triplet.cues[0] < stream.lam).astype(np.float32)
        np.testing.assert_array_equal(mask, expected)
        assert stream.learn(f"{index}", triplet.y[0]) in (True, False)
    with pytest.raises(MismatchError, match="comes without the maps"):
        stream.mask("another", triplet.x[0], triplet.y_hat[0])
