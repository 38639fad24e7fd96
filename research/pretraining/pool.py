"""Triplets of many tasks and networks for the score network to learn from.

    python research/pretraining/pool.py WORK DATA

After predictors.py and enlargers.py. Writes WORK/pool, one file for PART triplets of one number of channels;
those that are there stay. Those of validation come from other true images. What is in them stands in
pool.json.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import enlargers
import numpy as np
import torch
from degradations import DEGRADATIONS, normal
from predictors import ANY_OF, CLASSICAL, KEPT, hole_of, networks, restored, sharpened
from torch import nn
from trained import trained_networks
from truths import Truths

from conformask.records.record import atomic_write

PARTS, VALIDATION_PARTS, PART, BATCH = 180, 8, 256, 8
ENLARGED = 0.4
"""The share of triplets whose y_hat a network of enlargers.py made."""
BY_NETWORK = 0.7
"""The share of the others whose y_hat a network made."""
SHARPENED = 0.1
"""The share of triplets whose y_hat was sharpened in the end."""
LARGEST = 2**16 - 1
GRAINY, GRAIN = 0.25, (0.003, 0.04)
"""The share of triplets whose truth has noise of its own, and from where to where its deviation lies."""
UNKNOWN = 0.2
"""The share of triplets to which two things were done, of which one is not undone."""
INVENTED = 0.08
"""The share of triplets with something that the network invented."""
OCT_SHOTS = 0.6
"""The share of the triplets of OCT whose noise is real."""


class Pool:
    """Draws triplets: a kind of images, what is done to them, and what brings them back."""

    def __init__(self, work: Path, data: Path, *, validation: bool) -> None:
        self.truths = Truths(data, validation=validation)
        self.networks = networks(work / "predictors")
        self.enlargers = list(trained_networks(work / "enlargers", enlargers.network_of))
        self.drawn: Counter[str] = Counter()

    def batch(self, generator: np.random.Generator, *, colour: bool) -> list[torch.Tensor]:
        """(x, y_hat, y) of BATCH triplets, x at the size of y and with as many channels."""
        kind = next(self.truths.kinds(generator))
        kind = "photos" if colour else kind
        if generator.random() < ENLARGED:
            name, network = chosen(self.enlargers, generator)
            y = self._truths(kind, generator, colour=colour)
            task, (x, y_hat) = "enlarged", enlargers.enlarged_by(network, y, generator)
        else:
            task, name, x, y_hat, y = self._restored(kind, generator, colour=colour)
        if generator.random() < SHARPENED:
            y_hat = sharpened(y_hat, generator)
        if generator.random() < INVENTED:
            y_hat = with_inventions(y_hat, self.truths.crops(kind, BATCH, generator), generator)
        self.drawn[f"{kind} {task} {name}"] += BATCH
        return [x, y_hat, y]

    def _restored(
        self, kind: str, generator: np.random.Generator, *, colour: bool
    ) -> tuple[str, str, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Task, what brought the images back, and (x, y_hat, y)."""
        task = str(generator.choice([name for name in DEGRADATIONS if colour or name != "grey"]))
        if kind == "oct" and generator.random() < OCT_SHOTS:
            task = "noisy"
            x, y = self.truths.noisy_pairs(BATCH, generator)
        else:
            y = self._truths(kind, generator, colour=colour)
            x = DEGRADATIONS[task](self._perhaps_worse(y, generator), generator)
        if generator.random() < BY_NETWORK:
            name, network = chosen(self.networks[task], generator)
            y_hat = restored(network, x)
        else:
            method = CLASSICAL[task][generator.integers(len(CLASSICAL[task]))]
            name, y_hat = method.__name__, method(x, generator)
        if task == "holed" and generator.random() < 0.7:
            y_hat = torch.where(hole_of(x), y_hat, x)
        return task, name, x, y_hat, y

    def _truths(self, kind: str, generator: np.random.Generator, *, colour: bool) -> torch.Tensor:
        y = self.truths.crops(kind, BATCH, generator)
        y = y if colour else y.mean(dim=1, keepdim=True)
        if generator.random() < GRAINY:
            y = y + float(np.exp(generator.uniform(*np.log(GRAIN)))) * normal(y, generator)
        return y.clamp(0, 1)

    @staticmethod
    def _perhaps_worse(y: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        """Now and then with something else done to it, of which what brings it back knows nothing."""
        if generator.random() < UNKNOWN:
            return DEGRADATIONS[str(generator.choice(ANY_OF))](y, generator)
        return y


def with_inventions(
    y_hat: torch.Tensor, others: torch.Tensor, generator: np.random.Generator
) -> torch.Tensor:
    """With a spot of another image in each, smoothly blended in, as networks invent what is not there."""
    spots = torch.stack([_spot(*y_hat.shape[-2:], generator) for _ in y_hat])
    strength = generator.uniform(0.3, 1.0)
    others = others if others.shape[1] == y_hat.shape[1] else others.mean(dim=1, keepdim=True)
    return y_hat + strength * spots * (others - y_hat)


def _spot(height: int, width: int, generator: np.random.Generator) -> torch.Tensor:
    rows, columns = np.mgrid[:height, :width]
    down, right = generator.uniform(0, height), generator.uniform(0, width)
    radii = generator.uniform(4, 24, 2)
    away = ((rows - down) / radii[0]) ** 2 + ((columns - right) / radii[1]) ** 2
    return torch.from_numpy(np.exp(-(away**2))).float()[None]


def chosen(
    networks: Sequence[tuple[str, nn.Module]], generator: np.random.Generator
) -> tuple[str, nn.Module]:
    """A name and its network: seldom one after few steps."""
    shares = np.array([share_of(name) for name, _ in networks])
    return networks[generator.choice(len(networks), p=shares / shares.sum())]


def share_of(name: str) -> float:
    """How often a network is taken, beside others."""
    title, _, steps = name.rpartition("-")
    if title in enlargers.JOBS:
        return 0.3 if int(steps) == enlargers.EARLY else 1.0
    return 0.3 if int(steps) == min(KEPT) else 1.0 if int(steps) < max(KEPT) and "gan" not in name else 2.0


def write_part(pool: Pool, path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    colour = seed % 3 == 0
    batches = [pool.batch(generator, colour=colour) for _ in range(PART // BATCH)]
    arrays = [torch.cat(images).clamp(0, 1) for images in zip(*batches, strict=True)]
    with atomic_write(path) as aside, aside.open("wb") as file:
        np.save(file, (torch.stack(arrays) * LARGEST).round().numpy().astype(np.uint16))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    folder = options.work / "pool"
    folder.mkdir(exist_ok=True)
    for validation, parts in ((True, VALIDATION_PARTS), (False, PARTS)):
        pool, title = (
            Pool(options.work, options.data, validation=validation),
            "validation" if validation else "train",
        )
        for place in range(parts):
            path = folder / f"{title}-{place:03}.npy"
            if not path.exists():
                write_part(pool, path, seed=place + 10_000 * validation)
                path.with_suffix(".json").write_text(json.dumps(pool.drawn))
                pool.drawn.clear()
                print(path.name, flush=True)
    total: Counter[str] = Counter()
    for path in sorted(folder.glob("train-*.json")):
        total.update(json.loads(path.read_text()))
    (options.work / "pool.json").write_text(json.dumps(dict(total.most_common()), indent=1) + "\n")


if __name__ == "__main__":
    main()
