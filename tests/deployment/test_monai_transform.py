"""ConformalMaskd in a pipeline of MONAI."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from conformask.data.triplets import Triplets
from conformask.errors import ImageError
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.records.reading import Reading
from conformask.scorers.heuristic import Heuristic
from conformask.types import Images
from synthetic_triplets import arrays

pytest.importorskip("monai", reason="the extra monai is not installed")

from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Spacingd

from conformask.deployment.monai import ConformalMaskd

KEYS = ("x", "y_hat")


def steep(x: Images, y_hat: Images) -> Images:
    """Larger along the last axis, so that axes in another order are noticed."""
    return x + torch.linspace(0, 0.1, x.shape[-1])


def masker_of(size: tuple[int, ...]) -> Masker:
    axes = "ZYX"[-len(size) :]
    images = [[image[..., 0] for image in role] for role in arrays(30, 0, size)]
    triplets = Triplets.from_arrays(*images, reading=Reading(axes=axes))
    scorer = Heuristic(steep, channels=1)
    return calibrate(scorer, triplets, threshold=0.03, distance="l1", network=None) if False else calibrate(
        scorer, triplets, selection=triplets.select(range(10)), threshold=0.03, distance="l1"
    )
