"""Routes of the viewer: the addresses that the page requests, and nothing else."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from conformask import report
from conformask.deployment.objects import COLORS, extent_of
from conformask.deployment.scored_image import mask_level
from conformask.errors import ConformaskError, InvalidArgumentError, MissingFileError
from conformask.names import DISTANCES
from conformask.pictures.pixels import HATCH, colors_of, heat_between
from conformask.pictures.titles import titles_for
from conformask.pictures.views import Point, View
from conformask.records.geometry import Geometry
from conformask.records.loss import LossTerms
from conformask.records.sentence import where_hidden
from conformask.report.sliders import SliderSetting, bound_text, recalibrated_at, sliders
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import Json, to_jsonable
from conformask.viewer.contrast import Contrast, default_window, presets, window_of
from conformask.viewer.guard import Guard
from conformask.viewer.pictures import PICTURES, VEIL, outside_layer, picture, png
from conformask.viewer.planes import Part, check_part, reduction, values_at
from conformask.viewer.session import Session
from conformask.viewer.uploads import FACTS, MOST_BYTES, SUFFIXES, UploadReceiver, pair_of
from conformask.viewer.viewed_image import ViewedImage, is_measurable, losses_of, risk_of

STATIC = Path(__file__).parent / "static"
PALETTE = Path(report.__file__).with_name("palette.css")
REFUSED, MISSING, MALFORMED = 400, 404, 422
AVERAGED = {"image": "all pixels", "trusted": "the pixels shown"}
"""What a loss is a mean over, by its aggregate."""
HEX = "#{:02x}{:02x}{:02x}"
"""Format of colours, from (red, green, blue)."""


def application(session: Session, port: int, token: str | None) -> FastAPI:
    """Return the web application of a session, at this port, for whoever has the token, if there is one."""
    app = FastAPI(title="conformask", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.session = session
    app.state.sliders = sliders(session.masker)
    app.state.intake = UploadReceiver()
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_exception_handler(ConformaskError, _refusal_response)
    app.add_exception_handler(RequestValidationError, _malformed_response)
    app.add_middleware(Guard, port=port, token=token)
    return app


async def _session(request: Request) -> Session:
    session: Session = request.app.state.session
    return session


@dataclass(frozen=True)
class PlaneRequest:
    """Request of a plane, and of a part of it; the whole plane by default."""

    axis: int = 0
    at: int = 0
    top: int | None = None
    bottom: int | None = None
    left: int | None = None
    right: int | None = None
    step: int = 1

    def locate(self, session: Session, name: str) -> tuple[View, int, Part]:
        """Return the view, the place along its axis, and the part.

        Raises:
            MissingFileError: there is no such plane, or no such part of it.
            InvalidArgumentError: it is too large to be sent.
        """
        view = next((view for view in session.collection_image(name).views if view.axis == self.axis), None)
        if view is None:
            raise MissingFileError(f"there is no view along axis {self.axis} of {name!r}")
        size = session.viewed_image(name).deep
        rows, columns = view.sides(size)
        bottom, right = (
            side if end is None else end for end, side in ((self.bottom, rows), (self.right, columns))
        )
        part = Part(self.top or 0, bottom, self.left or 0, right, self.step)
        check_part(view, size, self.at, part)
        return view, self.at, part


async def _contrast(low: float = 0.0, high: float = 1.0) -> Contrast:
    return Contrast(low, high)


async def _colors(colors: str = "") -> Array | None:
    """Parse rrggbb,rrggbb,... into a colour for each channel, (C, 3) in [0, 1]; return None for no text.

    Raises:
        InvalidArgumentError: it holds something else.
    """
    if not colors:
        return None
    try:
        return np.array([list(bytes.fromhex(color)) for color in colors.split(",")]).reshape(-1, 3) / 255
    except ValueError as error:
        raise InvalidArgumentError(
            f"colors={colors}: give rrggbb for each channel, such as 00ff00,ff00ff"
        ) from error


async def _setting(threshold: float | None = None, confidence: float | None = None) -> SliderSetting:
    return SliderSetting(threshold, confidence)


async def _refusal_response(request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, MISSING if isinstance(error, MissingFileError) else REFUSED)


async def _malformed_response(request: Request, error: Exception) -> Response:
    return _json({"error": f"this address is not understood: {request.url.query}"}, MALFORMED)


def _json(record: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(to_jsonable(record), status, headers)


def _format_colors(colors: Array) -> list[str]:
    """Return rrggbb for each colour, from (C, 3) in [0, 1]."""
    return [bytes(color).hex() for color in np.rint(255 * colors).astype(np.uint8)]


router = APIRouter()
SessionDep = Annotated[Session, Depends(_session)]
SettingDep = Annotated[SliderSetting, Depends(_setting)]
PlaneDep = Annotated[PlaneRequest, Depends(PlaneRequest)]
ContrastDep = Annotated[Contrast, Depends(_contrast)]
ColorsDep = Annotated[Array | None, Depends(_colors)]


@router.get("/")
def page(session: SessionDep) -> Response:
    """Return the page, which says how many images it loads."""
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    return HTMLResponse(text.replace("COUNT", str(len(session.entries()))))


@router.get("/palette.css")
def palette() -> Response:
    """Return the colours and fonts of the report."""
    return FileResponse(PALETTE)


@router.get("/api/session")
def about(session: SessionDep, request: Request) -> Response:
    """Return what does not change: the masker and its promise, the sliders' ends, how masks are drawn."""
    masker = session.masker
    facts = {
        "promised": asdict(recalibrated_at(masker, SliderSetting())[1]),
        "fingerprint": masker.fingerprint,
        "sliders": asdict(request.app.state.sliders),
        "distance": "" if masker.card.loss.of_objects else masker.card.loss.distance_label,
        "loss_over": _averaged_over(masker.card.loss),
        "where_hidden": where_hidden(masker.card),
        "family": masker.family.settings(),
        "maps": session.has_maps,
        "veil": VEIL,
        "hatch": HEX.format(*HATCH),
        "upload": {
            "most_bytes": MOST_BYTES,
            "suffixes": SUFFIXES,
            "needs": [fact for fact in FACTS if fact in masker.rule.needs and not masker.weigh]
            + ["cues"] * (masker.scorer.cue_channels > masker.card.loss.of_objects)
            + ["labels"] * (masker.card.loss.of_objects and session.reading.components_above is None),
        },
    }
    return _json(facts)


