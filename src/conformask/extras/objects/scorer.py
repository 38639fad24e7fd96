"""A score averaged over objects, and losses that are sums over one pixel of each."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Array, Images, Score
from conformask.errors import MismatchError
from conformask.extras.objects.loss import LabelledObjects
from conformask.losses.of_images import Sums
from conformask.scores.scorer import Step, called


class SumsOfObjects(Sums):
    """Sums over one pixel of each object."""

    def oracle(self, threshold: float) -> Images | None:
        """Return None: the best masks of pixels cut an object in two."""
        return None


@dataclass(frozen=True)
class ObjectScorer(Step):
    """A scorer whose score is averaged over each object, and over channels; the background has the score 0.

    The last of its layers are the labels of the objects of y_hat; the scorer gets those before.
    """

    per_channel = False

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that the scorer takes, and labels."""
        return *self.scorer.layers, "labels"

    @property
    def fingerprint(self) -> str:
        """The scorer's fingerprint, with that it is averaged."""
        return f"{self.scorer.fingerprint}-of-objects"

    def __call__(self, x: Images, y_hat: Images, *layers: Tensor) -> Score:
        """Compute the averaged score of each image."""
        *others, of_objects = layers
        score = called(self.scorer, x, y_hat, *others)
        painted = []
        for image, labels in zip(
            score.map.mean(dim=1).cpu().numpy(), of_objects[:, 0].cpu().numpy(), strict=True
        ):
            objects = LabelledObjects.of(labels)
            painted.append(objects.painted(objects.means(image)))
        return replace(score, map=torch.from_numpy(np.stack(painted)[:, None]).to(score.map))

    def shown_text(self, lam: float) -> str | None:
        """Return which objects are shown, by their mean in the map that the scorer reads; None without."""
        text = self.scorer.shown_text(lam)
        return text and text.replace("pixels whose map", "objects whose mean map")

    def in_map(self, scores: Array) -> Array:
        """Return scores as means of the map that the scorer reads; as they are where it reads none."""
        return self.scorer.in_map(scores)

    def score_map(self, x: Images, y_hat: Images, *layers: Tensor) -> Images:
        """Raise: no exported graph finds objects."""
        raise MismatchError("masks of objects cannot be exported: use conformask mask, or write_masks")
