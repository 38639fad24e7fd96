"""conformask mask: write masks for new images."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from conformask.cli.options import ALIKE, DEFAULT_DEVICES, AsJson, Devices, New
from conformask.cli.output import show
from conformask.cli.verb import Verb


def mask(
    run: Path,
    data: Annotated[
        Path,
        Parameter(
            help="A folder with x/ and y_hat/, or with a manifest.csv; with y/, the masks are measured too. "
            "A split is ignored."
        ),
    ],
    out: Path,
    /,
    *,
    overwrite: Annotated[
        bool, Parameter(help="Remove masks of another promise or of other images from OUT.")
    ] = False,
    dicom_seg: Annotated[
        bool,
        Parameter(
            help="For DICOM series, also write a DICOM SEG of the pixels that are not wholly shown, with the "
            "promise for the others."
        ),
    ] = False,
    mask_geometry: Annotated[
        Literal["x", "y_hat"],
        Parameter(
            help="Whose file type and geometry the masks have: use x, for example, for a DICOM series whose "
            "y_hat is NIfTI, if both files state that they lie in the same place."
        ),
    ] = "y_hat",
    release: Annotated[
        float | None,
        Parameter(
            help="Also release images, such that at most this share of them misses the threshold, in "
            "expectation: see conformask release."
        ),
    ] = None,
    new: New = ALIKE,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Write masks for new images.

    Writes a mask (16-bit PNG, or TIFF or OME-Zarr if y_hat is; 1 = trusted) and an overlay for each image,
    and a CSV file of mask sizes. Images larger than 1024 pixels, and OME-Zarr images, are masked whole, by
    overlapping tiles, with bounded memory. A promise calibrated on tiles does not cover whole images; a
    promise calibrated with --tiled does.

    Parameters
    ----------
    run
        A calibrated run folder.
    out
        The folder for masks/, overlays/, sizes.csv and masks.json; a killed run resumes there.
    """
    from conformask.masker.admission import outliers_text
    from conformask.masker.release import release_once
    from conformask.masker.validation import shift_of
    from conformask.masker.write import write_masks
    from conformask.records.numbers import plural, rounded_share
    from conformask.records.words import clipped_text, common_bound_text, measurement_text

    masker, triplets = new.opened(run, data)
    released = None
    if release is not None:
        released = release_once(run, masker, triplets, release)
    written = write_masks(
        masker,
        triplets,
        out,
        overwrite=overwrite,
        dicom_seg=dicom_seg,
        mask_geometry=mask_geometry,
        released=released,
        compute=devices,
    )
    n, mean = len(written.sizes), sum(written.sizes.values()) / len(written.sizes)
    known = triplets.has_truth
    whose = "its" if n == 1 else "their"
    shift = shift_of(masker, written.features, triplets)
    clipped = clipped_text(written.clipped, masker.card.clipped)
    lines = [
        measurement_text(masker.card, written.measurement, written.caveat, written.n_used, has_truth=known),
        None if released is None else released.summary,
        shift and f"{shift} conformask monitor {run} {data} describes the change.",
        outliers_text(written.outliers, n) if written.outliers else None,
        clipped and f"warning: {clipped}",
        None if written.bound is None else common_bound_text(written.bound, masker.loss.traits.upper_bound),
    ]
    show(
        {
            "out": str(out),
            "n": n,
            "mask_size": mean,
            "sentence": masker.sentence,
            "formula": masker.formula,
            "fingerprint": masker.fingerprint,
            "measurement": written.measurement,
            "used": written.n_used,
            "caveat": written.caveat,
            "notes": written.notes,
            "released": None if released is None else released.n_released,
            "shift": shift,
            "outliers": written.outliers,
            "clipped": sum(written.clipped.values()) / len(written.clipped) if written.clipped else None,
        },
        masker.card.sentence_here(written.caveat),
        f"{plural(n, 'mask')} in {out}: {rounded_share(mean)} of {whose} pixels are hidden",
        *filter(None, lines),
        *masker.card.formula_here(written.caveat),
        as_json=json,
    )


MASK = Verb(
    mask,
    group="First",
    order=2,
    example="mask runs/first new-images masks",
    resumes="",
    renamed={"--like": "--mask-geometry", "--seg": "--dicom-seg"},
)
