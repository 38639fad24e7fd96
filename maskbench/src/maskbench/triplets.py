"""Frozen triplets of a task: what a network saw, what it made of it, and what it should have made."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask.records.record import atomic_write

Floats = NDArray[Any]
Maps = Mapping[str, NDArray[Any]]
BYTE = 255


@dataclass(frozen=True)
class Triplets:
    """Images of one task, float32 in [0, 1].

    Args:
        x: degraded inputs, (n, h, w, C); their sides may be a whole fraction of those of y.
        y_hat: outputs of the network, (n, H, W, C).
        y: truths, like y_hat.
        groups: of each image, (n,) strings: images of one group depend on each other.
        cues: further maps of the network by name, (n, H, W) of any range, such as the spread of its draws.
    """

    x: Floats
    y_hat: Floats
    y: Floats
    groups: NDArray[np.str_]
    cues: Maps = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def errors(self) -> Floats:
        """Mean over channels of |y - y_hat|, (n, H, W) float64."""
        errors: Floats = np.abs(self.y.astype(np.float64) - self.y_hat).mean(axis=3)
        return errors

    def take(self, places: Sequence[int] | NDArray[np.int_]) -> "Triplets":
        """Return the images at these places."""
        at = np.asarray(places, dtype=int)
        cues = {name: maps[at] for name, maps in self.cues.items()}
        return Triplets(self.x[at], self.y_hat[at], self.y[at], self.groups[at], cues)

    @property
    def fingerprint(self) -> str:
        """A hash of all values, which results name."""
        digest = hashlib.sha256()
        for name, values in sorted(self._arrays().items()):
            digest.update(json.dumps([name, values.dtype.str, values.shape]).encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write the images as bytes and the maps as float32; the file is complete or not there."""
        with atomic_write(path) as unfinished:
            np.savez_compressed(unfinished, allow_pickle=False, **self._arrays())

    @classmethod
    def load(cls, path: Path) -> "Triplets":
        """Read what save() wrote."""
        with np.load(path) as arrays:
            images = {role: arrays[role].astype(np.float32) / BYTE for role in ("x", "y_hat", "y")}
            cues = {name[4:]: arrays[name] for name in arrays.files if name.startswith("cue:")}
            return cls(groups=arrays["groups"], cues=cues, **images)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        images = {role: as_bytes(getattr(self, role)) for role in ("x", "y_hat", "y")}
        cues = {f"cue:{name}": maps.astype(np.float32) for name, maps in self.cues.items()}
        return images | cues | {"groups": self.groups}


def as_bytes(images: Floats) -> NDArray[np.uint8]:
    """Return values in [0, 1] as whole numbers up to 255, as image files keep them."""
    return (images.clip(0, 1) * BYTE).round().astype(np.uint8)
