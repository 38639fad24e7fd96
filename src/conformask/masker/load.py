"""Reads a saved masker."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from conformask.conformal.rules import rule_from_json
from conformask.distances import stored_distance
from conformask.masker.folder import read_stored
from conformask.masker.masker import Masker
from conformask.masks import family as family_by_name
from conformask.records.card import CalibrationCard
from conformask.scorers.network_scorer import NetworkScorer
from conformask.scorers.tiled import Tiled
from conformask.types import Distance, Family, Scorer, Weigh


def load(
    folder: str | Path,
    *,
    distance: Distance | Callable[[Tensor, Tensor], Tensor] | None = None,
    network: nn.Module | None = None,
    scorer: Scorer | None = None,
    family: Family | None = None,
    weight: Weigh | None = None,
) -> Masker:
    """Read what Masker.save wrote.

    What a user brought as code (distance, network, scorer, family, weight) is handed in, never imported from
    a file.

    Raises:
        MissingFileError: the folder holds no calibrated masker.
        MismatchError: the folder needs code that was not given, or that is not what was calibrated; it is of
            a newer schema, or a file in it was not saved with the others.
    """
    folder = Path(folder)
    stored = read_stored(folder)
    card = stored.card
    used = stored_distance(card.distance, distance)
    masker = Masker(
        scorer=as_calibrated(scorer or NetworkScorer.load(folder, distance=used, network=network), card),
        distance=used,
        family=family or family_by_name(card.family),
        rule=rule_from_json(card.rule),
        card=card,
        critical_lambdas=stored.critical_lambdas,
        curves=stored.curves,
        weigh=weight,
        looks=stored.looks,
        probe=stored.probe,
    )
    masker.code.refuse_changed(card.code, stored.probe or {})
    return masker


def as_calibrated(scorer: Scorer, card: CalibrationCard) -> Scorer:
    """The scorer, by tiles where the card says so."""
    if card.tiles is None or card.tiles == getattr(scorer, "tiles", None):
        return scorer
    return Tiled(scorer, *card.tiles)
