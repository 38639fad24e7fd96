"""Scores and distances do not depend on how a program lets torch shorten float32; memory is kept for them."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from conformask.arithmetic import SHORTENED, best_device, full_precision
from conformask.losses.distances import CustomDistance
from conformask.losses.perceptual import Ssim
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import score_of

IMAGES = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
OTHERS = (IMAGES + 0.1).clamp(max=1)
CONVOLUTION = nn.Conv2d(2, 1, 5, padding=2)


def precisions() -> list[str]:
    return [operation.fp32_precision for operation in SHORTENED]


@pytest.fixture
def shortened() -> Iterator[None]:
    """What Lightning advises for GPUs; it shortens products on some CPUs, too."""
    before = precisions()
    torch.set_float32_matmul_precision("medium")
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    yield
    for operation, precision in zip(SHORTENED, before, strict=True):
        operation.fp32_precision = precision


def seen_inside(*images: Tensor) -> Tensor:
    assert set(precisions()) == {"ieee"}
    assert not torch.is_autocast_enabled("cpu")
    assert not torch.backends.cudnn.allow_tf32, "which an export in another thread asks for"
    return images[0]


@pytest.mark.usefixtures("shortened")
def test_scores_and_distances_are_computed_in_full_precision() -> None:
    outside = precisions()
    assert set(outside) != {"ieee"}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score_of(Heuristic(seen_inside, channels=1), IMAGES, OTHERS)
        CustomDistance(lambda a, b: seen_inside(a, b).mean((1, 2, 3)))(IMAGES, OTHERS)
        with pytest.raises(ZeroDivisionError), full_precision(IMAGES):
            raise ZeroDivisionError
        assert torch.is_autocast_enabled("cpu")
    assert precisions() == outside


def test_they_are_the_same_numbers_whatever_is_around(request: pytest.FixtureRequest) -> None:
    def convolved(x: Tensor, y_hat: Tensor) -> Tensor:
        return CONVOLUTION(torch.cat([x, y_hat], dim=1)).abs()

    scorer = Heuristic(convolved, channels=1)
    score, distance = score_of(scorer, IMAGES, OTHERS).map, Ssim()(IMAGES, OTHERS)
    assert not score.requires_grad
    request.getfixturevalue("shortened")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(score_of(scorer, IMAGES, OTHERS).map, score)
        assert torch.equal(Ssim()(IMAGES, OTHERS), distance)


def test_a_build_for_an_accelerator_that_is_not_there_computes_on_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyPI's torch for Linux is built for CUDA; on a machine without one it must not be chosen."""

    def of_the_build(check_available: bool = False) -> torch.device | None:
        return None if check_available else torch.device("cuda")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", of_the_build)
    assert best_device() == torch.device("cpu")
