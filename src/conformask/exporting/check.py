"""Whether onnxruntime gives the scores and masks that PyTorch gives."""

import math
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conformask.arithmetic import beside, image_means
from conformask.conformal.facts import Facts
from conformask.errors import MismatchError
from conformask.exporting.graph import INPUTS, noise
from conformask.masker.masker import Masker
from conformask.progress import tracked
from conformask.records.size import Size
from conformask.scorers.scoring import score_of
from conformask.types import Images

TOLERANCE = 1e-4
"""What the exported file may differ by, in each of the three of `Difference`."""
FACTORS = (0.0, 0.5, 1.0, 2.0, math.inf)
"""Of the calibrated lambda: where the file is compared."""
Run = Callable[[Images, Images, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Difference:
    """The largest differences that were found."""

    score: float
    """Of a pixel's score, as a share of the image's largest."""
    mask: float
    """Of a pixel's mask, given the same score."""
    size: float
    """Of an image's mask size, from the image on."""

    def __or__(self, other: "Difference") -> "Difference":
        """The larger of each."""
        return Difference(*map(max, astuple(self), astuple(other)))


@dataclass(frozen=True)
class Agreement:
    """What a check has shown."""

    difference: Difference
    sizes: tuple[Size, ...]
    """Sizes on which it was checked: one where the network takes no other."""


def checked(masker: Masker, path: Path) -> Agreement:
    """Compare on random images of two sizes and batch sizes, at lambdas below, at and above the calibrated.

    Raises:
        MismatchError: onnxruntime fails, or differs by more than TOLERANCE.
    """
    run = session_of(path)
    cases = list(cases_of(masker))
    largest = Difference(0.0, 0.0, 0.0)
    for x, y_hat, lam in tracked(cases, "checking against PyTorch", len(cases)):
        largest = largest | difference(masker, run, x, y_hat, lam)
    if not max(astuple(largest)) <= TOLERANCE:
        raise MismatchError(
            f"onnxruntime differs from PyTorch by {largest.score:.2g} in the score, {largest.mask:.2g} in "
            f"the mask, {largest.size:.2g} in the mask size; {TOLERANCE:g} is allowed. Nothing was written: "
            "use conformask mask, or another version of torch or onnxruntime"
        )
    return Agreement(largest, tuple(dict.fromkeys(tuple(y_hat.shape[2:]) for _, y_hat, _ in cases)))


def cases_of(masker: Masker) -> Iterator[tuple[Images, Images, Tensor]]:
    """x, y_hat and lambdas; the second size, twice as wide, only where the network takes it."""
    usual = masker.card.sizes[0]
    about = reference_lambda(masker)
    for count, size in ((2, usual), (1, (*usual[:-1], 2 * usual[-1]))):
        try:
            x, y_hat = noise(masker, count, size, seed=1)
        except MismatchError:
            if size == usual:
                raise
            return
        for factor in FACTORS:
            yield x, y_hat, torch.full((count,), about * factor, dtype=torch.float64)


def reference_lambda(masker: Masker) -> float:
    """The calibrated lambda; where images have their own, or it is inf, a median of critical lambdas."""
    critical = masker.critical_lambdas
    usual = critical[(critical > 0) & np.isfinite(critical)]
    calibrated = math.inf if masker.rule.needs else float(masker.rule(Facts(n=1))[0])
    return calibrated if math.isfinite(calibrated) else float(np.median(usual)) if usual.size else 1.0


def difference(masker: Masker, run: Run, x: Images, y_hat: Images, lam: Tensor) -> Difference:
    """Of one batch; NaN counts as infinite."""
    mask, score = run(x, y_hat, lam)
    own_score = score_of(masker.scorer, x, y_hat).map
    family = masker.family
    same = family.apply(score, family.level(score, lam))
    own = family.apply(own_score, family.level(own_score, lam))
    scale = own_score.flatten(1).amax(1).clamp(min=1e-30)
    sizes = (image_means(mask, torch.float64) - image_means(own, torch.float64)).abs()
    gaps = ((score - own_score).abs() / beside(scale, score), (mask - same).abs(), sizes)
    return Difference(*(float(gap.nan_to_num(math.inf).max()) for gap in gaps))


def session_of(path: Path) -> Run:
    """The file in onnxruntime, on the CPU.

    Raises:
        MismatchError: onnxruntime cannot read or run it.
    """
    import onnxruntime

    def run(x: Images, y_hat: Images, lam: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(INPUTS, (x.numpy(), y_hat.numpy(), lam.numpy()), strict=True))
        try:
            mask, score = session.run(None, given)
        except Exception as error:  # onnxruntime's own errors share no type
            raise MismatchError(f"onnxruntime cannot run the exported graph: {error}") from error
        return torch.from_numpy(mask), torch.from_numpy(score)

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise MismatchError(f"onnxruntime cannot read the exported graph: {error}") from error
    return run
