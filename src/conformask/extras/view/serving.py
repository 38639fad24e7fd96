"""The viewer, served on this machine until Ctrl-C."""

import secrets
import sys
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from cyclopts import Parameter

from conformask.cli.output import show

if TYPE_CHECKING:
    from conformask.images.triplets import Triplets
    from conformask.masker.masker import Masker
    from conformask.masker.remarks import SaysOfImages
    from conformask.records.evaluation import Release

RENAMED = {"--headless": "--no-browser", "--no-view": "--no-browser"}
"""New names of these options of verbs that open the viewer by the names that they had before."""
Port = Annotated[int, Parameter(help="Port on 127.0.0.1; 0 means any free port.")]


def open_viewer(
    masker: "Masker",
    triplets: "Triplets",
    *,
    released: "Release | None" = None,
    remarks: "SaysOfImages | None" = None,
    port: int,
    browser: bool = True,
    token: bool = True,
    image: str | None = None,
    with_promise: bool = True,
    as_json: bool = False,
) -> None:
    """Serve the viewer until Ctrl-C, and print its address, by default with the promise.

    It opens on the gallery, or on the image of this name, and the images are sorted by their hidden share.
    `released` is what release() returned, `remarks` say something of images beside their masks.
    """
    from conformask.extensions import required

    for library in ("fastapi", "uvicorn"):
        required(library, "the viewer", "view")
    from conformask.extras.view.app import listening, serve, url_of
    from conformask.extras.view.session import Session
    from conformask.masker.remarks import no_remarks

    session = Session(
        masker,
        triplets,
        released=released,
        remarks=remarks or no_remarks,
    )
    secret = secrets.token_urlsafe() if token else None
    with listening(port) as bound:
        url = url_of(bound, secret) + ("" if image is None else f"#/image/{quote(image)}")
        lines = [] if released is None else [released.summary]
        lines += [f"{url}  (press Ctrl-C to stop)"]
        if not browser:
            port = bound.getsockname()[1]
            lines += [f"From another machine: ssh -L {port}:127.0.0.1:{port} HOST, then open it there"]
        if with_promise:
            lines = [masker.sentence, *lines, masker.formula]
        record = {"url": url, "sentence": masker.sentence, "formula": masker.formula}
        show(record, *lines, as_json=as_json)
        sys.stdout.flush()
        serve(session, bound, secret, opened=url if browser else None)
