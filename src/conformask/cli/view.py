"""conformask view: open the viewer in a browser on this machine."""

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from cyclopts import Parameter

from conformask.cli.options import AS_FILES_SAY, AsJson, NetworkName, OtherNetwork, Read, WeightsPath, loss_of
from conformask.cli.output import show

if TYPE_CHECKING:
    from conformask.data.triplets import Triplets
    from conformask.masker.masker import Masker
    from conformask.records.release import Release

NO_TOKEN = "Require no token; everyone with an account on this machine can then see the images."
Port = Annotated[int, Parameter(help="Port on 127.0.0.1; 0 means any free port.")]


def view(
    run: Path,
    data: Path,
    /,
    *,
    port: Port = 8000,
    headless: Annotated[bool, Parameter(show_default=False, help="Do not open a browser.")] = False,
    no_token: Annotated[bool, Parameter(show_default=False, help=NO_TOKEN)] = False,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    allow_network_mismatch: OtherNetwork = False,
    weights_path: WeightsPath = None,
    release: Annotated[
        float | None,
        Parameter(
            help="Also mark which images are released, such that at most this share of them misses the "
            "threshold, in expectation: see conformask release."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Look at images with their masks, and change threshold and confidence; stop with Ctrl-C.

    Parameters
    ----------
    run
        A calibrated run folder or a saved masker.
    data
        A folder with x/ and y_hat/, and with y/ if the truth is known, or with a manifest.csv. Of one that
        is split, the test part is measured and shown first.
    """
    from conformask.masker.load import load
    from conformask.masker.release import release_once

    masker = load(run, loss=loss_of(run, weights_path))
    triplets = read.triplets(data, network, masker.card)
    released = None
    if release is not None:
        new = triplets.part("test")
        released = release_once(run, masker, new, release, allow_network_mismatch=allow_network_mismatch)
    open_viewer(
        masker,
        triplets,
        released=released,
        port=port,
        browser=not headless,
        token=not no_token,
        allow_network_mismatch=allow_network_mismatch,
        as_json=json,
    )


def open_viewer(
    masker: "Masker",
    triplets: "Triplets",
    *,
    released: "Release | None" = None,
    port: int,
    browser: bool = True,
    token: bool = True,
    allow_network_mismatch: bool = False,
    image: str | None = None,
    with_promise: bool = True,
    as_json: bool = False,
) -> None:
    """Serve the viewer until Ctrl-C, and print its address, by default with the promise.

    It opens on the gallery, or on the image of this name, and the images are sorted by their hidden share.
    `released` is what release() returned.

    Raises:
        MissingFileError: the extra view is not installed.
    """
    from conformask.errors import MissingFileError
    from conformask.extensions import pip_install

    try:
        from conformask.viewer.serve import listening, serve, url_of
    except ModuleNotFoundError as error:
        raise MissingFileError(f"the viewer needs {error.name}: {pip_install('view')}") from error
    from conformask.viewer.session import Session

    session = Session(masker, triplets, allow_network_mismatch=allow_network_mismatch, released=released)
    secret = secrets.token_urlsafe() if token else None
    with listening(port) as bound:
        url = url_of(bound, secret) + ("" if image is None else f"#/image/{quote(image)}")
        lines = [] if released is None else [released.summary]
        lines += [f"{url}  (press Ctrl-C to stop)"]
        if with_promise:
            lines = [masker.sentence, *lines, masker.formula]
        record = {"url": url, "sentence": masker.sentence, "formula": masker.formula}
        show(record, *lines, as_json=as_json)
        sys.stdout.flush()
        serve(session, bound, secret, opened=url if browser else None)
