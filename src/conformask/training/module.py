"""The Lightning module of networks that minimise one loss."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn

from conformask.arithmetic import per_image

TensorBatch = list[Tensor]
Objective = Callable[[nn.Module, TensorBatch], Tensor]
"""A callable (network, batch) -> loss of each image, (N,)."""


class TrainingModule(L.LightningModule):
    """AdamW on mean(objective), with random flips that depend only on seed, step and process: see flipped."""

    losses: ClassVar[tuple[str, ...]] = ("loss",)
    """Losses logged once per epoch, in addition to selection_loss."""
    keeps_last: ClassVar[bool] = False
    """True if training ends with the last epoch's weights, not with those of the lowest selection loss."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        *,
        learning_rate: float,
        seed: int,
        turns: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.learning_rate = learning_rate
        self.seed = seed
        self.turns = turns

    def training_step(self, batch: TensorBatch, index: int) -> Tensor:
        """Compute the loss of one batch."""
        batch = flipped(batch, self.seed, self.global_step, self.global_rank, turns=self.turns)
        loss = self.objective(self.network, batch).mean()
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: TensorBatch, index: int) -> None:
        """Add to selection_loss, the mean over the selection images."""
        loss = self.objective(self.network, batch).mean()
        self.log("selection_loss", loss, on_epoch=True, sync_dist=True, batch_size=len(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW; the budget sets its learning rate step by step."""
        return torch.optim.AdamW(self.network.parameters(), lr=self.learning_rate, weight_decay=1e-4)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's weights alone."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load weights that state_dict returned."""
        return self.network.load_state_dict(state_dict, strict=strict, assign=assign)


def flipped(batch: TensorBatch, seed: int, step: int, rank: int, *, turns: bool = False) -> TensorBatch:
    """Mirror half of the images left to right, all roles of an image alike.

    With `turns`, each image is transformed by one of the eight symmetries of the square, or of the four of a
    rectangle if its sides differ.
    """
    generator = torch.Generator().manual_seed(hash((seed, step, rank)))
    moves: list[Callable[[Tensor], Tensor]] = [partial(torch.flip, dims=(-1,))]
    if turns:
        moves += [partial(torch.flip, dims=(axis,)) for axis in range(2, batch[0].ndim - 1)]
    if turns and all(images.shape[-1] == images.shape[-2] for images in batch):
        moves.append(lambda images: images.mT)
    for moved in moves:
        flips = torch.rand(len(batch[0]), generator=generator) < 0.5
        batch = [
            torch.where(per_image(flips, images).to(images.device), moved(images), images) for images in batch
        ]
    return batch
