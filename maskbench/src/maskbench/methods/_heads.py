"""What the learned heads share: one small U-Net on x and y_hat, and one way to train a network."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from conformask.records.record import atomic_write
from conformask.scores.networks import UNet
from maskbench.methods._images import enlarged, planes
from maskbench.triplets import Floats, Triplets

WIDTH, LEVELS = 12, 4
STEPS, BATCH, SIDE = 1000, 4, 64
"""About 45 s of a core; of larger images, random squares of this side."""
RATE, DECAY, LONGEST = 2e-3, 1e-4, 1.0
"""Of AdamW: first learning rate, and weight decay; the norm that gradients are cut to."""
AT_ONCE = 32
LOW, HIGH = 0.05, 0.95
"""Levels of the quantiles of intervals."""
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""The loss of a network on images (N, channels of x and y_hat, H, W) and what is to be learned of them."""


def inputs(x: Floats, y_hat: Floats) -> Tensor:
    """Return x, enlarged to the size of y_hat, and y_hat as channels in [-1, 1]."""
    return torch.cat([planes(enlarged(x, y_hat)), planes(y_hat)], dim=1) * 2 - 1


def unit_of(learn: Triplets) -> float:
    """Return the mean error of the images, the unit in which networks learn errors."""
    return float(learn.errors.mean()) or 1.0


def residuals(learn: Triplets) -> Tensor:
    """Return (y - y_hat) / unit, (n, C, H, W)."""
    return planes(learn.y - learn.y_hat) / unit_of(learn)


def unet(learn: Triplets, outputs: int) -> UNet:
    """Return a U-Net on x and y_hat with this number of outputs, all 0 at first."""
    channels = learn.x.shape[3] + learn.y.shape[3]
    return UNet(channels, outputs, width=WIDTH, levels=LEVELS, residual=True).start_at(0)


def fitted(
    make: Callable[[], nn.Module],
    loss: Loss,
    learn: Triplets,
    targets: Tensor,
    work: Path,
    steps: int,
    seed: int = 0,
) -> nn.Module:
    """Return the network with the weights that are in work, or trained now.

    Args:
        make: returns the network with random weights.
        loss: what is minimised.
        learn: the images.
        targets: what is to be learned of them, (n, channels, H, W).
        work: the folder for weights.
        steps: of AdamW, each on a batch of images, all flipped and turned alike.
        seed: of weights, batches and dropout.
    """
    path = work / f"{learn.fingerprint}-{seed}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
        if path.exists():
            network.load_state_dict(load_file(path))
        else:
            _train(network, loss, inputs(learn.x, learn.y_hat), targets, steps)
            with atomic_write(path) as unfinished:
                save_file(network.state_dict(), unfinished)
    return network.eval()


def _train(network: nn.Module, loss: Loss, images: Tensor, targets: Tensor, steps: int) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(images))])
        batch, order = order[:BATCH], order[BATCH:]
        value = loss(network, *_turned(images[batch], targets[batch]))
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), LONGEST)
        optimizer.step()
        schedule.step()


def _turned(*images: Tensor) -> list[Tensor]:
    """Return the same random square of all images, in one of its eight positions."""
    height, width = images[0].shape[2:]
    side = min(height, width, SIDE)
    top, left, turns, flip = (int(torch.randint(n, ())) for n in (height - side + 1, width - side + 1, 4, 2))
    squares = (each[..., top : top + side, left : left + side].rot90(turns, (2, 3)) for each in images)
    return [each.flip(3) if flip else each for each in squares]


@torch.inference_mode()
def outputs(network: Callable[[Tensor], Tensor], x: Floats, y_hat: Floats) -> Tensor:
    """Return what the network says of all images, some at once."""
    return torch.cat([network(batch) for batch in torch.split(inputs(x, y_hat), AT_ONCE)])


def pinball(quantile: Tensor, values: Tensor, level: float | Tensor) -> Tensor:
    """Return the mean of level (v - q) where v >= q, else of (1 - level) (q - v)."""
    above = values - quantile
    return torch.maximum(level * above, (level - 1) * above).mean()


def width_around(lower: Tensor, upper: Tensor, prediction: float | Tensor = 0.0) -> Tensor:
    """Return the width of the smallest interval of both quantiles and the prediction, as in im2im-uq.

    A quantile on the wrong side of the prediction is moved onto it.
    """
    return (upper - prediction).clamp(min=0) + (prediction - lower).clamp(min=0)
