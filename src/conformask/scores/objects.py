"""Scores of objects: the mean of a score over each object of y_hat, which is then shown or hidden whole."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Images, Score
from conformask.errors import MismatchError
from conformask.losses.objects import LabelledObjects
from conformask.records.record import Array
from conformask.scores.scorer import Scorer, WrappedScorer, called, of_scorer


@dataclass(frozen=True)
class ObjectScorer(WrappedScorer):
    """A scorer whose score is averaged over each object, and over channels; the background has the score 0.

    The last of the maps beside y_hat are the labels of its objects; the scorer gets those before.
    """

    x_channels = of_scorer("x_channels")
    per_channel = False

    @property
    def cue_channels(self) -> int:  # type: ignore[override]
        """Number of maps beside y_hat: those that the scorer takes, and the labels."""
        return getattr(self.scorer, "cue_channels", 0) + 1

    @property
    def fingerprint(self) -> str:
        """The scorer's fingerprint, with that it is averaged."""
        return f"{self.scorer.fingerprint}-of-objects"

    def own(self, cues: Tensor) -> Tensor:
        """Return the maps that it takes: labels alone where the scorer takes none of those before."""
        return cues[:, -1:] if self.cue_channels == 1 else cues

    def __call__(self, x: Images, y_hat: Images, cues: Tensor | None = None) -> Score:
        """Compute the averaged score of each image."""
        assert cues is not None
        score = called(self.scorer, x, y_hat, cues[:, :-1])
        images, labels = score.map.mean(dim=1).cpu().numpy(), cues[:, -1].cpu().numpy()
        painted = np.stack(list(map(_averaged, images, labels)))[:, None]
        return replace(score, map=torch.from_numpy(painted).to(score.map))

    def shown_text(self, lam: float) -> str | None:
        """Return which objects are shown, by their mean in the map that the scorer reads; None without."""
        text = self.scorer.shown_text(lam) if isinstance(self.scorer, Scorer) else None
        return text and text.replace("pixels whose map", "objects whose mean map")

    def in_map(self, scores: Array) -> Array:
        """Return scores as means of the map that the scorer reads; as they are where it reads none."""
        return self.scorer.in_map(scores) if isinstance(self.scorer, Scorer) else scores

    def score_map(self, x: Images, y_hat: Images, cues: Tensor | None = None) -> Images:
        """Raise: no exported graph finds objects."""
        raise MismatchError("masks of objects cannot be exported: use conformask mask, or write_masks")


def _averaged(image: Array, labels: Array) -> Array:
    objects = LabelledObjects.of(labels)
    return objects.painted(objects.means(image))
