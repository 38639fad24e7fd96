"""Arrays as pictures: pixels of a display, planes of volumes, SVG marks; no torch."""
