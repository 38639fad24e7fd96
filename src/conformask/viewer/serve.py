"""Serving the viewer on this machine, and nowhere else."""

import socket
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

from conformask.errors import InvalidArgumentError
from conformask.progress import tracked
from conformask.viewer.app import application
from conformask.viewer.connections import PromptProtocol
from conformask.viewer.session import Session

HOST = "127.0.0.1"
HIGHEST_PORT = 65535
BACKLOG = 64
"""Number of connections that are accepted at once, before some can be dropped again."""
PATIENCE = 1
"""Seconds that open connections get when the viewer is stopped."""


def listening(port: int) -> socket.socket:
    """Return a socket that listens at this port of 127.0.0.1; 0 takes any free port.

    Raises:
        InvalidArgumentError: no such port, or it is taken or not allowed.
    """
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
        timeout_graceful_shutdown=PATIENCE,
        server_header=False,
    )
    return uvicorn.Server(config)


def serve(session: Session, listener: socket.socket, token: str | None, *, opened: str | None) -> None:
    """Serve until Ctrl-C, computing mask sizes and thumbnails meanwhile; a browser opens `opened`, if any."""
    uvicorn_server = server(session, listener, token)
    stop = threading.Event()
    scan_thread = threading.Thread(target=_look_through, args=(session, stop), daemon=True)
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


def _look_through(session: Session, stop: threading.Event) -> None:
    for _ in tracked(session.look_through(), "mask sizes", len(session.entries())):
        if stop.is_set():
            return
