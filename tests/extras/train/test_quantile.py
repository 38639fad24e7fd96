"""The paper's baseline, on worlds whose quantiles are known."""

import numpy as np
import pytest
import torch
from torch import nn

from conformask.errors import MismatchError
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.scores.network_scorer import NetworkScorer, head, network_input, pinball
from conformask.scores.stored import load_scorer

LOUD, QUIET, BIAS = 0.2, 0.05, 0.1
SIZE = 16


def world(count: int, seed: int, channels: int = 1) -> Triplets:
    """y - y_hat is uniform around a bias, wide where x is bright; channel k is k + 1 times quieter."""
    generator = np.random.default_rng(seed)
    x, y_hat, y = [], [], []
    for _ in range(count):
        bright = np.zeros((SIZE, SIZE, 1), np.float32)
        bright[:, generator.integers(4, SIZE - 3) :] = 1
        predicted = generator.uniform(0.35, 0.55, (SIZE, SIZE, channels)).astype(np.float32)
        spread = np.where(bright > 0, LOUD, QUIET) / np.arange(1, channels + 1)
        x.append(bright)
        y_hat.append(predicted)
        y.append((predicted + BIAS + spread * generator.uniform(-1, 1, predicted.shape)).astype(np.float32))
    return Triplets.from_arrays(x, y_hat, y)


def fitted(
    out, channels: int = 1, *, per_channel: bool = False, module: nn.Module | None = None, epochs: int = 25
) -> NetworkScorer:
    return fit_scorer(
        world(32, 0, channels),
        selection=world(8, 1, channels),
        loss="l1",
        network=NetworkOptions(module, per_channel=per_channel, width=8),
        training=TrainingConfig(epochs=epochs, batch_size=8, learning_rate=5e-3),
        out=out,
        scorer="quantile",
    )


@pytest.fixture(scope="module")
def learnt(tmp_path_factory) -> tuple[NetworkScorer, object]:
    out = tmp_path_factory.mktemp("quantile")
    return fitted(out), out


def batch(triplets: Triplets):
    return next(triplets.batches(len(triplets)))


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_pinball_is_least_at_the_quantile(level: float) -> None:
    y = torch.randn(1, 1, 60, 70, generator=torch.Generator().manual_seed(0)).exp()
    quantile = torch.quantile(y, level)
    places = quantile + torch.linspace(-0.5, 0.5, 101)
    losses = torch.stack([pinball(place.expand_as(y), y, level)[0] for place in places])
    assert float(places[losses.argmin()]) == pytest.approx(float(quantile), abs=0.02)


def test_pinball_is_per_image() -> None:
    y, bound = torch.rand(2, 3, 2, 5, 5)
    assert pinball(bound, y, 0.1).shape == (3,)
    torch.testing.assert_close(pinball(bound, y, 0.1)[1:2], pinball(bound[1:2], y[1:2], 0.1))
    torch.testing.assert_close(pinball(y - 0.1, y, 0.05), torch.full((3,), 0.005))
    torch.testing.assert_close(pinball(y + 0.1, y, 0.05), torch.full((3,), 0.095))


def test_it_recovers_the_quantiles(learnt) -> None:
    scorer, _ = learnt
    test = batch(world(16, 2))
    with torch.no_grad():
        below, above = scorer.network(network_input(test.x, test.y_hat)).float().chunk(2, dim=1)
    for bright, spread in ((0, QUIET), (1, LOUD)):
        here = test.x == bright
        assert float(-below[here].mean()) == pytest.approx(BIAS - 0.9 * spread, abs=0.02)
        assert float(above[here].mean()) == pytest.approx(BIAS + 0.9 * spread, abs=0.02)
        inside = (test.y >= test.y_hat - below) & (test.y <= test.y_hat + above)
        assert float(inside[here].float().mean()) == pytest.approx(0.9, abs=0.06)


def test_the_score_is_the_width(learnt) -> None:
    scorer, _ = learnt
    test = batch(world(6, 2))
    score = scorer(test.x, test.y_hat).map
    assert score.shape == (6, 1, SIZE, SIZE)
    assert float(score.min()) >= 0
    assert float(score[test.x == 1].mean()) == pytest.approx(1.8 * LOUD, abs=0.04)
    assert float(score[test.x == 0].mean()) == pytest.approx(1.8 * QUIET, abs=0.04)


def test_widths_are_clipped_and_crossing_bounds_have_none() -> None:
    quantile = head("quantile", loss("l1"))
    output = torch.tensor([[0.2, 3.0, -0.4], [0.3, 3.0, 0.1]]).reshape(1, 6, 1, 1)
    torch.testing.assert_close(quantile.score(output).flatten(), torch.tensor([0.5, 1.0, 0.0]))
    start = torch.full((1, 6, 1, 1), quantile.start)
    torch.testing.assert_close(quantile.score(start), torch.full((1, 3, 1, 1), 0.14))


def test_it_is_fitted_for_no_distance_and_saved_and_loaded(learnt, tmp_path) -> None:
    scorer, out = learnt
    assert (scorer.name, scorer.family, scorer.loss) == ("quantile", "reciprocal", None)
    assert scorer.selection.of.name == "l1"
    scorer.save(tmp_path)
    test = batch(world(6, 2))
    for folder, given in ((out, None), (tmp_path, loss("l1")), (tmp_path, loss("ssim"))):
        again = load_scorer(folder, loss=given)
        assert torch.equal(again(test.x, test.y_hat).map, scorer(test.x, test.y_hat).map)
        assert (again.card, again.loss, again.selection.of.name) == (scorer.card, None, "l1")
        np.testing.assert_array_equal(again.selection.unmasked_loss, scorer.selection.unmasked_loss)


def test_the_record_of_the_selection_is_about_the_given_distance(learnt) -> None:
    scorer, _ = learnt
    held = batch(world(8, 1))
    expected = (held.y - held.y_hat).abs().mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(scorer.selection.unmasked_loss, expected, rtol=1e-5)


def test_every_channel_has_an_interval_and_one_score_is_their_mean(tmp_path) -> None:
    test = batch(world(8, 2, 3))
    one = fitted(tmp_path / "one", 3, epochs=2)
    each = fitted(tmp_path / "each", 3, per_channel=True, epochs=2)
    assert one.network.settings["out_channels"] == each.network.settings["out_channels"] == 6
    assert each(test.x, test.y_hat).map.shape == (8, 3, SIZE, SIZE)
    torch.testing.assert_close(
        one(test.x, test.y_hat).map, each(test.x, test.y_hat).map.mean(1, keepdim=True)
    )


def test_a_network_of_ones_own_has_two_outputs_a_channel(tmp_path) -> None:
    network = nn.Conv2d(4, 6, 3, padding=1)
    scorer = fitted(tmp_path, 3, module=network, epochs=1)
    with pytest.raises(MismatchError, match="load it with network="):
        load_scorer(tmp_path)
    again = load_scorer(tmp_path, network=nn.Conv2d(4, 6, 3, padding=1))
    test = batch(world(4, 2, 3))
    assert torch.equal(again(test.x, test.y_hat).map, scorer(test.x, test.y_hat).map)
