"""Maskers: masks with a promise for new images, saved, loaded without pickle, and recalibrated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from conformask.arrays import Array, Batch, Images, MaskArray, Masks, Triplet, Weigh
from conformask.losses.base import Loss
from conformask.masker.admission import ADMITTED, Admission, NewImage, NewImages, admitted, by_tiles, compared
from conformask.masker.arguments import covariates, given, in_batch, inside
from conformask.masker.card import masker_html
from conformask.masker.terms import recalibrated
from conformask.masks.critical import (
    NO_GRID,
    bound_curves,
    calibration_data,
    features_of,
    loss_under,
    mask_size,
    size_at,
)
from conformask.masks.family import Family
from conformask.promises.order import CalibrationData, Curves, coverage_range, meets_threshold, stored
from conformask.promises.promise import DEFAULTS, AnyPromise, Promise
from conformask.promises.rules import ImageBound, Rule, calibrated_bound
from conformask.records.card import CalibrationCard
from conformask.records.extent import REGION
from conformask.records.selection import ScoreComparison, positive, threshold_in_loss, threshold_of
from conformask.scores.scorer import Scorer, Tiled, score_of_batch


@dataclass(frozen=True)
class Judged:
    """Images under their masks."""

    mask: Masks
    region: Images | None
    """Region that hidden shares are about; None for whole images."""
    loss: Float[np.ndarray, "n"] | None
    """Loss of each image under its mask, float64; None where it was not measured."""
    within: Bool[np.ndarray, "n"] | None
    """Images whose loss is within the threshold."""

    @property
    def size(self) -> Float[np.ndarray, "n"]:
        """Mask size of each image, mean(1 - m) in its region, float64."""
        sizes: Float[np.ndarray, "n"] = mask_size(self.mask, self.region).cpu().numpy()
        return sizes


THRESHOLDS = 40
"""Number of points of the curve of mask size against threshold."""


@dataclass(frozen=True)
class Masker:
    """Masks with a promise, made by calibrate() or load().

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> masker(y[0]**2, y[0]**1.5).shape
        (16, 16)
        >>> masker.recalibrate(threshold=0.08).formula
        'P(l1 <= 0.08) >= 0.90 for new images like the 30 calibration images (marginal, exploratory)'
    """

    scorer: Scorer
    loss: Loss
    family: Family
    rule: Rule
    card: CalibrationCard
    critical_lambdas: Float[np.ndarray, "n"]
    """Critical lambdas of the calibration images, in the order of the curves."""
    curves: Curves | None
    weigh: Weigh | None = None
    """The likelihood ratio of a weighted promise, where it is a callable."""
    perceptual_hashes: Array | None = None
    """Perceptual hashes of the calibration images, (n, w, b) uint8."""
    probe: Mapping[str, Array] | None = None
    """Values that the scorer and other code computed on a test image at calibration."""

    def __repr__(self) -> str:
        return f"Masker({self.sentence} Scorer {self.scorer.name}, family {self.family.name}.)"

    def _repr_html_(self) -> str:
        return masker_html(self.card, self.scorer.name, self.size_by_threshold(), self.comparison)

    @property
    def sentence(self) -> str:
        """The promise in one English sentence, such as "In at least 9 of 10 new images, ..."."""
        return self.card.sentence

    @property
    def formula(self) -> str:
        """The promise, such as "P(l1 <= 0.02) >= 0.90 for new images like the 400 calibration images ..."."""
        return self.card.formula

    @property
    def comparison(self) -> ScoreComparison | None:
        """How much the score's masks hide beside others, measured before calibration; None if it was not."""
        return None if self.scorer.selection is None else self.scorer.selection.comparison

    @property
    def coverage_range(self) -> tuple[float, float] | None:
        """The range of coverage for 90 % of calibration sets; None where no law is known."""
        n = self.card.n_units
        return coverage_range(n, self.card.promise.rank(n))

    @property
    def grid(self) -> Float[np.ndarray, "g"]:
        """Lambdas that may be deployed if not any; 0 and inf where no curves are stored."""
        return NO_GRID if self.curves is None else self.curves.from_start(self.card.start).grid

    @property
    def by_tiles(self) -> Tiled:
        """The scorer for whole images; unless calibrated by tiles, a tile holds its images.

        Its scores are finished by `WholeImage.score_into`, once that of a whole image is there.
        """
        return by_tiles(self.scorer, self.card)

    @cached_property
    def seen(self) -> frozenset[str]:
        """Hashes of the images that training, selection and calibration have seen, and of their groups."""
        return self.scorer.trained_on.union(self.card.calibrated_on, self.card.seen)

    def evidence(self) -> CalibrationData:
        """Return the critical lambdas and curves of the calibration images, for the threshold.

        Raises:
            MismatchError: no curves are stored.
        """
        card, curves = self.card, self.stored_curves()
        return calibration_data(curves, card.threshold, self.loss, self.critical_lambdas, card.start)

    @overload
    def __call__(
        self,
        x: Tensor,
        y_hat: Tensor,
        *,
        weight: Sequence[float] | None = None,
        category: Sequence[str] | None = None,
        **layers: Tensor | None,
    ) -> Masks: ...

    @overload
    def __call__(
        self,
        x: Array,
        y_hat: Array,
        *,
        weight: Sequence[float] | None = None,
        category: Sequence[str] | None = None,
        **layers: Array | None,
    ) -> MaskArray: ...

    @overload
    def __call__(self, x: Triplet) -> MaskArray: ...

    def __call__(
        self,
        x: Tensor | Array | Triplet,
        y_hat: Tensor | Array | None = None,
        *,
        weight: Sequence[float] | None = None,
        category: Sequence[str] | None = None,
        **layers: Tensor | Array | None,
    ) -> Masks | MaskArray:
        """Compute the mask, float32 in [0, 1], 1 = trusted.

        Args:
            x: the degraded input: a tensor of floats (N, Cx, *space), or an array (H, W) or (H, W, C), or of
                the axes of the calibration. Both are read as the calibration's images were: by their
                data_range, or the range of the type, floats in [0, 1]. Or a Triplet, which has all.
            y_hat: the network's output, of the same kind.
            weight: the likelihood ratio of each image, where the rule needs it.
            category: the category of each image, where the rule needs it.
            layers: the layers that the score takes: `cues`, maps beside y_hat of any range, (N, K, *space) or
                (*space[, K]); `labels` of the objects of y_hat, (N, 1, *space) or (*space), whole numbers,
                0 for the background; or those of a package.

        Returns:
            A tensor (N, 1 or C, *space) for tensors; else an array (*space), or with a mask for each channel
            of y_hat (*space, C) for arrays and (C, *space) for a Triplet, as its images are.

        Warns:
            ConformaskWarning: an image is far outside of the calibration images, such as much darker than
                each (see `check`), or of another size; or more of its values were clipped than of theirs.

        Raises:
            InvalidArgumentError: one of them is a tensor and one an array, or the numbers of images differ.
            MismatchError: channels or axes that differ from the calibration images.
            ImageError: values outside the range, NaN or infinity.
        """
        batch = given(self.card, x, y_hat, layers, weight=weight, category=category)
        item, admission = self.admit_and_score(batch)
        admission.warn()
        masks = self.open(item)
        if isinstance(x, Tensor):
            return masks
        mask = masks[0].numpy()
        pixels: MaskArray = mask[0] if len(mask) == 1 else mask
        return pixels if len(mask) == 1 or isinstance(x, Triplet) else np.moveaxis(pixels, 0, -1)

    def check(
        self,
        x: Tensor | Array | Triplet,
        y_hat: Tensor | Array | None = None,
        **layers: Tensor | Array | None,
    ) -> tuple[str, ...]:
        """Return for each image why it is unlike the calibration images; "" where it looks like them.

        A reason is another size, or a measure of the image or of its score that lies far outside of those of
        all calibration images. It needs no truth, and is a description without a false-alarm rate: "" does
        not prove that the promise covers an image. The arguments are those of a call.

        Examples:
            >>> from conformask.testing import small_masker, small_triplets
            >>> masker, new = small_masker(), small_triplets(seed=1)
            >>> masker.check(new[0])
            ('',)
            >>> masker.check(new[0].x[0] / 255, new[0].y_hat[0])
            ('x: darker (0.0051 times), beside the nearest of 40',)
        """
        item, admission = self.admit_and_score(given(self.card, x, y_hat, layers))
        of_all, far = (*admission.sizes.values(), *admission.spacings.values()), admission.outliers
        return tuple("; ".join(filter(None, (*of_all, far.get(name)))) for name in item.names)

    def admit(self, images: NewImages, *, headers: bool = True) -> Admission:
        """Check, before one of them is scored, that new images are those that the promise is about.

        Args:
            images: a collection; or one image, of which nobody knows which network made it, and how its maps.
            headers: whether the header of each image of a collection is read; if not, nothing is asked of
                single images.

        Returns:
            What to say of the images, such as that their spacing is another one.

        Warns:
            ConformaskWarning: y_hat of a collection was made by another network, or by an unknown one.

        Raises:
            MismatchError: maps that were made in another way, outputs of another network, other channels, or
                volumes for a promise about planes, or the reverse.
        """
        return admitted(self.card, self.card.promise, self.by_tiles, images, headers=headers)

    def admit_and_score(self, batch: Batch) -> tuple[Batch, Admission]:
        """Admit the images of a batch, score them, and compare them with those of the calibration."""
        admission = self.admit(NewImage.of_batch(batch))
        item = self.scored(batch)
        return item, self.compared(item, admission)

    def compared(self, item: Batch, admission: Admission = ADMITTED) -> Admission:
        """Compare scored images with those of the calibration by their looks, once they are admitted."""
        return compared(admission, self.card, self.curves, item)

    def warn_of_clipped(self, names: tuple[str, ...], shares: Iterable[float]) -> None:
        """Warn if these shares of the values of new images were clipped, more than of the calibration's."""
        Admission.of_clipped(names, shares, self.card.clipped).warn()

    def masks(
        self,
        x: Images,
        y_hat: Images,
        *,
        weight: Sequence[float] | None = None,
        category: Sequence[str] | None = None,
        **layers: Tensor | None,
    ) -> Masks:
        """Compute the mask of each image, as __call__ does for tensors; the images must be in [0, 1]."""
        batch = in_batch(x, y_hat, layers, weight=weight, category=category)
        item, admission = self.admit_and_score(batch)
        admission.warn()
        return self.open(item)

    def scored(self, batch: Batch) -> Batch:
        """Return images, which must be in [0, 1], with their scores."""
        x, y_hat = inside("x", batch.x).float(), inside("y_hat", batch.y_hat).float()
        batch = replace(batch, x=x, y_hat=y_hat)
        return batch.with_score(score_of_batch(self.scorer, batch))

    def error_bounds(self, x: Tensor | Array, y_hat: Tensor | Array) -> Float[np.ndarray, "n"] | None:
        """Bound the unmasked loss of each output: (N,), in units of the loss.

        P(loss of the whole image <= its bound) >= confidence (0.9 for a promise about a mean), over the
        calibration and new images; if images are in groups, for a random image of a new group. None where no
        bound is known: too few images, or a weighted promise.

        Args:
            x: as __call__ takes it.
            y_hat: as __call__ takes it.
        """
        return self.bounds_of(self.admit_and_score(given(self.card, x, y_hat))[0])

    def bounds_of(self, item: Batch) -> Float[np.ndarray, "n"] | None:
        """Return the bounds of scored images; see `error_bounds`."""
        if self.image_bound is None:
            return None
        bounds, largest = self.image_bound(features_of(item.score)), self.loss.traits.upper_bound
        return bounds if largest is None else np.minimum(bounds, largest)

    @cached_property
    def image_bound(self) -> ImageBound | None:
        """The bound of an image as a rule; None where it is not known."""
        if self.curves is None or self.card.promise.is_weighted:
            return None
        confidence = self.card.promise.confidence or DEFAULTS["confidence"]
        return calibrated_bound(self.curves, self.card.image_errors, confidence)

    def judge(
        self, item: Batch, lambdas: Float[np.ndarray, "n"] | None = None, *, measured: bool = True
    ) -> Judged:
        """Mask scored images, as `open` does, and measure them where y is known, unless not `measured`."""
        mask = self.open(item, lambdas)
        extent = self.loss.extent
        lacks_region = extent == REGION and "region" not in item.layers
        region = None if lacks_region else extent.weights(item)
        if item.y is None or not measured:
            return Judged(mask, region, None, None)
        loss = loss_under(self.loss, mask, item).detach().double().cpu().numpy()
        return Judged(mask, region, loss, self.within(loss))

    def within(self, losses: Float[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Return which losses are within the threshold."""
        return meets_threshold(losses, self.card.threshold)

    def open(self, item: Batch, lambdas: Float[np.ndarray, "n"] | None = None) -> Masks:
        """Compute the masks of scored images: gather the facts that the rule needs, then apply the family.

        Args:
            item: the images and their scores.
            lambdas: one for each image, in the place of those of the rule.

        Raises:
            InvalidArgumentError: the rule needs a weight or category, and it is not given.
        """
        lam = torch.as_tensor(
            self.lambdas(item) if lambdas is None else lambdas, device=item.score.map.device
        )
        return self.family.apply(item.score.map, self.family.level(item.score.map, lam))

    def lambdas(self, item: Batch) -> Float[np.ndarray, "n"]:
        """Compute the lambda of each scored image.

        Raises:
            InvalidArgumentError: the rule needs a weight or category, and it is not given.
        """
        bound = None
        if "bound_curve" in self.rule.needs:
            bound = bound_curves(item, self.family, self.loss, self.stored_curves().grid)
        return self.rule(covariates(item, self.rule.needs, self.weigh, self.card.weights, bound))

    def stored_curves(self) -> Curves:
        """Return the curves of the calibration images.

        Raises:
            MismatchError: no curves are stored.
        """
        return stored(self.curves)

    def size_by_threshold(self) -> tuple[tuple[float, float], ...]:
        """Return pairs (threshold, mean mask size on the calibration images) at the same confidence.

        Thresholds are ascending; empty where no curves are stored.
        """
        if self.curves is None:
            return ()
        card, promise = self.card, self.card.promise
        largest = max(float(self.curves.loss[:, -1].max()), 2 * card.threshold)
        thresholds = np.geomspace(card.threshold / 8, largest, THRESHOLDS)
        return tuple((float(t), size_at(self.curves, float(t), promise, self.loss)) for t in thresholds)

    def threshold_of(self, choice: float | str) -> float:
        """Return a threshold, given in any form that `calibrate` takes, as a value of the loss.

        Raises:
            InvalidArgumentError: the choice is none of these forms.
        """
        in_loss = threshold_in_loss(choice, self.card.loss, self.card.values)
        return threshold_of(in_loss, self.scorer.selection)

    def recalibrate(
        self,
        *,
        threshold: float | str | None = None,
        confidence: float | None = None,
        promise: AnyPromise | None = None,
    ) -> "Masker":
        """Make a masker for another promise from the stored curves, without reading any image.

        Arguments left out keep their values; a name of a guarantee keeps the other terms of the promise. The
        rule is found on the grid of the curves, which is slightly conservative where the loss has an exact
        solution; the same settings return the same masker. A simultaneous promise covers every confidence
        and, snapped down to a declared one, every threshold at its delta; any other change makes the masker
        exploratory, permanently.

        Raises:
            MismatchError: no curves are stored.
            InvalidArgumentError: a promise that needs what the curves do not hold.
            CalibrationError: too few images for the promise; says how many it needs.
        """
        curves = self.stored_curves()
        stated = promise if isinstance(promise, Promise) else self.card.promise.changed(guarantee=promise)
        stated = stated.changed(confidence=confidence)
        level = self.card.threshold if threshold is None else self.threshold_of(threshold)
        kept = self.scorer.selection
        selection = None if kept is None else kept.curves.get(self.family.name)
        made = recalibrated(self.card, self.loss, curves, selection, positive(level), stated)
        if made is not None:
            card, critical_lambdas = made
            return replace(self, rule=card.rule, card=card, critical_lambdas=critical_lambdas)
        before = self.card.promise
        renamed = replace(before, group_name=stated.group_name, object_name=stated.object_name)
        if vars(renamed) == vars(before):
            return self
        return replace(self, card=replace(self.card, promise=renamed))

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the whole masker: score, promise and calibration, such as "3f9a-07c1-55be-d20e"."""
        arrays = {"critical_lambda": self.critical_lambdas, **(self.curves.arrays() if self.curves else {})}
        return self.card.fingerprint_of(self.scorer.fingerprint, arrays)

    def save(self, folder: str | Path) -> "Masker":
        """Write a run folder: the scorer's files, calibration.json and files it names, CARD.md. No pickle.

        The calibration is replaced atomically: a concurrent reader gets either the old or the new one.

        Returns:
            The masker as it was saved: exploratory where the folder held a promise with other settings that
            was calibrated on some of the same images.

        Raises:
            MismatchError: the folder holds another scorer, or an unfinished training run.
            OutputError: another process writes it, or it cannot be written to.
        """
        from conformask.masker.load import save  # which makes maskers

        return save(self, Path(folder))
