"""conformask mask: masks for new images."""

from pathlib import Path

from conformask.cli.options import AsJson, DataRange
from conformask.cli.output import show


def mask(run: Path, data: Path, out: Path, /, *, data_range: DataRange = None, json: AsJson = False) -> None:
    """Write a mask for every image (16-bit PNG, or TIFF and OME-Zarr as y_hat), an overlay, mask sizes.

    Images that no tile of 1024 pixels holds, and OME-Zarr folders, are masked whole, by overlapping tiles,
    with bounded memory. A promise that was calibrated on tiles does not cover them, which is said; calibrate
    with --whole for one that does.

    Parameters
    ----------
    run
        A calibrated run folder.
    data
        A folder with x/ and y_hat/, or a manifest.csv; y is not needed, a split is not regarded.
    out
        Where masks/, overlays/ and sizes.csv go.
    """
    from conformask.data.triplets import Triplets
    from conformask.deployment import write_masks
    from conformask.masker.masker import load

    masker = load(run)
    sizes = write_masks(masker, Triplets.from_folder(data, data_range or masker.card.data_range), out)
    mean = sum(sizes.values()) / len(sizes)
    record = {"out": str(out), "n": len(sizes), "mask_size": mean, "promise": masker.promise}
    show(record, masker.promise, f"{len(sizes)} masks in {out}, mean mask size {mean:.3f}", as_json=json)
