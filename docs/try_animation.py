"""Films the page that runs without an installation, into docs/images/try.webp: docs/try_animation.py SITE.

SITE is the documentation, as docs/build.py wrote it.
"""

import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from conformask.storage.as_arrays import Array

OUT = Path(__file__).parent / "images" / "try.webp"
WIDTH, HEIGHT = 700, 560
STEP, PAUSE = 90, 900
"""Time of a frame that moves and of one that stands, in ms."""
CASES = 0, 3
"""The cases that are filmed."""
MOVE = """([name, value]) =>
  Object.assign(document.getElementById(name), { value }).dispatchEvent(new Event("input"))"""
NARROW = """
  body { padding: 8px 14px !important; }
  .columns { grid-template-columns: 340px 1fr !important; }
"""


def slide(page: Page, name: str, values: Array) -> Iterator[int]:
    """Move a slider through these values, and yield the time of each frame."""
    for value in values:
        page.evaluate(MOVE, [name, str(value)])
        yield STEP


def scenes(page: Page) -> Iterator[int]:
    """Play all scenes, and yield the time of each frame."""
    for case in CASES:
        page.locator("#cases button").nth(case).click()
        page.evaluate("document.activeElement.blur()")
        yield from slide(page, "swipe", np.linspace(100, 12, 8))
        yield PAUSE
        position = int(page.input_value("#threshold"))
        yield from slide(page, "threshold", np.linspace(position, position - 8, 5))
        yield PAUSE
        yield from slide(page, "threshold", np.linspace(position - 8, position, 3))
        yield PAUSE


def main(site: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto((site / "try.html").absolute().as_uri())
        page.add_style_tag(content=NARROW)
        frames, times = [], []
        for time in scenes(page):
            page.wait_for_timeout(150)
            frames.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            times.append(time)
        browser.close()
    first, *rest = frames
    first.save(OUT, save_all=True, append_images=rest, duration=times, loop=0, quality=45, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
