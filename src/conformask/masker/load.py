"""Saving and reading of maskers."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from conformask.arrays import Weigh
from conformask.losses import AnyLoss, stored_loss
from conformask.masker.card import card_text
from conformask.masker.components import Components
from conformask.masker.masker import Masker
from conformask.masker.run_folder import CARD, StoredMasker, mark_exploratory, read_stored, write_stored
from conformask.masks.families import family as family_by_name
from conformask.masks.family import Family
from conformask.records.record import atomic_write, exclusive_folder
from conformask.scores.level import Levelled, LevelModel, along_levels
from conformask.scores.network_scorer import load_scorer, save_scorer, stored_card
from conformask.scores.scorer import Scorer, Tiled, as_scorer, for_loss, in_patches
from conformask.scores.untrained import check_scorer, load_given


def load(
    folder: str | Path,
    *,
    loss: AnyLoss | None = None,
    network: nn.Module | None = None,
    scorer: Scorer | None = None,
    family: Family | None = None,
    weight: Weigh | None = None,
) -> Masker:
    """Read a masker that Masker.save wrote.

    Components that a user brought as code (loss, network, scorer, family, weight) are passed as
    arguments, never imported from a file.

    Raises:
        MissingFileError: the folder holds no calibrated masker.
        MismatchError: the folder needs code that was not given, or that is not what was calibrated; it is of
            a newer schema, or a file in it was not saved with the others.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> saved = masker.save("run")
        >>> cm.load("run", scorer=scorer).fingerprint == saved.fingerprint
        True
    """
    folder = Path(folder)
    kept = read_stored(folder)
    used = stored_loss(kept.card.loss, loss)
    card = replace(kept.card, loss=used)
    if scorer is not None:
        check_scorer(scorer)
    scorer = scorer or load_given(folder)
    if scorer is None:
        same = stored_card(folder).loss.to_json() == {**card.loss.to_json(), "regional": False}
        scorer = load_scorer(folder, loss=loss if same else None, network=network)
    family = family or family_by_name(card.family)
    # wrapped as at calibration
    scorer = for_loss(as_scorer(scorer), used)
    scorer = scorer if card.tiles in (None, scorer.tiles) else Tiled(scorer, *card.tiles)
    scorer = in_patches(scorer, card.patches)
    if kept.level is not None:
        model, record = LevelModel.from_arrays(kept.level), scorer.selection
        if record is not None and family.name in record.curves:
            curves = along_levels(record.curves[family.name], model, family)
            record = replace(record, curves={family.name: curves})
        scorer = Levelled(scorer, model, record)
    masker = Masker(
        scorer=scorer,
        loss=used,
        family=family,
        rule=card.rule,
        card=card,
        critical_lambdas=kept.critical_lambdas,
        curves=kept.curves,
        weigh=weight,
        perceptual_hashes=kept.perceptual_hashes,
        probe=kept.probe,
    )
    Components(scorer, used, family, weight).refuse_changed(card.code, kept.probe or {})
    return masker


def save(masker: Masker, folder: Path) -> Masker:
    """Write a run folder as `Masker.save` does, and return the masker as it was saved."""
    code = Components(masker.scorer, masker.loss, masker.family, masker.weigh)
    code.refuse_changed(masker.card.code, {})
    with exclusive_folder(folder):
        masker = replace(masker, card=mark_exploratory(masker.card, folder))
        save_scorer(masker.scorer, folder)
        write_calibration(folder, masker)
        text = card_text(masker.card, masker.scorer.name, masker.fingerprint, masker.comparison)
        with atomic_write(folder / CARD) as aside:
            aside.write_text(text, encoding="utf-8")
    return masker


def write_calibration(folder: Path, masker: Masker) -> None:
    """Write the parts of a masker that are saved, without its scorer."""
    arrays = masker.critical_lambdas, masker.curves, masker.perceptual_hashes, masker.probe
    level = masker.scorer.model.arrays() if isinstance(masker.scorer, Levelled) else None
    write_stored(folder, StoredMasker(masker.card, masker.fingerprint, *arrays, level))
