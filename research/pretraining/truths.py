"""True images of five kinds in crops, for the networks that err and for the score network that knows them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

SIDE = 96
HELD_OUT = 16
"""Every so many files are kept for validation."""
ATTEMPTS = 8
FLATTEST = 0.01
"""Crops of a smaller standard deviation are drawn again."""


def plane_of(path: Path) -> np.ndarray:
    """(C, H, W) in [0, 1]; slices of a volume lie beside each other as channels."""
    if path.suffix != ".gz":
        values = np.atleast_3d(np.asarray(Image.open(path), dtype=np.float32) / 255)
        return values.transpose(2, 0, 1)[:3]
    values = nibabel.load(path).get_fdata(dtype=np.float32)
    return (values / np.quantile(values, 0.999)).clip(0, 1).transpose(2, 1, 0)


FILES = {
    "photos": "photos/*.jpg",
    "cells": "cells/*.png",
    "nuclei": "nuclei/*.png",
    "mr_t1": "mr_t1/*_t1.nii.gz",
    "oct": "oct/*_clean.png",
}
SHARES = {"photos": 0.45, "cells": 0.12, "nuclei": 0.16, "mr_t1": 0.15, "oct": 0.12}
SHRUNK = {
    "photos": (0.6, 2.0),
    "cells": (0.5, 2.5),
    "nuclei": (0.5, 2.0),
    "mr_t1": (0.45, 0.72),
    "oct": (0.7, 2.0),
}
"""By how much images are made smaller before a crop is taken; below 1 they are enlarged."""


class Truths:
    """Random crops of the files of each kind, (n, C, SIDE, SIDE); all of a call from files of one kind."""

    def __init__(self, data: Path, *, validation: bool = False) -> None:
        self.paths = {
            kind: [
                path
                for place, path in enumerate(sorted(data.glob(pattern)))
                if (place % HELD_OUT == 0) == validation
            ]
            for kind, pattern in FILES.items()
        }
        self._read: dict[Path, np.ndarray] = {}

    def kinds(self, generator: np.random.Generator) -> Iterator[str]:
        """Kinds at random, in their shares."""
        names, shares = list(SHARES), list(SHARES.values())
        while True:
            yield str(generator.choice(names, p=shares))

    def crops(self, kind: str, n: int, generator: np.random.Generator) -> torch.Tensor:
        """n crops, photographs with three channels and all others with one."""
        return torch.stack(
            [self._varied(lambda: self.image(kind, generator)[0], kind, generator) for _ in range(n)]
        )

    def noisy_pairs(self, n: int, generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """(x, y) of n crops of OCT: as one shot has them, and the mean of many."""
        pairs = []
        for _ in range(n):
            y, path = self.image("oct", generator)
            x = self.plane(path.with_name(path.name.replace("clean", "noisy"))).astype(np.float32) / 255
            pairs.append(self._varied(lambda: np.concatenate([x, y]), "oct", generator))  # noqa: B023
        both = torch.stack(pairs)
        return both[:, :1], both[:, 1:]

    def image(self, kind: str, generator: np.random.Generator) -> tuple[np.ndarray, Path]:
        path = self.paths[kind][generator.integers(len(self.paths[kind]))]
        image = self.plane(path)
        if kind == "mr_t1":
            image = image[[generator.integers(len(image))]]
        if kind == "nuclei":
            image = image[:1]
        return image.astype(np.float32) / 255, path

    def plane(self, path: Path) -> np.ndarray:
        """As 8-bit integers; each file is read once."""
        if path not in self._read:
            self._read[path] = (plane_of(path) * 255).round().astype(np.uint8)
        return self._read[path]

    def _varied(
        self, draw: Callable[[], np.ndarray], kind: str, generator: np.random.Generator
    ) -> torch.Tensor:
        for _ in range(ATTEMPTS):
            image = draw()
            if len(image) == 1 and kind == "photos":
                image = np.repeat(image, 3, axis=0)
            crop = self._crop(image, SHRUNK[kind], generator)
            if float(crop.std()) > FLATTEST:
                break
        return crop

    def _crop(
        self, image: np.ndarray, shrunk: tuple[float, float], generator: np.random.Generator
    ) -> torch.Tensor:
        by = min(generator.uniform(*shrunk), min(image.shape[1:]) / SIDE)
        whole = torch.from_numpy(image)[None]
        if not 0.98 < by < 1.02:
            whole = F.interpolate(
                whole, scale_factor=1 / by, mode="bilinear", antialias=True, recompute_scale_factor=True
            )
        height, width = whole.shape[2:]
        if min(height, width) < SIDE:
            whole = F.interpolate(whole, size=(max(height, SIDE), max(width, SIDE)), mode="bilinear")
            height, width = whole.shape[2:]
        top, left = (int(generator.integers(length - SIDE + 1)) for length in (height, width))
        return whole[0, :, top : top + SIDE, left : left + SIDE].clamp(0, 1)
