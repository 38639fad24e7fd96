"""Scorers on worlds whose errors or quantiles are known."""

import numpy as np
import pytest
import torch
from scipy.ndimage import generic_filter
from torch import nn

import conformask as cm
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
from conformask.extras.train.score import TripletDataset
from conformask.images.read import pixel_hash
from conformask.images.scan import scan
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.losses.distances import Lp
from conformask.losses.means import FalseOmissionRate, MeanShown, MissRate
from conformask.losses.window import MaskedWindow
from conformask.masks.families import FAMILIES
from conformask.records.record import read_json
from conformask.records.selection import threshold_of
from conformask.scores.network_scorer import head, load_scorer, network_input, pinball, suited
from conformask.scores.networks import UNet, levels_for
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import scored
from conformask.scores.simple import local_spread
from untyped import UNTYPED

LOUD, QUIET = 0.3, 0.02
SHORT = {
    "training": TrainingConfig(epochs=12, batch_size=8, learning_rate=5e-3),
    "network": NetworkOptions(width=8),
}


def world(count, seed, size=(16, 16), channels=1):
    """x says where the error is large: a bright right half of random width."""
    generator = np.random.default_rng(seed)
    x, y_hat, y = [], [], []
    for _ in range(count):
        bright = np.zeros((*size, 1), np.float32)
        bright[:, generator.integers(4, size[1] - 3) :] = 1
        truth = generator.uniform(0.3, 0.7, (*size, channels)).astype(np.float32)
        error = np.where(bright > 0, LOUD, QUIET) * generator.uniform(-1, 1, truth.shape)
        x.append(bright)
        y.append(truth)
        y_hat.append((truth + error).clip(0, 1).astype(np.float32))
    return Triplets.from_arrays(x, y_hat, y)


TRAIN, HELD_OUT, TEST = world(40, 0), world(8, 1), world(6, 2)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    out = tmp_path_factory.mktemp("mask")
    return fit_scorer(TRAIN, selection=HELD_OUT, loss="l1", out=out, **SHORT), out


def batch(triplets):
    return next(triplets.batches(len(triplets)))


def test_the_score_knows_where_the_error_is(fitted):
    scorer, _ = fitted
    test = batch(TEST)
    score = scorer(test.x, test.y_hat).map
    assert score.shape == (6, 1, 16, 16)
    assert (score >= 0).all()
    loud, quiet = score[test.x == 1].mean(), score[test.x == 0].mean()
    assert score.std() > 0.02, "a constant score"
    assert np.corrcoef(score.flatten(), test.x.flatten())[0, 1] > 0.8
    # E|e| is half of the largest error, and the optimum is 1 - m = mu E|e| / 2, the same
    assert float(loud) == pytest.approx(LOUD / 2, rel=0.3)
    assert float(quiet) < LOUD / 6


def test_the_score_does_not_depend_on_the_batch(fitted):
    scorer, _ = fitted
    test = batch(TEST)
    together = scorer(test.x, test.y_hat).map
    for k in range(len(together)):
        alone = scorer(test.x[k : k + 1], test.y_hat[k : k + 1]).map
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-6)


def test_saved_and_loaded(fitted, tmp_path):
    scorer, out = fitted
    scorer.save(tmp_path)
    test = batch(TEST)
    for folder in (out, tmp_path):
        again = load_scorer(folder)
        assert torch.equal(again(test.x, test.y_hat).map, scorer(test.x, test.y_hat).map)
        assert again.card == scorer.card
        assert (again.name, again.family, again.sizes) == (scorer.name, scorer.family, ((16, 16),))
        assert again.trained_on == scorer.trained_on
        np.testing.assert_array_equal(again.selection.unmasked_loss, scorer.selection.unmasked_loss)
        assert set(again.selection.curves) == set(FAMILIES)
    with pytest.raises(MismatchError, match="made for 'l1', not 'ssim'"):
        load_scorer(out, loss=loss("ssim"))
    with pytest.raises(MissingFileError):
        load_scorer(tmp_path / "none")


def test_a_run_that_is_not_calibrated_yet_is_loaded_to_be(fitted, tmp_path):
    scorer, out = fitted
    with pytest.raises(MissingFileError, match="is not calibrated"):
        cm.load(out)
    masker = cm.calibrate(cm.load_scorer(str(out)), TEST, threshold=0.05, promise=cm.Promise(confidence=0.5))
    assert masker.scorer.fingerprint == scorer.fingerprint


