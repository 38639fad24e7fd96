"""Draws docs/images/losses.png: the same images, masked for promises about different losses.

    python docs/losses_picture.py WORK

WORK keeps triplets and scorers. Bicubic enlargement of the photographs that scikit-image packages; each mask
keeps its own promise, at the threshold that half of the selection images meet without a mask. What was
measured goes to docs/results/losses_picture.json, from which docs/gallery.py tells it. Ten minutes on two
cores.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import conformask as cm
from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.make.predictors import Bicubic
from conformask.extras.make.tasks import task
from conformask.extras.make.triplets import TrueImages, write_triplets
from conformask.images.pictures import as_bytes, error_bytes, heat, overlay
from conformask.masker.masker import Masker

DOCS = Path(__file__).parent
PICTURE, RECORD = DOCS / "images" / "losses.png", DOCS / "results" / "losses_picture.json"
SIZE, EPOCHS, WIDTH, THRESHOLD, ROWS = 96, 24, 16, "q0.5", 3
LOSSES = {
    "l1": "l1",
    "l1, local": cm.Local("l1", 9),
    "l1, trusted": cm.MeanShown("l1"),
    "ssim_map": "ssim_map",
    "ssim": "ssim",
}
SCORERS = {"l1": "l1", "l1, local": "l1", "l1, trusted": "l1", "ssim_map": "ssim_map", "ssim": "ssim"}
"""Which scorer serves which."""
TILE, GAP, TOP, BELOW = 168, 8, 26, 20


def maskers(work: Path, split: cm.Splits) -> dict[str, Masker]:
    scorers = {
        distance: cm.fit_scorer(
            split.train,
            selection=split.selection,
            loss=distance,
            training=cm.TrainingConfig(epochs=EPOCHS, resume=True),
            network=cm.NetworkOptions(width=WIDTH),
            out=work / distance,
        )
        for distance in dict.fromkeys(SCORERS.values())
    }
    return {
        title: cm.calibrate(
            scorers[SCORERS[title]],
            split.calibration,
            threshold=THRESHOLD,
            loss=loss,
            selection=split.selection,
        )
        for title, loss in LOSSES.items()
    }


def main(work: Path) -> None:
    data, enlarge = work / "data", task("super_resolution")
    if not (data / "manifest.csv").exists():
        images = TrueImages.from_arrays(packaged_photographs(), SIZE, SIZE, split="tile", seed=0)
        write_triplets(images, data, task=enlarge, predictor=Bicubic(enlarge))
    split = cm.Triplets.from_folder(data).split()
    made = maskers(work, split)
    found = {title: cm.evaluate(masker, split.test, opt_images=0) for title, masker in made.items()}
    keys = (
        "sentence", "formula", "coverage", "coverage_interval", "mask_size", "mask_size_oracle", "n_test",
        "p_worse",
    )  # fmt: skip
    record = {title: {key: each.summary()[key] for key in keys} for title, each in found.items()}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    errors = found["l1"].images.unmasked_loss
    order = np.argsort(errors)
    draw([split.test[int(order[int(share * (len(order) - 1))])] for share in (0.4, 0.6, 0.8)], made)


def draw(triplets: list, made: dict[str, Masker]) -> None:
    titles = ("output", "error", *made)
    height = TILE + BELOW + GAP
    sheet = Image.new("RGB", (len(titles) * (TILE + GAP) - GAP, TOP + len(triplets) * height - GAP), "white")
    pen, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(17), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        pen.text((column * (TILE + GAP), 3), title, fill=(40, 40, 48), font=font)
    for row, triplet in enumerate(triplets):
        output = enlarged(as_bytes(triplet.y_hat))
        error, _ = error_bytes(triplet.truth(), triplet.y_hat)
        pictures = [(output, ""), (enlarged(heat(error)), "")]
        for masker in made.values():
            mask = masker(triplet)
            pictures.append(
                (overlay(output, enlarged(as_bytes(mask[None]))), f"hidden {1 - mask.mean():.0%}")
            )
        for column, (picture, note) in enumerate(pictures):
            place = (column * (TILE + GAP), TOP + row * height)
            sheet.paste(Image.fromarray(picture).convert("RGB"), place)
            pen.text((place[0], place[1] + TILE + 2), note, fill=(90, 90, 98), font=small)
    sheet.save(PICTURE, optimize=True)


def enlarged(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.NEAREST))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
