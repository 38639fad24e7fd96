"""Masks with a promise, on new images; saved and loaded without pickle."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from conformask.conformal.crossing import SLACK, first_crossing
from conformask.conformal.guarantees import guarantee as guarantee_by_name
from conformask.conformal.rules import rule_from_json
from conformask.data.images import from_user_array
from conformask.distances import stored_distance
from conformask.errors import ImageError, InvalidArgumentError, MismatchError
from conformask.masker.promise import now, positive, rule_for
from conformask.masks import family as family_by_name
from conformask.results import CalibrationCard, Curves, read_arrays, write_arrays
from conformask.scorers.network_scorer import NetworkScorer
from conformask.scorers.scoring import score_of
from conformask.types import Array, Distance, Facts, Family, Images, LambdaRule, Score, Scorer


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
        for name, images in (("x", x), ("y_hat", y_hat)):
            if not bool(((images >= -SLACK) & (images <= 1 + SLACK)).all()):
                raise ImageError(f"{name} has values outside [0, 1], or NaN: scale or clip it first")
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
        threshold = positive(self.card.threshold if threshold is None else threshold)
        wanted = guarantee_by_name(
            self.card.guarantee if guarantee is None else guarantee,
            self.card.confidence if confidence is None else confidence,
        )
        critical = first_crossing(curves.grid, curves.distance, threshold)
        rule = rule_for(wanted, critical, threshold, self.card.distance)
        card = replace(
            self.card,
            threshold=threshold,
            confidence=wanted.confidence,
            guarantee=wanted.name,
            rule=rule.to_json(),
            exact=False,
            exploratory=True,
            calibrated=now(),
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
        family=family or family_by_name(card.family),
        rule=rule_from_json(card.rule),
        card=card,
        critical_lambdas=arrays["critical_lambda"],
        curves=Curves.from_arrays(arrays) if "grid" in arrays else None,
    )
