"""How soon a stream shows a change: simulated, for docs/how-to/watch.md.

    python research/stream_delays.py

Writes research/results/stream_delays.json: the median number of images until the alarm at level 0.01, for a
measure that shifts by half a standard deviation, and for a failure rate that doubles from 0.1 to 0.2 after a
calibration on 400 images, and on 4000.
"""

from pathlib import Path

import numpy as np

from conformask.extras.watch.stream import ExchangeabilityMartingale, FailureMartingale
from conformask.promises.coverage_test import largest_failing_share
from conformask.promises.order import marginal_rank
from conformask.records.record import write_json

LEVEL = 0.01
CALIBRATION = 400
STREAMS = 400
RESULT = Path(__file__).parent / "results" / "stream_delays.json"


def images_until_shifted(generator: np.random.Generator, shift: float) -> int:
    """Of one stream whose values are normal and shifted from the first image on."""
    watched, images = ExchangeabilityMartingale(sorted(generator.normal(size=CALIBRATION).tolist())), 0
    while watched.value < 1 / LEVEL:
        watched.add(float(generator.normal(shift)), float(generator.random()))
        images += 1
    return images


def images_until_failing(generator: np.random.Generator, allowed: float, rate: float) -> int:
    """Of one stream in which more fail than is allowed."""
    bets = FailureMartingale(allowed)
    while bets.value < 2 / LEVEL:
        bets.add(float(generator.random() < rate))
    return bets.images


def main() -> None:
    generator = np.random.default_rng(0)
    shifted = [images_until_shifted(generator, 0.5) for _ in range(STREAMS)]
    delays = {"half_a_deviation": float(np.median(shifted))}
    for n in (CALIBRATION, 10 * CALIBRATION):
        allowed = largest_failing_share(n, marginal_rank(n, 0.9), LEVEL / 2)
        failing = [images_until_failing(generator, allowed, 0.2) for _ in range(STREAMS)]
        delays[f"twice after {n}"] = float(np.median(failing))
    write_json(RESULT, delays)


if __name__ == "__main__":
    main()
