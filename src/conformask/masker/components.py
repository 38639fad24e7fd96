"""The code of a masker: its fingerprints, and what it computes on test images, alone and in a batch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Array, Images, Triplet, Weigh, best_device, window_index
from conformask.errors import CalibrationError, MismatchError
from conformask.images.triplets import Triplets
from conformask.losses.base import Loss
from conformask.losses.masked_distance import code_of
from conformask.masks.families import FAMILIES
from conformask.masks.family import Family
from conformask.records.fingerprints import fingerprint_of
from conformask.records.upgrade import named
from conformask.scores.scorer import Scorer, score_of

Shape = tuple[int, ...]
SIDE = 256
"""Side of a probe image in pixels, where images of any size are scored by tiles."""
KEPT = 64
"""Number of values of a probe's score that are kept along each side."""
PROBE_TOLERANCE = 1e-3
"""Largest accepted relative difference; scores round differently on other machines, by 1 % of it."""


@dataclass(frozen=True)
class Components:
    """The components that masks and the promise are computed with."""

    scorer: Scorer
    loss: Loss
    family: Family
    weigh: Weigh | None

    def fingerprints(self) -> dict[str, str]:
        """Return fingerprints of the scorer and of other components from the user, by argument name."""
        fingerprints = {"scorer": self.scorer.fingerprint, "loss": code_of(self.loss)}
        if not _ours(self.family):
            fingerprints["family"] = fingerprint_of(self.family)
        if self.weigh is not None:
            fingerprints["weight"] = fingerprint_of(self.weigh)
        return {name: fingerprint for name, fingerprint in fingerprints.items() if fingerprint is not None}

    def probe(self, x: Shape, y_hat: Shape) -> dict[str, Array]:
        """Compute the components' values on synthetic images (C, *space), or smaller ones, by argument name.

        Built-in losses and families are left out: the card names them, and they may need weights that are not
        at hand.
        """
        x, y_hat = probe_shapes(self.scorer, x, y_hat)
        images = [waves(shape, place).to(best_device()) for place, shape in enumerate((x, y_hat, y_hat))]
        counts = [self.scorer.cue_channels if name == "cues" else 1 for name in self.scorer.layers]
        maps = torch.split(waves((sum(counts), *y_hat[1:]), len(images)).to(best_device()), counts, dim=1)
        layers = dict(zip(self.scorer.layers, maps, strict=True))
        score = score_of(self.scorer, images[0], images[1], layers=layers).map
        scores = {"scorer": score}
        if code_of(self.loss) is not None:
            opened = torch.ones_like(images[1][:, :1])
            scores["loss"] = self.loss.on(images[2], images[1], None, 1).of(opened)
        if not _ours(self.family):
            scores["family"] = self._mask(score)
        if self.weigh is not None:
            scores["weight"] = self.weigh(images[0], images[1])
        arrays = {"shape": np.array([x, y_hat])}
        return arrays | {name: _thinned(value.detach().cpu().numpy()) for name, value in scores.items()}

    def _mask(self, score: Images) -> Images:
        lam = 1 / score.double().mean().clamp(min=1e-30)
        return self.family.apply(score, self.family.level(score, lam[None]))

    def refuse_changed(self, fingerprints: Mapping[str, str], probe: Mapping[str, Array]) -> None:
        """Refuse code that differs from the calibration's, or that gives other values."""
        now = self.fingerprints()
        fingerprints, probe = named(fingerprints), named(probe)
        changed = [name for name, fingerprint in fingerprints.items() if now.get(name) != fingerprint]
        if changed:
            raise MismatchError(f"the code or the weights of {_text(changed)} {CHANGED}")
        if probe:
            values = self.probe(*map(tuple, probe["shape"].tolist()))
            other = [name for name in probe if not _same_scores(values.get(name), probe[name])]
            if other:
                raise MismatchError(f"the values of {_text(other)} on a test image {CHANGED}")


CHANGED = (
    "have changed since the calibration, so its promise does not hold: pass the original code, or "
    "calibrate again"
)


def probe_shapes(scorer: Scorer, x: Shape, y_hat: Shape) -> tuple[Shape, Shape]:
    """Return the shapes (C, *space) of x and y_hat of a probe: these, or smaller ones for tiles."""
    part = min(1.0, SIDE / max(y_hat[1:])) if scorer.tiles is not None else 1.0
    x, y_hat = ((c, *(max(1, round(side * part)) for side in space)) for c, *space in (x, y_hat))
    return x, y_hat


