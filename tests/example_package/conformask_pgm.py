"""PGM images for conformask, and an error map of edges."""

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from torch import Tensor

from conformask import CustomErrorMap, Reading
from conformask.errors import ImageError
from conformask.images.formats import Format, Header, ImageHandle

HEADER = re.compile(rb"P5\s+(\d+)\s+(\d+)\s+(\d+)\s")


def open_pgm(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[ImageHandle]:
    """Open a file: width, height and white as text, then the pixels, row by row."""
    content = path.read_bytes()
    start = HEADER.match(content)
    if start is None:
        raise ImageError(f"{path} is not a PGM file in binary form (P5)")
    width, height, white = map(int, start.groups())
    stored = np.dtype(">u2" if white > 255 else "u1")

    def decode() -> np.ndarray:
        return np.frombuffer(content, stored, width * height, start.end()).reshape(height, width)

    header = Header(1, (height, width), bits=8 * stored.itemsize, data_range=(0, white))
    return nullcontext(ImageHandle(header, decode))


def edges(y: Tensor, y_hat: Tensor) -> Tensor:
    """Return how much the differences of neighbouring pixels are wrong, (N, C, H, W)."""
    error = y - y_hat
    down, right = error.diff(dim=2).abs(), error.diff(dim=3).abs()
    wrong = error.new_zeros(error.shape)
    wrong[:, :, 1:] += down / 2
    wrong[:, :, :, 1:] += right / 2
    return wrong


PGM = Format(open_pgm)
EDGES = CustomErrorMap(edges, upper_bound=2.0)
