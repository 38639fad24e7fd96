"""Scores that were tried against the mask network and lost, and one training loop for all of them.

They stay here so that the table of research/results/smaller-masks.md can be made again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask.arrays import Images, PerImage
from conformask.extras.train.training import schedule
from conformask.losses.base import Loss
from conformask.scores.network_scorer import (
    Head,
    MaskNetwork,
    mask_loss,
    network_input,
    pinball,
    straight_through_clip,
)
from conformask.scores.networks import UNet, levels_for

TYPICAL_ERROR, SMALLEST_ERROR, LARGEST_LOG, SHARPNESS, UPPER = 0.03, 1e-3, 3.0, 30.0, 0.7
LEARNING_RATE, BATCH = 5e-4, 16
SOFTNESS, HALF, FINE_RATE, BISECTIONS = 0.1, 24, 1e-4, 28
TOTAL_WEIGHT, ATTENDED, HEADS, LARGER_MU = 0.03, 3, 4, 100.0
Data = tuple[Tensor, Tensor, Tensor]
"""(x at y_hat's size, y_hat, y); x may have further channels."""


@dataclass(frozen=True)
class ErrorRegression:
    """Gamma deviance of the pixelwise error: log d + (e + delta) / d with d = delta + exp(output)."""

    fitted_for: Loss
    name: ClassVar[str] = "error, log link"
    family: ClassVar[str] = "water_filling"

    @property
    def exponent(self) -> float:
        return self.fitted_for.exponent or 1.0

    def _errors(self, y: Images, y_hat: Images) -> Images:
        errors = self.fitted_for.error_map
        assert errors is not None
        return errors.error_map(y, y_hat)

    @property
    def start(self) -> float:
        return self.exponent * math.log(TYPICAL_ERROR)

    def outputs(self, channels: int, per_channel: bool) -> int:
        return channels

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        floor = SMALLEST_ERROR**self.exponent
        predicted, error = floor + self.score(output), self._errors(y, y_hat)
        return (predicted.log() + (error + floor) / predicted).mean(dim=(1, 2, 3))

    def score(self, output: Images) -> Images:
        return output.clamp(max=LARGEST_LOG).exp()


@dataclass(frozen=True)
class LinearErrorRegression(ErrorRegression):
    """The same with a softplus instead of exp: errors add up, they are not multiplied."""

    name: ClassVar[str] = "error, linear link"

    @property
    def start(self) -> float:
        return TYPICAL_ERROR**self.exponent

    def score(self, output: Images) -> Images:
        return F.softplus(output, beta=SHARPNESS / TYPICAL_ERROR ** (self.exponent - 1))


@dataclass(frozen=True)
class UpperError(LinearErrorRegression):
    """The 0.7-quantile of the pixelwise error by the pinball loss."""

    name: ClassVar[str] = "upper quantile of the error"

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        return pinball(output, self._errors(y, y_hat), UPPER)


@dataclass(frozen=True)
class PlainClip(MaskNetwork):
    """The mask network as it was: gradients pass the clip both ways, also those that lead out of [0, 1]."""

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        mask = 1 - output
        return mask_loss(mask + (mask.clamp(0, 1) - mask).detach(), y, y_hat, self.fitted_for)


@dataclass(frozen=True)
class LargerMu(MaskNetwork):
    """Equation (6) for l2 with a larger mu, where 1 - m = mu m E[e^2] is about as large as for l1."""

    name: ClassVar[str] = "larger mu"

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        return mask_loss(straight_through_clip(1 - output), y, y_hat, self.fitted_for, LARGER_MU)

    def score(self, output: Images) -> Images:
        hidden = super().score(output)
        return hidden / (LARGER_MU * (1 - hidden).clamp(min=1 / LARGER_MU))


@dataclass(frozen=True)
class JointTotal:
    """The mask network with one output more, whose mean is the log of the image's mean error.

    The score is scaled so that its mean is the error that this output expects.
    """

    mask: MaskNetwork
    name: ClassVar[str] = "joint"
    family: ClassVar[str] = "water_filling"
    start: ClassVar[float] = 0.0

    @property
    def fitted_for(self) -> Loss:
        return self.mask.fitted_for

    def outputs(self, channels: int, per_channel: bool) -> int:
        return channels + 1

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        errors = self.fitted_for.error_map
        assert errors is not None
        total = _mean(errors.error_map(y, y_hat)).clamp(min=SMALLEST_ERROR).log()
        missed = (self._log_total(output) - total).square().flatten()
        return self.mask.loss(output[:, :-1], y, y_hat) + TOTAL_WEIGHT * missed

    def score(self, output: Images) -> Images:
        score = self.mask.score(output[:, :-1])
        return score * self._log_total(output).exp() / _mean(score)

    def _log_total(self, output: Images) -> Tensor:
        return math.log(TYPICAL_ERROR) + _mean(output[:, -1:])


class Attention(nn.Module):
    """Every place of the image sees every other, and a path around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, HEADS, batch_first=True)

    def forward(self, features: Tensor) -> Tensor:
        places = self.norm(features.flatten(2).transpose(1, 2))
        seen, _ = self.attention(places, places, places, need_weights=False)
        return features + seen.transpose(1, 2).reshape(features.shape)


def attentive(network: UNet) -> None:
    """Attention where the side is a sixteenth."""
    width = network.down[ATTENDED].convolution.out_channels
    network.down[ATTENDED] = nn.Sequential(network.down[ATTENDED], Attention(width))


def trained(
    head: Head,
    data: Data,
    epochs: int,
    *,
    width: int = 16,
    levels: int | None = None,
    residual: bool = False,
    symmetric: bool = False,
    seed: int = 0,
    changed: Callable[[UNet], None] = lambda network: None,
) -> UNet:
    """A U-Net on the head's loss: AdamW, cosine, random horizontal flips; symmetric: all eight symmetries.

    levels: as many as halve the side down to one pixel, if None.
    """
    torch.manual_seed(seed)
    x, y_hat, y = data
    channels = y_hat.shape[1]
    network = UNet(
        x.shape[1] + channels,
        head.outputs(channels, True),
        width=width,
        levels=levels or levels_for(y.shape[-1]),
        residual=residual,
    ).start_at(head.start)
    changed(network)

    def objective(output: Tensor, places: Tensor, turn: Callable[[Tensor], Tensor]) -> Tensor:
        return head.loss(output, turn(y[places]), turn(y_hat[places])).mean()

    return _descend(network, data, objective, epochs, LEARNING_RATE, BATCH, symmetric=symmetric)


def fine_tuned(network: UNet, head: Head, data: Data, threshold: float, kappa: float, epochs: int) -> UNet:
    """Conformal fine-tuning for l1: half of a batch gives lambda, the mean size of the others is minimised.

    Lambda is a soft order statistic of the critical lambdas of soft water-filling masks sigmoid(log(sigma /
    s) / softness); what the roots sigma depend on follows from the implicit function theorem. The loss of the
    score itself is kept as an anchor.
    """
    _, y_hat, y = data
    error = (y - y_hat).abs()

    def objective(output: Tensor, places: Tensor, turn: Callable[[Tensor], Tensor]) -> Tensor:
        score, e = F.softplus(output, beta=100).clamp(min=1e-5), turn(error[places])
        lam = _soft_lambda(score[:HALF], e[:HALF], threshold, kappa)
        anchor = head.loss(output, turn(y[places]), turn(y_hat[places])).mean()
        return _soft_size(score[HALF:], lam, kappa) + anchor

    network.train().requires_grad_(True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return _descend(network, data, objective, epochs, FINE_RATE, 2 * HALF, symmetric=False, clip=1.0)


def _descend(
    network: UNet,
    data: Data,
    objective: Callable[[Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor],
    epochs: int,
    rate: float,
    batch: int,
    *,
    symmetric: bool,
    clip: float = math.inf,
) -> UNet:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(0)
    n = len(data[0]) // batch * batch
    steps, done = epochs * n // batch, 0
    for _ in range(epochs):
        for places in torch.randperm(len(data[0]), generator=generator)[:n].split(batch):
            flip, quarters = torch.randint(0, 4, (2,), generator=generator).tolist()
            turn = symmetry(bool(flip % 2), quarters if symmetric else 0)
            seen = network_input(turn(data[0][places]), turn(data[1][places]))
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(done / steps)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = network(seen.contiguous(memory_format=torch.channels_last))
            loss = objective(output.float(), places, turn)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            done += 1
    return network.eval().requires_grad_(False)


def symmetry(flip: bool, quarters: int) -> Callable[[Tensor], Tensor]:
    """One of the eight symmetries of the square."""
    return lambda image: torch.rot90(image.flip(-1) if flip else image, quarters, (-2, -1))


def undone(flip: bool, quarters: int) -> Callable[[Tensor], Tensor]:
    """Its inverse."""

    def back(image: Tensor) -> Tensor:
        turned = torch.rot90(image, -quarters, (-2, -1))
        return turned.flip(-1) if flip else turned

    return back


def _mean(values: Tensor) -> Tensor:
    return values.mean(dim=(1, 2, 3), keepdim=True)


def _soft(score: Tensor, sigma: Tensor) -> Tensor:
    return torch.sigmoid((sigma.log() - score.log()) / SOFTNESS)


def _root(excess: Callable[[Tensor], Tensor], frozen: Callable[[Tensor], Tensor], n: int) -> Tensor:
    """sigma with excess(sigma) = 0, differentiable by what excess depends on."""
    low, high = torch.full((n, 1, 1, 1), 1e-7), torch.full((n, 1, 1, 1), 10.0)
    with torch.no_grad():
        for _ in range(BISECTIONS):
            middle = (low * high).sqrt()
            above = frozen(middle) > 0
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    sigma = (low * high).sqrt().requires_grad_()
    (slope,) = torch.autograd.grad(frozen(sigma).sum(), sigma)
    return sigma.detach() - excess(sigma.detach()) / slope.clamp(min=1e-6)


def _soft_lambda(score: Tensor, error: Tensor, threshold: float, kappa: float) -> Tensor:
    """About the 0.1-quantile of the critical lambdas of the images that do not pass unmasked."""
    hard = (_mean(error) > threshold).flatten()
    s, e = score[hard], error[hard]
    sigma = _root(
        lambda at: _mean(_soft(s, at) * e) - threshold,
        lambda at: _mean(_soft(s.detach(), at) * e) - threshold,
        len(s),
    )
    critical = (_mean(_soft(s, sigma) * s) / _mean(s) ** kappa).flatten().sort().values
    weights = torch.exp(-0.5 * (torch.arange(len(critical)) - 0.1 * HALF + 0.5) ** 2)
    return (weights / weights.sum() * critical).sum()


def _soft_size(score: Tensor, lam: Tensor, kappa: float) -> Tensor:
    def excess(s: Tensor, budget: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda at: _mean(_soft(s, at) * s) - budget * _mean(s) ** kappa

    sigma = _root(excess(score, lam), excess(score.detach(), lam.detach()), len(score))
    opened = (_mean(score) <= lam * _mean(score) ** kappa).flatten()
    return torch.where(opened, 0.0, 1 - _mean(_soft(score, sigma)).flatten()).mean()
