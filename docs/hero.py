"""Draws docs/images/hero.png, with which the README opens: docs/hero.py, after examples/real_network.py.

Of the five photographs of its test we took the one with a face, which everybody can judge. Which crop of it
is shown, the example decides: that with the median mask size. The loss was chosen with masks of
such crops in view.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "examples" / "out" / "real_network" / "pictures" / "astronaut"
OUT = ROOT / "docs" / "images" / "hero.png"
TITLES = {
    "input": "input",
    "painted": "what the network painted",
    "hidden": "what conformask hides",
    "reference": "the photograph",
}
SIDE, EDGE, TITLE, FONT = 256, 8, 32, 20
GROUND, INK = "#0b2a3c", "white"
"""Dark in light mode and in dark mode; the labels are read on a phone, which shows it at two thirds."""


def main() -> None:
    sheet = Image.new("RGB", (2 * SIDE + 3 * EDGE, 2 * (SIDE + TITLE) + 2 * EDGE), GROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for place, (name, title) in enumerate(TITLES.items()):
        left = EDGE + place % 2 * (SIDE + EDGE)
        top = EDGE + place // 2 * (SIDE + TITLE)
        sheet.paste(Image.open(PICTURES / f"{name}.png"), (left, top))
        pen.text((left, top + SIDE + 3), title, INK, font)
    sheet.save(OUT, optimize=True)


if __name__ == "__main__":
    main()
