"""The verbs check and info: triplets before hours of work, and what a run folder promises."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask.cli.options import AS_FILES_SAY, AsJson, Read, opened
from conformask.cli.output import show
from conformask.cli.verb import Verb
from conformask.errors import MismatchError


def check(
    data: Path,
    /,
    *,
    confidence: float = 0.9,
    noise_plot: Path | None = None,
    read: Read = AS_FILES_SAY,
    json: AsJson = False,
) -> None:
    """Check triplets before hours of work.

    Reads every image, and checks pairs, shapes, value ranges, duplicates across parts, and whether there are
    enough images for a confidence.

    Parameters
    ----------
    data
        A folder with x/, y_hat/ and, where the truth is known, y/, or else repeats/; or a manifest.csv.
    confidence
        The confidence that you plan to ask for.
    noise_plot
        Where to draw the variance of the noise of repeats against their mean, an SVG file.
    """
    from conformask.cli.check_text import blocks_of_check, draw_noise, record_of_check
    from conformask.images.check import check_triplets
    from conformask.promises.promise import Promise
    from conformask.records.record import check_output

    needed = Promise("marginal", confidence).smallest_calibration_set(None, None)
    if noise_plot is not None:
        check_output(noise_plot)
    findings = check_triplets(opened(data, read), needed)
    if noise_plot is not None:
        draw_noise(findings, data, noise_plot)
    show({"data": str(data), **record_of_check(findings)}, *blocks_of_check(findings), as_json=json)


CHECK = Verb(check, group="Prepare", order=4, example="check images")


def info(
    run: Path,
    /,
    *,
    fingerprint: Annotated[
        bool, Parameter(help="Print only the fingerprint of the masker, for the lab book.")
    ] = False,
    research: Annotated[
        bool, Parameter(help="Show every setting, lambda and the formula of the loss too.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show what a run folder contains and promises.

    Parameters
    ----------
    run
        A run folder or a saved masker.
    """
    from conformask.cli.run_text import RunText
    from conformask.masker.run_folder import read_promise

    if not fingerprint:
        shown = RunText.load(run)
        show(shown.record(), *shown.blocks(research=research), as_json=json)
        if shown.void:
            sys.exit(1)
        return
    stored = read_promise(run)[1]
    if not stored:
        raise MismatchError(f"{run} has no fingerprint, because conformask 0.1 saved it: calibrate it again")
    show({"fingerprint": stored}, stored, as_json=json)


INFO = Verb(info, group="Look", order=2, example="info runs/first")
