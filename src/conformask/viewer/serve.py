"""Serving the viewer on this machine, and nowhere else."""

import socket
import threading
import webbrowser
from contextlib import suppress

import uvicorn

from conformask.errors import InvalidArgumentError
from conformask.progress import tracked
from conformask.viewer.app import application
from conformask.viewer.session import Session

HOST = "127.0.0.1"
HIGHEST_PORT = 65535
PATIENCE = 1
"""Seconds that open connections get when the viewer is stopped."""


def listening(port: int) -> socket.socket:
    """A socket that listens at this port of 127.0.0.1; 0 takes any free port.

    Raises:
        InvalidArgumentError: no such port, or it is taken or not allowed.
    """
    if not 0 <= port <= HIGHEST_PORT:
        raise InvalidArgumentError(f"port {port}: give 0 (any free one) to {HIGHEST_PORT}")
    # asyncio turns Nagle's algorithm off, which costs 40 ms an answer, only where the protocol is stated
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
        bound.listen()
    except OSError as error:
        bound.close()
        raise InvalidArgumentError(
            f"port {port} cannot be used ({error.strerror}), perhaps another viewer runs there: choose "
            "another with --port, 0 for any free one"
        ) from error
    return bound


def url_of(bound: socket.socket) -> str:
    """Where the page is found."""
    return f"http://{HOST}:{bound.getsockname()[1]}/"


def serve(session: Session, bound: socket.socket, *, browser: bool) -> None:
    """Answer until Ctrl-C; mask sizes and thumbnails are computed meanwhile."""
    app = application(session, bound.getsockname()[1])
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=PATIENCE, server_header=False)
    )
    stopped = threading.Event()
    looking = threading.Thread(target=_look_through, args=(session, stopped), daemon=True)
    looking.start()
    if browser:
        threading.Thread(target=webbrowser.open, args=(url_of(bound),), daemon=True).start()
    with suppress(KeyboardInterrupt):
        server.run(sockets=[bound])
    stopped.set()
    looking.join()


def _look_through(session: Session, stopped: threading.Event) -> None:
    for _ in tracked(session.look_through(), "mask sizes", len(session.entries())):
        if stopped.is_set():
            return
