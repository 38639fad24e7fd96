"""The pictures of an image, in the order and with the names that every page and figure gives them."""

from conformask.records.reference import CLEAN, Reference

TITLES = {
    "output": "Output ŷ",
    "overlay": "Overlay",
    "mask": "Mask",
    "truth": "Truth y",
    "input": "Input x",
    "error": "Error",
    "map": "Map",
}
"""Title by picture, in the order of display; the viewer's pane.js and state.js have the same."""


def titles_for(reference: Reference = CLEAN) -> dict[str, str]:
    """Return the title by picture of an image with this y: its own and the error's say if it is noisy."""
    noisy = {"truth": "Noisy reference y", "error": "Error to the noisy reference"}
    return TITLES | (noisy if reference.is_noisy else {})
