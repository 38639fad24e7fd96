"""A masker as one ONNX file, lambda among its inputs; checked against PyTorch before it is there."""
