"""Export of a masker as one ONNX file, checked against PyTorch, or as a folder for a model collection."""
