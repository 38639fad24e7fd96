"""masker(x, y_hat) and show(masker, x, y_hat) take the same, and refuse the rest in the same words."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.records.reading import Reading
from conformask.records.sentence import rounded_share
from untyped import UNTYPED

Pair = tuple[Any, Any]
RNG = np.random.default_rng(0)
PLANES, VOLUMES = RNG.random((30, 16, 16)), RNG.random((30, 4, 8, 8))
GREY, COLOUR = PLANES[0], RNG.random((16, 16, 3))
TENSOR = torch.rand(2, 1, 16, 16)


def heuristic(x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
    """Take an x with other channels than y_hat."""
    return (x.mean(dim=1, keepdim=True) - y_hat).abs()


@pytest.fixture(scope="module")
def planes() -> cm.Masker:
    return masker_of(PLANES)


@pytest.fixture(scope="module")
def volumes() -> cm.Masker:
    return masker_of(VOLUMES, Reading(axes="ZYX"))


def masker_of(y: np.ndarray, reading: Reading | None = None) -> cm.Masker:
    images = cm.Triplets.from_arrays(y**2, y**1.5, y, reading=reading)
    return cm.calibrate(cm.Heuristic(heuristic, channels=1), images, threshold=0.05, loss="l1")


def refusal(take: Callable[[], object]) -> str | None:
    """What a call says that it refuses; None if it takes what it is given."""
    try:
        take()
    except cm.ConformaskError as error:
        return f"{type(error).__name__}: {error}"
    return None


ACCEPTED = {
    "(H, W)": (GREY, GREY),
    "(H, W, 1)": (GREY[..., None], GREY[..., None]),
    "(H, W) and (H, W, 1)": (GREY, GREY[..., None]),
    "x with colour": (COLOUR, GREY),
    "float32": (GREY.astype(np.float32), GREY.astype(np.float32)),
    "float16 and float64": (GREY.astype(np.float16), GREY),
    "uint8": ((255 * GREY).astype(np.uint8), (255 * GREY).astype(np.uint8)),
    "bool": (GREY > 0.5, GREY > 0.5),
    "another size": (GREY[:8], GREY[:8]),
    "tensors": (TENSOR, TENSOR),
    "tensors of half precision": (TENSOR.half(), TENSOR.half()),
    "tensors with colour": (TENSOR.expand(2, 3, 16, 16), TENSOR),
    "tensors with gradients": (TENSOR.clone().requires_grad_(), TENSOR),
}
REFUSED = {
    "a tensor and an array": (TENSOR, GREY),
    "an array and a tensor": (GREY, TENSOR),
    "more x": (TENSOR, TENSOR[:1]),
    "more y_hat": (TENSOR[:1], TENSOR),
    "no images": (TENSOR[:0], TENSOR[:0]),
    "one tensor (C, H, W)": (TENSOR[0], TENSOR[0]),
    "a tensor (H, W)": (TENSOR, TENSOR[0, 0]),
    "a volume": (VOLUMES[0], VOLUMES[0]),
    "a tensor of volumes": (TENSOR[None], TENSOR[None]),
    "too many channels": (COLOUR, COLOUR),
    "uint16 where the range was 0 to 1": ((65535 * GREY).astype(np.uint16), GREY),
    "int64": (GREY.astype(np.int64), GREY.astype(np.int64)),
    "uint8 tensors": ((255 * TENSOR).byte(), (255 * TENSOR).byte()),
    "complex": (GREY.astype(complex), GREY),
    "values above 1": (2 * GREY, GREY),
    "a tensor above 1": (2 * TENSOR, TENSOR),
    "NaN": (GREY * np.nan, GREY),
    "an empty array": (GREY[:0], GREY[:0]),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("pair", ACCEPTED.values(), ids=ACCEPTED)
def test_what_both_take(planes: cm.Masker, pair: Pair) -> None:
    masks = np.asarray(planes(*pair))
    rows = cm.show(planes, *pair).rows
    sizes = 1 - masks.reshape(len(rows), -1).mean(axis=1)
    assert [row.facts[0] for row in rows] == [f"hidden {rounded_share(size)}" for size in sizes]


@pytest.mark.parametrize("pair", REFUSED.values(), ids=REFUSED)
def test_what_both_refuse(planes: cm.Masker, pair: Pair) -> None:
    said = refusal(lambda: planes(*pair))
    assert said is not None
    assert said == refusal(lambda: cm.show(planes, *pair)) == refusal(lambda: planes.error_bounds(*pair))


@UNTYPED
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_no_type_allows(planes: cm.Masker) -> None:
    for pair in ((GREY, None), ("x.png", "y_hat.png")):
        test_what_both_refuse(planes, pair)
    test_what_both_take(planes, (GREY.tolist(), GREY.tolist()))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_volumes(volumes: cm.Masker) -> None:
    array = VOLUMES[0]
    tensor = torch.from_numpy(array)[None, None]
    assert volumes(array, array).shape == array.shape
    assert volumes(tensor, tensor).shape == tensor.shape
    assert len(cm.show(volumes, array, array).rows) == len(cm.show(volumes, tensor, tensor).rows) > 1
    said = refusal(lambda: volumes(TENSOR, TENSOR))
    assert said == refusal(lambda: cm.show(volumes, TENSOR, TENSOR))
    assert said is not None
    assert "the promise is about volumes, but these are planes of 16 x 16 pixels" in said
    said = refusal(lambda: volumes(TENSOR[0], TENSOR[0]))
    assert said == refusal(lambda: cm.show(volumes, TENSOR[0], TENSOR[0]))
    assert said is not None
    assert said.endswith("give a tensor (N, C, D, H, W), or an array of one image")


def test_a_triplet_has_all(planes: cm.Masker) -> None:
    y = PLANES[:1]
    triplet = cm.Triplets.from_arrays(y**2, y**1.5, y)[0]
    (row,) = cm.show(planes, triplet).rows
    (same,) = cm.show(planes, y[0] ** 2, y[0] ** 1.5, y[0]).rows
    assert row.facts == same.facts
    assert row.facts[0] == f"hidden {rounded_share(1 - planes(triplet).mean())}"
    with pytest.raises(cm.ConformaskError, match="x is a Triplet, which has y_hat: give it alone"):
        cm.show(planes, triplet, y[0])
    with pytest.raises(cm.ConformaskError, match="x is a Triplet, which has y_hat: give it alone"):
        planes(triplet, y[0])


def test_a_truth_is_of_the_same_kind(planes: cm.Masker) -> None:
    with pytest.raises(cm.ConformaskError, match="x, y_hat and y must all be tensors or all be arrays"):
        cm.show(planes, GREY, GREY, TENSOR)