def test_what_it_keeps_of_the_selection(fitted):
    scorer, _ = fitted
    held = batch(HELD_OUT)
    expected = (held.y - held.y_hat).abs().mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(scorer.selection.unmasked_loss, expected, rtol=1e-5)
    assert threshold_of("q0.1", scorer.selection) == pytest.approx(np.quantile(expected, 0.1), rel=1e-5)
    for curves in scorer.selection.curves.values():
        assert curves.loss.shape == curves.size.shape == (8, len(curves.grid))
        np.testing.assert_allclose(curves.loss[:, -1], expected, rtol=1e-5)


def test_it_remembers_every_image_that_it_learnt_from(fitted):
    scorer, _ = fitted
    images = [(triplet.truth(), triplet.y_hat) for triplet in (*TRAIN, *HELD_OUT)]
    assert {pixel_hash(image) for both in images for image in both} == scorer.trained_on


def test_other_channels_are_refused(fitted):
    scorer, _ = fitted
    with pytest.raises(MismatchError, match="x with 1 and y_hat with 1 channels, not 3 and 1"):
        scorer(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16))


def test_families_that_suit():
    assert head("mask", loss(Lp(1.0))).family == head("mask", loss(Lp(2.0))).family == "water_filling"
    assert head("mask", loss("ssim")).family == "power"
    assert head("quantile", loss("l1")).family == "reciprocal"


def test_the_score_of_the_mask_network_keeps_its_order_and_never_is_0():
    output = torch.tensor([-1e4, -1.0, -0.01, 0.0, 1e-4, 0.5, 1.0, 7.0]).view(1, 1, 2, 4)
    score = head("mask", loss(Lp(1.0))).score(output).flatten()
    assert (score > 0).all()
    assert (score[:-2].diff() > 0).all()
    assert score[4:].tolist() == pytest.approx([1e-4, 0.5, 1, 1])
    torch.testing.assert_close(score[:4], torch.zeros(4), rtol=0, atol=1e-4)


def test_the_scorer_that_suits_a_distance():
    suits = {name: suited(loss(name)) for name in ("l1", "l1.5", "l2", "ssim")}
    assert suits == {"l1": "mask", "l1.5": "error", "l2": "error", "ssim": "mask"}
    assert head("error", loss(Lp(2.0))).family == "water_filling"
    with pytest.raises(InvalidArgumentError, match=r"'error' learns an error map.*'ssim' has none.*'mask'"):
        head("error", loss("ssim"))


