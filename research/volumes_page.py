"""Writes research/results/volumes.md and its picture from a run of research/volumes.py.

    python research/volumes_page.py WORK

The table comes from research/results/volumes.json; the picture from masks that are written to WORK as NIfTI
by `write_masks` and read back by nibabel.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

import conformask as cm
from conformask.images.pictures import as_bytes, error_bytes, heat, overlay

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "research" / "results" / "volumes.json"
PAGE, PICTURE = ROOT / "research" / "results" / "volumes.md", ROOT / "docs" / "images" / "volumes.jpg"
TASK, RUN = "thick slices of brains", "mask-None-None"
WIDTH, GAP = 300, 8
ALT = "Three planes of a brain: thick slices, cubic splines, what is hidden, the error"
TEXT = """# Volumes

Slice by slice with a slice's neighbours as channels, or in three dimensions: which score hides less of real
MR volumes? Written by `research/volumes_page.py` from a run of `research/volumes.py`; nothing but the words
around the tables is typed by hand. Every promise is about whole volumes, one of each subject:
P(l1 <= threshold) >= 0.9, the threshold the 0.2-quantile of the unmasked losses on selection volumes. The
packaged network, which sees one slice after the other, has learnt from slices of these brains that were
degraded in other ways, and from no hippocampi.

{tables}

*Hidden* is the mean mask size on test volumes, in brackets over {deals} random deals of calibration and test
volumes; *kept* is the share of volumes that keep the threshold over these deals, beside what the law of
coverage (Beta-binomial) says. *Seconds* are those of a mask on one thread, beside other processes on the same
machine.

{conclusion}

## One volume, in register

![{alt}](../../docs/images/volumes.jpg)

A test volume of *{task}*, masked by `write_masks` and read back by nibabel: axial, coronal and
sagittal planes of input, output, overlay and error, those that hide most. The mask beside the output:
{registered}.
"""


def table(task: str, results: Mapping[str, Any]) -> str:
    rows = [row for row in results.values() if row["task"] == task]
    train, _, calibration, test = rows[0]["n"]
    lines = [
        f"## {task.capitalize()}",
        "",
        f"{train} volumes to train, {calibration} to calibrate, {test} to test.",
        "",
        "| score | hidden | kept | law | seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda row: row["resplits"]["mask_size"]):
        deals = row["resplits"]
        lines.append(
            f"| {name_of(row)} | {row['mask_size']:.3f} ({deals['mask_size']:.3f}) | {deals['coverage']:.3f} "
            f"| {deals['law_mean']:.3f} | {row['seconds_a_volume']:.2f} |"
        )
    lines.append(f"| *exact oracle, which knows the truth* | {rows[0]['oracle_size']:.3f} | | | |")
    return "\n".join(lines)


UNTRAINED = {
    "spread": "local spread, nothing trained",
    "packaged": "packaged, nothing trained",
    "mask": "packaged, trained further: the default",
}


def name_of(row: Mapping[str, Any]) -> str:
    if row["by"] is None:
        return UNTRAINED[row["scorer"]]
    return f"{'slice by slice' if row['by'] == 'slices' else 'three dimensions'}, width {row['width']}"


def conclusion(results: Mapping[str, Any]) -> str:
    """What the tables say, where both ways were measured."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in results.values()):
        sizes = {
            by: [
                row["resplits"]["mask_size"]
                for row in results.values()
                if (row["task"], row["by"]) == (task, by)
            ]
            for by in ("slices", "volume")
        }
        if all(sizes.values()):
            slices, volume = map(min, sizes.values())
            lines.append(
                f"- {task.capitalize()}: slice by slice hides {slices:.3f}, in three dimensions {volume:.3f} "
                f"({volume / slices:.2f} times as much)."
            )
    lines.append(
        "\nThe default is the packaged network, slice by slice: it works on a stack of any depth and on any "
        "spacing, and is tiled with hardly any overlap between slices. `--volume-mode volume` is there where "
        "a volume is near isotropic."
    )
    return "\n".join(lines)


def read(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).get_fdata(dtype=np.float32))


def planes(volume: np.ndarray, at: tuple[int, ...]) -> list[np.ndarray]:
    """Axial, coronal and sagittal planes (1, H, W), as radiologists look at them; (X, Y, Z) leads RAS."""
    x, y, z = at
    cuts = volume[:, :, z], volume[:, y, :], volume[x, ::-1, :]
    return [np.rot90(cut)[None, :, ::-1] for cut in cuts]


def most_hidden(mask: np.ndarray) -> tuple[int, ...]:
    """Of the planes across each axis the one that hides most."""
    axes = range(mask.ndim)
    return tuple(int((1 - mask).mean(axis=tuple(set(axes) - {axis})).argmax()) for axis in axes)


def picture(folder: Path, name: str, masks: Path) -> None:
    x, y_hat, y = (read(folder / role / f"{name}.nii.gz") for role in ("x", "y_hat", "y"))
    mask = read(masks / f"{name}.nii.gz")
    rows = []
    for of_x, of_y_hat, of_y, of_mask in zip(
        *(planes(volume, most_hidden(mask)) for volume in (x, y_hat, y, mask)), strict=True
    ):
        error = heat(error_bytes(of_y, of_y_hat)[0])
        seen, output, trusted, wrong = map(enlarged, (*map(as_bytes, (of_x, of_y_hat, of_mask)), error))
        hatched = Image.fromarray(overlay(np.asarray(output), np.asarray(trusted)))
        rows.append([seen, output, hatched, wrong])
    height = sum(row[0].height for row in rows) + GAP * (len(rows) - 1)
    sheet = Image.new("RGB", (4 * WIDTH + 3 * GAP, height), "white")
    top = 0
    for row in rows:
        for place, tile in enumerate(row):
            sheet.paste(tile, (place * (WIDTH + GAP), top))
        top += row[0].height + GAP
    sheet.save(PICTURE, quality=88)


def enlarged(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels).convert("RGB")
    return image.resize((WIDTH, round(WIDTH * image.height / image.width)), Image.Resampling.BICUBIC)


def registered(y_hat: Path, mask: Path) -> str:
    """How the mask's header compares with y_hat's."""
    one, other = nibabel.load(y_hat), nibabel.load(mask)
    same = np.array_equal(one.affine, other.affine) and one.header.get_zooms() == other.header.get_zooms()
    codes = "".join(nibabel.aff2axcodes(other.affine))
    return f"affine and spacing {'equal' if same else 'DIFFERENT'}, orientation {codes}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    folder = parser.parse_args().work / "mr"
    results = json.loads(RESULTS.read_text())
    masker = cm.load(folder / RUN)
    data = cm.Triplets.from_folder(folder / "triplets").part("test")
    sizes = cm.write_masks(masker, data, folder / "masks").sizes
    name, masks = max(sizes, key=sizes.__getitem__), folder / "masks" / "masks"
    picture(folder / "triplets", name, masks)
    tasks = list(dict.fromkeys(row["task"] for row in results.values()))
    PAGE.write_text(
        TEXT.format(
            tables="\n\n".join(table(task, results) for task in tasks),
            conclusion=conclusion(results),
            task=TASK,
            alt=ALT,
            deals=200,
            registered=registered(folder / "triplets" / "y_hat" / f"{name}.nii.gz", masks / f"{name}.nii.gz"),
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
