"""The masker: a scorer, a family and a rule for lambda, with a promise."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from conformask.calibration import critical_lambdas, size_at
from conformask.conformal.crossing import first_crossing
from conformask.conformal.guarantees import Guarantee
from conformask.conformal.guarantees import guarantee as guarantee_by_name
from conformask.conformal.rules import rule_from_json
from conformask.data.images import from_user_array
from conformask.data.triplets import Triplets
from conformask.distances import distance as distance_by_name
from conformask.distances import stored_distance
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError
from conformask.masks import family as family_by_name
from conformask.results import CalibrationCard, Curves, Selection, read_arrays, write_arrays
from conformask.scorers.dataset import Survey, survey
from conformask.scorers.fit import selection_record
from conformask.scorers.network_scorer import NetworkScorer
from conformask.scorers.scoring import score_of, scored
from conformask.types import Array, Distance, Facts, Family, Images, LambdaRule, Score, Scorer

LISTED_QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Masker:
    """Masks with a promise. Make one with calibrate() or load()."""

    scorer: Scorer
    distance: Distance
    family: Family
    rule: LambdaRule
    card: CalibrationCard
    critical_lambdas: Float[np.ndarray, "n"]
    """Of the calibration images, in the order of the curves."""
    curves: Curves | None

    @property
    def promise(self) -> str:
        """For example "P(l1 <= 0.02) >= 0.90 for new images like the 400 calibration images (marginal)"."""
        return self.card.promise

    def __call__(
        self,
        x: Tensor | Array,
        y_hat: Tensor | Array,
        *,
        weight: Sequence[float] | None = None,
        category: Sequence[str] | None = None,
    ) -> Tensor | Array:
        """The mask, in [0, 1], 1 = trusted.

        Args:
            x: the degraded input: a tensor (N, Cx, Hx, Wx) in [0, 1], or an array (H, W) or (H, W, C),
                whose values are mapped by the calibration's data_range, or by their type: floats in [0, 1].
            y_hat: the network's output, of the same kind.
            weight: of each image, where the rule asks for it.
            category: of each image, where the rule asks for it.

        Returns:
            A tensor (N, 1 or C, H, W) for tensors; an array (H, W), or (H, W, C) per channel, for arrays.

        Raises:
            MismatchError: other channels than those of the calibration images.
            ImageError: values outside the range, NaN or infinity.
        """
        if isinstance(x, Tensor) and isinstance(y_hat, Tensor):
            return self.masks(x, y_hat, weight=weight, category=category)[1]
        if isinstance(x, Tensor) or isinstance(y_hat, Tensor):
            raise InvalidArgumentError("x and y_hat must both be tensors or both be arrays")
        batch = (torch.from_numpy(from_user_array(image, self.card.data_range))[None] for image in (x, y_hat))
        mask = self.masks(*batch, weight=weight, category=category)[1][0].numpy()
        return mask[0] if len(mask) == 1 else np.moveaxis(mask, 0, -1)

    def masks(
        self,
        x: Images,
        y_hat: Images,
        *,
        weight: Sequence[float] | None = None,
        category: Sequence[str] | None = None,
    ) -> tuple[Score, Images]:
        """Score and mask of each image."""
        if y_hat.shape[1] != self.card.channels:
            raise MismatchError(
                f"this masker takes y_hat with {self.card.channels} channels, not {y_hat.shape[1]}"
            )
        if tuple(y_hat.shape[-2:]) not in self.card.sizes:
            warnings.warn(
                f"images of {tuple(y_hat.shape[-2:])}: the promise was calibrated on {list(self.card.sizes)} "
                "and does not cover other sizes",
                stacklevel=3,
            )
        score = score_of(self.scorer, x, y_hat)
        return score, self.open(score, weight=weight, category=category)

    def open(
        self, score: Score, *, weight: Sequence[float] | None = None, category: Sequence[str] | None = None
    ) -> Images:
        """The masks of scored images: gathers the facts that the rule needs, then applies the family."""
        facts = Facts(
            n=len(score.map),
            weight=None if weight is None else np.asarray(weight, dtype=np.float64),
            category=category,
            features=None if score.features is None else score.features.cpu().numpy(),
        )
        lam = torch.as_tensor(self.rule(facts), device=score.map.device)
        return self.family.apply(score.map, self.family.level(score.map, lam))

    def stored_curves(self) -> Curves:
        """The curves of the calibration images.

        Raises:
            MismatchError: none are stored.
        """
        if self.curves is None:
            raise MismatchError("no curves are stored: calibrate with selection= so that a grid can be made")
        return self.curves

    def recalibrate(
        self, *, threshold: float | None = None, confidence: float | None = None, guarantee: str | None = None
    ) -> "Masker":
        """A new masker for another promise, from the stored curves, without touching an image.

        On the grid of the curves: slightly conservative where the distance has an exact solution.

        Raises:
            MismatchError: no curves are stored.
            CalibrationError: the promise cannot be given.
        """
        curves = self.stored_curves()
        threshold = _positive(self.card.threshold if threshold is None else threshold)
        wanted = guarantee_by_name(
            self.card.guarantee if guarantee is None else guarantee,
            self.card.confidence if confidence is None else confidence,
        )
        critical = first_crossing(curves.grid, curves.distance, threshold)
        rule = _rule(wanted, critical, threshold, self.card.distance)
        card = replace(
            self.card,
            threshold=threshold,
            confidence=wanted.confidence,
            guarantee=wanted.name,
            rule=rule.to_json(),
            exact=False,
            calibrated=_now(),
        )
        return replace(self, rule=rule, card=card, critical_lambdas=critical)

    def save(self, folder: str | Path) -> None:
        """Write a run folder: scorer.*, selection.npz, curves.npz, calibration.json. No pickle."""
        folder = Path(folder)
        self.scorer.save(folder)
        arrays = {"critical_lambda": self.critical_lambdas}
        write_arrays(folder / "curves.npz", arrays | (self.curves.arrays() if self.curves else {}))
        self.card.save(folder)


def load(
    folder: str | Path,
    *,
    distance: Distance | Callable[[Tensor, Tensor], Tensor] | None = None,
    network: nn.Module | None = None,
    scorer: Scorer | None = None,
    family: Family | None = None,
) -> Masker:
    """Read what Masker.save wrote.

    What a user brought as code (distance, network, scorer, family) is handed in, never imported from a file.

    Raises:
        MissingFileError: the folder holds no calibrated masker.
        MismatchError: the folder needs code that was not given, or is of a newer schema.
    """
    folder = Path(folder)
    card = CalibrationCard.load(folder)
    used = stored_distance(card.distance, distance)
    arrays = read_arrays(folder / "curves.npz")
    return Masker(
        scorer=scorer or NetworkScorer.load(folder, distance=used, network=network),
        distance=used,
        family=family or family_from(card),
        rule=rule_from_json(card.rule),
        card=card,
        critical_lambdas=arrays["critical_lambda"],
        curves=Curves.from_arrays(arrays) if "grid" in arrays else None,
    )


def calibrate(
    scorer: Scorer,
    calibration: Triplets,
    *,
    threshold: float | str,
    confidence: float = 0.9,
    family: str | Family | None = None,
    guarantee: str = "marginal",
    selection: Triplets | None = None,
    distance: str | Distance | Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Masker:
    """Find the lambda with which masks keep the promise.

    Args:
        scorer: from fit_scorer, or any Scorer.
        calibration: triplets that neither the scorer nor the predictor has seen.
        threshold: the largest masked distance wanted (the paper's alpha), or "q0.1": the 0.1-quantile of
            the unmasked distance on the selection images.
        confidence: with which probability (the paper's beta).
        family: a name or an object; the scorer's own if None.
        guarantee: "marginal".
        selection: triplets for the grid and for q-thresholds, instead of those that the scorer keeps.
        distance: for a scorer that was fitted for none.

    Raises:
        InvalidArgumentError: an argument outside what is allowed.
        CalibrationError: the promise cannot be given; says what it would need.
        MismatchError: images or a distance that the scorer was not fitted for.
        ImageError: an image that cannot be used.
    """
    wanted = guarantee_by_name(guarantee, confidence)
    used = _distance(scorer, distance)
    chosen = family_for(scorer, used, family)
    _enough(wanted, len(calibration))
    seen = survey(calibration, "reading calibration images")
    _refuse_unfit(scorer, calibration, seen)
    kept = scorer.selection if selection is None else selection_record(scorer, selection, used, [chosen])
    level = threshold_of(threshold, kept)
    grid = kept.curves[chosen.name].grid if kept is not None and chosen.name in kept.curves else None
    if grid is None and used.exponent is None:
        raise InvalidArgumentError(f"distance {used.name!r} needs a grid for {chosen.name}: pass selection=")
    points = np.array([0.0, np.inf]) if grid is None else grid
    found = critical_lambdas(scored(scorer, calibration, "calibrating"), chosen, used, points, level)
    rule = _rule(wanted, found.critical_lambdas, level, used.name)
    card = CalibrationCard(
        threshold=level,
        confidence=confidence,
        guarantee=wanted.name,
        distance=used.name,
        family=chosen.settings(),
        rule=rule.to_json(),
        exact=found.exact,
        n_calibration=len(calibration),
        channels=seen.channels,
        sizes=seen.sizes,
        data_range=calibration.data_range,
        population=calibration.provenance.population,
        calibrated=_now(),
        calibrated_on=tuple(sorted(seen.hashes)),
    )
    curves = None if grid is None else found.curves
    return Masker(scorer, used, chosen, rule, card, found.critical_lambdas, curves)


@dataclass(frozen=True)
class ThresholdChoice:
    """What a threshold would mean, judged on the selection images."""

    threshold: float
    pass_rate: float
    """Share of images that need no mask."""
    mask_size: float


def threshold_choices(
    scorer: Scorer,
    *,
    confidence: float = 0.9,
    family: str | Family | None = None,
    guarantee: str = "marginal",
) -> list[ThresholdChoice]:
    """Mask size and unmasked pass rate against threshold, on the selection images that the scorer keeps.

    Raises:
        InvalidArgumentError: the scorer keeps none.
        CalibrationError: too few selection images for this confidence.
    """
    if scorer.selection is None:
        raise InvalidArgumentError("this scorer keeps no selection images to choose a threshold on")
    wanted, kept = guarantee_by_name(guarantee, confidence), scorer.selection
    _enough(wanted, len(kept.distance))
    chosen = family_for(scorer, _distance(scorer, None), family)
    thresholds = [fraction * kept.threshold(0.1) for fraction in (0.25, 0.5)]
    thresholds += [kept.threshold(quantile) for quantile in LISTED_QUANTILES]
    return [
        ThresholdChoice(t, float((kept.distance <= t).mean()), size_at(kept.curves[chosen.name], t, wanted))
        for t in sorted(set(thresholds))
        if t > 0
    ]


def family_for(scorer: Scorer, distance: Distance, choice: str | Family | None) -> Family:
    """The chosen family for this distance, or the one that suits the scorer."""
    if choice is None or isinstance(choice, str):
        return family_by_name(choice or scorer.family, distance.exponent or 1.0)
    return choice


def family_from(card: CalibrationCard) -> Family:
    """The family that a calibration used."""
    return family_by_name(card.family, 1.0)


def _distance(scorer: Scorer, choice: str | Distance | Callable[[Tensor, Tensor], Tensor] | None) -> Distance:
    if choice is None and scorer.distance is None:
        raise InvalidArgumentError("this scorer was fitted for no distance: pass distance=")
    if choice is None and scorer.distance is not None:
        return scorer.distance
    used = distance_by_name(choice)  # type: ignore[arg-type]
    if scorer.distance is not None and scorer.distance.name != used.name:
        raise MismatchError(
            f"this scorer was fitted for distance {scorer.distance.name!r}, not {used.name!r}: train another"
        )
    return used


def threshold_of(choice: float | str, kept: Selection | None) -> float:
    """A threshold given as a number, its text, or a quantile such as "q0.1" on the selection images.

    Raises:
        InvalidArgumentError: not a distance above 0, or a quantile without selection images.
    """
    if not isinstance(choice, str):
        return _positive(choice)
    try:
        quantile = float(choice.removeprefix("q"))
    except ValueError:
        quantile = -1.0
    if not choice.startswith("q"):
        return _positive(quantile) if quantile != -1.0 else _bad_threshold(choice)
    if not 0 < quantile < 1:
        return _bad_threshold(choice)
    if kept is None:
        raise InvalidArgumentError(f"threshold {choice!r} is a quantile on selection images: pass selection=")
    return _positive(kept.threshold(quantile))


def _bad_threshold(choice: str) -> float:
    raise InvalidArgumentError(f"threshold {choice!r}: give a distance above 0, or a quantile such as q0.1")


def _positive(threshold: float) -> float:
    if not 0 < threshold < np.inf:
        raise InvalidArgumentError(f"threshold = {threshold:g}: must be a distance above 0")
    return float(threshold)


def _enough(wanted: Guarantee, n: int) -> None:
    needed = wanted.smallest_calibration_set()
    if n < needed:
        raise CalibrationError(
            f"{n} images are too few for confidence {wanted.confidence:g} ({wanted.name}): it needs at least "
            f"{needed}; add images or lower the confidence"
        )


def _rule(wanted: Guarantee, critical: Float[np.ndarray, "n"], threshold: float, distance: str) -> Any:
    _enough(wanted, len(critical))
    rule = wanted.rule(critical)
    if rule.lam <= 0:
        fail = float((critical <= 0).mean())
        raise CalibrationError(
            f"{distance} <= {threshold:.4g} cannot be promised with confidence {wanted.confidence:g}: "
            f"{fail:.0%} of the calibration images exceed it under every mask that opens anything; "
            "raise the threshold or lower the confidence"
        )
    return rule


def _refuse_unfit(scorer: Scorer, calibration: Triplets, seen: Survey) -> None:
    leaked = scorer.trained_on.union(calibration.provenance.trained_on).intersection(seen.hashes)
    if leaked:
        raise CalibrationError(
            f"{len(leaked)} of {len(calibration)} calibration images were used to train or select the "
            "scorer or the predictor; the promise needs images that neither has seen"
        )
    if len(set(calibration.groups)) < len(calibration):
        raise CalibrationError(
            f"{len(calibration)} images in {len(set(calibration.groups))} groups are dependent: the marginal "
            "promise needs one image a group; keep one of each, or promise new tiles of these files "
            "(--split within)"
        )
    if seen.channels != scorer.channels:
        raise MismatchError(
            f"the scorer takes y_hat with {scorer.channels} channels, these have {seen.channels}"
        )
    if scorer.sizes is not None and not set(seen.sizes) <= set(scorer.sizes):
        raise MismatchError(
            f"the scorer was trained on images of {list(scorer.sizes)}, these have {list(seen.sizes)}: "
            "cut or scale them alike, or train another"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