def _ours(family: Family) -> bool:
    return type(family) in FAMILIES.values()


def waves(shape: Shape, place: int) -> Images:
    """Make a test image (1, C, *space): waves in [0, 1] of several lengths, with a phase set by `place`."""
    channel, *planes, row, column = np.indices(shape)
    row = row + 0.5 * sum(planes)
    phases = (0.9 * row + 0.4 * column, 0.11 * row - 0.07 * column, 2.3 * column - 1.7 * row)
    waves = sum(np.sin(phase + channel + 1.3 * place) for phase in phases)
    return torch.from_numpy(0.5 + waves / 6.5).float()[None]


def _thinned(values: Array) -> Array:
    if values.ndim < 4:
        return values
    steps = (slice(None, None, max(1, side // KEPT)) for side in values.shape[2:])
    return np.ascontiguousarray(values[window_index(tuple(steps))])


def _same_scores(now: Array | None, then: Array) -> bool:
    if now is None or now.shape != then.shape:
        return False
    return bool(np.abs(now.astype(float) - then).max() <= PROBE_TOLERANCE * np.abs(then).max())


def _text(names: list[str]) -> str:
    return " and ".join(f"{name}=" for name in names)


TOLERANCE = 1e-3
"""Largest accepted relative difference; rounding differs by 1 % of it between batches of different sizes."""
FAINT = 0.25
"""Factor on the contrast of a probe image, which changes all of its statistics."""
LOOKED_AT = 8
"""Number of calibration images searched for one of the same shape as the first."""
Values = dict[str, Tensor]


def refuse_batch_dependence(scorer: Scorer, loss: Loss, weigh: Weigh | None, triplets: Triplets) -> None:
    """Compare score, loss and weight of a few images computed one by one and in one batch.

    The images are the first, the next of the same shape, and the first with a quarter of its contrast: a
    value divided by a maximum or a mean of the batch differs for at least one of them. Calibration and use
    combine different images in a batch, so such values would not be exchangeable.
    """

    def values(x: Images, y_hat: Images, y: Images, *layers: Images) -> Values:
        score = score_of(scorer, x, y_hat, layers=dict(zip(scorer.layers, layers, strict=False)))
        found = {f"the score {scorer.name!r}": score.map}
        if score.features is not None:
            found[f"a feature of the score {scorer.name!r}"] = score.features
        ones = torch.ones_like(y[:, :1])
        found[f"the distance {loss.name!r}"] = loss.on(y, y_hat, None, 1).of(ones).detach()
        return found if weigh is None else found | {"weight=": weigh(x, y_hat)}

    first, *others = (triplets[index] for index in range(min(LOOKED_AT, len(triplets))))
    shapes = (first.x.shape, first.y_hat.shape)
    alike = next((other for other in others if (other.x.shape, other.y_hat.shape) == shapes), None)
    of_x, of_y_hat = probe_shapes(scorer, first.x.shape, first.y_hat.shape)

    def corner(triplet: Triplet) -> tuple[Images, ...]:
        arrays = [(triplet.x, of_x), (triplet.y_hat, of_y_hat), (triplet.truth(), of_y_hat)]
        layers = [triplet.layers[name] for name in scorer.layers if name in triplet.layers]
        arrays += [(layer, (len(layer), *of_y_hat[1:])) for layer in layers]
        return tuple(torch.from_numpy(array[tuple(map(slice, shape))])[None] for array, shape in arrays)

    images = [corner(first)]
    images.append(tuple(0.5 + FAINT * (image - 0.5) for image in images[0]))
    images += [] if alike is None else [corner(alike)]
    batch = [torch.cat(each).to(best_device()) for each in zip(*images, strict=True)]
    together = values(*batch)
    for place in range(len(batch[0])):
        for what, alone in values(*(each[place : place + 1] for each in batch)).items():
            difference = float((together[what][place : place + 1] - alone).abs().max())
            if not difference <= TOLERANCE * float(alone.abs().max()):
                raise CalibrationError(
                    f"{what} of an image differs by {difference:.3g} when there are other images in its "
                    "batch: compute it for each image separately, without batch statistics or randomness "
                    "(put a module in eval mode)"
                )
