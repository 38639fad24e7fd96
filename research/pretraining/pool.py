"""Triplets of many tasks and networks for the score network to learn from.

    python research/pretraining/pool.py WORK DATA

After predictors.py. Writes WORK/pool, one file for PART triplets of one number of channels; those that are
there stay. Those of validation come from other true images. What is in them stands in pool.json.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from degradations import DEGRADATIONS
from truths import Truths

from conformask.storage.whole import whole_file
from predictors import CLASSICAL, KEPT, hole_of, networks, restored

PARTS, VALIDATION_PARTS, PART, BATCH = 120, 8, 256, 8
BY_NETWORK = 0.7
"""The share of triplets whose y_hat a network made."""
LARGEST = 2**16 - 1
INVENTED = 0.08
"""The share of triplets with something that the network invented."""
OCT_SHOTS = 0.6
"""The share of the triplets of OCT whose noise is real."""


class Pool:
    """Draws triplets: a kind of images, what is done to them, and what brings them back."""

    def __init__(self, work: Path, data: Path, *, validation: bool) -> None:
        self.truths = Truths(data, validation=validation)
        self.networks = networks(work / "predictors")
        self.drawn: Counter[str] = Counter()

    def batch(self, generator: np.random.Generator, *, colour: bool) -> list[torch.Tensor]:
        """(x, y_hat, y) of BATCH triplets, x at the size of y and with as many channels."""
        kind = next(self.truths.kinds(generator))
        kind = "photos" if colour else kind
        task = str(generator.choice([name for name in DEGRADATIONS if colour or name != "grey"]))
        if kind == "oct" and generator.random() < OCT_SHOTS:
            task = "noisy"
            x, y = self.truths.noisy_pairs(BATCH, generator)
        else:
            y = self.truths.crops(kind, BATCH, generator)
            y = y if colour else y.mean(dim=1, keepdim=True)
            x = DEGRADATIONS[task](y, generator)
        if generator.random() < BY_NETWORK:
            usable = self.networks[task]
            shares = np.array([share_of(name) for name, _ in usable])
            name, network = usable[generator.choice(len(usable), p=shares / shares.sum())]
            y_hat = restored(network, x)
        else:
            method = CLASSICAL[task][generator.integers(len(CLASSICAL[task]))]
            name, y_hat = method.__name__, method(x, generator)
        if task == "holed" and generator.random() < 0.7:
            y_hat = torch.where(hole_of(x), y_hat, x)
        if generator.random() < INVENTED:
            y_hat = with_inventions(y_hat, self.truths.crops(kind, BATCH, generator), generator)
        self.drawn[f"{kind} {task} {name}"] += BATCH
        return [x, y_hat, y]


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


def share_of(name: str) -> float:
    """How often a network is taken: seldom after few steps."""
    steps = int(name.rpartition("-")[2])
    return 0.3 if steps == min(KEPT) else 1.0 if steps < max(KEPT) and "gan" not in name else 2.0


def write_part(pool: Pool, path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    colour = seed % 3 == 0
    batches = [pool.batch(generator, colour=colour) for _ in range(PART // BATCH)]
    arrays = [torch.cat(images).clamp(0, 1) for images in zip(*batches, strict=True)]
    with whole_file(path) as aside, aside.open("wb") as file:
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
