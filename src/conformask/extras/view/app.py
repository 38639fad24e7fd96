"""The web application: its routes, who may ask, and how it is served on this machine."""

import asyncio
import math
import socket
import threading
import webbrowser
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import compare_digest
from string import Template
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import h11
import numpy as np
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from conformask.background import tracked
from conformask.errors import ConformaskError, InvalidArgumentError, MissingFileError
from conformask.extras.view.session import Session
from conformask.extras.view.sliders import (
    SliderSetting,
    bound_text,
    is_measurable,
    losses_of,
    mask_level,
    recalibrated_at,
    risk_of,
    sliders,
)
from conformask.extras.view.uploads import FACTS, MOST_BYTES, SUFFIXES, UploadReceiver, pair_of
from conformask.extras.view.viewed_image import (
    PICTURES,
    VEIL,
    Part,
    check_part,
    outside_layer,
    picture,
    png,
    reduction,
    values_at,
    window_of,
)
from conformask.images.pictures import HATCH, Contrast, View, colors_of, heat_between, presets, titles_for
from conformask.records.record import Array, Json, to_jsonable

HOSTS = ("127.0.0.1", "localhost")
READS = ("GET", "HEAD")
OUR_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; form-action 'self'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PAGE = Template((Path(__file__).parent / "refused.html").read_text(encoding="utf-8"))
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""Content security policy of the page of a refusal, which carries its style because it may load nothing."""
NO_TOKEN = "the viewer's token is missing or old: open the address that conformask view printed"
AGAIN = "0; url=/"
"""Refresh header that makes a browser ask again: after a link on another site it omits a Strict cookie."""


class Guard:
    """Middleware that refuses other hosts (DNS rebinding) or origins, writes without origin, or no token."""

    def __init__(self, app: ASGIApp, port: int, token: str | None) -> None:
        self._app, self._token = app, token
        self._hosts = {f"{host}:{port}" for host in HOSTS} | (set(HOSTS) if port == 80 else set())
        self._cookie = f"conformask-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in OUR_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._answer(HTTPConnection(scope)) or self._app
        await answer(scope, receive, send_guarded)

    def _answer(self, request: HTTPConnection) -> Response | None:
        """Return a refusal, or the cookie in exchange for the token; None passes on to the application."""
        if refusal := self._refusal(request):
            return _forbidden(request, refusal)
        if self._token is None:
            return None
        if request.scope["method"] in READS and self._is_token(request.query_params.get("token")):
            return self._admit(request, self._token)
        if self._is_token(request.cookies.get(self._cookie)):
            return None
        response = _forbidden(request, NO_TOKEN)
        if request.headers.get("sec-fetch-site") == "cross-site":
            response.headers["Refresh"] = AGAIN
        return response

    def _refusal(self, request: HTTPConnection) -> str | None:
        headers, scope = request.headers, request.scope
        if headers.get("host") not in self._hosts:
            return f"this viewer answers at {' and '.join(sorted(self._hosts))} only"
        if scope["path"].startswith("/api/") and headers.get("sec-fetch-site", "none") not in (
            "same-origin",
            "none",
        ):
            return "this viewer does not answer requests from pages of another origin"
        if scope["method"] not in READS and headers.get("origin") != f"http://{headers['host']}":
            return "this viewer takes uploads from its own page only"
        return None

    def _is_token(self, token: str | None) -> bool:
        # compare_digest takes the same time for any wrong token, so that it cannot be guessed byte by byte
        return self._token is not None and compare_digest((token or "").encode(), self._token.encode())

    def _admit(self, request: HTTPConnection, token: str) -> Response:
        """Redirect to the address without the token, which is in the cookie from now on."""
        response = RedirectResponse(str(request.url.remove_query_params("token")), 303)
        response.set_cookie(self._cookie, token, httponly=True, samesite="strict")
        return response


def _forbidden(request: HTTPConnection, message: str) -> Response:
    """Return 403 as a page for a browser, as JSON for the page's own requests; then close the connection."""
    headers = {"Connection": "close"}
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": message}, 403, headers)
    headers["Content-Security-Policy"] = PAGE_POLICY
    return HTMLResponse(PAGE.substitute(message=message), 403, headers)


