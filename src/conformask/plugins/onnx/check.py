"""Check that onnxruntime gives the scores, masks and predictor outputs that PyTorch gives."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conformask.arithmetic import image_means, per_image
from conformask.errors import MismatchError
from conformask.masker.masker import Masker
from conformask.plugins.onnx.graph import check_scorable, constant_lambda, noise
from conformask.plugins.onnx.predictor_graph import PredictorGraph
from conformask.progress import tracked
from conformask.records.size import Size
from conformask.scorers.scoring import score_of
from conformask.types import Images

TOLERANCE = 1e-4
"""Largest difference allowed for an exported file, in each part of `Difference`."""
LAMBDA_TOLERANCE = 1e-4
"""Relative tolerance of lambda. A mask may be that of a lambda this close: sums are rounded differently, and
one partly open pixel, at the boundary between shown and hidden, takes the rest of a sum."""
FACTORS = (0.0, 0.5, 1.0, 2.0, math.inf)
"""Multiples of the calibrated lambda at which a file that takes lambda is compared."""


@dataclass(frozen=True)
class Difference:
    """The largest differences between the exported file and PyTorch."""

    score: float = 0.0
    """Difference of a pixel's score, as a share of the image's largest score."""
    mask: float = 0.0
    """Difference of a pixel's mask from the masks at lambdas within LAMBDA_TOLERANCE, for the same score."""
    size: float = 0.0
    """End-to-end difference of an image's mask size."""
    output: float = 0.0
    """Difference of a pixel's y_hat from the predictor run by itself; 0 without a predictor."""

    def __or__(self, other: "Difference") -> "Difference":
        """Return the larger of each difference."""
        return Difference(*map(max, astuple(self), astuple(other)))


@dataclass(frozen=True)
class ExportCheck:
    """Result of a successful check."""

    difference: Difference
    sizes: tuple[Size, ...]
    """Sizes of y_hat on which it was checked: one if the network takes no other."""


@dataclass(frozen=True)
class Case:
    """Images (N, C, *space), a lambda for each, and the maps from which their score is read."""

    x: Images
    y_hat: Images
    lam: Tensor
    cues: Tensor | None = None


class InferenceSession:
    """An exported file in onnxruntime, on the CPU.

    Raises:
        MismatchError: onnxruntime cannot read it.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors share no type
            raise MismatchError(f"onnxruntime cannot read the exported graph: {error}") from error
        self.inputs: Mapping[str, Sequence[int | str]] = {
            node.name: node.shape for node in self._session.get_inputs()
        }
        """Shapes of the inputs by name; an axis of any length has a name."""

    def __call__(self, case: Case) -> dict[str, Tensor]:
        """Return the outputs by name.

        Raises:
            MismatchError: onnxruntime cannot run it.
        """
        inputs = {name: getattr(case, name).numpy() for name in self.inputs}
        try:
            outputs = self._session.run(None, inputs)
        except Exception as error:
            raise MismatchError(f"onnxruntime cannot run the exported graph: {error}") from error
        names = (node.name for node in self._session.get_outputs())
        return dict(zip(names, map(torch.from_numpy, outputs), strict=True))


def check_file(masker: Masker, path: Path, front: PredictorGraph | None = None) -> ExportCheck:
    """Compare on random images of two sizes and batch sizes; at several lambdas if the file takes lambda.

    Args:
        masker: the exported masker.
        path: the exported file.
        front: the predictor inside the file; None if the file takes y_hat.

    Raises:
        MismatchError: onnxruntime fails, or differs by more than TOLERANCE.
    """
    run = InferenceSession(path)
    cases, largest = list(cases_of(masker, run.inputs, front)), Difference()
    for case in tracked(cases, "checking against PyTorch", len(cases)):
        largest = largest | difference(masker, run, case)
    if not max(astuple(largest)) <= TOLERANCE:
        in_output = f", {largest.output:.2g} in y_hat" if front else ""
        raise MismatchError(
            f"onnxruntime differs from PyTorch by {largest.score:.2g} in the score, {largest.mask:.2g} in "
            f"the mask, {largest.size:.2g} in the mask size{in_output}; {TOLERANCE:g} is allowed. Nothing "
            "was written: use conformask mask, or another version of torch or onnxruntime"
        )
    return ExportCheck(largest, tuple(dict.fromkeys(tuple(case.y_hat.shape[2:]) for case in cases)))


def cases_of(
    masker: Masker, inputs: Mapping[str, Sequence[int | str]], front: PredictorGraph | None
) -> Iterator[Case]:
    """Yield images and lambdas; a second size, twice as wide, only if the network takes it."""
    deployed = None if "lam" in inputs else constant_lambda(masker)
    reference = reference_lambda(masker)
    for count, width_factor in ((1 if inputs["x"][0] == 1 else 2, 1), (1, 2)):
        try:
            x, y_hat, *cues = _images(masker, front, count, width_factor)
        except MismatchError:
            if width_factor == 1:
                raise
            return
        if cues:  # maps have any range, which that of noise need not meet
            reference = float(score_of(masker.scorer, x, y_hat, cues=cues[0]).map.median())
        lambdas = [reference * factor for factor in FACTORS] if deployed is None else [deployed]
        for lam in lambdas:
            yield Case(x, y_hat, torch.full((count,), lam, dtype=torch.float64), *cues)


def _images(
    masker: Masker, front: PredictorGraph | None, count: int, width_factor: int
) -> tuple[Tensor, ...]:
    if front is not None:
        return check_scorable(masker, *front.images(count, width_factor))
    *sides, last = masker.card.sizes[0]
    return noise(masker, count, (*sides, width_factor * last), seed=1)


def reference_lambda(masker: Masker) -> float:
    """Return the calibrated lambda; if it varies with the image or is inf, a median of critical lambdas."""
    critical = masker.critical_lambdas
    finite = critical[(critical > 0) & np.isfinite(critical)]
    deployed = constant_lambda(masker)
    if deployed is not None and math.isfinite(deployed):
        return deployed
    return float(np.median(finite)) if finite.size else 1.0


def difference(masker: Masker, run: InferenceSession, case: Case) -> Difference:
    """Return the differences of one batch; NaN counts as infinite."""
    outputs, family = run(case), masker.family
    mask, score = outputs["mask"], outputs["score"]
    expected_score = score_of(masker.scorer, case.x, case.y_hat, cues=case.cues).map
    lower, upper = (
        family.apply(score, family.level(score, case.lam * (1 + sign * LAMBDA_TOLERANCE))) for sign in (-1, 1)
    )
    expected_mask = family.apply(expected_score, family.level(expected_score, case.lam))
    scale = expected_score.flatten(1).amax(1).clamp(min=1e-30)
    sizes = (image_means(mask, torch.float64) - image_means(expected_mask, torch.float64)).abs()
    output = (outputs.get("y_hat", case.y_hat) - case.y_hat).abs()
    outside = torch.maximum(lower - mask, mask - upper).clamp(min=0)
    gaps = ((score - expected_score).abs() / per_image(scale, score), outside, sizes, output)
    return Difference(*(float(gap.nan_to_num(math.inf).max()) for gap in gaps))
