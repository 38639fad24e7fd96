"""Maps that say where an output may be wrong, made by more passes of a network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from conformask.errors import InvalidArgumentError, MismatchError
from conformask.predictors.custom import CustomPredictor
from conformask.records.size import size_text
from conformask.types import Images, Predictor

Run = Callable[[Images], Images]
"""A network: x (N, Cx, *space) -> y_hat (N, C, *space)."""
KINDS = "outputs, flips, residual, or samples,K with K at least 2"


@dataclass(frozen=True)
class CueRecipe:
    """How maps are made: by the outputs of `passes` calls, or from one output alone.

    outputs: what the network returns after y_hat. flips: the standard deviation of the outputs over the flips
    and quarter turns of x (flips alone of volumes), turned back. samples: that over K calls of a network that
    draws its outputs. residual: |A y_hat - x|, where A makes y_hat as small as x by means.
    """

    kind: str
    passes: int

    @classmethod
    def of(cls, text: str) -> "CueRecipe":
        """Parse flips, residual or samples,K.

        Raises:
            InvalidArgumentError: none of these.
        """
        kind, _, count = text.partition(",")
        if kind in ("outputs", "flips", "residual") and not count:
            return cls(kind, 8 if kind == "flips" else 1)
        if kind == "samples" and count.isdecimal() and int(count) >= 2:
            return cls(kind, int(count))
        raise InvalidArgumentError(f"cues {text!r}: give {KINDS}")

    def __call__(self, predictor: Predictor, x: Images) -> tuple[Images, Images]:
        """Return y_hat (N, C, *space) and its maps (N, K, *space), float32, of a batch of one size.

        Raises:
            MismatchError: samples that are all alike, or a residual of sizes that do not divide.
            ImageError: a network that returns no maps, for outputs.
        """
        run: Run = predictor
        if self.kind == "outputs":
            if not isinstance(predictor, CustomPredictor):
                raise MismatchError(
                    f"{predictor.name} returns y_hat alone: --cues outputs needs a map after it"
                )
            return predictor.with_maps(x)
        if self.kind == "residual":
            y_hat = run(x)
            return y_hat, residual(x, y_hat)
        if self.kind == "flips":
            return _spread(back(run(turned(x))) for turned, back in symmetries(x.ndim - 2))
        y_hat, spread = _spread(run(x) for _ in range(self.passes))
        if not bool(spread.flatten(1).any(dim=1).all()):
            raise MismatchError(
                f"the network returned the same output {self.passes} times: it draws nothing, or sets its "
                "seed at each call; let it draw afresh"
            )
        return y_hat, spread


def _spread(outputs: Iterator[Images]) -> tuple[Images, Images]:
    """Return the first output, and the standard deviation of all, averaged over channels (Welford 1962)."""
    first = next(outputs)
    mean, squares, count = first.double(), torch.zeros_like(first, dtype=torch.float64), 1
    for output in outputs:
        count += 1
        difference = output.double() - mean
        mean = mean + difference / count
        squares = squares + difference * (output.double() - mean)
    return first, (squares / count).sqrt().mean(dim=1, keepdim=True).float()


def symmetries(dimensions: int) -> Iterator[tuple[Run, Run]]:
    """Yield each flip and, of planes, quarter turn, with its inverse; the first leaves images as they are."""
    axes = range(2, 2 + dimensions)
    if dimensions != 2:
        for flipped in product((False, True), repeat=dimensions):
            chosen = [axis for axis, flip in zip(axes, flipped, strict=True) if flip]
            yield (lambda images, at=chosen: images.flip(at),) * 2
        return
    for turns, flip in product(range(4), (False, True)):
        yield _turned(turns, flip), _turned_back(turns, flip)


def _turned(turns: int, flip: bool) -> Run:
    return lambda images: (images.flip(3) if flip else images).rot90(turns, (2, 3))


def _turned_back(turns: int, flip: bool) -> Run:
    def back(images: Images) -> Images:
        images = images.rot90(-turns, (2, 3))
        return images.flip(3) if flip else images

    return back


def residual(x: Images, y_hat: Images) -> Images:
    """Return |A y_hat - x|, (N, 1, *space of x), averaged over channels; A is the mean over blocks.

    Raises:
        MismatchError: y_hat is not a whole number of times as large as x.
    """
    factors = tuple(side // part for side, part in zip(y_hat.shape[2:], x.shape[2:], strict=True))
    if tuple(factor * part for factor, part in zip(factors, x.shape[2:], strict=True)) != y_hat.shape[2:]:
        sizes = [size_text(tuple(images.shape[2:])) for images in (y_hat, x)]
        raise MismatchError(
            f"y_hat of {sizes[0]} and x of {sizes[1]} pixels: a residual needs a y_hat that is a whole "
            "number of times as large as x"
        )
    pool: Callable[..., Tensor] = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    small, known = pool(y_hat, factors), x
    if small.shape[1] != known.shape[1]:
        small, known = small.mean(dim=1, keepdim=True), known.mean(dim=1, keepdim=True)
    return (small - known).abs().mean(dim=1, keepdim=True)