STATIC = Path(__file__).parent / "static"
PALETTE = Path(__file__).with_name("palette.css")
REFUSED, MISSING, MALFORMED = 400, 404, 422
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
    app.add_exception_handler(RequestValidationError, _refusal_response)
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
        """Return the view, the place along its axis, and the part."""
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


async def _colors(colors: str = "") -> Array | None:
    """Parse rrggbb,rrggbb,... into a colour for each channel, (C, 3) in [0, 1]; return None for no text."""
    if not colors:
        return None
    try:
        return np.array([list(bytes.fromhex(color)) for color in colors.split(",")]).reshape(-1, 3) / 255
    except ValueError as error:
        raise InvalidArgumentError(
            f"colors={colors}: give rrggbb for each channel, such as 00ff00,ff00ff"
        ) from error


async def _refusal_response(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        return _json({"error": f"this address is not understood: {request.url.query}"}, MALFORMED)
    return _json({"error": str(error)}, MISSING if isinstance(error, MissingFileError) else REFUSED)


def _json(record: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(to_jsonable(record), status, headers)


router = APIRouter()
SessionDep = Annotated[Session, Depends(_session)]
SettingDep = Annotated[SliderSetting, Depends()]
PlaneDep = Annotated[PlaneRequest, Depends()]
ContrastDep = Annotated[Contrast, Depends()]
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
        "distance": "" if masker.card.loss.extent.counts_objects else masker.card.loss.words.distance,
        "loss_over": masker.card.loss.words.averaged,
        "where_hidden": masker.card.promise.named(masker.card.loss.extent.where),
        "family": masker.family.settings(),
        "maps": session.triplets.has_cues,
        "veil": VEIL,
        "hatch": HEX.format(*HATCH),
        "upload": {
            "most_bytes": MOST_BYTES,
            "suffixes": SUFFIXES,
            "needs": [fact for fact in FACTS if fact in masker.rule.needs and not masker.weigh]
            + [
                layer
                for layer in masker.scorer.layers
                if layer != "labels" or session.triplets.reading.components_above is None
            ],
        },
    }
    return _json(facts)


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
    data_range, contrast = collection_image.data_range, collection_image.contrast(viewed_image)
    objects = None
    if "labels" in viewed_image.sources:  # the colours of their borders, by their class
        from conformask.extras.objects.labels import COLORS

        objects = {kind: HEX.format(*color) for kind, color in COLORS.items()}
    bytes_of_colors = None if colors is None else np.rint(255 * colors).astype(np.uint8)
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
        "range": data_range,
        "x_range": collection_image.x_range,
        "colors": None if bytes_of_colors is None else [bytes(color).hex() for color in bytes_of_colors],
        "window": window_of(data_range, (contrast.low, contrast.high)) if contrast.text else None,
        "contrast": contrast.text,
        "most_values": window_of(data_range, values.most),
        "histogram": values.counts,
        "hidden_run": session.hidden_run(name),
        "presets": [asdict(preset) for preset in presets(data_range)],
        "truth": "truth" in viewed_image.sources,
        "titles": titles_for(viewed_image.reference),
        "region": "region" in viewed_image.sources,
        "objects": objects,
        "error_scale": viewed_image.error_scale,
        "map_range": viewed_image.map_range,
        "measurable": is_measurable(session.masker, viewed_image),
        "risk": risk_of(viewed_image),
        "notes": session.notes(name),
        "remarks": session.remarks(name),
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
    image = session.viewed_image(name)
    facts: dict[str, Json] = dict(values_at(image.sources, image.deep, (z, y, x)))
    objects, facts["object"] = image.objects, None
    if objects is not None and (place := objects.of_pixel[z, y, x]) < len(objects.ids):
        from conformask.extras.objects.labels import extent_of

        pixels = int(objects.areas[place])
        extent, unit = extent_of(pixels, session.collection_image(name).geometry)
        facts["object"] = {"id": int(objects.ids[place]), "pixels": pixels, "extent": extent, "unit": unit}
    return _json(facts)


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
    masker, _ = recalibrated_at(session.masker, setting)
    return _json(asdict(losses_of(masker, viewed_image)))


@router.post("/api/uploads")
async def upload(request: Request, session: SessionDep) -> Response:
    """Add a pair of images; return the name under which it is shown."""
    receiver: UploadReceiver = request.app.state.intake
    async with receiver.receive(request) as files:
        pair = await run_in_threadpool(pair_of, files, session.triplets.reading)
        return _json({"name": await run_in_threadpool(session.add, pair)})


PATIENCE = 10.0
"""Seconds that a client has for the head of a request, and for the rest of its body after the answer."""
MOST_CONNECTIONS = 256
"""Most connections open at a time, well below what a process may open; a browser uses six."""


class PromptProtocol(H11Protocol):
    """Protocol that closes a connection kept waiting by its client; of too many, the one waiting longest."""

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > MOST_CONNECTIONS:
            waiting = [each for each in self.connections if isinstance(each, PromptProtocol) and each._clock]
            longest = min(waiting, key=lambda each: each._clock.when() if each._clock else math.inf)
            longest._stop()
            longest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Continue with a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        """Run the clock while no request is being answered; data that arrives meanwhile does not reset it."""
        if self.conn.our_state not in (h11.IDLE, h11.DONE):
            self._stop()
        elif self._clock is None:
            self._clock = self.loop.call_later(PATIENCE, self.transport.close)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


HOST = "127.0.0.1"
HIGHEST_PORT = 65535
BACKLOG = 64
"""Number of connections that are accepted at once, before some can be dropped again."""
SHUTDOWN_PATIENCE = 1
"""Seconds that open connections get when the viewer is stopped."""


def listening(port: int) -> socket.socket:
    """Return a socket that listens at this port of 127.0.0.1; 0 takes any free port."""
    if not 0 <= port <= HIGHEST_PORT:
        raise InvalidArgumentError(f"port {port}: give 0 (any free one) to {HIGHEST_PORT}")
    # asyncio turns Nagle's algorithm off, which costs 40 ms an answer, only where the protocol is stated
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise InvalidArgumentError(
            f"port {port} cannot be used ({error.strerror}); perhaps another viewer is running there: "
            "choose another with --port, or 0 for any free one"
        ) from error
    return listener


def url_of(listener: socket.socket, token: str | None) -> str:
    """Return the address of the page, with the token that it requires."""
    query = "" if token is None else f"?token={token}"
    return f"http://{HOST}:{listener.getsockname()[1]}/{query}"


def server(session: Session, listener: socket.socket, token: str | None) -> uvicorn.Server:
    """Return the server for a socket; its run(sockets=[listener]) returns when it is stopped."""
    config = uvicorn.Config(
        application(session, listener.getsockname()[1], token),
        http=PromptProtocol,
        ws="none",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=SHUTDOWN_PATIENCE,
        server_header=False,
    )
    return uvicorn.Server(config)


def serve(session: Session, listener: socket.socket, token: str | None, *, opened: str | None) -> None:
    """Serve until Ctrl-C, computing mask sizes and thumbnails meanwhile; a browser opens `opened`, if any."""
    uvicorn_server = server(session, listener, token)
    stop = threading.Event()

    def look_through() -> None:
        for _ in tracked(session.look_through(), "mask sizes", len(session.entries())):
            if stop.is_set():
                return

    scan_thread = threading.Thread(target=look_through, daemon=True)
    scan_thread.start()
    if opened is not None:
        threading.Thread(target=open_browser, args=(opened, stop), daemon=True).start()
    with suppress(KeyboardInterrupt):
        uvicorn_server.run(sockets=[listener])
    stop.set()
    scan_thread.join()


def open_browser(url: str, stop: threading.Event) -> None:
    """Open the browser, if there is one, at a private file of the owner that leads to the address.

    Any account of the machine may read the browser's command line, so it must not hold the token.
    """
    with suppress(Exception), TemporaryDirectory() as folder:  # the address is printed, too
        page = Path(folder) / "conformask.html"
        page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}">')
        webbrowser.open(page.as_uri())
        stop.wait()
