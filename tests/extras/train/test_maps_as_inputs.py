"""Networks that take maps beside y_hat."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import conformask as cm
from conformask.cli import main
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.scores.network_scorer import network_input
from conformask.scores.scorer import Scorer
from conformask.scores.stored import load_scorer
from conformask.scores.untrained import packaged_network

SHORT = cm.TrainingConfig(epochs=4)


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


def quiet(train: cm.Triplets, out: Path, **settings: object) -> Scorer:
    with warnings.catch_warnings(action="ignore"):
        return cm.fit_scorer(train, out=out, **{"training": SHORT, **settings})


@pytest.mark.thorough
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


@pytest.mark.thorough
def test_what_a_run_keeps_of_maps(tmp_path: Path) -> None:
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
    assert scorer(batch.x, batch.y_hat, batch.layers["cues"]).map.shape == (2, 1, 6, 16, 16)


def test_maps_from_which_nothing_can_be_learnt_are_refused(tmp_path: Path) -> None:
    flat = world(45, 0, scale=0.0, shift=3.0)
    with pytest.raises(InvalidArgumentError, match="map 1 holds 3 at nearly every pixel"):
        cm.fit_scorer(flat, out=tmp_path)
    assert not list(tmp_path.iterdir())


def written(folder: Path, images: cm.Triplets) -> Path:
    """Files as people have them: the maps in a folder of their own."""
    for role in ("x", "y_hat", "y", "uncertainty"):
        (folder / role).mkdir(parents=True)
    for triplet in images:
        for role, image in (("x", triplet.x), ("y_hat", triplet.y_hat), ("y", triplet.truth())):
            tifffile.imwrite(folder / role / f"{triplet.name}.tif", image[0])
        np.save(folder / "uncertainty" / f"{triplet.name}.npy", triplet.layers["cues"][0])
    return folder


@pytest.mark.thorough
def test_from_maps_on_disk_to_masks(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
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
