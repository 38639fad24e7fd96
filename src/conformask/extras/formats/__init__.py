"""File formats that need optional packages: DICOM, NIfTI, OME-Zarr."""
