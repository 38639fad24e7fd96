"""The Lightning module of a conditional GAN (Isola et al. 2017): a generator against a discriminator."""

from collections.abc import Callable
from typing import ClassVar

import lightning as L
import torch
import torch.nn.functional as F
from jaxtyping import Float
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from conformask.arithmetic import full_precision
from conformask.training.module import TensorBatch, flipped
from conformask.types import Images

Generate = Callable[[nn.Module, TensorBatch], tuple[Images, Images, Images]]
"""A callable (network, batch) -> x at the size of y, y_hat and y."""

L1_WEIGHT = 20.0
"""Weight of the L1 loss, the paper's lambda."""
BETAS = (0.5, 0.999)
"""Momentum parameters of Adam, as usual for GANs."""


class Adversarial(L.LightningModule):
    """Minimises adversarial loss + 20 * L1, alternating with the discriminator's halved loss; Adam.

    The discriminator gets (x, y) or (x, y_hat) on the channel axis, scaled to [-1, 1], and returns a logit
    for each patch. The selection loss is the L1 of y_hat; a GAN selected by it would be a regressor again, so
    training keeps the last epoch's weights.
    """

    losses: ClassVar[tuple[str, ...]] = ("loss", "adversarial_loss", "discriminator_loss")
    """Losses logged once per epoch, in addition to selection_loss."""
    keeps_last: ClassVar[bool] = True
    """True if training ends with the last epoch's weights, not with those of the lowest selection loss."""

    def __init__(
        self,
        network: nn.Module,
        discriminator: nn.Module,
        generate: Generate,
        *,
        learning_rate: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.discriminator = discriminator
        self.generate = generate
        self.learning_rate = learning_rate
        self.seed = seed

    def training_step(self, batch: TensorBatch, index: int) -> Tensor:
        """Take one step of the discriminator, then one of the generator."""
        batch = flipped(batch, self.seed, self.global_step, self.global_rank)
        x, y_hat, y = self.generate(self.network, batch)
        generator, discriminator = self.optimizers()  # type: ignore[attr-defined]
        real_or_made = self._real_or_made(x, y_hat.detach(), y)
        self._step(discriminator, real_or_made)
        self.discriminator.requires_grad_(False)
        adversarial = realness_loss(self._logits(x, y_hat), real=True)
        loss = adversarial + L1_WEIGHT * (y - y_hat).abs().mean()
        self._step(generator, loss)
        self.discriminator.requires_grad_(True)
        values = dict(zip(self.losses, (loss, adversarial, real_or_made), strict=True))
        self.log_dict(values, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(y))
        return loss.detach()

    def validation_step(self, batch: TensorBatch, index: int) -> None:
        """Add to selection_loss, the mean L1 over the selection images."""
        _, y_hat, y = self.generate(self.network, batch)
        self.log("selection_loss", (y - y_hat).abs().mean(), on_epoch=True, sync_dist=True, batch_size=len(y))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator and the discriminator; the budget sets their rate."""
        return [
            torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=BETAS)
            for network in (self.network, self.discriminator)
        ]

    def _real_or_made(self, x: Images, y_hat: Images, y: Images) -> Tensor:
        real = realness_loss(self._logits(x, y), real=True)
        return (real + realness_loss(self._logits(x, y_hat), real=False)) / 2

    def _logits(self, x: Images, y: Images) -> Images:
        logits: Images = self.discriminator(2 * torch.cat([x, y], dim=1) - 1)
        return logits

    def _step(self, optimizer: torch.optim.Optimizer | LightningOptimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


def realness_loss(logits: Images, *, real: bool) -> Float[Tensor, ""]:
    """Compute binary cross entropy of logits for images that are all real, or all made; in float32."""
    with full_precision(logits):
        target = torch.full_like(logits, float(real), dtype=torch.float32)
        return F.binary_cross_entropy_with_logits(logits.float(), target)
