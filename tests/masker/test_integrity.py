"""A promise holds for the code that was calibrated, and for no other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conformask.background import Compute
from conformask.errors import MismatchError
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masker.calibrate import calibrate
from conformask.masker.load import load
from conformask.masker.masker import Masker
from conformask.masks.critical import loss_under, measures
from conformask.masks.families import Reciprocal
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import selection_record
from conformask.scores.steps import Tiled
from stated import calibrated
from synthetic_triplets import arrays, scale_of, signed, triplets

CALIBRATION, SELECTION, TEST = triplets(40, 0), triplets(30, 1), next(triplets(200, 2).batches(200))
SCORER = Heuristic(scale_of, channels=1)


def named(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    function.__name__ = name
    return function


def quarter(x: Tensor, y_hat: Tensor) -> Tensor:
    return scale_of(x, y_hat) / 4


def saved(folder: Path, scorer=SCORER, distance="l1", **more) -> Masker:
    return calibrated(scorer, CALIBRATION, threshold=0.03, distance=distance, **more).save(folder)


def test_a_changed_score_is_refused_under_the_same_name(tmp_path: Path) -> None:
    masker = saved(tmp_path)
    changed = Heuristic(named(quarter, "scale_of"), channels=1)
    mask = replace(masker, scorer=changed)(TEST.x, TEST.y_hat)
    kept = loss_under(masker.loss, mask, TEST) <= 0.03
    assert kept.float().mean() < 0.5, "the promise of 0.9 would not hold"
    with pytest.raises(MismatchError, match="the code or the weights of scorer= have changed"):
        load(tmp_path, scorer=changed)
    load(tmp_path, scorer=Heuristic(scale_of, channels=1))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, y_hat: Tensor) -> Tensor:
        return scale_of(x, y_hat) * self.gain


def test_other_weights_are_refused_at_save_and_at_load(tmp_path: Path) -> None:
    network = Network()
    masker = calibrate(Heuristic(network, channels=1), CALIBRATION, threshold=0.03, loss="l1")
    masker.save(tmp_path / "run")
    load(tmp_path / "run", scorer=Heuristic(network, channels=1))
    with torch.no_grad():
        network.gain.mul_(0.25)
    with pytest.raises(MismatchError, match="scorer="):
        load(tmp_path / "run", scorer=Heuristic(network, channels=1))
    with pytest.raises(MismatchError, match="scorer="):
        masker.save(tmp_path / "again")


HIDDEN = {"factor": 1.0}


def hidden(x: Tensor, y_hat: Tensor) -> Tensor:
    return scale_of(x, y_hat) * HIDDEN["factor"]


@pytest.mark.parametrize("tiled", [False, True])
def test_other_values_are_refused_where_the_code_looks_the_same(tmp_path, monkeypatch, tiled: bool) -> None:
    scorer = Heuristic(hidden, channels=1)
    scorer = Tiled(scorer) if tiled else scorer
    saved(tmp_path, scorer)
    load(tmp_path, scorer=scorer)
    monkeypatch.setitem(HIDDEN, "factor", 0.25)
    with pytest.raises(MismatchError, match="the values of scorer= on a test image have changed"):
        load(tmp_path, scorer=scorer)
    monkeypatch.setitem(HIDDEN, "factor", 1 + 1e-5)
    load(tmp_path, scorer=scorer)


def test_another_distance_of_the_same_name_is_refused(tmp_path: Path) -> None:
    own = loss(signed)
    knowing = replace(SCORER, selection=selection_record(SCORER, SELECTION, own, [Reciprocal()]))
    saved(tmp_path, knowing, distance=signed)
    load(tmp_path, scorer=SCORER, loss=signed)

    def other(a: Tensor, b: Tensor) -> Tensor:
        return signed(a, b) / 4

    with pytest.raises(MismatchError, match="loss="):
        load(tmp_path, scorer=SCORER, loss=named(other, "signed"))


def test_another_weight_is_refused(tmp_path: Path) -> None:
    def weight(x: Tensor, y_hat: Tensor) -> Tensor:
        return 0.5 + x.flatten(1).mean(1)

    def other(x: Tensor, y_hat: Tensor) -> Tensor:
        return 0.6 + x.flatten(1).mean(1)

    saved(tmp_path, guarantee="weighted", weight=weight)
    load(tmp_path, scorer=SCORER, weight=weight)
    with pytest.raises(MismatchError, match="weight="):
        load(tmp_path, scorer=SCORER, weight=named(other, "weight"))


@dataclass(frozen=True)
class Shifted(Reciprocal):
    """A family of one's own."""

    shift: float = 0.0

    def settings(self) -> dict[str, object]:
        return {"name": "reciprocal"}


def test_another_family_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, family=Shifted())
    load(tmp_path, scorer=SCORER, family=Shifted())
    with pytest.raises(MismatchError, match="family="):
        load(tmp_path, scorer=SCORER, family=Shifted(1.0))


def test_a_masker_whose_code_is_unknown_is_loaded(tmp_path: Path) -> None:
    """As conformask 0.1 left them."""
    masker = calibrate(SCORER, CALIBRATION, threshold=0.03, loss="l1")
    replace(masker, card=replace(masker.card, code={}), probe=None).save(tmp_path)
    again = load(tmp_path, scorer=SCORER)
    np.testing.assert_array_equal(again(TEST.x, TEST.y_hat), masker(TEST.x, TEST.y_hat))


class StoppedError(Exception):
    """Stands for a kill."""


def interrupted(out: Path, calibration: Triplets, **more) -> None:
    """A calibration that is killed after the first of its parts."""
    measured = measures

    def once(item, *arguments, **named):
        if item.names[0] != calibration.names[0]:
            raise StoppedError
        return measured(item, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conformask.masker.measure.measures", once)
        with pytest.raises(StoppedError):
            calibrated(SCORER, calibration, threshold=0.03, compute=Compute(parts=out), **more)
    assert len(list(out.glob("part-*"))) == 1


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("conformask.scores.scoring.PART", 16)
    return tmp_path / "parts"


def test_a_resumed_calibration_takes_up_no_parts_of_other_images(parts: Path) -> None:
    """The same names, but the network's outputs were made anew between kill and resume."""
    x, y_hat, y = arrays(40, 0)
    before = Triplets.from_arrays(x, y_hat, y)
    after = Triplets.from_arrays(x, (y + 3 * (y_hat - y)).clip(0, 1), y)
    interrupted(parts, before)
    resumed = calibrate(SCORER, after, threshold=0.03, loss="l1", compute=Compute(parts=parts))
    anew = calibrate(SCORER, after, threshold=0.03, loss="l1")
    np.testing.assert_array_equal(resumed.critical_lambdas, anew.critical_lambdas)


def test_a_resumed_calibration_takes_up_no_parts_of_other_weights(parts: Path) -> None:
    def heavy(x: Tensor, y_hat: Tensor) -> Tensor:
        return 1 + x.mean((1, 2, 3))

    def light(x: Tensor, y_hat: Tensor) -> Tensor:
        return 1 + y_hat.mean((1, 2, 3))

    weighted = {"threshold": 0.03, "guarantee": "weighted", "selection": SELECTION}
    interrupted(parts, CALIBRATION, weight=heavy, guarantee="weighted", selection=SELECTION)
    changed = named(light, "heavy")
    resumed = calibrated(SCORER, CALIBRATION, weight=changed, compute=Compute(parts=parts), **weighted)
    anew = calibrated(SCORER, CALIBRATION, weight=changed, **weighted)
    np.testing.assert_array_equal(resumed.curves.weight, anew.curves.weight)