@pytest.mark.parametrize("exponent", [1.0, 2.0, 8.0])
def test_the_error_network_is_the_mask_network_of_l1_to_a_power(exponent):
    output = torch.tensor([-1e4, -1.0, -0.01, 0.0, 1e-4, 0.5, 1.0, 7.0]).view(1, 1, 2, 4)
    y, y_hat = torch.rand(2, 1, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    error, mask = head("error", loss(Lp(exponent))), head("mask", loss(Lp(1.0)))
    assert torch.equal(error.loss(output, y, y_hat), mask.loss(output, y, y_hat))
    assert (error.score(output) > 0).all()
    torch.testing.assert_close(error.score(output), mask.score(output) ** exponent, rtol=1e-6, atol=1e-37)


def test_laplace_gives_the_expected_error_and_is_fitted_best_by_the_true_law():
    """Of draws from laws of other shifts and widths; both channels of y have the same width."""
    widths, shifts = torch.tensor([0.01, 0.05, 0.1]), torch.tensor([[0.0, 0.02, 0.2], [-0.01, -0.1, 0.05]])
    law, used = torch.cat([widths[None], shifts]).reshape(1, 3, 1, 3), head("laplace", loss("l1"))
    draws = np.random.default_rng(0).laplace(shifts, widths, (200_000, 2, 3))
    expected = torch.tensor(np.abs(draws).mean(axis=(0, 1)), dtype=torch.float32)
    torch.testing.assert_close(used.score(law).flatten(), expected, rtol=0.01, atol=0)
    assert torch.equal(head("laplace", loss("l2")).score(law), used.score(law) ** 2)
    y = torch.from_numpy(draws[:50_000]).float()[:, :, None]
    values = {
        (by, off): float(used.loss(law * torch.tensor([by, 1, 1]).view(1, 3, 1, 1) + off, y, 0 * y).mean())
        for by in (0.8, 1.0, 1.25)
        for off in (-0.003, 0.0, 0.003)
    }
    assert min(values, key=values.__getitem__) == (1.0, 0.0)


def test_laplace_is_about_differences_alone():
    for other in (loss("ssim_map"), cm.MissRate("l1", 0.05), loss("ssim")):
        with pytest.raises(InvalidArgumentError, match=r"losses of \|y - y_hat\|, but .* use scorer 'error'"):
            head("laplace", other)


def test_l2_is_learnt_as_l1(fitted, tmp_path):
    of_l1, _ = fitted
    scorer = fit_scorer(TRAIN, selection=HELD_OUT, loss="l2", out=tmp_path, **SHORT)
    test = batch(TEST)
    found = scorer(test.x, test.y_hat).map
    assert (scorer.name, scorer.family, scorer.selection.of.name) == ("error", "water_filling", "l2")
    assert torch.equal(found, of_l1(test.x, test.y_hat).map ** 2)
    assert torch.equal(load_scorer(tmp_path)(test.x, test.y_hat).map, found)


def test_mixed_sizes_are_cropped(tmp_path):
    parts = [world(6, 3), world(6, 4, (20, 23))]
    both = [[getattr(t, role).transpose(1, 2, 0) for p in parts for t in p] for role in ("x", "y_hat", "y")]
    mixed = Triplets.from_arrays(*both)
    scorer = fit_scorer(
        mixed,
        selection=mixed,
        out=tmp_path,
        loss="l1",
        training=cm.TrainingConfig(epochs=1, batch_size=5),
        network=cm.NetworkOptions(width=4),
    )
    assert scorer.sizes == ((16, 16), (20, 23))
    assert {len(item.names) for item in scored(scorer, mixed, "test")} == {6}
    crops = TripletDataset(mixed, scan(mixed).smallest)
    x, y_hat, y = crops[6 + 12]
    assert x.shape == y_hat.shape == y.shape == (1, 16, 16)
    whole = mixed[6].truth()
    places = [
        (i, j) for i in range(5) for j in range(8) if np.array_equal(whole[:, i : i + 16, j : j + 16], y)
    ]
    assert len(places) == 1, "the crop is not a part of the image"
    assert torch.equal(y, crops[6 + 12][2])
    assert any(not torch.equal(y, crops[6 + 12 * epoch][2]) for epoch in range(2, 6))


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_network_of_ones_own_and_a_small_x(tmp_path, per_channel):
    generator = np.random.default_rng(5)
    y = generator.random((8, 16, 16, 3)).astype(np.float32)
    y_hat = (y + 0.1 * generator.random(y.shape)).clip(0, 1).astype(np.float32)
    triplets = Triplets.from_arrays(y[:, ::4, ::4, :1], y_hat, y)
    network = nn.Conv2d(4, 3 if per_channel else 1, 3, padding=1)
    scorer = fit_scorer(
        triplets,
        selection=triplets,
        out=tmp_path,
        training=cm.TrainingConfig(epochs=1),
        network=cm.NetworkOptions(module=network, per_channel=per_channel),
    )
    small = batch(triplets)
    score = scorer(small.x, small.y_hat).map
    assert score.shape == (8, 3 if per_channel else 1, 16, 16)
    with pytest.raises(MismatchError, match="load it with network="):
        load_scorer(tmp_path)
    again = load_scorer(tmp_path, network=nn.Conv2d(4, 3 if per_channel else 1, 3, padding=1))
    assert torch.equal(again(small.x, small.y_hat).map, score)
    assert network_input(small.x, small.y_hat).shape == (8, 4, 16, 16)


def test_a_unet_of_ones_own_needs_no_handing_in(tmp_path):
    network = UNet(2, 1, width=4, levels=5)
    fit_scorer(TEST, selection=HELD_OUT, out=tmp_path, network=network, training=cm.TrainingConfig(epochs=1))
    assert load_scorer(tmp_path).card.unet == network.settings


def test_the_default_network_has_four_levels_and_residual_blocks(tmp_path):
    scorer = fit_scorer(
        TEST,
        selection=HELD_OUT,
        out=tmp_path / "own",
        training=cm.TrainingConfig(epochs=1),
        network=cm.NetworkOptions(width=4),
    )
    papers = fit_scorer(
        TEST,
        selection=HELD_OUT,
        out=tmp_path / "paper",
        training=cm.TrainingConfig(epochs=1),
        network=cm.NetworkOptions(width=4, paper_form=True),
    )
    kinds = [(card["levels"], card["residual"]) for card in (scorer.card.unet, papers.card.unet)]
    assert kinds == [(4, True), (levels_for(TEST[0].y.shape[-1]), False)]


def test_a_distance_of_ones_own(tmp_path):
    def brightness(a, b):
        return (a - b).mean((1, 2, 3)).square()

    scorer = fit_scorer(
        TEST,
        selection=HELD_OUT,
        loss=brightness,
        training=cm.TrainingConfig(epochs=1),
        network=cm.NetworkOptions(width=4),
        out=tmp_path,
    )
    with pytest.raises(MismatchError, match="loss="):
        load_scorer(tmp_path)
    again = load_scorer(tmp_path, loss=brightness)
    assert again.card.loss.of == scorer.card.loss.of == "brightness"


@UNTYPED
def test_what_fit_refuses_before_it_trains(tmp_path):
    def refused(error, message, train=TEST, **settings):
        with pytest.raises(error, match=message):
            fit_scorer(train, **{"selection": HELD_OUT, "out": tmp_path / "out", **settings})
        assert not (tmp_path / "out").exists()

    refused(InvalidArgumentError, "'msk' is unknown.*did you mean 'mask'", scorer="msk")
    refused(InvalidArgumentError, "'l1x' is unknown", loss="l1x")
    with pytest.raises(InvalidArgumentError, match="epochs = 0"):
        TrainingConfig(epochs=0)
    refused(ImageError, "different channels", selection=world(3, 0, channels=3))
    far = lambda a, b: (a - b).abs().mean((1, 2, 3)) + 1  # noqa: E731
    refused(InvalidArgumentError, "is not 0 between two empty images", loss=far)
    counted = lambda a, b: ((a - b).abs() > 0.1).float().mean((1, 2, 3))  # noqa: E731
    by_numpy = lambda a, b: torch.from_numpy(np.abs(a.numpy() - b.numpy())).mean((1, 2, 3))  # noqa: E731
    for blunt in (counted, by_numpy):
        refused(InvalidArgumentError, "has no gradient in torch.*use scorer 'quantile'", loss=blunt)
    blind = Triplets.from_arrays(*[[np.zeros((16, 16), np.float32)] * 3] * 2)
    refused(InvalidArgumentError, "no y", train=blind)
    refused(InvalidArgumentError, "at least 11 pixels", train=world(3, 0, (8, 8)), loss="ssim")


def test_without_selection_a_tenth_is_set_aside(tmp_path):
    scorer = fit_scorer(
        TRAIN, out=tmp_path, training=cm.TrainingConfig(epochs=1), network=cm.NetworkOptions(width=4)
    )
    assert 1 <= len(scorer.selection.unmasked_loss) <= 10
    assert len(scorer.trained_on) == 80, "truths and outputs"


def test_survey_of_mixed_channels_and_constant_images():
    white = np.ones((4, 4), np.float32)
    noise = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    found = scan(Triplets.from_arrays([white, white], [white, white], [white, noise]))
    assert found.pixels == (None, pixel_hash(noise[None])), "constant images are exempt"
    assert found.image_ids == (pixel_hash(noise[None]),)
    with pytest.raises(ImageError, match="mixed channels"):
        scan(Triplets.from_arrays([white] * 2, [white, np.ones((4, 4, 3), np.float32)],
                                    [white, np.ones((4, 4, 3), np.float32)]))  # fmt: skip


def test_heuristic(tmp_path):
    def distrust(x, y_hat):
        return x

    scorer = Heuristic(distrust, channels=1)
    test = batch(TEST)
    assert torch.equal(scorer(test.x, test.y_hat).map, test.x)
    assert (scorer.name, scorer.family, scorer.loss, scorer.sizes) == (
        "distrust",
        "reciprocal",
        None,
        None,
    )
    assert scorer.trained_on == frozenset()
    scorer.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["scorer.json"]
    with pytest.raises(MismatchError, match="scorer="):
        load_scorer(tmp_path)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, y_hat: x - 0.5, "negative, NaN or infinite"),
        (lambda x, y_hat: x * torch.nan, "negative, NaN or infinite"),
        (lambda x, y_hat: x[..., :8], r"has shape \(6, 1, 16, 8\)"),
        (lambda x, y_hat: x.expand(-1, 2, -1, -1), "one channel or as many as y_hat"),
    ],
)
def test_scores_that_are_refused(function, message):
    with pytest.raises(ImageError, match=message):
        list(scored(Heuristic(function, channels=1), TEST, "test"))


