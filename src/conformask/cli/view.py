"""conformask view: open the viewer in a browser on this machine."""

import secrets
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask.cli.options import AS_FILES_SAY, AsJson, NetworkName, OtherNetwork, Read, WeightsPath, loss_of
from conformask.cli.output import show

NO_TOKEN = "Require no token; everyone with an account on this machine can then see the images."


def view(
    run: Path,
    data: Path,
    /,
    *,
    port: Annotated[int, Parameter(help="Port on 127.0.0.1; 0 means any free port.")] = 8000,
    headless: Annotated[bool, Parameter(show_default=False, help="Do not open a browser.")] = False,
    no_token: Annotated[bool, Parameter(show_default=False, help=NO_TOKEN)] = False,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    allow_network_mismatch: OtherNetwork = False,
    weights_path: WeightsPath = None,
    json: AsJson = False,
) -> None:
    """Look at images with their masks, and change threshold and confidence; stop with Ctrl-C.

    Parameters
    ----------
    run
        A calibrated run folder or a saved masker.
    data
        A folder with x/ and y_hat/, and with y/ if the truth is known, or with a manifest.csv.
    """
    from conformask.errors import MissingFileError
    from conformask.extensions import pip_install
    from conformask.masker.load import load

    try:
        from conformask.viewer.serve import listening, serve, url_of
    except ModuleNotFoundError as error:
        raise MissingFileError(f"the viewer needs {error.name}: {pip_install('view')}") from error
    from conformask.viewer.session import Session

    masker = load(run, loss=loss_of(run, weights_path))
    triplets = read.triplets(data, network, masker.card)
    session = Session(masker, triplets, allow_network_mismatch=allow_network_mismatch)
    token = None if no_token else secrets.token_urlsafe()
    with listening(port) as bound:
        url = url_of(bound, token)
        show({"url": url}, masker.sentence, f"{url}  (press Ctrl-C to stop)", as_json=json)
        sys.stdout.flush()
        serve(session, bound, token, browser=not headless)
