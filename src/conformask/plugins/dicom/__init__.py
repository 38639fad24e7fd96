"""DICOM files and series, and masks of them as DICOM."""
