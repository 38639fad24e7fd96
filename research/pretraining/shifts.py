"""Trains the packaged network further on the pool, with and without shifts, and measures what masks hide.

    python research/pretraining/shifts.py train WORK HEAD --minutes 30
    python research/pretraining/shifts.py measure WORK DATA BENCH TASK ...

After pool.py. HEAD is deviance (the size of the error, as it was pre-trained) or laplace (a width and a shift
of each channel, by the likelihood of `LaplaceNetwork`, each image at its own scale). Both start from the packaged
weights before they were made steady, and are made steady afterwards: the geometric mean of what they give and of
how steep y_hat is. BENCH is the folder of MaskBench's triplets; hidden shares are those of its pool at one lambda.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from pretrain import (
    AVERAGED, CHANGE_NEAR, FALLING, STEEP_NEAR, WARM_UP, Parts, as_tensors, deviance, with_its_statistics,
)  # fmt: skip

from conformask.promises.order import marginal_rank, smallest
from conformask.scores.networks import CUES, AnyChannels, cues, finer
from conformask.scores.untrained import packaged_network
from maskbench import tasks
from maskbench.aim import Aim
from maskbench.calibration import READINGS, Scored
from maskbench.methods._images import enlarged, planes
from maskbench.splits import deals, learn_and_pool

LEARNING_RATE, EVERY, BATCH, DEALS = 1e-3, 250, 16, 40


def sharp_network(*, shifts: bool) -> AnyChannels:
    """The packaged network before it was made steady; see `pretrain.steady`."""
    network = packaged_network(3, 3, 2, shifts=shifts)
    with torch.no_grad():
        network.powers.weight[0, STEEP_NEAR] -= 1 / 2
        network.powers.weight[0, CUES + STEEP_NEAR] += 1 / 3
        network.powers.weight[0, CUES + CHANGE_NEAR] -= 1 / 3
        for layer in (network.out, network.powers):
            layer.weight *= 2
            layer.bias *= 2
    return network


def output_of(network: AnyChannels, x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
    network.x_channels = network.channels = y_hat.shape[1]
    return network(2 * torch.cat([x, y_hat], dim=1) - 1)


def expected(output: torch.Tensor) -> torch.Tensor:
    """The mean error over channels, by the Laplace law where there are shifts."""
    if output.shape[1] == 1:
        return output
    width, shifts = output[:, :1], output[:, 1:].abs()
    return (shifts + width * torch.exp(-shifts / width)).mean(dim=1, keepdim=True)


def likelihood(output: torch.Tensor, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of a Laplace law, each pixel by its share of the image's width: all images count alike."""
    width, shifts = output[:, :1].float() + 1e-3, output[:, 1:].float()
    values = (y - y_hat - shifts).abs() / width + width.log()
    weight = (width / width.mean(dim=(1, 2, 3), keepdim=True)).detach()
    return (weight * values).mean(dim=(1, 2, 3))


def loss_of(output: torch.Tensor, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return deviance(output, y_hat, y) if output.shape[1] == 1 else likelihood(output, y_hat, y)


@torch.no_grad()
def validation(network: AnyChannels, parts: Parts) -> tuple[float, float]:
    """The deviance of the expected error, which both can be judged by, and their own loss."""
    network.eval()
    deviances, losses = [], []
    for array in parts.arrays:
        for start in range(0, array.shape[1], 64):
            x, y_hat, y = as_tensors(array[:, start : start + 64])
            output = output_of(network, x, y_hat)
            deviances.append(deviance(expected(output), y_hat, y))
            losses.append(loss_of(output, y_hat, y))
    network.train()
    return float(torch.cat(deviances).mean()), float(torch.cat(losses).mean())


def train(work: Path, head: str, minutes: float) -> None:
    torch.manual_seed(0)
    pool = work / "pool"
    batches, held_out = (Parts(sorted(pool.glob(f"{name}-*.npy"))) for name in ("train", "validation"))
    network, averaged = (sharp_network(shifts=head == "laplace") for _ in range(2))
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    print(head, "at first", validation(network, held_out), flush=True)
    seconds, network = 0.0, network.train()
    for step, (x, y_hat, y) in enumerate(batches.batches(seed=1), 1):
        started = time.perf_counter()
        share = seconds / 60 / minutes
        if share >= 1:
            break
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, step / WARM_UP, (1 - share) / FALLING)
        with torch.autocast("cpu", torch.bfloat16):
            output = output_of(network, x, y_hat)
        optimizer.zero_grad()
        loss_of(output, y_hat, y).mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        keep = min(AVERAGED, 1 - 1 / step)
        with torch.no_grad():
            for name, value in averaged.state_dict().items():
                new = network.state_dict()[name]
                value.copy_(torch.lerp(new, value, keep) if value.is_floating_point() else new)
        seconds += time.perf_counter() - started
        if step % EVERY == 0:
            print(step, round(seconds / 60, 1), validation(averaged, held_out), flush=True)
            torch.save(averaged.state_dict(), work / f"{head}.pt")
    with_its_statistics(averaged, batches)
    print("at the end", validation(averaged, held_out), flush=True)
    torch.save(averaged.state_dict(), work / f"{head}.pt")


