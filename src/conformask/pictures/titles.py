"""The pictures of an image, in the order and with the names that every page and figure gives them."""

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
