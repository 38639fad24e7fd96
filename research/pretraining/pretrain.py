"""Trains the packaged score network on the pool.

    python research/pretraining/pretrain.py WORK --minutes 120

After pool.py. Goes on where it was stopped; more minutes make it longer. A running mean of the weights
becomes the packaged ones; research/pretraining/results/curves.json tells how the loss of validation fell, for
those in the package stage by stage: their validation triplets differ, so that losses compare within a stage.
"""

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from degradations import normal
from pool import LARGEST

from conformask.records.record import atomic_write, write_json
from conformask.scores.network_scorer import save_weights
from conformask.scores.networks import CUES, AnyChannels
from conformask.scores.untrained import WEIGHTS

BATCH, LEARNING_RATE, WARM_UP, AVERAGED = 16, 2e-3, 200, 0.998
FLOOR = 1e-3
"""Added to errors, so that those of nothing are as well known as others."""
FALLING = 0.4
"""The last share of the time, in which the learning rate falls to nothing."""
SMALL, SMALL_SIDES = 0.25, (32, 48, 64)
"""The share of batches that are cut, and to which sides."""
OTHER_X = 0.06
"""The share of batches in which x has another contrast; in as many it is noisy, grey, or y_hat itself."""
FURTHER, FILTERED, ROUGH = 0.3, 0.25, 0.12
"""Shares of batches in which y_hat lies closer to x or further away, is filtered, or noisy."""
STATISTICS = 200
"""Batches from which the statistics of batch norms are taken at the end."""
STEEP_NEAR, CHANGE_NEAR, SCALED_BY = 2, 3, 96
"""Cues: how steep y_hat is near a pixel, how far from x. So many triplets a file tell the scale of errors."""
EVERY = 250
"""Steps between looks at the validation triplets."""
CURVES = Path(__file__).parent / "results" / "curves.json"


