"""Networks and classical methods that bring images back, well or badly: y_hat from x.

    python research/pretraining/predictors.py WORK DATA [NAME ...]

Trains the networks, a few minutes each, into WORK/predictors; those that are there stay. Each sees and gives
three channels. Some are kept after few steps, some learnt two dozen crops by heart, some against a
discriminator.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from degradations import DEGRADATIONS, Generator, blurred, sharp
from scipy import ndimage
from skimage.restoration import denoise_bilateral, denoise_nl_means, denoise_tv_chambolle
from torch import nn
from trained import looks_loss, train_all, trained_networks
from truths import Truths

from conformask.scores.network_scorer import load_into, save_weights
from conformask.scores.networks import PatchGAN, UNet

BATCH, STEPS, LEARNING_RATE = 8, 1000, 1e-3
KEPT = (40, 200, STEPS)
"""Steps after which a network is kept."""
BY_HEART, ADVERSARIAL = 24, 300
ANY, ANY_OF = "any", ("smaller", "noisy", "blurry", "holed", "compressed")
"""A network that learns several degradations, and which."""
Predictor = Callable[[torch.Tensor, Generator], torch.Tensor]


def unet(width: int = 16) -> nn.Module:
    return UNet(3, 3, width=width, levels=4, residual=True)


def plain(width: int = 24, depth: int = 6) -> nn.Module:
    """Convolutions only, as DnCNN (Zhang et al. 2017)."""
    inner = [layer for _ in range(depth - 2) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ReLU())]
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), *inner, nn.Conv2d(width, 3, 3, padding=1)
    )


def restored(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """x of any channels plus what the network adds, in [0, 1]."""
    colours = x if x.shape[1] == 3 else x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    y_hat = colours + network(2 * colours - 1)
    return (y_hat if x.shape[1] == 3 else y_hat.mean(dim=1, keepdim=True)).clamp(0, 1)


def batches(
    truths: Truths, task: str, kind: str | None, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(x, y) without end, of all kinds of images or of one."""
    generator = np.random.default_rng(seed)
    for drawn in truths.kinds(generator):
        taken = "photos" if task == "grey" else kind or drawn
        y = truths.crops(taken, BATCH, generator)
        name = str(generator.choice(ANY_OF)) if task == ANY else task
        x = DEGRADATIONS[name](y, generator)
        yield x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)


