"""Maps that say where an output may be wrong, made by more passes of a network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask.errors import InvalidArgumentError, MismatchError
from conformask.names import Show
from conformask.predictors.custom import CustomPredictor, custom_predictor
from conformask.records.network import Network
from conformask.records.size import size_text
from conformask.storage.as_json import hash_of
from conformask.types import Images, Predictor

Run = Callable[[Images], Images]
"""A network: x (N, Cx, *space) -> y_hat (N, C, *space)."""
KINDS = "outputs, flips, residual, residual,package.module:A, or samples,K or dropout,K with K at least 2"
DRAWN = ("samples", "dropout")
"""Kinds whose outputs are drawn at random."""


@dataclass(frozen=True)
class CueRecipe:
    """How maps are made, by the outputs of several calls or from one output alone, and what is shown.

    outputs: what the network returns after y_hat. flips: the standard deviation of the outputs over the flips
    and quarter turns of x (flips alone of volumes), turned back. samples: that over `count` calls of a
    network that draws its outputs. dropout: that over `count` calls with its dropout layers on. residual:
    |A y_hat - x|, where A is a function of the user's, or makes y_hat as small as x by means.
    """

    kind: str
    count: int
    """The number of outputs that a map is made of."""
    show: Show = "one"
    """What y_hat is: one output, as without maps (of samples the first draw); the mean of the draws; or all
    draws, each an image of its own in the group of its input."""
    degradation: str | None = None
    """The name of A, of a residual: what `custom_predictor` takes; None for means over blocks."""

    @classmethod
    def of(cls, text: str, show: Show = "one") -> "CueRecipe":
        """Parse flips, outputs, residual, residual,A, samples,K or dropout,K.

        Raises:
            InvalidArgumentError: none of these, or not one output to show of what draws none.
        """
        kind, _, count = text.partition(",")
        if show not in get_args(Show):
            raise InvalidArgumentError(f"show {show!r}: give {', '.join(get_args(Show))}")
        if kind in DRAWN and count.isdecimal() and int(count) >= 2:
            return cls(kind, int(count), show)
        if kind not in ("outputs", "flips", "residual") or (count and kind != "residual"):
            raise InvalidArgumentError(f"cues {text!r}: give {KINDS}")
        if show != "one":
            raise InvalidArgumentError(f"show {show!r} goes with cues samples,K or dropout,K, not {text}")
        return cls(kind, 8 if kind == "flips" else 1, degradation=count or None)

    @property
    def text(self) -> str:
        """The recipe as it is recorded and asked for, such as "samples,8 --show mean"."""
        made_by = str(self.count) if self.kind in DRAWN else self.degradation
        kind = self.kind if made_by is None else f"{self.kind},{made_by}"
        return kind if self.show == "one" else f"{kind} --show {self.show}"

    @property
    def passes(self) -> int:
        """The number of calls of the network for each image."""
        return self.count + (self.kind == "dropout" and self.show == "one")

    def names(self, name: str) -> list[str]:
        """Return the names of what is shown of an image: its own, or NAME_1 to NAME_K."""
        return [f"{name}_{number}" for number in range(1, self.count + 1)] if self.show == "all" else [name]

    def network(self, predictor: Predictor) -> Network:
        """Return what makes y_hat: the predictor or, unless one output is shown, it by this recipe."""
        if self.show == "one":
            return Network(predictor.name, predictor.fingerprint)
        return Network(f"{predictor.name} ({self.text})", hash_of([predictor.fingerprint, self.text]))

    def __call__(self, predictor: Predictor, x: Images) -> tuple[list[Images], Images]:
        """Return what is shown of a batch of one size, and its maps (N, K, *space), float32.

        What is shown is a list of y_hat, (N, C, *space): all samples, or one alone.

        Raises:
            MismatchError: samples that are all alike, a network without dropout layers that can be reached,
                or a residual of sizes that do not fit.
            InvalidArgumentError: no function of the name of A.
            ImageError: a network that returns no maps, for outputs.
        """
        run: Run = predictor
        if self.kind == "outputs":
            if not isinstance(predictor, CustomPredictor):
                raise MismatchError(
                    f"{predictor.name} returns y_hat alone: --cues outputs needs a map after it"
                )
            y_hat, maps = predictor.with_maps(x)
            return [y_hat], maps
        if self.kind == "residual":
            y_hat = run(x)
            return [y_hat], residual(x, y_hat) if self.degradation is None else self._degraded(x, y_hat)
        if self.kind == "flips":
            return _spread(back(run(turned(x))) for turned, back in symmetries(x.ndim - 2))
        if self.kind == "samples":
            return self._drawn(run, x)
        with _dropout(predictor):
            shown, spread = self._drawn(run, x)
        return [run(x)] if self.show == "one" else shown, spread

    @cached_property
    def _degrade(self) -> CustomPredictor:
        """The user's A, opened once."""
        assert self.degradation is not None
        return custom_predictor(self.degradation)

    def _degraded(self, x: Images, y_hat: Images) -> Images:
        """Return |A y_hat - x|, (N, 1, *space of x), averaged over channels, for the user's A."""
        again = self._degrade(y_hat)
        if again.shape != x.shape:
            raise MismatchError(
                f"{self.degradation} made {size_text(tuple(again.shape[1:]))} of y_hat, but x has "
                f"{size_text(tuple(x.shape[1:]))}: it has to degrade an output as x was degraded"
            )
        return (again - x).abs().mean(dim=1, keepdim=True)

    def _drawn(self, run: Run, x: Images) -> tuple[list[Images], Images]:
        shown, spread = _spread((run(x) for _ in range(self.count)), self.show)
        if not bool(spread.flatten(1).any(dim=1).all()):
            raise MismatchError(
                f"the network returned the same output {self.count} times: it draws nothing, or sets its "
                "seed at each call; let it draw afresh"
            )
        return shown, spread


@contextmanager
def _dropout(predictor: Predictor) -> Iterator[None]:
    """Turn the dropout layers of a network on; its other layers stay as in use.

    Raises:
        MismatchError: it has none, or is not a torch module.
    """
    network = predictor.network if isinstance(predictor, CustomPredictor) else None
    if network is None:
        raise MismatchError(
            f"{predictor.name} is not a torch module whose layers can be reached: --cues dropout,K takes "
            "package.module:network with a torch.nn.Module, TorchScript, or a network of a library"
        )
    layers = [layer for layer in network.modules() if _is_dropout(layer)]
    if not layers:
        raise MismatchError(
            f"{predictor.name} has no dropout layers: --cues dropout,K needs torch.nn.Dropout"
        )
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer in layers:
            layer.eval()


def _is_dropout(layer: nn.Module) -> bool:
    """Return whether a layer drops values; TorchScript has the names of the types alone."""
    return "Dropout" in getattr(layer, "original_name", type(layer).__name__) and not list(layer.children())


def _spread(outputs: Iterator[Images], show: Show = "one") -> tuple[list[Images], Images]:
    """Return what is shown, and the standard deviation, averaged over channels (Welford 1962)."""
    first = next(outputs)
    shown, mean, squares = [first], first.double(), torch.zeros_like(first, dtype=torch.float64)
    for count, output in enumerate(outputs, start=2):
        difference = output.double() - mean
        mean = mean + difference / count
        squares = squares + difference * (output.double() - mean)
        if show == "all":
            shown.append(output)
    spread = (squares / count).sqrt().mean(dim=1, keepdim=True).float()
    return [mean.float()] if show == "mean" else shown, spread


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
