"""The score that training ends with, and networks that take maps beside y_hat."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import conformask as cm
from conformask.cli import main
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError
from conformask.extras.train import fit as choice
from conformask.extras.train.fit import FOLDS, cross_fitted, is_cross_fitted, winner
from conformask.losses import loss
from conformask.masks.families import family
from conformask.records.selection import CROSS_FITTED
from conformask.scores.benchmark import HiddenShares
from conformask.scores.network_scorer import network_input
from conformask.scores.scorer import Scorer
from conformask.scores.scoring import spread_over_groups
from conformask.scores.stored import load_scorer
from conformask.scores.untrained import Untrained, packaged_network

L1 = loss("l1")
SHORT = cm.TrainingConfig(epochs=4)
NOTHING = cm.TrainingConfig(epochs=1, learning_rate=1e-9)


def world(count: int, seed: int, groups: int | None = None, **more: object) -> cm.Triplets:
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


def rough_where_wrong(count: int, seed: int) -> cm.Triplets:
    """y_hat is smooth but where it errs, which simple scores see at once."""
    generator = np.random.default_rng(seed)
    y = 0.5 + generator.uniform(-0.1, 0.1, (count, 16, 1)) * np.linspace(0, 1, 16)
    y = y.astype(np.float32)
    y_hat = y.copy()
    y_hat[:, :, :8] += generator.uniform(-0.3, 0.3, (count, 16, 8)).astype(np.float32)
    return cm.Triplets.from_arrays(np.zeros_like(y), y_hat, y)


def told_by_x(count: int, seed: int) -> cm.Triplets:
    """y_hat is rough everywhere, and too bright where x is 1."""
    generator = np.random.default_rng(seed)
    y = generator.uniform(0.3, 0.7, (count, 16, 16)).astype(np.float32)
    x = (generator.random((count, 4, 4)) < 0.3).repeat(4, axis=1).repeat(4, axis=2).astype(np.float32)
    return cm.Triplets.from_arrays(x, y + 0.2 * x, y)


def quiet(train: cm.Triplets, out: Path, **settings: object) -> Scorer:
    with warnings.catch_warnings(action="ignore"):
        return cm.fit_scorer(train, out=out, **{"training": SHORT, **settings})


# the rule


def shares(mean: float, drawn: list[float]) -> HiddenShares:
    return HiddenShares(np.array([mean]), np.array(drawn))


def test_a_simpler_score_wins_ties() -> None:
    same = [0.3, 0.4, 0.5, 0.6]
    tied = {"residual": shares(0.4, same), "packaged": shares(0.4, same), "trained": shares(0.4, same)}
    assert winner(tied) == "residual"
    assert winner({**tied, "trained": shares(0.35, [0.2, 0.3, 0.4, 0.7])}) == "trained"
    assert winner({**tied, "trained": shares(0.35, [0.2, 0.3, 0.5, 0.6])}) == "residual"
    assert winner({**tied, "packaged": shares(0.3, [0.1, 0.1, 0.1, 0.1])}) == "packaged"
    assert winner({**tied, "spread": shares(0.2, [0.2, 0.2, 0.2, 0.2])}) == "spread"


def test_images_come_from_as_many_groups_as_there_are() -> None:
    images = world(60, 0, groups=12)
    chosen = spread_over_groups(images, 24)
    assert sorted(chosen.groups) == sorted([f"patient {at}" for at in range(12)] * 2)
    assert len(spread_over_groups(images, 100)) == 60


def test_every_image_is_scored_by_a_network_that_has_not_seen_its_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, seen = world(45, 0, groups=9), {}

    def fit_on(others: cm.Triplets, fold: int) -> Scorer:
        scorer = cm.Heuristic(lambda x, y_hat: (x - y_hat).abs(), channels=1)
        seen[scorer] = set(others.groups)
        return scorer

    scored: list[str] = []

    def noted(scorer: Scorer, some: cm.Triplets) -> list:
        assert not seen[scorer] & set(some.groups)
        assert len(seen[scorer]) == 6
        scored.extend(some.names)
        return unpatched(scorer, some)

    unpatched = choice.scored_batches
    monkeypatch.setattr(choice, "scored_batches", noted)
    benchmark, hidden = cross_fitted(images, L1, family(L1.family), 0.03, fit_on)
    assert scored == list(benchmark.images.names), "mask sizes are in the order of the images"
    assert len(seen) == FOLDS
    assert hidden.share == pytest.approx(benchmark.others["residual"].share, abs=1e-6)


def test_where_selection_images_suffice_nothing_is_cross_fitted() -> None:
    assert is_cross_fitted(world(60, 0, groups=12), world(10, 1, groups=5))
    assert not is_cross_fitted(world(60, 0, groups=12), world(40, 1, groups=20))
    assert not is_cross_fitted(world(60, 0, groups=2), world(10, 1, groups=1))
    assert not is_cross_fitted(world(401, 0, groups=12), world(10, 1, groups=5))


# what training returns


def test_a_network_that_learnt_nothing_is_not_taken(tmp_path: Path) -> None:
    train = rough_where_wrong(40, 0)
    with pytest.warns(UserWarning, match="the run uses .* for the score: on 40 cross-fitted"):
        scorer = cm.fit_scorer(train, out=tmp_path, training=NOTHING, network=cm.NetworkOptions(width=4))
    comparison = scorer.selection.comparison
    assert comparison.part == CROSS_FITTED
    assert comparison.hidden < 0.9 * comparison.others["trained"]
    assert scorer.name not in comparison.others
    again = load_scorer(tmp_path)
    batch = next(rough_where_wrong(4, 1).batches(4))
    untrained = Untrained(scorer.name).of(train, L1)
    assert again.name == scorer.name
    assert torch.equal(again(batch.x, batch.y_hat).map, untrained(batch.x, batch.y_hat).map)
    masker = cm.calibrate(scorer, rough_where_wrong(40, 2), threshold=0.02)
    masker.save(tmp_path)
    assert "cross-fitted" in (tmp_path / "CARD.md").read_text()
    with pytest.raises(CalibrationError):
        cm.calibrate(scorer, train, threshold=0.02)


def test_the_trained_one_is_taken_where_it_hides_less(tmp_path: Path) -> None:
    scorer = quiet(told_by_x(64, 0), tmp_path, training=cm.TrainingConfig(epochs=20))
    assert scorer.name == "mask"
    others = scorer.selection.comparison.others
    assert scorer.selection.comparison.hidden < min(others.values())
    assert "trained" not in others


def test_who_asks_for_a_network_gets_it(tmp_path: Path) -> None:
    scorer = quiet(
        rough_where_wrong(40, 0),
        tmp_path,
        scorer="mask",
        training=NOTHING,
        network=cm.NetworkOptions(width=4),
    )
    assert scorer.name == "mask"
    assert not (tmp_path / "cross-fitting").exists()


def test_a_killed_comparison_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, settings = world(45, 0, groups=9), {"training": cm.TrainingConfig(epochs=2, resume=True)}
    whole = quiet(train, tmp_path / "whole", **settings)
    unpatched, calls = choice.scored_batches, []

    def killed(*given: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return unpatched(*given)

    monkeypatch.setattr(choice, "scored_batches", killed)
    with pytest.raises(KeyboardInterrupt):
        quiet(train, tmp_path / "killed", **settings)
    assert not (tmp_path / "killed" / "scorer.json").exists()
    resumed = quiet(train, tmp_path / "killed", **settings)
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.selection.comparison == whole.selection.comparison


def test_minutes_are_for_all_networks_together(tmp_path: Path) -> None:
    quiet(world(45, 0, groups=9), tmp_path, training=cm.TrainingConfig(max_minutes=0.06, batch_size=8))
    plans = [
        json.loads((folder / "training.json").read_text())["plan"]["max_minutes"]
        for folder in (tmp_path, *sorted((tmp_path / "cross-fitting").iterdir()))
    ]
    assert plans == pytest.approx([0.03, 0.01, 0.01, 0.01])


# maps as inputs


@pytest.mark.parametrize("how", [{}, {"scale": 1e-6}, {"inverted": True, "scale": 300.0, "shift": -50.0}])
def test_a_network_learns_from_a_map_of_any_range(tmp_path: Path, how: dict) -> None:
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


def test_what_a_run_keeps_of_maps(tmp_path: Path) -> None:
    scorer = quiet(world(45, 0), tmp_path, scorer="mask", selection=world(20, 1))
    again, batch = load_scorer(tmp_path), next(world(5, 2).batches(5))
    expected = scorer(batch.x, batch.y_hat, batch.cues).map
    assert torch.equal(again(batch.x, batch.y_hat, batch.cues).map, expected)
    assert again.fingerprint == scorer.fingerprint
    masker = cm.calibrate(scorer, world(45, 3), threshold=0.02)
    masks = masker(batch.x, batch.y_hat, cues=batch.cues)
    assert masks.shape == batch.y_hat.shape
    with pytest.raises(MismatchError, match="maps"):
        masker(batch.x, batch.y_hat)
    with pytest.raises(MismatchError, match="maps"):
        cm.calibrate(scorer, world(45, 3, told=False), threshold=0.02)


def test_packaged_weights_know_nothing_of_maps_until_they_are_trained() -> None:
    images = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    x, y_hat, cues = images
    plain, with_maps = packaged_network(1, 1, 2).eval(), packaged_network(1, 1, 2, 2).eval()
    both = network_input(x, y_hat, cues, [(0.0, 1.0)])
    assert both.shape == (2, 4, 16, 16)
    torch.testing.assert_close(both[:, 1], -both[:, 2])
    assert torch.equal(plain(network_input(x, y_hat)), with_maps(both))


@pytest.mark.parametrize("network", [None, cm.NetworkOptions(from_scratch=True, width=4)])
def test_of_volumes_too(tmp_path: Path, network: cm.NetworkOptions | None) -> None:
    generator = np.random.default_rng(0)
    x, y_hat, y, spread = generator.random((4, 12, 6, 16, 16), dtype=np.float32)
    images = cm.Triplets.from_arrays(x, y_hat, y, cues=spread, reading=cm.Reading(axes="ZYX"))
    scorer = quiet(images, tmp_path, scorer="mask", network=network, training=cm.TrainingConfig(epochs=1))
    batch = next(images.batches(2))
    assert scorer(batch.x, batch.y_hat, batch.cues).map.shape == (2, 1, 6, 16, 16)


def test_maps_from_which_nothing_can_be_learnt_are_refused(tmp_path: Path) -> None:
    flat = world(45, 0, scale=0.0, shift=3.0)
    with pytest.raises(InvalidArgumentError, match="map 1 holds 3 at nearly every pixel"):
        cm.fit_scorer(flat, out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("how", "name"), [({}, "map 1"), ({"inverted": True}, "map 1, higher trusted")])
def test_a_map_is_a_candidate_either_way_round(tmp_path: Path, how: dict, name: str) -> None:
    scorer = quiet(world(60, 0, **how), tmp_path, training=NOTHING)
    assert scorer.name == name
    comparison = scorer.selection.comparison
    assert comparison.hidden < 0.8 * comparison.others["trained"]
    masker = cm.calibrate(load_scorer(tmp_path), world(60, 1, **how), threshold=0.02)
    batch = next(world(3, 2, **how).batches(3))
    masks = masker.masks(batch.x, batch.y_hat, cues=batch.cues)
    side, value = scorer.shown_text(masker.card.rule["lam"]).rstrip(".").split()[-2:]
    shown = batch.cues > float(value) if side == "above" else batch.cues < float(value)
    assert side == ("above" if how else "below")
    assert torch.equal(masks > 0.5, shown)


def written(folder: Path, images: cm.Triplets) -> Path:
    """Files as people have them: the maps in a folder of their own."""
    for role in ("x", "y_hat", "y", "uncertainty"):
        (folder / role).mkdir(parents=True)
    for triplet in images:
        for role, image in (("x", triplet.x), ("y_hat", triplet.y_hat), ("y", triplet.truth())):
            tifffile.imwrite(folder / role / f"{triplet.name}.tif", image[0])
        np.save(folder / "uncertainty" / f"{triplet.name}.npy", triplet.cues[0])
    return folder


def test_from_maps_on_disk_to_masks(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, new = written(tmp_path / "data", world(120, 0)), written(tmp_path / "new", world(4, 1))
    run, out = tmp_path / "run", tmp_path / "masks"
    with warnings.catch_warnings(action="ignore"):
        main(["train", str(data), str(run), "--cues", "uncertainty", "--scorer", "mask", "--epochs", "2"])
        main(["calibrate", str(run), str(written(tmp_path / "more", world(40, 2))), "--threshold", "0.02"])
        main(["mask", str(run), str(new), str(out), "--json"])
    masker = cm.load(run)
    assert (masker.scorer.cue_channels, masker.card.cues) == (1, "uncertainty")
    for triplet in cm.Triplets.from_folder(new, reading=masker.card.reading):
        mask = tifffile.imread(out / "masks" / f"{triplet.name}.tif") / 65535
        np.testing.assert_array_equal(mask, masker(triplet))
    for file in (new / "uncertainty").iterdir():
        file.unlink()
    (new / "uncertainty").rmdir()
    with pytest.raises(SystemExit):
        main(["mask", str(run), str(new), str(tmp_path / "more-masks")])
    assert "no folder uncertainty/, which the score needs" in " ".join(capsys.readouterr().err.split())


def test_an_ending_that_needs_no_maps_asks_for_none(tmp_path: Path) -> None:
    data = written(tmp_path / "data", rough_with_a_map(40))
    train = cm.Triplets.from_folder(data, reading=cm.Reading(cues="uncertainty"))
    scorer = quiet(train, tmp_path / "run", training=NOTHING)
    assert (scorer.cue_channels, scorer.card.cues) == (0, None)


def rough_with_a_map(count: int) -> cm.Triplets:
    """Images whose errors simple scores see, with a map of noise."""
    images = [rough_where_wrong(count, 0)[at] for at in range(count)]
    noise = np.random.default_rng(1).random((count, 16, 16), dtype=np.float32)
    roles = ([getattr(each, role)[0] for each in images] for role in ("x", "y_hat", "y"))
    return cm.Triplets.from_arrays(*roles, cues=noise)