def train(name: str, work: Path, truths: Truths) -> None:
    """Train the network of that name and keep it as often as it is to be kept."""
    task, kind, how = JOBS[name]
    network = network_of(name)
    torch.manual_seed(0)
    steps, kept = (ADVERSARIAL, (ADVERSARIAL,)) if how == "gan" else (STEPS, KEPT)
    if how == "gan":
        load_into(network, work / f"{task}-{STEPS}.safetensors")
    discriminator, judging = PatchGAN(6, width=24), None
    if how == "gan":
        judging = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4 if how == "gan" else LEARNING_RATE)
    source = batches(truths, task, kind, seed=len(name))
    by_heart = [next(source) for _ in range(BY_HEART // BATCH)] if how == "by heart" else []
    network.train()
    for step in range(1, steps + 1):
        x, y = by_heart[step % len(by_heart)] if by_heart else next(source)
        optimizer.param_groups[0]["lr"] *= 1 if step < 0.7 * steps else 0.99
        with torch.autocast("cpu", torch.bfloat16):
            y_hat = x + network(2 * x - 1)
            loss = (y - y_hat).abs().mean()
            if judging is not None:
                loss = 5 * loss + looks_loss(discriminator, judging, x, y_hat, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in kept:
            print(f"{name} {step}: {loss.item():.4f}", flush=True)
            save_weights(network.state_dict(), work / f"{name}-{step}.safetensors")


def network_of(name: str) -> nn.Module:
    return plain() if name.endswith("plain") else unet(8 if name.endswith("small") else 16)


def _jobs() -> dict[str, tuple[str, str | None, str]]:
    jobs: dict[str, tuple[str, str | None, str]] = {}
    for task in DEGRADATIONS:
        jobs[task] = (task, None, "l1")
    jobs[ANY] = (ANY, None, "l1")
    for task in ("smaller", "noisy", "blurry", "compressed"):
        jobs[f"{task}-plain"] = (task, None, "l1")
    for task, kind in (("smaller", "photos"), ("noisy", "nuclei"), ("blurry", "cells"), ("holed", "photos")):
        jobs[f"{task}-{kind}-small"] = (task, kind, "l1")
    for task in ("smaller", "noisy", "holed"):
        jobs[f"{task}-by-heart"] = (task, None, "by heart")
    for task in ("smaller", "holed", "grey"):
        jobs[f"{task}-gan"] = (task, None, "gan")
    return jobs


JOBS = _jobs()
"""Task, kind of images (None is all) and how a network is trained, by its name."""


def networks(folder: Path) -> Mapping[str, list[tuple[str, nn.Module]]]:
    """Of each degradation the trained networks that may be used on it."""
    usable: dict[str, list[tuple[str, nn.Module]]] = {task: [] for task in DEGRADATIONS}
    for name, network in trained_networks(folder, network_of):
        task = JOBS[name.rpartition("-")[0]][0]
        for used_on in ANY_OF if task == ANY else (task,):
            usable[used_on].append((name, network))
    return usable


def each(method: Callable[[np.ndarray], np.ndarray]) -> Callable[[torch.Tensor], torch.Tensor]:
    """A method for one image (H, W, C) on (N, C, H, W)."""

    def on_all(x: torch.Tensor) -> torch.Tensor:
        made = [method(image).reshape(image.shape) for image in x.permute(0, 2, 3, 1).numpy()]
        return torch.from_numpy(np.stack(made)).float().permute(0, 3, 1, 2).clamp(0, 1)

    return on_all


def as_it_is(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    return x


def smoothed(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    return blurred(x, generator.uniform(0.5, 2.0))


def sharpened(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    return sharp(x, generator.uniform(0.5, 2.0), generator.uniform(0.7, 2.0))


def again_bicubic(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    small = F.interpolate(x, scale_factor=1 / float(generator.choice([2, 4])), mode="area")
    return F.interpolate(small, size=x.shape[-2:], mode="bicubic").clamp(0, 1)


def median(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    side = int(generator.choice([3, 5]))
    return torch.from_numpy(ndimage.median_filter(x.numpy(), size=(1, 1, side, side)))


def total_variation(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    weight = generator.uniform(0.02, 0.2)
    return each(lambda image: denoise_tv_chambolle(image, weight=weight, channel_axis=-1))(x)


def non_local_means(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    h = generator.uniform(0.03, 0.15)
    return each(lambda image: denoise_nl_means(image, 5, 6, h, channel_axis=-1))(x)


def bilateral(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    sigma = generator.uniform(0.05, 0.2)
    return each(lambda image: denoise_bilateral(image, 5, sigma, 1.5, channel_axis=-1))(x)


def deconvolved(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Wiener's filter of a Gaussian whose width is guessed."""
    sigma, noise = generator.uniform(0.7, 3.0), float(np.exp(generator.uniform(np.log(1e-3), np.log(0.1))))
    frequencies = [torch.fft.fftfreq(side) for side in x.shape[-2:]]
    squares = frequencies[0][:, None] ** 2 + frequencies[1] ** 2
    transfer = torch.exp(-2 * (torch.pi * sigma) ** 2 * squares)
    spectrum = torch.fft.fft2(x) * transfer / (transfer**2 + noise)
    return torch.fft.ifft2(spectrum).real.clamp(0, 1)


def evened(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Rows, or columns, brought to the mean of those around them."""
    axis = int(generator.choice([-1, -2]))
    means = x.mean(dim=axis, keepdim=True)
    smooth = torch.from_numpy(ndimage.gaussian_filter1d(means.numpy(), 4.0, axis=-3 - axis))
    return (x * smooth / means.clamp(min=1e-3)).clamp(0, 1)


def turned_over(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Right but for the blur, or with another bend."""
    return (((0.9 - x) / 0.8).clamp(0, 1) ** generator.uniform(1.2, 2.5)).clamp(0, 1)


def filled_from_nearest(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    hole = hole_of(x)[:, 0].numpy()
    made = np.empty_like(x.numpy())
    for place, image in enumerate(x.numpy()):
        _, nearest = ndimage.distance_transform_edt(hole[place], return_indices=True)
        made[place] = image[:, *nearest]
    return torch.from_numpy(made)


def hole_of(x: torch.Tensor) -> torch.Tensor:
    """Where each image of x has its most frequent value, (N, 1, H, W)."""
    most = torch.stack([image.flatten().mode().values for image in x]).reshape(-1, 1, 1, 1)
    return (x == most).all(dim=1, keepdim=True)


def filled_smoothly(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    hole = hole_of(x)
    made, known = filled_from_nearest(x, generator), x
    for sigma in (8.0, 4.0, 2.0, 1.0):
        for _ in range(4):
            made = torch.where(hole, blurred(made, sigma), known)
    return made


def tinted(x: torch.Tensor, generator: Generator) -> torch.Tensor:
    tint = torch.from_numpy(generator.uniform(0.75, 1.1, (1, x.shape[1], 1, 1))).float()
    return (x * tint).clamp(0, 1)


CLASSICAL: Mapping[str, tuple[Predictor, ...]] = {
    "smaller": (as_it_is, again_bicubic, sharpened),
    "noisy": (as_it_is, smoothed, median, total_variation, non_local_means, bilateral),
    "blurry": (as_it_is, sharpened, deconvolved),
    "holed": (as_it_is, filled_from_nearest, filled_smoothly),
    "compressed": (as_it_is, smoothed, bilateral),
    "grey": (as_it_is, tinted),
    "shaken": (as_it_is, sharpened, deconvolved),
    "striped": (as_it_is, smoothed, evened),
    "coarse": (as_it_is, smoothed, bilateral),
    "other_light": (as_it_is, turned_over),
}


def last_step(name: str) -> int:
    return ADVERSARIAL if JOBS[name][2] == "gan" else STEPS


if __name__ == "__main__":
    train_all(__doc__, "predictors", JOBS, last_step, train)
