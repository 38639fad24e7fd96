"""TIFF files written by hand, tag by tag, so that no library decides what is in them."""

import struct

import numpy as np

SHORT, LONG = 3, 4


def packed(values, bits):
    """Each row as bits, the highest first, filled up to whole bytes."""
    rows = []
    for row in values.reshape(len(values), -1):
        text = "".join(f"{value:0{bits}b}" for value in row)
        rows.append(int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big"))
    return b"".join(rows)


def tiff(path, size, segments, bits=8, **tags):
    """A little-endian TIFF of one grey image (H, W): strips, or tiles where their size is among the tags.

    A tag given by name, a number or a list, replaces what would be written.
    """
    height, width = size
    starts = np.cumsum([8, *map(len, segments)])[:-1].tolist()
    tiled = "TILE_WIDTH" in tags
    values = {
        "WIDTH": width,
        "HEIGHT": height,
        "BITS": bits,
        "COMPRESSION": 1,
        "PHOTOMETRIC": 1,
        "OFFSETS": starts,
        "SAMPLES": 1,
        "COUNTS": list(map(len, segments)),
        **({} if tiled else {"ROWS": -(-height // len(segments))}),
        **tags,
    }
    codes = CODES | ({"OFFSETS": 324, "COUNTS": 325} if tiled else {})
    entries = sorted((codes[name], np.atleast_1d(value).tolist()) for name, value in values.items())
    at = 8 + sum(map(len, segments))
    after = at + 2 + 12 * len(entries) + 4
    ifd, arrays = struct.pack("<H", len(entries)), b""
    for code, numbers in entries:
        kind, letter = (SHORT, "H") if code == CODES["PALETTE"] else (LONG, "I")
        content = struct.pack(f"<{len(numbers)}{letter}", *numbers)
        if len(content) > 4:
            content, arrays = struct.pack("<I", after + len(arrays)), arrays + content
        ifd += struct.pack("<HHI", code, kind, len(numbers)) + content
    path.write_bytes(struct.pack("<2sHI", b"II", 42, at) + b"".join(segments) + ifd + bytes(4) + arrays)
    return path


CODES = {
    "WIDTH": 256,
    "HEIGHT": 257,
    "BITS": 258,
    "COMPRESSION": 259,
    "PHOTOMETRIC": 262,
    "OFFSETS": 273,
    "SAMPLES": 277,
    "ROWS": 278,
    "COUNTS": 279,
    "PLANES": 284,
    "PALETTE": 320,
    "TILE_WIDTH": 322,
    "TILE_HEIGHT": 323,
    "SAMPLE_FORMAT": 339,
}
