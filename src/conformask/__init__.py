"""Masks with a promise for image-to-image networks."""
