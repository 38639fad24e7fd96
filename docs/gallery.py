"""Writes docs/gallery.md, its pictures and docs/results/examples.json from what the examples left behind.

for name in photographs microscopy own_onnx real_network; do python examples/$name.py; done
python examples/volumes.py --data FOLDER
python docs/gallery.py

FOLDER has the T1-weighted scans of the IXI dataset, ixi*_t1.nii.gz (here 52 of them, at 2 mm). What was not
run again keeps its numbers and its picture, and so do the volumes where the heads were made up.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

DOCS = Path(__file__).parent
OUT = DOCS.parent / "examples" / "out"
RECORD, PAGE = DOCS / "results" / "examples.json", DOCS / "gallery.md"
LOSSES = DOCS / "results" / "losses_picture.json"
LARGE = 420_000
"""Bytes above which a picture is made smaller."""
KEPT = (
    "sentence", "n_test", "coverage", "coverage_interval", "mask_size", "mask_size_oracle",
)  # fmt: skip
TEXT = """# Gallery

Five scripts that run from a fresh clone, download nothing and take one to four minutes on two cores. Open
them in an editor that knows `# %%` cells to walk through them as notebooks; each takes your own images as
an argument. Their settings were chosen with earlier runs in view; the numbers are from one later run of
each, on another split, written here by `docs/gallery.py`. In the pictures, hidden pixels are black in the
mask and hatched in the last column. For planes, the last row is the test image with the largest loss; the
rows above it are within the threshold, easy images first. Click on a picture to see it large.

The coverage of one run may lie above or below the promise; an interval that contains the promised 90 %
agrees with it.

## Photographs

![A few enlarged tiles, their errors and masks](images/example-photographs.png)

[examples/photographs.py](../examples/photographs.py) enlarges photographs four times and asks which details
can be trusted. It chooses a threshold on images that the promise does not rest on, calibrates, and asks for
a stricter promise afterwards without touching an image.

{photographs}

## A GAN that paints

![A face that a network made, yellow where it is not trusted, and the photograph](images/hero.webp)

[examples/real_network.py](../examples/real_network.py) enlarges photographs by Real-ESRGAN, whose weights
come with a package of its own, and asks how much of what is shown is visibly wrong. The script explains how
loss and crops were chosen, with their masks in view: it is an illustration, not a proof. The picture shows
a hallucination of the same network, under a mask with another promise, about the mean error
(`docs/hero.py`).

{real_network}

## Microscopy

![A few restored tiles of fluorescent cells, their errors and masks](images/example-microscopy.png)

[examples/microscopy.py](../examples/microscopy.py) restores fields of cells, taken in little light, from
16-bit TIFF files of a 12-bit camera. Tiles of one field resemble each other, so whole fields are assigned to
training and calibration, and the promise is about a tile of a new field. The fields are synthetic; give the
script your own folder. The interval below counts tiles as if they were independent, so it is too narrow.

{microscopy}

## Your own ONNX network

![A few sharpened tiles, their errors and masks](images/example-own-onnx.png)

[examples/own_onnx.py](../examples/own_onnx.py) runs an `.onnx` file on a folder of inputs, calibrates masks
for it and watches whether new images still look like the calibration images. Replace the stand-ins with
your own file by `--model` and with your own folder by an argument.

{own_onnx}

`cm.monitor` found p = {unshifted:.2g} for the test images, no sign that they differ from the calibration
images, and p = {shifted:.2g} for the same images made darker and with twice the blur: time to calibrate
again.

## Volumes

![Three slices of a denoised MR scan, their errors and masks](images/example-volumes.png)

[examples/volumes.py](../examples/volumes.py) removes noise from MR volumes, from NIfTI to masks in NIfTI that
lie over the scans. The loss is the largest mean error in a window of 15 mm, here 9 voxels, around a voxel
that is shown, and the promise is about every scan of a new patient. These are scans of 52 healthy adults, one
each, to which noise was added. With 13 to calibrate, the hardest alone sets lambda, and hides 51 % where the
next one would hide 13 %. 10 are left to test: a wide interval. Without a folder of yours, the script makes up
heads.

