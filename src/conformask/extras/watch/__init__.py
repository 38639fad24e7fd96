"""Watching a masker in use: whether new images still look like the calibration's."""
