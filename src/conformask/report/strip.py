"""Images side by side under their promise: HTML for a notebook, PNG for a file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from conformask.errors import InvalidArgumentError
from conformask.pictures.pixels import SMALL
from conformask.pictures.templates import template
from conformask.report.gallery import Picture, picture, png
from conformask.storage.as_arrays import Array
from conformask.storage.atomic import atomic_write
from conformask.storage.claims import check_output

FOLDER = Path(__file__).parent
WIDEST, LONGEST = 220, 480
"""Width of a picture shown in a notebook, and longest side of one kept in it, in pixels."""
TILE, GAP, LINE, MARGIN = 208, 12, 20, 16
INK, QUIET, EDGE, PAPER = (29, 33, 41), (93, 100, 112), (214, 216, 212), "white"
VERDICTS = {
    None: ("", INK),
    True: ("within the threshold   ", (0, 115, 90)),
    False: ("beyond the threshold   ", (184, 69, 0)),
}
"""Text and colour by whether an image is within the threshold."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
ASCII = str.maketrans({"ŷ": "y_hat", "−": "-", "✓": "", "✗": "", "\N{NO-BREAK SPACE}": " "})
"""Replacements of characters that Pillow's own font lacks."""


@dataclass(frozen=True)
class StripRow:
    """One image of a strip, with its pictures and facts."""

    pictures: Mapping[str, Array]
    """Pictures by label, uint8 (H, W) or (H, W, 3)."""
    facts: tuple[str, ...]
    met: bool | None
    """True if the loss is within the threshold; None where the truth is unknown."""


@dataclass(frozen=True)
class Strip:
    """Result of show(): a notebook displays it, save() writes it."""

    sentence: str
    rows: tuple[StripRow, ...]

    def __repr__(self) -> str:
        rows_text = "; ".join(", ".join(row.facts) for row in self.rows)
        return f"Strip({self.sentence} {rows_text})"

    def _repr_html_(self) -> str:
        return template(FOLDER / "strip.html").render(strip=self, pictures=_pictures, widest=WIDEST)

    def _repr_png_(self) -> bytes:
        return png(_draw_sheet(self))

    def save(self, path: Path | str) -> Path:
        """Write a .png or a self-contained .html, and return its path.

        Raises:
            InvalidArgumentError: another suffix.
            OutputError: the folder cannot be written to, or the disk is full.
        """
        path = Path(path)
        check_strip_file(path)
        content = self._repr_png_() if path.suffix.lower() == ".png" else self._page()
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return path

    def _page(self) -> bytes:
        fragment = Markup(self._repr_html_())
        return template(FOLDER / "strip_page.html").render(sentence=self.sentence, fragment=fragment).encode()


def check_strip_file(path: Path) -> None:
    """Raise, before the work, for a file that a strip cannot be saved to.

    Raises:
        InvalidArgumentError: another suffix than .png or .html.
        OutputError: the file is not conformask's, or cannot be written.
    """
    if path.suffix.lower() not in (".png", ".html"):
        raise InvalidArgumentError(f"path {str(path)!r}: give a name that ends with .png or .html")
    check_output(path)


def _pictures(row: StripRow) -> Iterator[Picture]:
    for label, image in row.pictures.items():
        yield picture(label, "this image", image, LONGEST, max(image.shape[:2]) <= SMALL)


def _draw_sheet(strip: Strip) -> Image.Image:
    """Draw all rows, from top to bottom, below the promise."""
    columns = max(len(row.pictures) for row in strip.rows)
    inner = columns * (TILE + GAP) - GAP
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(13)
    promise_lines = _wrap(strip.sentence, bold, inner)
    row_images = [_draw_row(row, plain, inner) for row in strip.rows]
    top = MARGIN + len(promise_lines) * LINE + GAP
    height = top + sum(row.height + GAP for row in row_images)
    sheet = Image.new("RGB", (inner + 2 * MARGIN, height), PAPER)
    for index, line in enumerate(promise_lines):
        ImageDraw.Draw(sheet).text((MARGIN, MARGIN + index * LINE), line, fill=INK, font=bold)
    for row in row_images:
        sheet.paste(row, (MARGIN, top))
        top += row.height + GAP
    return sheet


def _draw_row(row: StripRow, font: Font, width: int) -> Image.Image:
    """Draw the pictures of a row, their labels, and the facts."""
    tiles = [_draw_tile(image) for image in row.pictures.values()]
    label_top = max(tile.height for tile in tiles) + 4
    verdict, colour = VERDICTS[row.met]
    facts = _wrap(verdict + "   ".join(row.facts), font, width)
    sheet = Image.new("RGB", (width, label_top + (1 + len(facts)) * LINE), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, (label, tile) in enumerate(zip(row.pictures, tiles, strict=True)):
        left = column * (TILE + GAP)
        sheet.paste(tile, (left, 0))
        pen.rectangle((left, 0, left + tile.width - 1, tile.height - 1), outline=EDGE)
        pen.text((left, label_top), label.translate(ASCII), fill=QUIET, font=font)
    pen.text((0, label_top + LINE), verdict, fill=colour, font=font)
    # wrapped together with the facts to share their first line, but drawn in its own colour
    facts[0] = facts[0].removeprefix(verdict)
    for index, line in enumerate(facts):
        indent = 0.0 if index else font.getlength(verdict)
        pen.text((indent, label_top + (1 + index) * LINE), line, fill=INK, font=font)
    return sheet


def _draw_tile(image: Array) -> Image.Image:
    """Resize to the width of a tile: few pixels stay visible as squares, many are averaged."""
    size = (TILE, max(1, round(TILE * image.shape[0] / image.shape[1])))
    resampling = Image.Resampling.NEAREST if max(image.shape[:2]) <= SMALL else Image.Resampling.LANCZOS
    return Image.fromarray(image).convert("RGB").resize(size, resampling)


def _wrap(text: str, font: Font, width: int) -> list[str]:
    lines = [""]
    for word in text.translate(ASCII).split(" "):
        candidate = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and font.getlength(candidate) > width:
            lines.append(word)
        else:
            lines[-1] = candidate
    return lines
