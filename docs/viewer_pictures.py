"""Photographs the viewer into docs/images/viewer-image.png: `python docs/viewer_pictures.py demo`."""

import secrets
import shutil
import sys
import threading
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from conformask.extras.view.app import listening, server, url_of
from conformask.extras.view.session import Session
from conformask.images.triplets import Triplets
from conformask.masker.load import load

IMAGE = "#/image/astronaut-1?swipe=truth,overlay"
COLOURS = 256
"""Of a file."""
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main(demo: Path, out: Path = Path("docs/images")) -> None:
    session = Session(load(demo / "run"), test_crops(demo))
    list(session.look_through())
    token = secrets.token_urlsafe()
    with listening(0) as bound, sync_playwright() as playwright:
        running, url = server(session, bound, token), url_of(bound, token)
        thread = threading.Thread(target=running.run, args=([bound],))
        thread.start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        photograph(browser, url + IMAGE, "#back-canvas[data-view]", out / "viewer-image.png", "dark")
        browser.close()
        running.should_exit = True
        thread.join()


def test_crops(demo: Path) -> Triplets:
    """The crops that the demonstration set aside for its test."""
    return Triplets.from_folder(demo / "data").part("test")


def photograph(browser: Browser, address: str, ready: str, out: Path, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    page.goto(address)
    page.wait_for_selector(ready)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    screen = Image.open(BytesIO(page.screenshot()))
    screen.convert("RGB").quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE).save(out, optimize=True)
    page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
