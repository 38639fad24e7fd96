"""Masks: nested families, the kernels behind their levels, and critical lambdas."""
