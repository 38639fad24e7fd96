"""The components that a user provides as code, and a check that they still compute the same values."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from conformask.arithmetic import best_device, window_index
from conformask.errors import MismatchError
from conformask.fingerprints import fingerprint_of
from conformask.losses import code_of
from conformask.masks import FAMILIES
from conformask.masks.mask_family import Family
from conformask.scorers.scorer import Scorer
from conformask.scorers.scoring import score_of
from conformask.storage.as_arrays import Array
from conformask.types import Images, Loss, Triplet, Weigh

Shape = tuple[int, ...]
SIDE = 256
"""Side of a probe image in pixels, where images of any size are scored by tiles."""
KEPT = 64
"""Number of values of a probe's score that are kept along each side."""
TOLERANCE = 1e-3
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
        """Compute the components' values on synthetic images (C, *space), by argument name.

        Built-in losses and families are left out: the card names them, and they may need weights that are not
        at hand.
        """
        images = [waves(shape, place).to(best_device()) for place, shape in enumerate((x, y_hat, y_hat))]
        cues = waves((self.scorer.cue_channels, *y_hat[1:]), len(images)).to(best_device())
        score = score_of(self.scorer, images[0], images[1], cues=cues).map
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
        """Refuse code that differs from the calibration's, or that gives other values.

        Raises:
            MismatchError: names the argument.
        """
        now = self.fingerprints()
        fingerprints = {WAS.get(name, name): value for name, value in fingerprints.items()}
        probe = {WAS.get(name, name): value for name, value in probe.items()}
        changed = [name for name, fingerprint in fingerprints.items() if now.get(name) != fingerprint]
        if changed:
            raise MismatchError(f"the code or the weights of {_text(changed)} {CHANGED}")
        if probe:
            values = self.probe(*map(tuple, probe["shape"].tolist()))
            other = [name for name in probe if not _alike(values.get(name), probe[name])]
            if other:
                raise MismatchError(f"the values of {_text(other)} on a test image {CHANGED}")


WAS = {"distance": "loss"}
"""Names of arguments up to 0.2, in runs that were saved then."""
CHANGED = (
    "have changed since the calibration, so its promise does not hold: pass the original code, or "
    "calibrate again"
)


def probe_shapes(scorer: Scorer, triplet: Triplet) -> tuple[Shape, Shape]:
    """Return the shapes (C, *space) of x and y_hat of a probe: those of the triplet, smaller for tiles."""
    shapes = triplet.x.shape, triplet.y_hat.shape
    part = min(1.0, SIDE / max(shapes[1][1:])) if scorer.tiles is not None else 1.0
    x, y_hat = ((c, *(max(1, round(side * part)) for side in space)) for c, *space in shapes)
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


def _alike(now: Array | None, then: Array) -> bool:
    if now is None or now.shape != then.shape:
        return False
    return bool(np.abs(now.astype(float) - then).max() <= TOLERANCE * np.abs(then).max())


def _text(names: list[str]) -> str:
    return " and ".join(f"{name}=" for name in names)