def steady(learnt: torch.Tensor, x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
    """The geometric mean of what was learnt and of the cue that `pretrain.steady` mixes in."""
    images = 2 * x - 1, 2 * y_hat - 1
    of_cues, invented = cues(*images), finer(*images)
    mixed = of_cues[:, STEEP_NEAR] + 2 / 3 * invented[:, 0] * (
        of_cues[:, CHANGE_NEAR] - of_cues[:, STEEP_NEAR]
    )
    return (learnt.log() / 2 + mixed[:, None] / 2).exp()


@torch.no_grad()
def maps(network: AnyChannels, x: np.ndarray, y_hat: np.ndarray) -> dict[str, np.ndarray]:
    learnt, mixed = [], []
    for at in range(0, len(x), BATCH):
        images = planes(x[at : at + BATCH]), planes(y_hat[at : at + BATCH])
        images = (images[0].mean(1, keepdim=True).expand_as(images[1]), images[1]) if (
            images[0].shape[1] != images[1].shape[1]
        ) else images
        estimate = expected(output_of(network, *images))
        learnt.append(estimate[:, 0])
        mixed.append(steady(estimate, *images)[:, 0])
    return {"learnt": torch.cat(learnt).numpy(), "steady": torch.cat(mixed).numpy()}


def hidden(score: np.ndarray, errors: np.ndarray, threshold: float, groups: list[str]) -> float:
    """The hidden share of the pool at one lambda, the mean over deals, by the better reading."""
    shares = []
    for read in READINGS.values():
        scored = Scored(read(score.reshape(len(score), -1)), errors.reshape(len(score), -1), threshold)
        parts, critical = list(deals(groups))[:DEALS], scored.critical_lambdas
        lambdas = [float(smallest(critical[own], marginal_rank(len(own), 0.9))) for own, _ in parts]
        along = scored.hidden_shares(np.array(lambdas))
        shares.append(np.mean([along[test, place].mean() for place, (_, test) in enumerate(parts)]))
    return min(shares)


def measure(work: Path, data: Path, bench: Path, names: list[str]) -> None:
    networks = {"packaged": packaged_network(3, 3, 2), "before it was steady": sharp_network(shifts=False)}
    for head in ("deviance", "laplace"):
        if (work / f"{head}.pt").exists():
            networks[head] = sharp_network(shifts=head == "laplace")
            networks[head].load_state_dict(torch.load(work / f"{head}.pt", weights_only=True))
    for name in names:
        learn, pool = learn_and_pool(tasks.triplets_of(name, data, bench))
        threshold = Aim.of(learn).threshold
        x = pool.x if pool.x.shape[1:3] == pool.y_hat.shape[1:3] else enlarged(pool.x, pool.y_hat)
        line = f"{name:20}"
        for title, network in networks.items():
            for way, score in maps(network.eval(), x, pool.y_hat).items():
                share = hidden(score.astype(np.float32), pool.errors.astype(np.float32), threshold, pool.groups)
                line += f" | {title}, {way} {share:.3f}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["train", "measure"])
    parser.add_argument("work", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--minutes", type=float, default=30)
    options = parser.parse_args()
    if options.what == "train":
        train(options.work, options.names[0], options.minutes)
    else:
        data, bench, *names = options.names
        measure(options.work, Path(data), Path(bench), names)


if __name__ == "__main__":
    main()