def _averaged_over(loss: LossTerms) -> str:
    """Return the pixels over which a loss averages errors, in words; empty for other losses."""
    is_mean = loss.distance in DISTANCES and DISTANCES[loss.distance].is_map
    return AVERAGED.get(loss.over or "image", "") if is_mean else ""


@router.get("/api/images")
def gallery(session: SessionDep) -> Response:
    """Return the facts of every image, where known, and how those with truth agree with the promise."""
    released = session.released
    facts = {
        "images": [asdict(entry) for entry in session.entries()],
        "promised": asdict(recalibrated_at(session.masker, SliderSetting(), session.doubt)[1]),
        "measured": session.measurement_text,
        "release": released and {"sentence": released.summary, "formula": released.formula},
    }
    return _json(facts)


@router.get("/api/progress")
async def progress(session: SessionDep) -> Response:
    """Return how many tiles of an image are scored, else null; answered while other requests wait for it."""
    return _json(None if session.progress is None else asdict(session.progress))


@router.get("/api/images/{name}")
def image(name: str, session: SessionDep) -> Response:
    """Return what the page needs to draw an image."""
    viewed_image = session.viewed_image(name)
    collection_image = session.collection_image(name)
    colors, values = colors_of(collection_image.header.channels), viewed_image.output_values
    facts = {
        "name": name,
        "size": viewed_image.deep,
        "channels": viewed_image.item.score.map.shape[1],
        "views": [
            asdict(view) | {"step": reduction(view, viewed_image.deep)} for view in collection_image.views
        ],
        "steps": collection_image.steps,
        "unit": None if collection_image.geometry is None else collection_image.geometry.unit,
        "most_hidden": session.most_hidden(name),
        "range": collection_image.data_range,
        "x_range": collection_image.x_range,
        "colors": None if colors is None else _format_colors(colors),
        "window": default_window(collection_image.data_range, values.most),
        "most_values": window_of(collection_image.data_range, values.most),
        "histogram": values.counts,
        "hidden_run": session.hidden_run(name),
        "presets": [asdict(preset) for preset in presets(collection_image.data_range)],
        "truth": "truth" in viewed_image.sources,
        "titles": titles_for(viewed_image.reference),
        "region": "region" in viewed_image.sources,
        "objects": {kind: HEX.format(*color) for kind, color in COLORS.items()}
        if "labels" in viewed_image.sources
        else None,
        "error_scale": viewed_image.error_scale,
        "map_range": viewed_image.map_range,
        "measurable": is_measurable(session.masker, viewed_image),
        "not_covered": session.not_covered(name),
        "risk": risk_of(viewed_image),
        "caveat": session.caveat(name),
        "use": session.use(name),
        "bound": None
        if session.doubt or not viewed_image.in_memory
        else bound_text(session.masker, viewed_image.item),
    }
    return _json(facts)


@router.get("/api/images/{name}/thumbnail.jpg")
def thumbnail(name: str, session: SessionDep) -> Response:
    """Return a small picture of the output, hatched where hidden."""
    return Response(session.thumbnail(name), media_type="image/jpeg")


