"""The score that comes with conformask: for any images as it is, and as the start of a training."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

import conformask as cm
from conformask.cli import main
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.images.read import read_image
from conformask.images.rows import Provenance
from conformask.images.scan import WINDOWS
from conformask.records.reading import Network
from conformask.scores.network_scorer import head, load_scorer, network_input
from conformask.scores.networks import AnyChannels, SliceWise, UNet
from conformask.scores.scorer import Tiled
from conformask.scores.untrained import WEIGHTS, packaged_hashes, packaged_network
from synthetic_triplets import triplets

SIZE = (16, 16)
NUCLEI = Path(__file__).parents[4] / "shared" / "data" / "nuclei"


def test_it_is_small():
    assert WEIGHTS.stat().st_size <= 3_000_000
    assert WEIGHTS.with_name("packaged.md").is_file()


@pytest.mark.thorough
@pytest.mark.parametrize("channels", [1, 3])
def test_calibrated_without_training_its_masks_keep_the_promise(tmp_path, channels):
    """Over deals of calibration and test images, coverage follows the law."""
    met = []
    for seed in range(12):
        masker = cm.calibrate(
            cm.packaged_scorer(),
            triplets(19, 2 * seed, SIZE, channels),
            threshold=0.05,
            promise=cm.Promise(confidence=0.8),
        )
        evaluation = cm.evaluate(masker, triplets(60, 2 * seed + 1, SIZE, channels))
        met.append(evaluation.coverage)
    assert np.mean(met) == pytest.approx(16 / 20, abs=0.08)
    masker.save(tmp_path)
    loaded = cm.load(tmp_path)
    batch = next(triplets(4, 99, SIZE, channels).batches(4))
    torch.testing.assert_close(loaded.masks(batch.x, batch.y_hat), masker.masks(batch.x, batch.y_hat))


@pytest.mark.thorough
@pytest.mark.skipif(not NUCLEI.is_dir(), reason="no images in ../shared/data/nuclei")
@pytest.mark.parametrize("seen_by_it", [True, False])
def test_images_that_it_has_learnt_from_are_warned_about(seen_by_it):
    """Saved again, mirrored and darker; of those kept for its validation, every sixteenth, none."""
    paths = [path for k, path in enumerate(sorted(NUCLEI.glob("*.png"))) if (k % 16 > 0) == seen_by_it][:10]
    y = [0.8 * read_image(path)[0, :, ::-1] for path in paths]
    y_hat = [np.clip(0.9 * image, 0, 1) for image in y]
    images = cm.Triplets.from_arrays(y, y_hat, y)
    with warnings.catch_warnings(record=True, action="always") as caught:
        cm.calibrate(cm.packaged_scorer(), images, threshold=0.1)
    told = [str(each.message) for each in caught if "packaged network" in str(each.message)]
    assert len(told) == seen_by_it
    assert all(each.startswith("10 of 10 calibration images, such as '00000', look like") for each in told)


def test_a_training_from_it_knows_what_it_has_learnt_from(tmp_path):
    perceptual_hashes = packaged_hashes()
    assert perceptual_hashes.shape[1] == WINDOWS
    for scratch, known in [(False, len(perceptual_hashes)), (True, 0)]:
        made = cm.fit_scorer(
            triplets(6, 0, SIZE),
            selection=triplets(4, 1, SIZE),
            out=tmp_path / f"{scratch}",
            training=cm.TrainingConfig(epochs=1),
            network=cm.NetworkOptions(from_scratch=scratch),
        )
        assert made.perceptual_hashes is not None
        assert len(made.perceptual_hashes) == known + 10


def test_a_calibrated_one_takes_its_channels_only():
    masker = cm.calibrate(
        cm.packaged_scorer(), triplets(19, 0, SIZE), threshold=0.05, promise=cm.Promise(confidence=0.8)
    )
    with pytest.raises(MismatchError, match="1 channel"):
        masker.masks(torch.rand(1, 1, *SIZE), torch.rand(1, 3, *SIZE))


def test_by_tiles():
    known = triplets(19, 0, SIZE)
    masker = cm.calibrate(
        Tiled(cm.packaged_scorer().of(known), 128, 32),
        known,
        threshold=0.05,
        promise=cm.Promise(confidence=0.8),
    )
    assert masker.card.tiles == (128, 32)
    assert masker.masks(torch.rand(1, 1, 200, 150), torch.rand(1, 1, 200, 150)).shape == (1, 1, 200, 150)


def test_of_volumes_it_sees_slices():
    scorer = cm.packaged_scorer().of(volumes(1))
    assert isinstance(scorer.network, SliceWise)
    x, y_hat = torch.rand(1, 1, 5, 16, 16), torch.rand(1, 1, 5, 16, 16)
    planes = cm.packaged_scorer().of(triplets(1, 0, SIZE))
    expected = [planes(x[:, :, at], y_hat[:, :, at]).map for at in range(5)]
    torch.testing.assert_close(scorer(x, y_hat).map, torch.stack(expected, dim=2))


def test_lp_takes_its_power(tmp_path):
    known = triplets(12, 0, SIZE)
    batch = next(known.batches(12))
    of_l1 = cm.packaged_scorer().of(known)(batch.x, batch.y_hat).map
    of_l2 = cm.fit_scorer(known, selection=triplets(12, 1, SIZE), out=tmp_path, scorer="packaged", loss="l2")
    torch.testing.assert_close(of_l2(batch.x, batch.y_hat).map, of_l1**2)
    assert not (tmp_path / "metrics.csv").exists()
    assert of_l2.sizes is None
    assert "packaged" not in of_l2.selection.comparison.others, "it is not compared with itself"


def volumes(count):
    generator = np.random.default_rng(0)
    images = generator.random((3, count, 5, 16, 16), dtype=np.float32)
    return cm.Triplets.from_arrays(*images, reading=cm.Reading(axes="ZYX"))


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("asked", "channels", "kind"),
    [
        ({}, 3, AnyChannels),
        ({"scorer": "mask"}, 1, AnyChannels),
        ({"scorer": "error"}, 1, AnyChannels),
        ({"scorer": "error", "loss": cm.MissRate("l1", 0.05)}, 1, AnyChannels),
        ({"scorer": "mask", "network": cm.NetworkOptions(from_scratch=True)}, 1, UNet),
        ({"scorer": "mask", "network": cm.NetworkOptions(width=4)}, 1, UNet),
        ({"scorer": "mask", "network": cm.NetworkOptions(paper_form=True, width=4)}, 1, UNet),
        ({"scorer": "quantile", "network": cm.NetworkOptions(width=4)}, 1, UNet),
        ({"network": cm.NetworkOptions(per_channel=True)}, 1, AnyChannels),
        ({"network": cm.NetworkOptions(per_channel=True)}, 2, UNet),
    ],
)
def test_training_goes_on_from_it_where_it_fits(tmp_path, asked, channels, kind):
    with warnings.catch_warnings(action="ignore"):
        scorer = cm.fit_scorer(
            triplets(16, 0, SIZE, channels),
            selection=triplets(9, 1, SIZE, channels),
            out=tmp_path,
            training=cm.TrainingConfig(epochs=1),
            **asked,
        )
    assert type(scorer.network) is kind
    assert type(load_scorer(tmp_path).network) is kind


def test_laplace_starts_as_the_packaged_score():
    x, y_hat = torch.rand(2, 2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    images = network_input(x, y_hat)
    law = packaged_network(3, 3, 2, shifts=True).eval()(images)
    assert law.shape == (2, 4, 20, 24)
    assert not law[:, 1:].any()
    packaged = head("packaged", cm.losses.loss("l1")).score(packaged_network(3, 3, 2).eval()(images))
    torch.testing.assert_close(head("laplace", cm.losses.loss("l1")).score(law), packaged)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "laplace"),
        ({"loss": cm.Local("l2", 3)}, "laplace"),
        ({"loss": cm.MissRate("l1", 0.05)}, "error"),
        ({"loss": "ssim_map"}, "error"),
        ({"network": cm.NetworkOptions(width=4)}, "mask"),
    ],
)
def test_the_score_that_is_trained_by_default(tmp_path, asked, name):
    with warnings.catch_warnings(action="ignore"):
        scorer = cm.fit_scorer(
            triplets(8, 0, SIZE), out=tmp_path, training=cm.TrainingConfig(epochs=1), **asked
        )
    assert scorer.name == load_scorer(tmp_path).name == name


def test_laplace_takes_no_other_network(tmp_path):
    for options in (cm.NetworkOptions(from_scratch=True), torch.nn.Conv2d(2, 2, 1)):
        with pytest.raises(InvalidArgumentError, match="'laplace' is trained from the packaged network"):
            cm.fit_scorer(triplets(8, 0, SIZE), out=tmp_path, scorer="laplace", network=options)


def sharpened_too_much(count, seed):
    """y_hat exaggerates details of y, and has noise."""
    generator = np.random.default_rng(seed)
    y = gaussian_filter(generator.normal(size=(count, 32, 32)), (0, 1, 1)) * 0.3 + 0.5
    y_hat = 1.7 * y - 0.7 * gaussian_filter(y, (0, 2, 2)) + generator.normal(0, 0.01, y.shape)
    return cm.Triplets.from_arrays(*(each.clip(0, 1).astype(np.float32) for each in (y_hat, y_hat, y)))


@pytest.mark.thorough
def test_laplace_learns_where_y_lies(tmp_path):
    """Of new images it knows the shifts, and the errors on average."""
    train, selection, new = (sharpened_too_much(count, seed) for seed, count in enumerate((64, 30, 30)))
    training = cm.TrainingConfig(epochs=30)
    scorer = cm.fit_scorer(train, selection=selection, out=tmp_path, training=training)
    batch = next(new.batches(30))
    shifts = scorer.network(network_input(batch.x, batch.y_hat))[:, 1:]
    assert np.corrcoef(shifts.flatten(), (batch.y - batch.y_hat).flatten())[0, 1] > 0.9
    scores, errors = scorer(batch.x, batch.y_hat).map, (batch.y - batch.y_hat).abs()
    assert float(scores.mean()) == pytest.approx(float(errors.mean()), rel=0.1)


def with_a_map(count, seed):
    """Rough images that err where a map says so, the second channel of x."""
    generator = np.random.default_rng(seed)
    y = generator.uniform(0.3, 0.7, (count, 16, 16, 1)).astype(np.float32)
    told = (generator.random((count, 4, 4, 1)) < 0.3).repeat(4, axis=1).repeat(4, axis=2).astype(np.float32)
    y_hat = y + told * generator.uniform(-0.2, 0.2, y.shape).astype(np.float32)
    x = np.concatenate([y_hat + generator.normal(0, 0.05, y.shape), told], axis=-1).clip(0, 1)
    return cm.Triplets.from_arrays(x.astype(np.float32), y_hat, y, reading=cm.Reading(axes="YXC"))


@pytest.mark.thorough
def test_channels_of_x_that_are_no_image_leave_it_alone_until_it_is_trained(tmp_path):
    images = with_a_map(64, 1)
    batch = next(images.batches(64))
    alone = cm.packaged_scorer().of(triplets(1, 0, SIZE))
    untrained = cm.packaged_scorer().of(images)
    expected = alone(batch.x[:, :1], batch.y_hat).map
    assert torch.equal(untrained(batch.x, batch.y_hat).map, expected)
    with pytest.warns(
        UserWarning,
        match="x has 2 channels, but y_hat has 1: the first channels of x are compared with y_hat",
    ):
        cm.calibrate(cm.packaged_scorer(), images, threshold=0.02)
    trained = cm.fit_scorer(
        with_a_map(64, 0),
        selection=images,
        out=tmp_path,
        training=cm.TrainingConfig(epochs=8),
        threshold=0.01,
    )
    assert type(trained.network) is AnyChannels
    assert trained.name == "laplace"
    comparison = trained.selection.comparison
    assert comparison.oracle < comparison.hidden < 0.85 * min(comparison.others.values())
    again = load_scorer(tmp_path)
    assert torch.equal(again(batch.x, batch.y_hat).map, trained(batch.x, batch.y_hat).map)


def test_of_a_colour_image_whose_y_hat_is_grey_it_sees_the_mean():
    generator = torch.Generator().manual_seed(0)
    x, y_hat = torch.rand(2, 3, *SIZE, generator=generator), torch.rand(2, 1, *SIZE, generator=generator)
    of_colour, of_grey = packaged_network(3, 1, 2).eval(), packaged_network(1, 1, 2).eval()
    mean = torch.cat([x.mean(dim=1, keepdim=True), y_hat], dim=1)
    torch.testing.assert_close(of_colour(torch.cat([x, y_hat], dim=1)), of_grey(mean))


def test_training_that_makes_it_worse_is_undone(tmp_path):
    selection = triplets(9, 1, SIZE)
    with pytest.warns(UserWarning, match="no epoch improved"):
        scorer = cm.fit_scorer(
            triplets(16, 0, SIZE),
            selection=selection,
            out=tmp_path,
            scorer="mask",
            training=cm.TrainingConfig(epochs=1, learning_rate=1e30),
        )
    packaged, batch = cm.packaged_scorer().of(selection), next(selection.batches(9))
    torch.testing.assert_close(scorer(batch.x, batch.y_hat).map, packaged(batch.x, batch.y_hat).map)
    assert scorer.selection.comparison.hidden == pytest.approx(scorer.selection.comparison.others["packaged"])


def test_minutes_that_were_spent_before_are_told(tmp_path):
    settings = {
        "selection": triplets(9, 1, SIZE), "out": tmp_path, "scorer": "mask",
        "network": cm.NetworkOptions(width=4),
    }  # fmt: skip
    with warnings.catch_warnings(action="ignore"):
        cm.fit_scorer(
            triplets(16, 0, SIZE), training=cm.TrainingConfig(max_minutes=1e-4, batch_size=8), **settings
        )
    with pytest.warns(
        UserWarning, match="nothing was trained: the 0.0001 minutes, which include earlier runs"
    ):
        cm.fit_scorer(
            triplets(16, 0, SIZE),
            training=cm.TrainingConfig(max_minutes=1e-4, batch_size=8, resume=True),
            **settings,
        )


def test_nobody_asks_whose_outputs_a_score_without_training_is_about():
    images = triplets(19, 0, SIZE).described(Provenance(network=Network("unet")))
    with warnings.catch_warnings(action="error"):
        masker = cm.calibrate(
            cm.packaged_scorer(), images, threshold=0.05, promise=cm.Promise(confidence=0.8)
        )
    assert masker.card.network == Network("unet")


@pytest.mark.thorough
def test_a_finished_training_can_be_made_longer(tmp_path):
    settings = {
        "selection": triplets(9, 1, SIZE), "out": tmp_path, "scorer": "mask",
        "network": cm.NetworkOptions(width=4),
    }  # fmt: skip

    def epochs():
        with (tmp_path / "metrics.csv").open(newline="") as file:
            return [int(row["epoch"]) for row in csv.DictReader(file)]

    with warnings.catch_warnings(action="ignore"):
        first = cm.fit_scorer(
            triplets(16, 0, SIZE), training=cm.TrainingConfig(epochs=2, batch_size=8), **settings
        )
        same = cm.fit_scorer(
            triplets(16, 0, SIZE), training=cm.TrainingConfig(epochs=2, batch_size=8, resume=True), **settings
        )
        assert same.fingerprint == first.fingerprint
        assert epochs() == [0, 1]
        longer = cm.fit_scorer(
            triplets(16, 0, SIZE), training=cm.TrainingConfig(epochs=4, batch_size=8, resume=True), **settings
        )
    assert epochs() == [0, 1, 2, 3]
    assert load_scorer(tmp_path).fingerprint == longer.fingerprint != first.fingerprint
    with pytest.raises(MismatchError, match=r"different settings \(batch_size\)"):
        cm.fit_scorer(
            triplets(16, 0, SIZE), training=cm.TrainingConfig(epochs=6, batch_size=4, resume=True), **settings
        )


def test_a_threshold_that_is_none_is_refused_before_any_work(tmp_path):
    with pytest.raises(InvalidArgumentError, match="threshold 'q2'"):
        cm.fit_scorer(triplets(16, 0), out=tmp_path, threshold="q2")
    assert not list(tmp_path.iterdir())


def test_the_score_is_judged_at_the_threshold_asked_for(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        scorer = cm.fit_scorer(
            triplets(16, 0, SIZE),
            selection=triplets(20, 1, SIZE),
            out=tmp_path,
            training=cm.TrainingConfig(epochs=1),
            network=cm.NetworkOptions(width=4),
            threshold=0.03,
        )
    comparison = scorer.selection.comparison
    assert comparison.threshold == 0.03
    assert 0 < comparison.oracle <= 1
    assert 0 < comparison.hidden <= 1


SHORT = cm.TrainingConfig(epochs=4)


def world(count, seed, groups=None, **more):
    """Rough images that err where a map says so, in blocks; neither x nor y_hat tells where.

    `scale` and `shift` change the map's range, `inverted` its direction, `told` leaves it out.
    """
    generator = np.random.default_rng(seed)
    y = generator.uniform(0.3, 0.7, (count, 16, 16)).astype(np.float32)
    wrong = (generator.random((count, 4, 4)) < 0.3).repeat(4, axis=1).repeat(4, axis=2).astype(np.float32)
    y_hat = y + wrong * generator.uniform(-0.2, 0.2, y.shape).astype(np.float32)
    x = generator.uniform(0.3, 0.7, y.shape).astype(np.float32)
    spread = wrong + 0.1 * generator.random(y.shape, dtype=np.float32)
    spread = (1.1 - spread if more.get("inverted") else spread) * more.get("scale", 1.0) + more.get(
        "shift", 0
    )
    return cm.Triplets.from_arrays(
        x, y_hat, y, cues=None if more.get("told") is False else spread.astype(np.float32),
        groups=None if groups is None else [f"patient {at % groups}" for at in range(count)],
    )  # fmt: skip


def quiet(train, out, **settings):
    with warnings.catch_warnings(action="ignore"):
        return cm.fit_scorer(train, out=out, **{"training": SHORT, **settings})


@pytest.mark.thorough
@pytest.mark.parametrize("how", [{}, {"scale": 1e-6}, {"inverted": True, "scale": 300.0, "shift": -50.0}])
def test_a_network_learns_from_a_map_of_any_range(tmp_path, how):
    """The map is in no way part of x, which alone tells nothing."""
    train, new = world(64, 0, **how), world(64, 2, **how)
    scorer = quiet(
        train, tmp_path, scorer="mask", selection=world(20, 1, **how), training=cm.TrainingConfig(epochs=20)
    )
    blind = quiet(
        world(64, 0, told=False),
        tmp_path / "blind",
        scorer="mask",
        selection=world(20, 1, told=False),
        training=cm.TrainingConfig(epochs=20),
    )
    assert (scorer.cue_channels, blind.cue_channels) == (1, 0)
    told, untold = (
        cm.calibrate(each, images, threshold=0.01).card.hidden
        for each, images in ((scorer, new), (blind, world(64, 2, told=False)))
    )
    assert told < 0.8 * untold


@pytest.mark.thorough
def test_what_a_run_keeps_of_maps(tmp_path):
    scorer = quiet(world(45, 0), tmp_path, scorer="mask", selection=world(20, 1))
    again, batch = load_scorer(tmp_path), next(world(5, 2).batches(5))
    expected = scorer(batch.x, batch.y_hat, batch.layers["cues"]).map
    assert torch.equal(again(batch.x, batch.y_hat, batch.layers["cues"]).map, expected)
    assert again.fingerprint == scorer.fingerprint
    masker = cm.calibrate(scorer, world(45, 3), threshold=0.02)
    masks = masker(batch.x, batch.y_hat, cues=batch.layers["cues"])
    assert masks.shape == batch.y_hat.shape
    with pytest.raises(MismatchError, match="maps"):
        masker(batch.x, batch.y_hat)
    with pytest.raises(MismatchError, match="maps"):
        cm.calibrate(scorer, world(45, 3, told=False), threshold=0.02)


def test_packaged_weights_know_nothing_of_maps_until_they_are_trained():
    images = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    x, y_hat, cues = images
    plain, with_maps = packaged_network(1, 1, 2).eval(), packaged_network(1, 1, 2, 2).eval()
    both = network_input(x, y_hat, cues, [(0.0, 1.0)])
    assert both.shape == (2, 4, 16, 16)
    torch.testing.assert_close(both[:, 1], -both[:, 2])
    assert torch.equal(plain(network_input(x, y_hat)), with_maps(both))


@pytest.mark.parametrize("network", [None, cm.NetworkOptions(from_scratch=True, width=4)])
def test_of_volumes_too(tmp_path, network):
    generator = np.random.default_rng(0)
    x, y_hat, y, spread = generator.random((4, 12, 6, 16, 16), dtype=np.float32)
    images = cm.Triplets.from_arrays(x, y_hat, y, cues=spread, reading=cm.Reading(axes="ZYX"))
    scorer = quiet(images, tmp_path, scorer="mask", network=network, training=cm.TrainingConfig(epochs=1))
    batch = next(images.batches(2))
    assert scorer(batch.x, batch.y_hat, batch.layers["cues"]).map.shape == (2, 1, 6, 16, 16)


def test_maps_from_which_nothing_can_be_learnt_are_refused(tmp_path):
    flat = world(45, 0, scale=0.0, shift=3.0)
    with pytest.raises(InvalidArgumentError, match="map 1 holds 3 at nearly every pixel"):
        cm.fit_scorer(flat, out=tmp_path)
    assert not list(tmp_path.iterdir())


def written(folder, images):
    """Files as people have them: the maps in a folder of their own."""
    for role in ("x", "y_hat", "y", "uncertainty"):
        (folder / role).mkdir(parents=True)
    for triplet in images:
        for role, image in (("x", triplet.x), ("y_hat", triplet.y_hat), ("y", triplet.truth())):
            tifffile.imwrite(folder / role / f"{triplet.name}.tif", image[0])
        np.save(folder / "uncertainty" / f"{triplet.name}.npy", triplet.layers["cues"][0])
    return folder


@pytest.mark.thorough
def test_from_maps_on_disk_to_masks(tmp_path, capsys):
    data, new = written(tmp_path / "data", world(120, 0)), written(tmp_path / "new", world(4, 1))
    run, out = tmp_path / "run", tmp_path / "masks"
    with warnings.catch_warnings(action="ignore"):
        main(["train", str(data), str(run), "--cues", "uncertainty", "--scorer", "mask", "--epochs", "2"])
        main(["calibrate", str(run), str(written(tmp_path / "more", world(40, 2))), "--threshold", "0.02"])
        main(["mask", str(run), str(new), str(out), "--json"])
    masker = cm.load(run)
    assert (masker.scorer.cue_channels, masker.card.read.cues) == (1, "uncertainty")
    for triplet in cm.Triplets.from_folder(new, reading=masker.card.reading):
        mask = tifffile.imread(out / "masks" / f"{triplet.name}.tif") / 65535
        np.testing.assert_array_equal(mask, masker(triplet))
    for file in (new / "uncertainty").iterdir():
        file.unlink()
    (new / "uncertainty").rmdir()
    with pytest.raises(SystemExit):
        main(["mask", str(run), str(new), str(tmp_path / "more-masks")])
    assert "no folder uncertainty/, which the score needs" in " ".join(capsys.readouterr().err.split())
