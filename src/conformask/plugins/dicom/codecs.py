"""Decoding of lossless JPEG, the commonest compression in archives, for pydicom by imagecodecs.

Other plugins that decode it are under the GPL. The module has the names that pydicom expects of a plugin.
"""

from contextlib import suppress
from typing import Any

import imagecodecs

LABEL = "imagecodecs"
DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {
    "1.2.840.10008.1.2.4.57": ("imagecodecs",),
    "1.2.840.10008.1.2.4.70": ("imagecodecs",),
}
"""Packages for the transfer syntaxes decoded here: JPEG Lossless of any and of the first selection value."""
PLUGINS = {
    "1.2.840.10008.1.2.4.8": "pyjpegls",
    "1.2.840.10008.1.2.4.9": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.2": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4": "pylibjpeg pylibjpeg-libjpeg",
}
"""Packages for other transfer syntaxes, by prefix: JPEG-LS, JPEG 2000, HTJ2K, other JPEG."""


def is_available(uid: str) -> bool:
    """Return whether this module decodes a transfer syntax."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: Any) -> bytes:
    """Return the pixels of one grey frame.

    Raises:
        NotImplementedError: a colour frame.
    """
    if runner.samples_per_pixel != 1:
        raise NotImplementedError("lossless JPEG of several channels")
    pixels = imagecodecs.ljpeg_decode(src)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return bytes(pixels.tobytes())


def add_codecs() -> None:
    """Add this module to pydicom's decoders, once."""
    from pydicom.pixels import get_decoder

    for uid in DECODER_DEPENDENCIES:
        decoder = get_decoder(uid)
        if LABEL not in decoder.available_plugins:
            with suppress(ValueError):  # another thread was faster
                decoder.add_plugin(LABEL, (__name__, "decode_frame"))


def plugin_of(uid: str) -> str | None:
    """Return the packages that decode a transfer syntax, for pip install; None if none is known."""
    return next((packages for start, packages in PLUGINS.items() if uid.startswith(start)), None)
