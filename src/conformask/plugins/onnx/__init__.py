"""ONNX: predictors in it, and the export of a masker to it, alone or behind a predictor."""
