"""Training steps per second: conformask (Lightning, checkpoints, metrics) beside a bare PyTorch loop.

Same network, data, order, objective and precision; rounds in turn, the best of each.
"""

import csv
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from conformask.extras.train import TrainingConfig
from conformask.extras.train.score import objective_of
from conformask.extras.train.training import best_precision, fit
from conformask.losses import loss as loss_by_name
from conformask.scores.network_scorer import head
from conformask.scores.networks import UNet

IMAGES, REPEATED, SIZE, WIDTH, BATCH, EPOCHS, ROUNDS = 128, 8, 128, 32, 16, 1, 2
OUT = Path(__file__).parent / "results" / "training.json"


def images() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(IMAGES, 3, SIZE, SIZE, generator=generator) for _ in range(3))


def network() -> UNet:
    torch.manual_seed(0)
    return UNet(6, 1, width=WIDTH, levels=7)


def ours(data: TensorDataset, held_out: TensorDataset) -> float:
    """Steps per second from the first epoch's end to the last's."""
    with tempfile.TemporaryDirectory() as folder:
        plan = TrainingConfig(epochs=EPOCHS + 1, batch_size=BATCH)
        objective = objective_of(head("mask", loss_by_name("l1")))
        fit(network(), objective, data, held_out, Path(folder), plan, title="ours", identity={})
        rows = list(csv.DictReader((Path(folder) / "metrics.csv").open()))
    steps = int(rows[-1]["step"]) - int(rows[0]["step"])
    return steps / (float(rows[-1]["seconds"]) - float(rows[0]["seconds"]))


def bare(data: TensorDataset) -> float:
    """Steps per second of the loop that one would write by hand, after one epoch of warming up."""
    net = network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-4)
    objective = objective_of(head("mask", loss_by_name("l1")))
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)
    bf16 = best_precision() == "bf16-mixed"
    started = 0.0
    for epoch in range(EPOCHS + 1):
        if epoch == 1:
            started = time.perf_counter()
        for batch in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = objective(net, batch).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return EPOCHS * len(loader) / (time.perf_counter() - started)


def main() -> None:
    tensors = images()
    data = Indexed(*tensors)
    held_out = Indexed(*(tensor[: BATCH // REPEATED] for tensor in tensors))
    rounds = [(ours(data, held_out), bare(data)) for _ in range(ROUNDS)]
    best_ours, best_bare = (max(column) for column in zip(*rounds, strict=True))
    record = {
        "steps_per_second": best_ours,
        "bare_steps_per_second": best_bare,
        "ratio": best_ours / best_bare,
        "rounds": np.round(rounds, 3).tolist(),
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(record, indent=2) + "\n")
    print(f"conformask {best_ours:.2f}, bare loop {best_bare:.2f} steps/s: ratio {record['ratio']:.3f}")


class Indexed(TensorDataset):
    """Images repeated, so that an epoch is long; indices count on, as in conformask's datasets."""

    def __len__(self) -> int:
        return REPEATED * super().__len__()

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        return super().__getitem__(index % super().__len__())


if __name__ == "__main__":
    main()
