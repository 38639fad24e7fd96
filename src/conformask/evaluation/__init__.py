"""How a calibrated masker does on images that no choice has seen."""
