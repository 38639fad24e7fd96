"""Draws docs/images/hero.webp, with which README and documentation open: docs/hero.py.

A face from what conformask packages: a photograph, and what Real-ESRGAN made of it. Lambda comes from the
crops of all other packaged photographs, so the mask has not seen this one. The photograph was chosen because
anybody can judge a face, and the crop because the face is in its middle.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import conformask as cm
from conformask.extras.make.demonstration import SIDE, middles, output_file, quarter, write_crops
from conformask.images.pictures import HATCH
from conformask.records.record import Array

OUT = Path(__file__).parent / "images" / "hero.webp"
PHOTOGRAPH, LEFT = "astronaut", 64
"""The photograph, and the column at which its crop starts; the row is the first."""
SHOWN, BAR, FONT = 384, 42, 20
GROUND, INK = "#0b2a3c", "white"
"""Dark in light mode and in dark mode."""
STEPS, STEP, HOLD = 6, 80, 2000
"""Frames of a fade, and times in ms: of a frame that fades, and of one that stands."""
MOST_BYTES, QUALITY = 400_000, 75


def masker() -> cm.Masker:
    """Return a masker of the crops of all other photographs, as `conformask look` makes it."""
    with TemporaryDirectory() as folder:
        write_crops(Path(folder))
        crops = cm.Triplets.from_folder(folder)
        others = [index for index, name in enumerate(crops.names) if not name.startswith(PHOTOGRAPH)]
        calibration, selection = crops.select(others).holdout(0.2)
        return cm.calibrate(cm.packaged_scorer(), calibration, selection=selection, threshold="q0.5")


def scenes() -> Iterator[tuple[str, Array]]:
    """Yield each picture, uint8 (SIDE, SIDE, 3), with its caption.

    The first one has the yellow that the pages speak of: it is all that is seen where pictures do not move.
    """
    crop = (slice(0, SIDE), slice(LEFT, LEFT + SIDE))
    photograph = middles()[PHOTOGRAPH][crop]
    output = np.asarray(Image.open(output_file(PHOTOGRAPH)))[crop]
    given = quarter(photograph)
    mask = np.asarray(masker()(given, output))
    hidden = np.where(mask[..., None] < 1, np.uint8(HATCH), output)
    yield "what conformask does not trust", hidden
    yield "the mask never saw the photograph", photograph
    yield "what Real-ESRGAN was given", given.repeat(4, axis=0).repeat(4, axis=1)
    yield "what it made of it", output


def frame(picture: Image.Image, caption: str) -> Image.Image:
    sheet = Image.new("RGB", (SHOWN, SHOWN + BAR), GROUND)
    sheet.paste(picture.resize((SHOWN, SHOWN), Image.Resampling.LANCZOS))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    pen.text((SHOWN / 2, SHOWN + BAR / 2), caption, INK, font, anchor="mm")
    return sheet


def frames() -> Iterator[tuple[Image.Image, int]]:
    """Yield each frame with its time in ms: every picture stands, then fades to the next, in a circle."""
    pictures = [(caption, Image.fromarray(array)) for caption, array in scenes()]
    for (caption, picture), (next_caption, following) in pairwise([*pictures, pictures[0]]):
        yield frame(picture, caption), HOLD
        for step in range(1, STEPS):
            yield frame(Image.blend(picture, following, step / STEPS), next_caption), STEP


def main() -> None:
    (first, *rest), times = zip(*frames(), strict=True)
    first.save(OUT, save_all=True, append_images=rest, duration=times, loop=0, quality=QUALITY, method=6)
    if OUT.stat().st_size > MOST_BYTES:
        raise ValueError(f"{OUT} has more than {MOST_BYTES} bytes: lower QUALITY")


if __name__ == "__main__":
    main()
