"""Names of all choices, facts about them, and the terms of a promise: options are made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Guarantee = Literal[
    "marginal", "pac", "expected", "conditional_mean", "rcps", "rcps_hb", "ltt", "groups", "categories",
    "weighted", "adaptive", "simultaneous",
]  # fmt: skip
Unit = Literal["image", "image_of_new_group", "group"]
Level = Literal["one", "image"]
"""Whether all images have one lambda, or each has one in proportion to its own level."""
Family = Literal["binary", "reciprocal", "water_filling", "power", "trusted_mean"]
Scorer = Literal["laplace", "mask", "error", "quantile", "packaged", "spread", "residual", "gradient"]
Untrained = Literal["packaged", "spread", "residual", "gradient"]
"""Scorers that need no training."""
UNTRAINED: tuple[Untrained, ...] = get_args(Untrained)
GIVEN = "given"
"""The name of scores that are maps of a user's."""
WITHOUT_TRAINING = (*UNTRAINED, GIVEN)
Higher = Literal["distrusted", "trusted"]
"""What higher values of such a map mean."""
Task = Literal["super_resolution", "completion", "colorization"]
Predictor = Literal["regressor", "gan"]
VolumeMode = Literal["slices", "volume"]
"""How a network processes volumes."""
Split = Literal["file", "within", "tile"]
HALF = "q0.5"
"""The threshold of a first look, if none is given: half of the selection images keep it without a mask."""
PARTS = {"train": 0.55, "selection": 0.1, "calibration": 0.2, "test": 0.15}
"""The parts of a split, and the shares that they have if nothing else is said."""
Show = Literal["one", "mean", "all"]
"""What y_hat is where a network draws its outputs."""


@dataclass(frozen=True)
class NamedDistance:
    """Facts about a distance."""

    label: str
    """The name as people write it."""
    upper_bound: float | None = None
    """The largest value on images in [0, 1], if there is one."""
    is_map: bool = False
    """True if it is an error map: one value per pixel, on the unmasked images."""


DISTANCES: Mapping[str, NamedDistance] = {
    "l1": NamedDistance("L1", 1.0, is_map=True),
    "l2": NamedDistance("L2", 1.0, is_map=True),
    "ssim": NamedDistance("1 − SSIM", 2.0),
    "lpips": NamedDistance("LPIPS"),
    "lpips_alex": NamedDistance("LPIPS (AlexNet)"),
    "lpips_vgg": NamedDistance("LPIPS (VGG)"),
    "ssim_map": NamedDistance("1 − SSIM map", 2.0, is_map=True),
    "lpips_map": NamedDistance("LPIPS map", is_map=True),
    "lpips_alex_map": NamedDistance("LPIPS (AlexNet) map", is_map=True),
    "lpips_vgg_map": NamedDistance("LPIPS (VGG) map", is_map=True),
}
BOUNDED = {name: known for name, known in DISTANCES.items() if known.upper_bound is not None}


@dataclass(frozen=True)
class PromiseTerms:
    """The terms of a promise; None for what is not stated, so that it has its default, or stays as it was."""

    guarantee: Guarantee | None = None
    """The kind of promise, marginal if not given; conformask plan --guarantee shows how many images one
    needs."""
    confidence: float | None = None
    """The promised share of new images (the paper's beta); 0.9 if not given."""
    delta: float | None = None
    """Share of calibration sets for which the promise may fail, for guarantees that take one; 0.05 if not
    given."""
    unit: Unit | None = None
    """Unit of the promise: images, groups in which enough images meet the threshold, or images of new groups;
    the guarantee's own if not given."""
    share: float | None = None
    """For --unit group: the share of a group's images that must meet the threshold; 1 if not given."""
    per_category: bool | None = None
    """Make the promise for each category separately."""
    group_name: str | None = None
    """The word for a group in sentences, such as patient or slide."""
    object_name: str | None = None
    """The word for an object in sentences, such as nucleus."""
