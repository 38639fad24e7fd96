"""Masks for your Lightning module: what `trainer.test` sees becomes a masker beside the checkpoint.

Run it as `python examples/lightning_callback.py`; a layer that removes noise stands in for your network.
"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import conformask as cm


class Calibrate(L.Callback):
    """Calibrates on what test_step returns, {"x": x, "y_hat": y_hat, "y": y} of its batch, in [0, 1]."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.images: list[tuple[Tensor, ...]] = []

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.ckpt_path is None or trainer.world_size > 1:
            raise ValueError("masks belong to a checkpoint: test it with ckpt_path='best', on one device")
        self.images.clear()

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        roles = (outputs[role].float().cpu() for role in ("x", "y_hat", "y"))
        self.images.extend(zip(*roles, strict=True))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        checkpoint = Path(str(trainer.ckpt_path))
        triplets = cm.Triplets.from_dataset(self.images, network=checkpoint.stem)
        masker = cm.calibrate(cm.packaged_scorer(), triplets, threshold=self.threshold)
        masker.save(checkpoint.with_suffix(".masker"))
        print("promise:", masker.sentence)


class Denoiser(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Conv2d(1, 1, 5, padding=2, padding_mode="reflect")

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        x, y = batch
        loss: Tensor = (self.network(x) - y).square().mean()
        return loss

    def test_step(self, batch: list[Tensor], index: int) -> dict[str, Tensor]:
        x, y = batch
        return {"x": x, "y_hat": self.network(x).clamp(0, 1), "y": y}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def images(count: int, seed: int) -> DataLoader[tuple[Tensor, ...]]:
    """Clouds y, and x, the same with noise."""
    generator = np.random.default_rng(seed)
    clouds = gaussian_filter(generator.standard_normal((count, 1, 64, 64)), 2, axes=(2, 3))
    y = 0.5 + 0.1 * clouds / clouds.std()
    x = y + generator.normal(0, 0.1, y.shape)
    pair = (torch.from_numpy(each.clip(0, 1).astype(np.float32)) for each in (x, y))
    return DataLoader(TensorDataset(*pair), batch_size=8)


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("examples/out/lightning_callback"))
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    L.seed_everything(0)
    trainer = L.Trainer(
        max_steps=options.steps,
        default_root_dir=options.out,
        devices=1,
        callbacks=[Calibrate(threshold=0.02)],
    )
    trainer.fit(Denoiser(), images(64, seed=0))
    trainer.test(dataloaders=images(40, seed=1), ckpt_path="best")
