import pytest
import torch
from torch import nn

from conformask.scores.networks import PatchGAN


@pytest.mark.parametrize(
    ("size", "patches"), [((1, 1), (1, 1)), ((8, 9), (1, 2)), ((33, 64), (5, 8)), ((256, 256), (32, 32))]
)
def test_a_logit_for_each_patch_of_any_size(size: tuple[int, int], patches: tuple[int, int]) -> None:
    logits = PatchGAN(4, width=4)(torch.rand(2, 4, *size))
    assert logits.shape == (2, 1, *patches)
    assert logits.isfinite().all()


def test_four_convolutions() -> None:
    convolutions = [module for module in PatchGAN(2, width=8).modules() if isinstance(module, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [8, 16, 32, 1]


def test_what_a_logit_sees() -> None:
    network = PatchGAN(1, width=2).eval()
    image = torch.rand(1, 1, 128, 128, requires_grad=True)
    network(image)[0, 0, 8, 8].backward()
    seen = image.grad[0, 0] != 0
    assert (int(seen.any(0).sum()), int(seen.any(1).sum())) == (38, 38)