def test_what_a_score_learns_for_each_loss():
    output = torch.full((1, 1, 2, 4), 0.3)
    y, y_hat = torch.rand(2, 1, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    error = (y - y_hat).abs()

    def least(target):
        return ((0.3 - target) ** 2 + 2 * target - target**2).mean((1, 2, 3))

    for used in (MeanShown("l1"), MaskedWindow("l1", 3), FalseOmissionRate("l1", 0.3), MeanShown("l2")):
        torch.testing.assert_close(head(None, used).loss(output, y, y_hat), least(error))
    missed = head(None, MissRate("l1", 0.3))
    torch.testing.assert_close(missed.loss(output, y, y_hat), least((error > 0.3).float()))
    torch.testing.assert_close(missed.score(output), output)
    assert suited(loss("ssim_map")) == suited(MaskedWindow("l1", 3)) == "error"
    with pytest.raises(
        InvalidArgumentError, match=r"trained with a mean over the image, but 'trusted\(l1\)' is not one"
    ):
        head("mask", MeanShown("l1"))


def test_the_local_spread_needs_no_training(tmp_path):
    scorer = fit_scorer(TRAIN, selection=HELD_OUT, out=tmp_path, scorer="spread")
    test = batch(TEST)
    torch.testing.assert_close(scorer(test.x, test.y_hat).map, local_spread(test.x, test.y_hat))
    recipe = read_json(tmp_path / "scorer.json")["recipe"]
    assert (
        recipe
        == "standard deviation of y_hat in windows of 7 pixels a side, borders repeated, mean over channels"
    )
    stated = [
        [generic_filter(c, np.std, 7, mode="nearest") for c in image] for image in test.y_hat[:1].numpy()
    ]
    np.testing.assert_allclose(
        local_spread(test.x, test.y_hat)[:1], np.mean(stated, axis=1, keepdims=True), atol=1e-3
    )
    assert not (tmp_path / "checkpoints").exists()
    assert scorer.selection.comparison is None
    assert not scorer.trained_on & frozenset(scan(TRAIN).image_ids), "nothing was learnt from them"
    assert scorer.trained_on >= frozenset(scan(HELD_OUT).image_ids), "choices are made on these"
    again = load_scorer(tmp_path)
    assert torch.equal(again(test.x, test.y_hat).map, scorer(test.x, test.y_hat).map)
    assert again.fingerprint == scorer.fingerprint
    assert again.loss is None, "it serves any loss"


WIDE, NARROW, BIAS = 0.2, 0.05, 0.1
SIZE = 16


def biased(count, seed, channels=1):
    """y - y_hat is uniform around a bias, wide where x is bright; channel k is k + 1 times quieter."""
    generator = np.random.default_rng(seed)
    x, y_hat, y = [], [], []
    for _ in range(count):
        bright = np.zeros((SIZE, SIZE, 1), np.float32)
        bright[:, generator.integers(4, SIZE - 3) :] = 1
        predicted = generator.uniform(0.35, 0.55, (SIZE, SIZE, channels)).astype(np.float32)
        spread = np.where(bright > 0, WIDE, NARROW) / np.arange(1, channels + 1)
        x.append(bright)
        y_hat.append(predicted)
        y.append((predicted + BIAS + spread * generator.uniform(-1, 1, predicted.shape)).astype(np.float32))
    return Triplets.from_arrays(x, y_hat, y)


def fit_quantiles(out, channels=1, *, per_channel=False, module=None, epochs=25):
    return fit_scorer(
        biased(32, 0, channels),
        selection=biased(8, 1, channels),
        loss="l1",
        network=NetworkOptions(module, per_channel=per_channel, width=8),
        training=TrainingConfig(epochs=epochs, batch_size=8, learning_rate=5e-3),
        out=out,
        scorer="quantile",
    )


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    out = tmp_path_factory.mktemp("quantile")
    return fit_quantiles(out), out


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_pinball_is_least_at_the_quantile(level):
    y = torch.randn(1, 1, 60, 70, generator=torch.Generator().manual_seed(0)).exp()
    quantile = torch.quantile(y, level)
    places = quantile + torch.linspace(-0.5, 0.5, 101)
    losses = torch.stack([pinball(place.expand_as(y), y, level)[0] for place in places])
    assert float(places[losses.argmin()]) == pytest.approx(float(quantile), abs=0.02)


def test_pinball_is_per_image():
    y, bound = torch.rand(2, 3, 2, 5, 5)
    assert pinball(bound, y, 0.1).shape == (3,)
    torch.testing.assert_close(pinball(bound, y, 0.1)[1:2], pinball(bound[1:2], y[1:2], 0.1))
    torch.testing.assert_close(pinball(y - 0.1, y, 0.05), torch.full((3,), 0.005))
    torch.testing.assert_close(pinball(y + 0.1, y, 0.05), torch.full((3,), 0.095))


def test_it_recovers_the_quantiles(learnt):
    scorer, _ = learnt
    test = batch(biased(16, 2))
    with torch.no_grad():
        below, above = scorer.network(network_input(test.x, test.y_hat)).float().chunk(2, dim=1)
    for bright, spread in ((0, NARROW), (1, WIDE)):
        here = test.x == bright
        assert float(-below[here].mean()) == pytest.approx(BIAS - 0.9 * spread, abs=0.02)
        assert float(above[here].mean()) == pytest.approx(BIAS + 0.9 * spread, abs=0.02)
        inside = (test.y >= test.y_hat - below) & (test.y <= test.y_hat + above)
        assert float(inside[here].float().mean()) == pytest.approx(0.9, abs=0.06)


def test_the_score_is_the_width(learnt):
    scorer, _ = learnt
    test = batch(biased(6, 2))
    score = scorer(test.x, test.y_hat).map
    assert score.shape == (6, 1, SIZE, SIZE)
    assert float(score.min()) >= 0
    assert float(score[test.x == 1].mean()) == pytest.approx(1.8 * WIDE, abs=0.04)
    assert float(score[test.x == 0].mean()) == pytest.approx(1.8 * NARROW, abs=0.04)


def test_widths_are_clipped_and_crossing_bounds_have_none():
    quantile = head("quantile", loss("l1"))
    output = torch.tensor([[0.2, 3.0, -0.4], [0.3, 3.0, 0.1]]).reshape(1, 6, 1, 1)
    torch.testing.assert_close(quantile.score(output).flatten(), torch.tensor([0.5, 1.0, 0.0]))
    start = torch.full((1, 6, 1, 1), quantile.start)
    torch.testing.assert_close(quantile.score(start), torch.full((1, 3, 1, 1), 0.14))


def test_it_is_fitted_for_no_distance_and_saved_and_loaded(learnt, tmp_path):
    scorer, out = learnt
    assert (scorer.name, scorer.family, scorer.loss) == ("quantile", "reciprocal", None)
    assert scorer.selection.of.name == "l1"
    scorer.save(tmp_path)
    test = batch(biased(6, 2))
    for folder, given in ((out, None), (tmp_path, loss("l1")), (tmp_path, loss("ssim"))):
        again = load_scorer(folder, loss=given)
        assert torch.equal(again(test.x, test.y_hat).map, scorer(test.x, test.y_hat).map)
        assert (again.card, again.loss, again.selection.of.name) == (scorer.card, None, "l1")
        np.testing.assert_array_equal(again.selection.unmasked_loss, scorer.selection.unmasked_loss)


def test_the_record_of_the_selection_is_about_the_given_distance(learnt):
    scorer, _ = learnt
    held = batch(biased(8, 1))
    expected = (held.y - held.y_hat).abs().mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(scorer.selection.unmasked_loss, expected, rtol=1e-5)


def test_every_channel_has_an_interval_and_one_score_is_their_mean(tmp_path):
    test = batch(biased(8, 2, 3))
    one = fit_quantiles(tmp_path / "one", 3, epochs=2)
    each = fit_quantiles(tmp_path / "each", 3, per_channel=True, epochs=2)
    assert one.network.settings["out_channels"] == each.network.settings["out_channels"] == 6
    assert each(test.x, test.y_hat).map.shape == (8, 3, SIZE, SIZE)
    torch.testing.assert_close(
        one(test.x, test.y_hat).map, each(test.x, test.y_hat).map.mean(1, keepdim=True)
    )


def test_a_network_of_ones_own_has_two_outputs_a_channel(tmp_path):
    network = nn.Conv2d(4, 6, 3, padding=1)
    for other, match in ((nn.Conv2d(3, 6, 1), "to have 3 channels"), (nn.Conv2d(4, 6, 3), "has shape")):
        with pytest.raises((ImageError, RuntimeError), match=match):
            fit_quantiles(tmp_path, 3, module=other, epochs=1)
    scorer = fit_quantiles(tmp_path, 3, module=network, epochs=1)
    with pytest.raises(MismatchError, match="load it with network="):
        load_scorer(tmp_path)
    again = load_scorer(tmp_path, network=nn.Conv2d(4, 6, 3, padding=1))
    test = batch(biased(4, 2, 3))
    assert torch.equal(again(test.x, test.y_hat).map, scorer(test.x, test.y_hat).map)
