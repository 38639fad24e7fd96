"""Evaluation of calibrated maskers on images that no choice has seen."""