@router.get("/api/images/{name}/score")
def score(name: str, session: SessionDep, plane: PlaneDep) -> Response:
    """Return the score of a plane as shown, float32 little-endian, channel by channel, row by row."""
    return _values_of(session.plane(name, "score", *plane.locate(session, name)))


@router.get("/api/images/{name}/labels")
def labels(name: str, session: SessionDep, plane: PlaneDep) -> Response:
    """Return the labels of the objects in a plane as shown, float32 little-endian, row by row."""
    if "labels" not in session.viewed_image(name).sources:
        raise MissingFileError(f"there are no objects of {name!r} that the promise is about")
    return _values_of(session.plane(name, "labels", *plane.locate(session, name)))


def _values_of(plane: Array) -> Response:
    return Response(plane.astype("<f4", copy=False).tobytes(), media_type="application/octet-stream")


@router.get("/api/images/{name}/values")
def values(name: str, x: int, y: int, session: SessionDep, z: int = 0) -> Response:
    """Return the values of the images at a pixel, channel by channel, in [0, 1], its score and its object."""
    image, geometry = session.viewed_image(name), session.collection_image(name).geometry
    facts = values_at(image.sources, image.deep, (z, y, x))
    return _json({**facts, "object": _object_at(image, geometry, (z, y, x))})


def _object_at(image: ViewedImage, geometry: Geometry | None, point: Point) -> dict[str, Json] | None:
    """Return what is known of the object at a pixel; None where there is none."""
    objects = image.objects
    place = None if objects is None else objects.of_pixel[point]
    if objects is None or place == len(objects.ids):
        return None
    pixels = int(objects.areas[place])
    extent, unit = extent_of(pixels, geometry)
    return {"id": int(objects.ids[place]), "pixels": pixels, "extent": extent, "unit": unit}


@router.get("/api/images/{name}/outside.png")
def outside_picture(name: str, session: SessionDep, plane: PlaneDep) -> Response:
    """Return a grey layer over what is outside the region of a plane, transparent inside."""
    if "region" not in session.viewed_image(name).sources:
        raise MissingFileError(f"there is no region of {name!r} that the promise is about")
    region = session.plane(name, "region", *plane.locate(session, name))
    return Response(png(outside_layer(region)), media_type="image/png")


@router.get("/api/images/{name}/{kind}.png")
def plane_picture(
    name: str, kind: str, session: SessionDep, plane: PlaneDep, contrast: ContrastDep, colors: ColorsDep
) -> Response:
    """Return a plane of input, output, truth, error or map as shown, at the size of the output."""
    image = session.viewed_image(name)
    if kind not in PICTURES or kind not in image.sources:
        raise MissingFileError(f"there is no picture {kind!r} of {name!r}")
    values = session.plane(name, kind, *plane.locate(session, name))
    if kind == "error" and image.error_scale:
        pixels = heat_between(values, 0, image.error_scale)
    elif kind == "map" and image.map_range:
        pixels = heat_between(values, *image.map_range)
    else:
        pixels = picture(values, contrast, colors)
    return Response(png(pixels), media_type="image/png")


@router.get("/api/promise")
def promise(image: str, setting: SettingDep, session: SessionDep) -> Response:
    """Return promise and level of the mask at a setting; as calibrated also measurement and release."""
    viewed_image = session.viewed_image(image)
    start = perf_counter()
    masker, state = recalibrated_at(session.masker, setting, session.doubt)
    facts = asdict(state) | {"measured": None, "release": None}
    if masker is session.masker:
        facts |= {"measured": session.measurement_text, "release": session.release_of(image)}
    facts |= {"opening": asdict(mask_level(masker, viewed_image))}
    timing = f"promise;dur={1e3 * (perf_counter() - start):.2f}"
    return _json(facts, headers={"Server-Timing": timing})


@router.get("/api/loss")
def loss(image: str, setting: SettingDep, session: SessionDep) -> Response:
    """Return the loss of an image, masked and unmasked."""
    viewed_image = session.viewed_image(image)
    if "truth" not in viewed_image.sources:
        raise MissingFileError(f"the truth of {image!r} is unknown")
    masker, state = recalibrated_at(session.masker, setting)
    return _json(asdict(losses_of(masker, viewed_image, state.threshold)))


@router.post("/api/uploads")
async def upload(request: Request, session: SessionDep) -> Response:
    """Add a pair of images; return the name under which it is shown."""
    receiver: UploadReceiver = request.app.state.intake
    async with receiver.receive(request) as files:
        pair = await run_in_threadpool(pair_of, files, session.reading)
        return _json({"name": await run_in_threadpool(session.add, pair)})
