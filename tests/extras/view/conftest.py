"""A viewer of bicubic super-resolution of packaged photographs, with a score that needs no training."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from view_worlds import AFFINE, HU, write_volumes

from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.make.predictors import Bicubic
from conformask.extras.make.tasks import task
from conformask.extras.make.triplets import TrueImages, predicted
from conformask.extras.view.app import application, listening, server, url_of
from conformask.extras.view.session import Session
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.promises.promise import Promise
from conformask.records.reading import Reading
from conformask.scores.scorer import Heuristic
from conformask.scores.simple import local_spread

PORT = 8000
OURS = f"http://127.0.0.1:{PORT}"
TOKEN = "the-token-of-these-tests"
SIDE = 48


def edges(x, y_hat):
    """Errors of super-resolution are large where the output changes."""
    down, right = (torch.diff(y_hat, dim=axis, append=y_hat.narrow(axis, -1, 1)) for axis in (2, 3))
    return (down.abs() + right.abs()).mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class World:
    """What is shown."""

    masker: Masker
    shown: Triplets

    @property
    def partly(self):
        """The image whose mask is nearest to half open."""
        sizes = [abs(0.5 - float(self.masker(x, y_hat).mean())) for x, y_hat in map(_pair, self.shown)]
        return self.shown[int(np.argmin(sizes))]


def _pair(triplet):
    return torch.from_numpy(triplet.x)[None], torch.from_numpy(triplet.y_hat)[None]


@pytest.fixture(scope="session")
def tiles():
    photographs = {name: pixels[:144, :144] for name, pixels in packaged_photographs().items()}
    sr = task("super_resolution")
    made = [
        triplet
        for _, triplet in predicted(
            TrueImages.from_arrays(photographs, SIDE, SIDE, split="tile"), sr, Bicubic(sr)
        )
    ]
    columns = ([np.moveaxis(getattr(t, role), 0, -1) for t in made] for role in ("x", "y_hat", "y"))
    return Triplets.from_arrays(*columns, names=[t.name for t in made])


@pytest.fixture(scope="session")
def world(tiles):
    """Every third tile is shown, the others select and calibrate."""
    parts = [tiles.select(range(start, len(tiles), 3)) for start in range(3)]
    masker = calibrate(
        Heuristic(edges, channels=3),
        parts[0],
        selection=parts[1],
        loss="l1",
        promise=Promise(confidence=0.9),
        threshold="q0.3",
        family="power",
        level="one",
    )
    return World(masker, parts[2].select(range(0, len(parts[2]), len(parts[2]) // 12)))


@pytest.fixture(scope="session")
def dim(tiles):
    """Images that fill a seventh of their range."""
    columns = ([np.moveaxis(getattr(t, role), 0, -1) / 7 for t in tiles] for role in ("x", "y_hat", "y"))
    images = Triplets.from_arrays(*columns, names=list(tiles.names))
    seen, new = (images.select(range(start, len(tiles), 2)) for start in range(2))
    masker = calibrate(Heuristic(edges, channels=3), seen, loss="l1", threshold=0.004)
    return World(masker, new.select(range(0, len(new), 8)))


@pytest.fixture(scope="session")
def stained(tiles):
    """Images of two channels, such as two stains."""
    columns = ([np.moveaxis(getattr(t, role)[:2], 0, -1) for t in tiles] for role in ("x", "y_hat", "y"))
    images = Triplets.from_arrays(*columns, names=list(tiles.names))
    parts = [images.select(range(start, len(tiles), 3)) for start in range(3)]
    masker = calibrate(
        Heuristic(edges, channels=2), parts[0], selection=parts[1], loss="l1", threshold="q0.3"
    )
    return World(masker, parts[2].select(range(2)))


@dataclass(frozen=True)
class Regional(World):
    """Images in files, with regions that leave out NaN as well."""

    region: np.ndarray
    """(H, W), of every image."""


@pytest.fixture(scope="session")
def regional(tiles, tmp_path_factory):
    """A promise about most rows, without a corner."""
    folder, region = tmp_path_factory.mktemp("regional"), np.zeros((SIDE, SIDE), np.uint8)
    region[:36] = 255
    columns = ([np.moveaxis(getattr(t, role), 0, -1) for t in tiles] for role in ("x", "y_hat", "y"))
    images = Triplets.from_arrays(*columns, regions=[region] * len(tiles))
    parts = [images.select(range(start, len(tiles), 3)) for start in range(2)]
    masker = calibrate(
        Heuristic(edges, channels=3, family="power"),
        parts[0],
        selection=parts[1],
        loss="l1",
        threshold="q0.3",
    )
    for triplet in (tiles[29], tiles[44]):
        for role in ("x", "y_hat", "y", "region"):
            (folder / role).mkdir(exist_ok=True)
            image = np.array(region if role == "region" else np.moveaxis(getattr(triplet, role), 0, -1))
            if role == "y":
                image[:8, :8] = np.nan
            np.save(folder / role / f"{triplet.name}.npy", image)
    region[:8, :8] = 0
    return Regional(masker, Triplets.from_folder(folder, reading=Reading(nan="outside")), region / 255)


@pytest.fixture
def session(world):
    return Session(world.masker, world.shown)


@pytest.fixture
def broken(world):
    """The same images after the network went wrong: the scores are as before, the errors are not."""
    x, y_hat, y = (
        [np.moveaxis(getattr(t, role), 0, -1) for t in world.shown] for role in ("x", "y_hat", "y")
    )
    wrong = [1 - image for image in y]
    return Session(world.masker, Triplets.from_arrays(x, y_hat, wrong, names=world.shown.names))


@pytest.fixture
def client(session):
    """As the page asks: from its own origin, once the address with the token was opened."""
    asking = TestClient(application(session, PORT, TOKEN), base_url=OURS, headers={"Origin": OURS})
    asking.get("/", params={"token": TOKEN})
    return asking


@dataclass(frozen=True)
class Volumes(World):
    """Volumes in NIfTI files, under a masker of volumes."""

    folder: Path


@pytest.fixture(scope="session")
def volumes(tmp_path_factory):
    """Two volumes of a patient, written with the affine; a score without training."""
    folder, reading = tmp_path_factory.mktemp("volumes"), Reading(HU, clip="all")
    write_volumes(folder / "calibration", range(40), AFFINE)
    write_volumes(folder / "shown", range(50, 52), AFFINE)
    parts = Triplets.from_folder(folder / "calibration", reading=reading)
    masker = calibrate(
        Heuristic(local_spread, channels=1, family="power"),
        parts.select(range(20)),
        selection=parts.select(range(20, 40)),
        loss="l1",
        promise=Promise(confidence=0.9),
        threshold="q0.3",
    )
    shown = Triplets.from_folder(folder / "shown", reading=reading)
    return Volumes(masker, shown, folder / "shown")


@pytest.fixture
def volume_client(volumes):
    """As the page asks of the volumes."""
    shown = Session(volumes.masker, volumes.shown)
    return TestClient(application(shown, PORT, None), base_url=OURS, headers={"Origin": OURS})


@pytest.fixture
def volume_address(volumes):
    """Where a real server shows the volumes."""
    shown = Session(volumes.masker, volumes.shown)
    list(shown.look_through())
    with served(shown) as url:
        yield url


@contextmanager
def served(session):
    """The address that conformask view would print, of a real server."""
    with listening(0) as bound:
        running = server(session, bound, TOKEN)
        thread = threading.Thread(target=running.run, args=([bound],), daemon=True)
        thread.start()
        try:
            yield url_of(bound, TOKEN)
        finally:
            running.should_exit = True
            thread.join(10)


@pytest.fixture
def serving():
    """Serves a session as long as a with statement lasts."""
    return served


@pytest.fixture
def watching():
    """Opens a page as long as a with statement lasts, in which nothing may go wrong."""
    return watched


@pytest.fixture
def address(world):
    """Where a real server shows the world, looked through already: to be opened as it is."""
    shown = Session(world.masker, world.shown)
    list(shown.look_through())
    with served(shown) as url:
        yield url


@pytest.fixture
def origin(address):
    """The same server without the token."""
    return address.partition("?")[0]


@pytest.fixture
def page(browser, origin):
    """A page at the size of a laptop; nothing may go wrong in it, or leave the origin."""
    with watched(browser, origin) as opened:
        yield opened


@pytest.fixture
def volume_page(browser, volume_address):
    """The same for the volumes."""
    with watched(browser, volume_address.partition("?")[0]) as opened:
        yield opened


@contextmanager
def watched(browser, origin):
    opened = browser.new_page(viewport={"width": 1280, "height": 800})
    wrong = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if _is_wrong(said) else None)
    opened.on(
        "request", lambda sent: None if sent.url.startswith((origin, "blob:")) else wrong.append(sent.url)
    )
    opened.on("response", lambda got: wrong.append(f"{got.status} {got.url}") if _is_refused(got) else None)
    yield opened
    opened.close()
    assert wrong == []


def _is_wrong(said):
    """Chromium tells refused requests twice; the response tells which."""
    return said.type in ("error", "warning") and "Failed to load resource" not in said.text


def _is_refused(got):
    return got.status >= 400 and not got.url.endswith("/api/uploads")
