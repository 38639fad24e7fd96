"""Photographs the viewer, into docs/images/viewer-*.png, on a demonstration: docs/viewer_pictures.py demo."""

import secrets
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from conformask.data.photographs import packaged_photographs
from conformask.data.sources import TrueImages
from conformask.data.triplets import Triplets
from conformask.demo import TILE
from conformask.masker.load import load
from conformask.predictors.network_predictor import NetworkPredictor
from conformask.preparation import predicted
from conformask.viewer.serve import listening, server, url_of
from conformask.viewer.session import Session

GALLERY = "#/"
IMAGE = "#/image/coffee_r04_c03?threshold=0.03&swipe=truth,overlay"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main(demo: Path, out: Path = Path("docs/images")) -> None:
    session = Session(load(demo / "masker"), test_tiles(demo))
    list(session.look_through())
    token = secrets.token_urlsafe()
    with listening(0) as bound, sync_playwright() as playwright:
        running, url = server(session, bound, token), url_of(bound, token)
        thread = threading.Thread(target=running.run, args=([bound],))
        thread.start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        photograph(browser, url + GALLERY, "#grid li", out / "viewer-gallery.png", "light")
        photograph(browser, url + IMAGE, "#back[data-view]", out / "viewer-image.png", "dark")
        browser.close()
        running.should_exit = True
        thread.join()


def test_tiles(demo: Path) -> Triplets:
    """The tiles that the demonstration set aside for its test."""
    predictor = NetworkPredictor.load(demo / "predictor")
    images = TrueImages.from_arrays(packaged_photographs(), TILE, TILE, how="tile").part("test")
    made = [triplet for _, triplet in predicted(images, predictor.task, predictor)]
    columns = ([np.moveaxis(getattr(t, role), 0, -1) for t in made] for role in ("x", "y_hat", "y"))
    return Triplets.from_arrays(*columns, names=[triplet.name for triplet in made])


def photograph(browser: Browser, address: str, ready: str, out: Path, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    page.goto(address)
    page.wait_for_selector(ready)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    page.screenshot(path=out)
    page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
