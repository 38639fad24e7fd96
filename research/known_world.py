"""How close learnt scores come to the best one, in a world whose errors are known.

    python research/known_world.py WORK DATA

After minute.py, whose tiles of photographs by Real-CUGAN get another truth: y_hat and Laplace noise, cut at 0
and 1, of a scale that y_hat tells, times a factor of each image that nothing tells. So the mean error that is
to be expected of each pixel is known, and no score is better. WORK keeps run folders;
research/results/known_world.json what was measured; a killed run goes on. research/minute_page.py makes a
section of research/results/minute.md of it.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from minute import COUNTS, HOW, measured, threshold_of, trained, triplets_of
from smaller_masks import UNSEEN, known_scale

import conformask as cm
from conformask.scores.scorer import Heuristic, Scorer

RESULTS = Path(__file__).parent / "results" / "known_world.json"
PAIR = "half the side, Real-CUGAN"


def world(triplets: cm.Triplets, unseen: float, seed: int) -> cm.Triplets:
    """The same x and y_hat, of which the errors are known up to a factor of each image."""
    generator = np.random.default_rng(seed)
    truths = []
    for triplet in triplets:
        scale = known_scale(torch.from_numpy(triplet.y_hat[None]))[0].numpy()
        noise = generator.laplace(size=scale.shape) * np.exp(unseen * generator.standard_normal())
        truths.append((triplet.y_hat + scale * noise).clip(0, 1).astype(np.float32))
    return cm.Triplets.from_arrays(
        [triplet.x for triplet in triplets],
        [triplet.y_hat for triplet in triplets],
        truths,
        names=triplets.names,
        groups=triplets.groups,
        reading=cm.Reading(axes="CYX"),
    )


def known_error(x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
    """The mean error over channels that is to be expected where the factor is 1."""
    scale = known_scale(y_hat)
    kept = 1 - 0.5 * ((-y_hat / scale).exp() + ((y_hat - 1) / scale).exp())
    return (scale * kept).mean(dim=1, keepdim=True)


def scorers(parts: dict[str, cm.Triplets], folder: Path) -> dict[str, Callable[[], Scorer]]:
    learnt = {
        f"{how} {COUNTS[-1]}": partial(trained, parts["train"], folder / how, COUNTS[-1], how, None)
        for how in HOW
    }
    return {
        "known": lambda: Heuristic(known_error, parts["train"][0].y_hat.shape[0]),
        "packaged": lambda: cm.packaged_scorer().of(parts["train"]),
        **learnt,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    seen = triplets_of(PAIR, options.work, options.data)
    for unseen in UNSEEN:
        parts = {part: world(triplets, unseen, seed) for seed, (part, triplets) in enumerate(seen.items())}
        threshold = threshold_of(parts["selection"])
        rows = results.setdefault(f"{unseen:g}", {})
        for key, made in scorers(parts, options.work / "runs" / f"known world, {unseen:g}").items():
            if key not in rows:
                rows[key] = measured(made(), parts, threshold)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{unseen:g}: {key} {rows[key]['resplits']['mask_size']:.4f}", flush=True)


if __name__ == "__main__":
    main()
