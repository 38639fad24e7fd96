"""Exporting a masker: ONNX, folders for model collections, arrays of dask."""
