"""From a slider move to the redrawn mask in Chromium, on small and large images, with the server's part."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import torch
from playwright.sync_api import Page, sync_playwright
from torch import Tensor

from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.view.app import listening, server, url_of
from conformask.extras.view.session import Session
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.scores.scorer import Heuristic

SIDES, FAMILIES, MOVES, CALIBRATION = (256, 1024), ("water_filling", "power"), 100, 1000
TILE = 32
OUT = Path(__file__).parent / "results" / "viewer.json"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MOVE = """async ([slider, share]) => {
  const input = document.querySelector(slider);
  input.value = Number(input.min) + share * (input.max - input.min);
  const drawn = new Promise((done) => {
    new PerformanceObserver((list, observer) => {
      observer.disconnect();
      done(list.getEntries().at(-1).duration);
    }).observe({ type: 'measure' });
  });
  input.dispatchEvent(new Event('input', { bubbles: true }));
  const taken = await drawn;
  const asked = performance.getEntriesByType('resource').filter(({ name }) => name.includes('/api/promise'));
  return [taken, asked.at(-1).serverTiming[0].duration];
}"""


def edges(x: Tensor, y_hat: Tensor) -> Tensor:
    """A score that needs no training."""
    down, right = (torch.diff(y_hat, dim=axis, append=y_hat.narrow(axis, -1, 1)) for axis in (2, 3))
    return (down.abs() + right.abs()).mean(dim=1, keepdim=True)


def photograph(side: int) -> np.ndarray:
    """A packaged photograph (H, W, 3), repeated where it is too small."""
    pixels = packaged_photographs()["astronaut"]
    return np.tile(pixels, (1 + side // pixels.shape[0], 1 + side // pixels.shape[1], 1))[:side, :side]


def blurred(image: np.ndarray) -> np.ndarray:
    """The mean of 2x2 pixels."""
    return (
        (image + np.roll(image, 1, 0) + np.roll(image, 1, 1) + np.roll(image, (1, 1), (0, 1))) / 4
    ).astype(np.float32)


def triplets(images: list[np.ndarray], names: list[str]) -> Triplets:
    y = [image.astype(np.float32) / 255 for image in images]
    y_hat = [blurred(image) for image in y]
    return Triplets.from_arrays(y_hat, y_hat, y, names=names)


def masker_of(family: str) -> Masker:
    """With as many curves as a large calibration has."""
    whole, generator = photograph(512), np.random.default_rng(0)
    places = generator.permutation((512 - TILE) ** 2)[: 2 * CALIBRATION]
    corners = [divmod(int(place), 512 - TILE) for place in places]
    names = [str(place) for place in places]
    tiles = triplets([whole[r : r + TILE, c : c + TILE] for r, c in corners], names)
    halves = [tiles.select(range(start, len(tiles), 2)) for start in (0, 1)]
    scorer = Heuristic(edges, channels=3)
    return calibrate(scorer, halves[0], selection=halves[1], loss="l1", threshold="q0.3", family=family)


def times(page: Page, address: str, name: str) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    page.goto(f"{address}#/image/{name}?view=overlay")
    page.wait_for_selector("#plane:not([hidden])")
    page.evaluate("performance.setResourceTimingBufferSize(10000)")
    shares = np.random.default_rng(0).uniform(0.3, 0.9, MOVES + 5)
    sliders = ("#threshold-slider", "#confidence-slider")
    found = [page.evaluate(MOVE, [sliders[k % 2], float(share)]) for k, share in enumerate(shares)][5:]
    redraw, server = np.array(found).T
    return {
        "redraw_median_ms": float(np.median(redraw)),
        "redraw_95_ms": float(np.quantile(redraw, 0.95)),
        "server_median_ms": float(np.median(server)),
        "server_95_ms": float(np.quantile(server, 0.95)),
    }


def main() -> None:
    shown = triplets([photograph(side) for side in SIDES], [str(side) for side in SIDES])
    record = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        for family in FAMILIES:
            with listening(0) as bound:
                running = server(Session(masker_of(family), shown), bound, None)
                thread = threading.Thread(target=running.run, args=([bound],))
                thread.start()
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                for side in SIDES:
                    record[f"{family}, {side}x{side}"] = times(page, url_of(bound, None), str(side))
                page.close()
                running.should_exit = True
                thread.join()
        browser.close()
    OUT.write_text(json.dumps(record, indent=2) + "\n")
    for name, found in record.items():
        print(name, {key: round(value, 1) for key, value in found.items()})


if __name__ == "__main__":
    main()
