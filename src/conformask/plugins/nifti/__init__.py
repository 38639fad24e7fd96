"""NIfTI-1 and NIfTI-2: images, and masks with the header of their image. Needs the extra nifti."""

from conformask.data.formats.format import Format
from conformask.plugins.nifti.masks import write_nifti, write_nifti_blocks
from conformask.plugins.nifti.reading import open_nifti, times_of_nifti

NIFTI = Format(
    open_nifti,
    write_over=write_nifti,
    write_blocks=write_nifti_blocks,
    any_channels=True,
    volumes=True,
    films=True,
    mask_suffix=None,
    times=times_of_nifti,
)
