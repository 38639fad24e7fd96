"""By what the images are recognised again that the packaged score network has learnt from.

    python research/pretraining/looks.py DATA

Writes the perceptual hash of each true image beside the weights. Of volumes every fourth slice is kept, about
the middle one: neighbours look alike, and the first and last look like those of any patient.
"""

import argparse
from pathlib import Path

import numpy as np
from truths import Truths

from conformask.images.scan import perceptual_hash
from conformask.records.record import write_arrays
from conformask.scores.untrained import LOOKS

EVERY, REACH = 4, 24
"""Slices of a volume: every so many, up to so far from the middle one."""


def slices(volume: np.ndarray) -> list[np.ndarray]:
    """The planes (1, H, W) of a volume (D, H, W) that are kept."""
    middle = len(volume) // 2
    return list(volume[middle - REACH : middle + REACH + 1 : EVERY, None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    truths, kept = Truths(parser.parse_args().data), []
    for kind, paths in truths.paths.items():
        for path in paths:
            image = truths.plane(path).astype(np.float32) / 255
            planes = slices(image) if kind == "mr_t1" else [image[:1] if kind == "nuclei" else image]
            kept += [perceptual_hash(plane)[0] for plane in planes]
    write_arrays(LOOKS, {"looks": np.stack(kept)})


if __name__ == "__main__":
    main()
