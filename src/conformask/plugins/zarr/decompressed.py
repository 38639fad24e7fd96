"""Decompressed size of a chunk, measured without taking more memory than allowed."""

import bz2
import zlib
from collections.abc import Callable, Mapping
from typing import Any

WITH_HEADER = zlib.MAX_WBITS + 32
"""Window bits with which zlib takes its own format and gzip's."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
DICTIONARY = (0, 1, 2, 4)
"""Number of bytes of the dictionary ID in the header of a Zstandard frame, by its flag."""


def decompressed_size(codec: str, content: bytes, largest: int) -> int:
    """Return the size of a decompressed chunk; above `largest`, some number larger than that.

    Args:
        codec: its name in zarr; a codec that is not a compressor leaves the size as it is.
        content: the chunk.
        largest: the size above which it may stop.

    Raises:
        Exception: the chunk is damaged; the type depends on the codec.
    """
    measure = MEASURES.get(codec)
    return len(content) if measure is None else measure(content, largest)


def _stream_size(new: Callable[[], Any]) -> Callable[[bytes, int], int]:
    """Return a measure for a decompressor that can stop early; several streams may follow each other."""

    def measure(content: bytes, largest: int) -> int:
        size = 0
        while content and size <= largest:
            stream, pending = new(), content
            while not stream.eof and size <= largest:
                part = stream.decompress(pending, largest + 1 - size)
                pending = getattr(stream, "unconsumed_tail", b"")
                if not part and not pending:
                    return size
                size += len(part)
            content = stream.unused_data
        return size

    return measure


def _blosc_size(content: bytes, largest: int) -> int:
    """Read the size from the header; raise for truncated chunks, since Blosc reads past their end."""
    stated, size = int.from_bytes(content[12:16], "little"), len(content)
    if max(stated, 16) != size:
        raise ValueError(f"it has {size} bytes, but its header states {stated}")
    return int.from_bytes(content[4:8], "little")


def _lz4_size(content: bytes, largest: int) -> int:
    return int.from_bytes(content[:4], "little")


def _zstd_size(content: bytes, largest: int) -> int:
    """Read the size from the header of a frame, else decompress the frame into as many bytes as allowed."""
    import imagecodecs

    if content[:4] != ZSTD_MAGIC:
        raise ValueError("it is not a Zstandard frame")
    # RFC 8878: a descriptor, perhaps the size of a window, an ID of a dictionary, and the size of the content
    descriptor = content[4]
    single_segment, length = bool(descriptor & 32), (0, 2, 4, 8)[descriptor >> 6]
    length = 1 if single_segment and not length else length
    start = 5 + (not single_segment) + DICTIONARY[descriptor & 3]
    if length:
        return int.from_bytes(content[start : start + length], "little") + (256 if length == 2 else 0)
    try:
        return len(imagecodecs.zstd_decode(content, out=largest))
    except imagecodecs.ZstdError:
        return largest + 1


MEASURES: Mapping[str, Callable[[bytes, int], int]] = {
    "gzip": _stream_size(lambda: zlib.decompressobj(WITH_HEADER)),
    "zlib": _stream_size(lambda: zlib.decompressobj(WITH_HEADER)),
    "bz2": _stream_size(bz2.BZ2Decompressor),
    "blosc": _blosc_size,
    "lz4": _lz4_size,
    "zstd": _zstd_size,
}