The scans are from the IXI dataset (brain-development.org/ixi-dataset), at 2 mm from the NiChart project,
cropped around the head; they and the picture of them are licensed under CC BY-SA 3.0
(creativecommons.org/licenses/by-sa/3.0).

{volumes}

## One image, five promises

![The same images masked for five losses](images/losses.png)

What a mask covers depends on [what it promises](promises.md#1-what-may-be-wrong). Each of these keeps its own
promise at 0.9, at the threshold that half of the images meet without a mask. L1 over the image hides what
contributes most to the error. `local` hides every place around which the error is large.
`trusted` hides much, because little of what is shown may be wrong. `ssim_map` covers what is structurally
wrong, however faint.
**`ssim` compares the masked images, and a few hidden dots make them similar: its masks keep their promise
but cover little of what is wrong.** Bicubic enlargement of packaged photographs, from before images had
[levels](reference/formulas.md#one-lambda-or-a-level-for-each-image), by `docs/losses_picture.py`.

| loss | in at least 9 of 10 new images, | measured | hidden | best possible |
| --- | --- | --- | --- | --- |
{losses}
"""


def told(record: Mapping[str, Any]) -> str:
    """What was promised, and what was measured."""
    low, high = record["coverage_interval"]
    oracle = record["mask_size_oracle"]
    best = f"{100 * oracle:.1g}%" if oracle < 0.01 else f"{oracle:.0%}"
    return (
        f"- promised: {record['sentence']}\n"
        f"- measured on {record['n_test']} test images: {record['coverage']:.1%} within the threshold "
        f"(95 % interval {low:.1%} to {high:.1%}), {record['mask_size']:.0%} hidden on average;\n"
        f"  the best possible masks, with the truth known, would hide {best}."
    )


def line(loss: str, record: Mapping[str, Any]) -> str:
    """A row of the table of losses."""
    event, oracle = record["sentence"].partition(", ")[2].rstrip("."), record["mask_size_oracle"]
    low, high = record["coverage_interval"]
    measured = f"{record['coverage']:.0%} of {record['n_test']} ({low:.0%} to {high:.0%})"
    if record["p_worse"] < 0.05:
        measured += f"; so few by chance in {record['p_worse']:.1%} of such tests"
    best = "–" if oracle is None else f"{oracle:.0%}"
    return f"| {loss} | {event} | {measured} | {record['mask_size']:.0%} | {best} |"


def page(records: Mapping[str, Any], losses: Mapping[str, Any]) -> str:
    """The text of the page."""
    examples = {name: told(record) for name, record in records.items() if name != "monitoring"}
    rows = "\n".join(line(loss, record) for loss, record in losses.items())
    return TEXT.format(**examples, **records["monitoring"], losses=rows)


def collected() -> dict[str, Any]:
    """What the examples measured."""
    records: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    for path in OUT.glob("*/evaluation.json"):
        if path.with_name("scans").exists():
            continue  # heads that were made up
        evaluation, name = json.loads(path.read_text(encoding="utf-8")), path.parent.name
        records[name] = {key: evaluation[key] for key in KEPT}
        if (figure := path.with_name("figure.png")).exists():
            save(figure, DOCS / "images" / f"example-{name.replace('_', '-')}.png")
    for path in OUT.glob("*/monitoring.json"):
        monitoring = json.loads(path.read_text(encoding="utf-8"))
        records["monitoring"] = {key: monitoring[key] for key in ("unshifted", "shifted")}
    return records


def save(figure: Path, place: Path) -> None:
    """Copy a figure; a large one with 256 colours."""
    if figure.stat().st_size <= LARGE:
        shutil.copy(figure, place)
        return
    with Image.open(figure) as image:
        image.convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE).save(place, optimize=True)


def main() -> None:
    records = collected()
    RECORD.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(records, json.loads(LOSSES.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
