"""Masks of a whole folder of images, written to disk."""
