"""Masks of a whole folder of images, onto disk."""
