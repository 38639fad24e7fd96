"""All file types that can be read, each in its own module or plugin, with its abilities in its `Format`."""

import os
from pathlib import Path

from conformask import extensions
from conformask.data.formats.format import Format
from conformask.data.formats.npy import NPY, NPZ
from conformask.data.formats.png_jpeg import JPEG, PNG
from conformask.data.formats.tiff import TIFF
from conformask.extensions import Extensions

FOLDER = "folder"
"""Name of the format of folders without a suffix, which are recognised by what they hold."""
FORMATS = Extensions(
    extensions.FORMATS,
    Format,
    {".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".tif": TIFF, ".tiff": TIFF, ".npy": NPY, ".npz": NPZ},
)
"""All file types, by suffix in lower case, and that of folders without one, by FOLDER."""


def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes of images."""
    return tuple(name for name in FORMATS if name.startswith("."))


def format_of(path: Path) -> Format | None:
    """Return the type of a file, by its name, or of a folder, by what it holds; None for others."""
    return FORMATS[FOLDER] if _is_recognised(path) else FORMATS.get(known_suffix(path))


def _is_recognised(path: Path) -> bool:
    """Return whether the path is a folder that is one image by what it holds, not by its suffix."""
    if not os.path.isdir(path) or FOLDER not in FORMATS:
        return False
    kind, recognises = FORMATS.get(known_suffix(path)), FORMATS[FOLDER].recognises
    return not (kind and kind.is_folder) and recognises is not None and recognises(path)


def known_suffix(path: Path) -> str:
    """Return the end of a name by which its type is known, such as .nii.gz; else its last part."""
    name = path.name.lower()
    endings = [suffix for suffix in image_suffixes() if name.endswith(suffix)]
    return max(endings, key=len, default=path.suffix.lower())


def suffix_of(path: Path) -> str:
    """Return .ome.tif for NAME.ome.tif, .png for NAME.png, in lower case; "" for a recognised folder."""
    if _is_recognised(path):
        return ""
    name, suffix = path.name.lower(), known_suffix(path)
    stem = name[: len(name) - len(suffix)]
    return f".ome{suffix}" if stem.endswith(".ome") and stem != ".ome" else suffix
