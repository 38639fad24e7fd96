"""Scorers of one's own: derived from Scorer, with its defaults, or objects that only have the members."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from conformask.arrays import Score
from conformask.errors import MismatchError
from conformask.masker.calibrate import calibrate
from conformask.masker.load import load
from conformask.masker.masker import Masker
from conformask.scores.scorer import Heuristic, Scorer, WrappedScorer, as_scorer
from conformask.scores.steps import Tiled
from synthetic_triplets import triplets
from untyped import UNTYPED

CALIBRATION = triplets(40, 0)
BATCH = next(triplets(3, 1).batches(3))


def masks(masker: Masker) -> Tensor:
    return masker.masks(BATCH.x, BATCH.y_hat)


class Derived(Scorer):
    """States only what it has to."""

    name = "derived"
    channels = 1

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def __call__(self, x: Tensor, y_hat: Tensor) -> Score:
        return Score(self.factor * x.abs())


class Members:
    """Has the members of a scorer, and no base class."""

    name, loss, channels, per_channel, family = "members", None, 1, False, "power"
    sizes = perceptual_hashes = about = selection = None
    trained_on = frozenset({"a"})
    fingerprint = "mine"

    def __call__(self, x: Tensor, y_hat: Tensor) -> Score:
        return Score(x.abs())

    def save(self, folder: Path) -> None:
        Scorer.save(self, folder)


def test_defaults() -> None:
    scorer = Derived()
    assert (scorer.family, scorer.x_channels, scorer.per_channel, scorer.trained_on) == (
        "reciprocal", 1, False, frozenset(),
    )  # fmt: skip
    assert {scorer.loss, scorer.sizes, scorer.tiles, scorer.network, scorer.selection, scorer.about} == {None}
    assert torch.equal(scorer.score_map(BATCH.x, BATCH.y_hat), BATCH.x.abs())
    assert scorer.fingerprint == Derived().fingerprint != Derived(2.0).fingerprint


@pytest.mark.leaf("export")
@pytest.mark.parametrize(
    ("make", "family"), [(Derived, "reciprocal"), pytest.param(Members, "power", marks=UNTYPED)]
)
def test_it_is_calibrated_saved_loaded_and_traced(make: type, family: str, tmp_path: Path) -> None:
    from conformask.extras.export.onnx_graph import Graph

    heuristic = Heuristic(lambda x, y_hat: x.abs(), channels=1, family=family)
    expected, masker = (
        calibrate(scorer, CALIBRATION, threshold=0.03, loss="l1") for scorer in (heuristic, make())
    )
    assert masker.card.family == expected.card.family
    assert torch.equal(masks(masker), masks(expected))
    masker.save(tmp_path)
    again = load(tmp_path, scorer=make())
    assert torch.equal(masks(again), masks(masker))
    with pytest.raises(MismatchError, match="scorer="):
        load(tmp_path, scorer=Derived(3.0))
    lam = torch.full((3,), 0.1, dtype=torch.float64)
    assert torch.equal(Graph(masker)(BATCH.x, BATCH.y_hat, lam)[1], BATCH.x.abs())


@UNTYPED
def test_an_object_is_wrapped_once_and_keeps_what_it_states() -> None:
    wrapped, tiled = as_scorer(Members()), Tiled(Members())
    assert isinstance(wrapped, WrappedScorer)
    assert as_scorer(wrapped) is wrapped
    for scorer in (wrapped, tiled, tiled.scorer):
        assert (scorer.name, scorer.family, scorer.trained_on) == ("members", "power", {"a"})
    assert (wrapped.fingerprint, tiled.fingerprint) == ("mine", "mine-1024-64")
    assert (wrapped.tiles, tiled.tiles) == (None, (1024, 64))
