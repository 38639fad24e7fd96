"""What predictors.py and enlargers.py share: command line, a judge of looks, networks from files."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn
from truths import Truths

from conformask.extras.train.training import realness_loss
from conformask.scores.network_scorer import load_into


def train_all(
    description: str | None,
    folder_name: str,
    jobs: Mapping[str, object],
    last_step: Callable[[str], int],
    train: Callable[[str, Path, Truths], None],
) -> None:
    """Train the networks that are asked for, or all, into WORK/folder_name; those that are there stay."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*", default=list(jobs))
    options = parser.parse_args()
    folder, truths = options.work / folder_name, Truths(options.data)
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        if not (folder / f"{name}-{last_step(name)}.safetensors").exists():
            train(name, folder, truths)


def looks_loss(
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    y_hat: torch.Tensor,
    y: torch.Tensor,
) -> torch.Tensor:
    """One step of the discriminator, then what it says of y_hat: small where it looks real."""
    real, made = (discriminator(2 * torch.cat([x, z], 1) - 1) for z in (y, y_hat.detach()))
    optimizer.zero_grad()
    (realness_loss(real, real=True) + realness_loss(made, real=False)).backward()
    optimizer.step()
    return realness_loss(discriminator(2 * torch.cat([x, y_hat], 1) - 1), real=True)


def trained_networks(folder: Path, network_of: Callable[[str], nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Name and steps of each network in the folder, and the network itself, in use."""
    for path in sorted(folder.glob("*.safetensors")):
        network = network_of(path.stem.rpartition("-")[0])
        load_into(network, path)
        yield path.stem, network.eval().requires_grad_(False)
