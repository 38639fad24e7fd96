"""Odd files whose pixels are known: each is read as what it means, or refused; none as something else."""

import io
import json
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image, ImageCms, ImageOps

from conformask.errors import ImageError
from conformask.images.read import read_image
from conformask.records.reading import PLAIN, Reading

GREY = (np.add.outer(np.arange(12) * 13, np.arange(10) * 7) % 256).astype(np.uint8)
WIDE = GREY.astype(np.uint16) * 257
TWELVE = GREY.astype(np.uint16) * 16
RGB = np.stack([GREY, 255 - GREY, np.roll(GREY, 3)], -1)
LARGE = np.kron(RGB, np.ones((8, 8, 1), np.uint8))
COLOURS = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256)]).astype(np.uint16)
Make = Callable[[Path], object]
CASES: dict[str, tuple[str, Make, np.ndarray | str, Reading, float]] = {}
"""By what it is: suffix, maker, the pixels (*space[, C]) or what the refusal says, reading, tolerance."""


def case(name, suffix, make, meant, reading=PLAIN, off=1e-4):
    assert name not in CASES
    CASES[name] = (suffix, make, meant, reading, off)


def unit(array):
    return array / np.iinfo(array.dtype).max


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(array, *chunks):
    """With more chunks behind its header."""
    content = imagecodecs.png_encode(array)
    return lambda path: path.write_bytes(content[:33] + b"".join(chunks) + content[33:])