def deviance(expected: torch.Tensor, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Gamma deviance of the mean error over channels, (N,): its minimiser is the conditional mean."""
    errors = (y - y_hat).abs().mean(dim=1, keepdim=True)
    predicted = expected.float() + FLOOR
    return (predicted.log() + (errors + FLOOR) / predicted).mean(dim=(1, 2, 3))


def expected_errors(network: AnyChannels, x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
    network.x_channels = network.channels = y_hat.shape[1]
    return network(2 * torch.cat([x, y_hat], dim=1) - 1)


class Parts:
    """The files of the pool, from which batches of one number of channels are drawn."""

    def __init__(self, paths: list[Path]) -> None:
        self.arrays = [np.load(path, mmap_mode="r") for path in paths]

    def batches(self, seed: int) -> Iterator[list[torch.Tensor]]:
        """Varied batches without end."""
        generator = np.random.default_rng(seed)
        while True:
            array = self.arrays[generator.integers(len(self.arrays))]
            places = generator.choice(array.shape[1], BATCH, replace=False)
            yield varied(as_tensors(array[:, np.sort(places)]), generator)


def as_tensors(array: np.ndarray) -> list[torch.Tensor]:
    return list(torch.from_numpy(array.astype(np.float32) / LARGEST))


def varied(images: list[torch.Tensor], generator: np.random.Generator) -> list[torch.Tensor]:
    """Flipped, turned, of other contrast, inverted, cut; of colours sometimes one or two, in any order.

    Now and then x is another one, or y_hat as other networks would make it.
    """
    if generator.random() < SMALL:
        side = int(generator.choice(SMALL_SIDES))
        top, left = generator.integers(0, images[0].shape[-1] - side, 2)
        images = [image[..., top : top + side, left : left + side] for image in images]
    x, y_hat, y = images
    x = other_x(x, y_hat, generator)
    images = [x, other_y_hat(x, y_hat, generator), y]
    if generator.random() < 0.5:
        images = [image.flip(-1) for image in images]
    if generator.random() < 0.5:
        images = [image.flip(-2) for image in images]
    if generator.random() < 0.5:
        images = [image.mT for image in images]
    channels = images[0].shape[1]
    if channels > 1 and generator.random() < 0.5:
        some = generator.permutation(channels)[: generator.integers(1, channels + 1)]
        images = [image[:, some] for image in images]
    n = len(images[0])
    gain = np.exp(generator.uniform(np.log(0.25), 0, (n, 1, 1, 1)))
    gain = np.where(generator.random((n, 1, 1, 1)) < 0.5, 1.0, gain).astype(np.float32)
    offset = ((1 - gain) * generator.random((n, 1, 1, 1))).astype(np.float32)
    inverted = generator.random((n, 1, 1, 1)) < 0.15
    return [
        torch.where(torch.from_numpy(inverted), 1 - image, image)
        for image in (torch.from_numpy(gain) * each + torch.from_numpy(offset) for each in images)
    ]


def other_x(x: torch.Tensor, y_hat: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Mostly x; else of other contrast, noisy, grey, or y_hat itself, which tells nothing more."""
    drawn = int(generator.random() / OTHER_X)
    if drawn == 0:
        gain = float(np.exp(generator.uniform(np.log(0.3), 0)))
        return gain * (1 - x if generator.random() < 0.3 else x) + (1 - gain) * float(generator.random())
    if drawn == 1:
        return x + float(generator.uniform(0.02, 0.2)) * normal(x, generator)
    if drawn == 2:
        return x.mean(dim=1, keepdim=True).expand_as(x)
    return y_hat if drawn == 3 else x


def other_y_hat(x: torch.Tensor, y_hat: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Mostly y_hat; else closer to x or further away, filtered, or with noise of its own."""
    if generator.random() < FURTHER:
        y_hat = y_hat + float(generator.uniform(-0.6, 0.6)) * (x - y_hat)
    if generator.random() < FILTERED:
        y_hat = filtered(y_hat, float(generator.uniform(0.1, 1.2)), generator)
    if generator.random() < ROUGH:
        sigma = float(np.exp(generator.uniform(np.log(0.003), np.log(0.06))))
        noise = normal(y_hat, generator)
        y_hat = y_hat + sigma * (noise if generator.random() < 0.5 else filtered(noise, 1.0, generator))
    return y_hat


def filtered(images: torch.Tensor, strength: float, generator: np.random.Generator) -> torch.Tensor:
    """By a random kernel of 3 x 3 or 5 x 5 pixels that keeps the mean."""
    side = int(generator.choice([3, 5]))
    away = torch.arange(side) - side // 2
    kernel = torch.from_numpy(generator.standard_normal((side, side), dtype=np.float32))
    kernel = kernel * torch.exp(-(away[:, None] ** 2 + away**2) / 2)
    kernel = strength * kernel / kernel.abs().sum()
    kernel[side // 2, side // 2] += 1 - kernel.sum()
    planes = F.pad(images.flatten(0, 1)[:, None], (side // 2,) * 4, mode="replicate")
    return F.conv2d(planes, kernel[None, None]).reshape(images.shape)


@torch.no_grad()
def validation_loss(network: AnyChannels, parts: Parts) -> float:
    network.eval()
    losses = []
    for array in parts.arrays:
        for start in range(0, array.shape[1], 64):
            x, y_hat, y = as_tensors(array[:, start : start + 64])
            losses.append(deviance(expected_errors(network, x, y_hat), y_hat, y))
    network.train()
    return float(torch.cat(losses).mean())


@torch.no_grad()
def with_its_statistics(network: AnyChannels, train: Parts) -> None:
    """Let the batch norms know the features of averaged weights."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    for x, y_hat, _ in islice(train.batches(seed=0), STATISTICS):
        expected_errors(network, x, y_hat)


@torch.no_grad()
def steady(network: AnyChannels, held_out: Parts) -> None:
    """Make it the geometric mean of what it gives and of how steep y_hat is, at the scale of errors.

    On tasks that it has not seen, the two are wrong in different places. Where the details of y_hat are finer
    than those of x, the second is mostly how far it is from x. All of them are parts of its logarithm, a sum.
    """
    for layer in (network.out, network.powers):
        layer.weight /= 2
        layer.bias /= 2
    network.powers.weight[0, STEEP_NEAR] += 1 / 2
    network.powers.weight[0, CUES + STEEP_NEAR] -= 1 / 3
    network.powers.weight[0, CUES + CHANGE_NEAR] += 1 / 3
    network.eval()
    ratios = []
    for array in held_out.arrays:
        x, y_hat, y = as_tensors(array[:, :SCALED_BY])
        errors = (y - y_hat).abs().mean(dim=(1, 2, 3))
        ratios.append((errors / expected_errors(network, x, y_hat).mean(dim=(1, 2, 3))).log())
    network.powers.bias += torch.cat(ratios).median()


def keep_packaged(network: AnyChannels) -> None:
    """In half precision, where conformask looks for it."""
    state = network.state_dict()
    save_weights({name: v.half() if v.is_floating_point() else v for name, v in state.items()}, WEIGHTS)


def learning_rate(step: int, share: float) -> float:
    return LEARNING_RATE * min(1.0, step / WARM_UP, (1 - share) / FALLING)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--steps", type=int, help="in place of minutes")
    options = parser.parse_args()
    pool, state_path = options.work / "pool", options.work / "state.pt"
    train, held_out = (Parts(sorted(pool.glob(f"{name}-*.npy"))) for name in ("train", "validation"))
    torch.manual_seed(0)
    network, averaged = AnyChannels(3, 3), AnyChannels(3, 3)
    network.to(memory_format=torch.channels_last)
    averaged.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    step, seconds, curve = 0, 0.0, []
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds, curve = state["step"], state["seconds"], state["curve"]
    network.train()
    for images in train.batches(seed=step):
        started = time.perf_counter()
        share = step / options.steps if options.steps else seconds / 60 / options.minutes
        if share >= 1:
            break
        optimizer.param_groups[0]["lr"] = learning_rate(step + 1, share)
        x, y_hat, y = images
        with torch.autocast("cpu", torch.bfloat16):
            expected = expected_errors(network, x, y_hat)
        loss = deviance(expected, y_hat, y).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        keep = min(AVERAGED, 1 - 1 / step)
        with torch.no_grad():
            new_state = network.state_dict()
            for name, value in averaged.state_dict().items():
                new = new_state[name]
                value.copy_(torch.lerp(new, value, keep) if value.is_floating_point() else new)
        seconds += time.perf_counter() - started
        if step % EVERY == 0:
            curve.append({
                "step": step, "minutes": round(seconds / 60, 2), "loss": loss.item(),
                "validation_loss": validation_loss(averaged, held_out),
            })  # fmt: skip
            print(curve[-1], flush=True)
            with atomic_write(state_path) as aside:
                torch.save({
                    "network": network.state_dict(), "averaged": averaged.state_dict(),
                    "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds, "curve": curve,
                }, aside)  # fmt: skip
            CURVES.parent.mkdir(exist_ok=True)
            write_json(CURVES, {"curve": curve})
    with_its_statistics(averaged, train)
    steady(averaged, held_out)
    keep_packaged(averaged)
    print(json.dumps(curve[-1:]))


if __name__ == "__main__":
    main()
