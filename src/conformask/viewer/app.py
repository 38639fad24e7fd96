"""The routes of the viewer: what the page asks, and nothing else."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from conformask.data.formats import IMAGE_SUFFIXES
from conformask.errors import ConformaskError, MissingFileError
from conformask.report import pictures as report_pictures
from conformask.report.words import measurement_text
from conformask.storage.as_json import plain
from conformask.viewer.guard import Guard
from conformask.viewer.pictures import PICTURES, error_scale, png
from conformask.viewer.promises import Setting, masker_at, sliders
from conformask.viewer.session import Session, bound_text, distances_of, opening
from conformask.viewer.uploads import FACTS, MOST_BYTES, Intake, pair_of

STATIC = Path(__file__).parent / "static"
PALETTE = Path(report_pictures.__file__).parent / "palette.css"
REFUSED, MISSING, MALFORMED = 400, 404, 422


def application(session: Session, port: int, token: str | None) -> FastAPI:
    """The web application of a session, at this port, for whoever has the token; None asks for none."""
    app = FastAPI(title="conformask", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.session = session
    app.state.sliders = sliders(session.masker)
    app.state.intake = Intake()
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_exception_handler(ConformaskError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_middleware(Guard, port=port, token=token)
    return app


async def _session(request: Request) -> Session:
    session: Session = request.app.state.session
    return session


async def _setting(threshold: float | None = None, confidence: float | None = None) -> Setting:
    return Setting(threshold, confidence)


async def _refused(request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, MISSING if isinstance(error, MissingFileError) else REFUSED)


async def _malformed(request: Request, error: Exception) -> Response:
    return _json({"error": f"this address is not understood: {request.url.query}"}, MALFORMED)


def _json(record: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(plain(record), status, headers)


router = APIRouter()
Shown = Annotated[Session, Depends(_session)]
Wanted = Annotated[Setting, Depends(_setting)]


@router.get("/")
def page() -> Response:
    """The page."""
    return FileResponse(STATIC / "index.html")


@router.get("/palette.css")
def palette() -> Response:
    """The colours and fonts of the report."""
    return FileResponse(PALETTE)


@router.get("/api/session")
def about(session: Shown, request: Request) -> Response:
    """What does not change: the masker and its promise, the sliders' ends, how masks are drawn."""
    masker = session.masker
    facts = {
        "promised": asdict(masker_at(masker, Setting())[1]),
        "fingerprint": masker.fingerprint,
        "sliders": asdict(request.app.state.sliders),
        "distance": masker.card.distance_label,
        "family": masker.family.settings(),
        "veil": report_pictures.VEIL,
        "upload": {
            "most_bytes": MOST_BYTES,
            "suffixes": IMAGE_SUFFIXES,
            "needs": [fact for fact in FACTS if fact in masker.rule.needs and not masker.weigh],
        },
    }
    return _json(facts)


@router.get("/api/images")
def gallery(session: Shown) -> Response:
    """Every image, where known, and how those with truth stand to the promise."""
    found, caveat = session.measured(), session.network_caveat
    measured = None if found is None else measurement_text(session.masker.card, found, caveat)
    facts = {
        "images": [asdict(entry) for entry in session.entries()],
        "promised": asdict(masker_at(session.masker, Setting(), session.doubt)[1]),
        "measured": measured,
    }
    return _json(facts)


@router.get("/api/images/{name}")
def image(name: str, session: Shown) -> Response:
    """What the page needs to draw an image."""
    item = session.opened(name)
    height, width = item.batch.y_hat.shape[-2:]
    has_truth = item.batch.y is not None
    facts = {
        "name": name,
        "height": height,
        "width": width,
        "channels": item.score.map.shape[1],
        "truth": has_truth,
        "error_scale": error_scale(item.batch) if has_truth else None,
        "not_covered": session.masker.card.not_covered((height, width)),
        "caveat": session.caveat(name),
        "bound": None if session.doubt else bound_text(session.masker, item),
    }
    return _json(facts)


@router.get("/api/images/{name}/thumbnail.jpg")
def thumbnail(name: str, session: Shown) -> Response:
    """The veiled output, small."""
    return Response(session.thumbnail(name), media_type="image/jpeg")


@router.get("/api/images/{name}/score")
def score(name: str, session: Shown) -> Response:
    """The score map, float32 little-endian, channel by channel, row by row."""
    values = session.opened(name).score.map[0].detach().cpu().numpy()
    return Response(np.ascontiguousarray(values, "<f4").tobytes(), media_type="application/octet-stream")


@router.get("/api/images/{name}/{picture}.png")
def picture(name: str, picture: str, session: Shown) -> Response:
    """input, output, truth or error."""
    batch = session.opened(name).batch
    if picture not in PICTURES or (picture in ("truth", "error") and batch.y is None):
        raise MissingFileError(f"there is no picture {picture!r} of {name!r}")
    return Response(png(PICTURES[picture](batch)), media_type="image/png")


@router.get("/api/promise")
def promise(image: str, setting: Wanted, session: Shown) -> Response:
    """What is promised at a setting, and what it opens of an image."""
    item = session.opened(image)
    started = perf_counter()
    masker, promised = masker_at(session.masker, setting, session.doubt)
    facts = asdict(promised) | {"opening": asdict(opening(masker, item))}
    timing = f"promise;dur={1e3 * (perf_counter() - started):.2f}"
    return _json(facts, headers={"Server-Timing": timing})


@router.get("/api/distance")
def distance(image: str, setting: Wanted, session: Shown) -> Response:
    """How far an image with a truth is from it, masked and unmasked."""
    item = session.opened(image)
    if item.batch.y is None:
        raise MissingFileError(f"the truth of {image!r} is unknown")
    masker, promised = masker_at(session.masker, setting)
    return _json(asdict(distances_of(masker, item, promised.threshold)))


@router.post("/api/uploads")
async def upload(request: Request, session: Shown) -> Response:
    """One more pair; answers with the name that it goes by."""
    intake: Intake = request.app.state.intake
    async with intake.received(request) as files:
        pair = await run_in_threadpool(pair_of, files, session.reading)
        return _json({"name": await run_in_threadpool(session.add, pair)})