def packed_png(bits):
    values = GREY >> (8 - bits)
    rows = [
        int("".join(f"{v:0{bits}b}" for v in row).ljust(-(-10 * bits // 8) * 8, "0"), 2) for row in values
    ]
    raw = b"".join(b"\0" + row.to_bytes(-(-10 * bits // 8), "big") for row in rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 10, 12, bits, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(content)


def pillow(array, kind, **how):
    def make(path):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, kind, **how)
        path.write_bytes(buffer.getvalue())

    return make


def turned(orientation):
    """The EXIF of an orientation, and the upright image."""
    exif = Image.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG", exif=exif)
    return exif, unit(np.asarray(ImageOps.exif_transpose(Image.open(buffer))))


def tiff(array, **how):
    return lambda path: tifffile.imwrite(path, array, **how)


def tiffs(*pages):
    def make(path):
        with tifffile.TiffWriter(path) as writer:
            for array, how in pages:
                writer.write(array, **how)

    return make


def npy(array):
    return lambda path: np.save(path, array)


case("png of 16 bits", ".png", png(WIDE), unit(WIDE))
case("png with a grey key that is transparent", ".png", png(GREY, chunk(b"tRNS", b"\0\x0d")), unit(GREY))
case(
    "png with 10 significant bits",
    ".png",
    png(GREY.astype(np.uint16) * 4, chunk(b"sBIT", b"\x0a")),
    GREY * 4.0 / 65535,
)
case("png with linear gamma", ".png", png(GREY, chunk(b"gAMA", struct.pack(">I", 100000))), unit(GREY))
case(
    "png of a palette",
    ".png",
    lambda path: Image.fromarray(RGB).quantize(256).save(path),
    unit(RGB),
    PLAIN,
    0.1,
)
for bits in (1, 2, 4):
    case(f"png of {bits} bits", ".png", packed_png(bits), (GREY >> (8 - bits)) / (2**bits - 1))
for orientation in range(1, 9):
    exif, upright = turned(orientation)
    large = pillow(LARGE, "JPEG", exif=exif, quality=100, subsampling=0)
    case(f"png of orientation {orientation}", ".png", pillow(RGB, "PNG", exif=exif), upright)
    upright_large = np.kron(upright, np.ones((8, 8, 1)))
    case(f"jpeg of orientation {orientation}", ".jpg", large, upright_large, PLAIN, 0.03)
    tag = [(274, "H", 1, orientation, True)]
    case(f"tiff of orientation {orientation}", ".tif", tiff(RGB, photometric="rgb", extratags=tag), upright)
profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
case("png with a profile, numbers as stored", ".png", pillow(RGB, "PNG", icc_profile=profile), unit(RGB))
cmyk = np.asarray(Image.fromarray(LARGE).convert("CMYK"))
case(
    "jpeg of CMYK",
    ".jpg",
    lambda path: Image.fromarray(LARGE).convert("CMYK").save(path, quality=100),
    unit(LARGE),
    PLAIN,
    0.03,
)
case(
    "jpeg stored as RGB",
    ".jpg",
    pillow(LARGE, "JPEG", quality=100, subsampling=0, keep_rgb=True),
    unit(LARGE),
    PLAIN,
    0.03,
)
case("jpeg called png", ".png", pillow(LARGE, "JPEG", quality=100, subsampling=0), unit(LARGE), PLAIN, 0.03)
case("png called jpg", ".jpg", pillow(LARGE, "PNG"), unit(LARGE))
case("webp called jpg", ".jpg", pillow(LARGE, "WEBP", lossless=True), "neither a PNG nor a JPEG file")
case(
    "jpg of several pictures",
    ".jpg",
    pillow(
        LARGE, "MPO", save_all=True, append_images=[Image.fromarray(255 - LARGE)], quality=100, subsampling=0
    ),
    unit(LARGE),
    PLAIN,
    0.25,
)

NIR, BOTH = np.dstack([RGB, GREY]), np.dstack([RGB, GREY, 255 - GREY])
case(
    "tiff of RGB and near infrared",
    ".tif",
    tiff(NIR, photometric="rgb", extrasamples=["unspecified"]),
    unit(NIR),
)
case(
    "tiff of RGB and two more",
    ".tif",
    tiff(BOTH, photometric="rgb", extrasamples=["unspecified"] * 2),
    unit(BOTH),
)
case(
    "tiff of RGB, alpha and one more",
    ".tif",
    tiff(BOTH, photometric="rgb", extrasamples=["unassalpha", "unspecified"]),
    unit(BOTH[..., [0, 1, 2, 4]]),
)
case("tiff of RGB and alpha", ".tif", tiff(NIR, photometric="rgb", extrasamples=["unassalpha"]), unit(RGB))
case(
    "tiff of RGB with alpha in it, numbers as stored",
    ".tif",
    tiff(NIR, photometric="rgb", extrasamples=["assocalpha"]),
    unit(RGB),
)
case(
    "tiff of grey and one more",
    ".tif",
    tiff(NIR[..., 2:], photometric="minisblack", extrasamples=["unspecified"]),
    unit(NIR[..., 2:]),
)
case(
    "tiff of grey and alpha",
    ".tif",
    tiff(NIR[..., 2:], photometric="minisblack", extrasamples=["unassalpha"]),
    unit(NIR[..., 2]),
)
case("tiff whose 0 is white", ".tif", tiff(GREY, photometric="miniswhite"), 1 - unit(GREY))
case("tiff whose 0 is white, of 16 bits", ".tif", tiff(WIDE, photometric="miniswhite"), 1 - unit(WIDE))
looked_up = np.dstack([GREY, 255 - GREY, GREY])
case(
    "tiff of a palette of 16 bits",
    ".tif",
    tiff(GREY, photometric="palette", colormap=COLOURS * 257),
    unit(looked_up),
)
case(
    "tiff of a palette of 0 to 255",
    ".tif",
    tiff(GREY, photometric="palette", colormap=COLOURS),
    unit(looked_up),
)
case("big-endian tiff", ".tif", tiff(WIDE, byteorder=">"), unit(WIDE))
case("tiff of half floats", ".tif", tiff(unit(GREY).astype(np.float16)), unit(GREY), PLAIN, 1e-3)
case("tiff of floats to 255", ".tif", tiff(GREY.astype(np.float32)), r"outside its range \(0, 1\)")
case(
    "tiff of floats to 255 with their range",
    ".tif",
    tiff(GREY.astype(np.float32)),
    unit(GREY),
    Reading((0, 255)),
)
case("tiff of int8", ".tif", tiff((GREY // 2).astype(np.int8)), "does not define its range")
case("tiff of int16", ".tif", tiff(GREY.astype(np.int16)), "does not define its range")
case("tiff of 12 bits in 16 that does not say so", ".tif", tiff(TWELVE), TWELVE / 65535)
case(
    "tiff whose largest sample is 4095",
    ".tif",
    tiff(TWELVE, extratags=[(281, "H", 1, 4095, True)]),
    TWELVE / 65535,
)
case(
    "ome-tiff of 12 significant bits",
    ".ome.tif",
    tiff(TWELVE, ome=True, metadata={"axes": "YX", "SignificantBits": 12}),
    TWELVE / 4095,
)
case(
    "ome-tiff of 16 significant bits",
    ".ome.tif",
    tiff(TWELVE, ome=True, metadata={"axes": "YX", "SignificantBits": 16}),
    TWELVE / 65535,
)
case("tiff of CMYK", ".tif", tiff(NIR, photometric="separated"), "has SEPARATED colours")
case("tiff of Lab", ".tif", tiff(RGB, photometric="cielab"), "has CIELAB colours")
case("tiff of YCbCr", ".tif", tiff(RGB, photometric="ycbcr"), "has YCBCR colours")
case(
    "tiff in planes, with a predictor",
    ".tif",
    tiff(
        np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate", compression="lzw", predictor=True
    ),
    unit(RGB),
)
case("tiff with a value for no data", ".tif", tiff(GREY, extratags=[(42113, "s", 2, "0", True)]), unit(GREY))
case(
    "tiff of a thumbnail and the image",
    ".tif",
    tiffs((GREY[::2, ::2], {"subfiletype": 1}), (GREY, {})),
    "stack of images that differ",
)
case(
    "tiff of two pages of one size",
    ".tif",
    tiffs((GREY, {}), (255 - GREY, {})),
    "stack of images that differ",
)
PYRAMID = (
    (RGB, {"photometric": "rgb", "subifds": 1, "tile": (16, 16)}),
    (RGB[::2, ::2], {"photometric": "rgb", "subfiletype": 1, "tile": (16, 16)}),
)
case("tiff with a pyramid", ".tif", tiffs(*PYRAMID), unit(RGB))
case(
    "imagej with a window to look through",
    ".tif",
    tiff(WIDE, imagej=True, metadata={"min": 0, "max": 4095}),
    unit(WIDE),
)
STACK = np.stack([np.stack([GREY, 255 - GREY])] * 3)
case(
    "imagej composite of three planes",
    ".tif",
    tiff(STACK, imagej=True, metadata={"axes": "ZCYX"}),
    unit(np.moveaxis(STACK, 1, -1)),
)

case("big-endian npy", ".npy", npy(WIDE.astype(">u2")), unit(WIDE))
case("npy in Fortran's order", ".npy", npy(np.asfortranarray(RGB)), unit(RGB))
case("npy with channels first", ".npy", npy(np.moveaxis(RGB, -1, 0)), "put the channels last")
case("npy of four channels", ".npy", npy(NIR), unit(NIR))
case("npy of one channel", ".npy", npy(GREY[..., None]), unit(GREY))
case("npy of floats around 0", ".npy", npy((unit(GREY) * 2 - 1).astype(np.float32)), "outside its range")
case(
    "npy of floats around 0 with their range",
    ".npy",
    npy((unit(GREY) * 2 - 1).astype(np.float32)),
    unit(GREY),
    Reading((-1, 1)),
)
case("npy of 0 and 1 in bytes", ".npy", npy((GREY > 99).astype(np.uint8)), (GREY > 99) / 255)
case("npy of int64", ".npy", npy(GREY.astype(np.int64)), "does not define its range")
case("npy of a volume that looks like channels", ".npy", npy(np.stack([GREY] * 20, -1)), "name its axes")
case(
    "npy of a volume with its axes",
    ".npy",
    npy(np.stack([GREY] * 3)),
    unit(np.stack([GREY] * 3)),
    Reading(axes="ZYX"),
)
case("npz of one array", ".npz", lambda path: np.savez_compressed(path, RGB), unit(RGB))
case("npz of two arrays", ".npz", lambda path: np.savez(path, a=GREY, b=GREY), "contains the arrays")


def nifti(offset=None, scale=None):
    def make(path):
        image = nibabel.Nifti1Image(np.stack([GREY] * 2, -1), np.eye(4))
        if scale is not None:
            image.header.set_slope_inter(*scale)
        nibabel.save(image, path)
        content = bytearray(path.read_bytes())
        if offset is not None:
            content[108:112] = struct.pack("<f", offset)
        if scale is not None:
            content[112:120] = struct.pack("<ff", *scale)
        path.write_bytes(content)

    return make


VOLUME = np.stack([GREY.T] * 2)
case("nifti", ".nii", nifti(), unit(VOLUME))
case("nifti whose voxels begin in its header", ".nii", nifti(0.0), "within its header of 352 bytes")
case("nifti whose voxels begin behind its end", ".nii", nifti(1e6), "it is truncated")
case("nifti of a slope without its range", ".nii", nifti(scale=(2.0, 1.0)), "does not define its range")
case("nifti of a slope with its range", ".nii", nifti(scale=(2.0, 1.0)), unit(VOLUME), Reading((1, 511)))


def ome_zarr(levels=(GREY,), names=None, filters=None):
    def make(path):
        axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
        datasets = [{"path": str(level)} for level in range(len(levels))]
        image = {"axes": axes, "datasets": datasets}
        version = 2 if filters else 3
        attributes = (
            {"multiscales": [image | {"version": "0.4"}]}
            if filters
            else {"ome": {"version": "0.5", "multiscales": [image]}}
        )
        group = zarr.create_group(path, attributes=attributes, zarr_format=version)
        for level, array in enumerate(levels):
            more = {"dimension_names": names} if names else {}
            group.create_array(str(level), data=array, chunks=(8, 8), **more)
        if filters:
            settings = json.loads((path / "0" / ".zarray").read_text())
            (path / "0" / ".zarray").write_text(json.dumps(settings | {"filters": filters}))

    return make


case("ome-zarr", ".ome.zarr", ome_zarr(), unit(GREY))
case(
    "ome-zarr with its levels the wrong way round",
    ".ome.zarr",
    ome_zarr((GREY[::2, ::2], GREY)),
    "is not the largest",
)
case(
    "ome-zarr whose array calls its axes otherwise",
    ".ome.zarr",
    ome_zarr(names=("x", "y")),
    "names its axes x, y",
)
case("ome-zarr whose array agrees", ".ome.zarr", ome_zarr(names=("y", "x")), unit(GREY))
case(
    "ome-zarr of pickles",
    ".ome.zarr",
    ome_zarr(filters=[{"id": "pickle"}]),
    r"uses the codec pickle|object_codec_id",
)
case(
    "ome-zarr of changed values",
    ".ome.zarr",
    ome_zarr(filters=[{"id": "fixedscaleoffset", "scale": 2, "offset": 0, "dtype": "|u1"}]),
    "uses the codec fixedscaleoffset",
)


def of_another_file(name):
    """An OME-TIFF that says that its plane lies in another file; its own bytes are something else."""
    own, other = (f"urn:uuid:00000000-0000-0000-0000-00000000000{number}" for number in (1, 2))

    def xml(uuid, name):
        where = f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="{name}">{other}</UUID></TiffData>'
        sides = 'SizeX="10" SizeY="12" SizeZ="1" SizeC="1" SizeT="1"'
        pixels = f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" {sides}>{where}</Pixels>'
        space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
        image = f'<Image ID="Image:0">{pixels}</Image>'
        return f'<?xml version="1.0"?><OME xmlns="{space}" UUID="{uuid}">{image}</OME>'

    def make(path):
        there = path.parent / name
        there.parent.mkdir(exist_ok=True)
        how = {"metadata": None, "ome": False}
        tifffile.imwrite(there, GREY, description=xml(other, there.name), **how)
        tifffile.imwrite(path, np.full_like(GREY, 9), description=xml(own, name), **how)

    return make


case("ome-tiff whose plane lies beside it", ".ome.tif", of_another_file("other.ome.tif"), unit(GREY))
case(
    "ome-tiff whose plane lies in a folder beside it",
    ".ome.tif",
    of_another_file("pixels/other.ome.tif"),
    unit(GREY),
)
case(
    "ome-tiff whose plane lies elsewhere",
    ".ome.tif",
    of_another_file("../elsewhere.ome.tif"),
    "put that file beside it",
)


@pytest.mark.parametrize("name", CASES)
def test_what_a_file_means(tmp_path, name):
    suffix, make, meant, reading, off = CASES[name]
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / f"odd{suffix}"
    with warnings.catch_warnings(action="ignore"):
        make(path)
        if isinstance(meant, str):
            with pytest.raises(ImageError, match=meant):
                read_image(path, reading)
            return
        found = read_image(path, reading)
    space = meant.ndim - (found.ndim == meant.ndim)
    expected = np.moveaxis(meant, -1, 0) if meant.ndim > space else meant[None]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= off


def test_there_are_as_many_as_the_campaign_had():
    assert len(CASES) >= 90
