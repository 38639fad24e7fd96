"""Files that were damaged on purpose: each is an image within its law, or refused with an error of ours.

The readers run in a process of their own, which a codec may crash and whose memory is counted:

    python tests/campaigns/test_fuzz_readers.py PER_SEED [NAME INDEX]

reads PER_SEED damaged files of each seed, or shows what one of them does. CONFORMASK_FUZZ=4 makes them four
times as many.
"""

import faulthandler
import io
import json
import logging
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import imagecodecs
import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import zarr
from PIL import Image as Pillow
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from test_known_pixels import chunk

from conformask.errors import ConformaskError
from conformask.images.formats import VARIABLE
from conformask.images.read import FORMATS, decode, open_raster, read_header, read_image
from conformask.images.rows import rows_of_manifest
from conformask.images.triplets import Triplets
from conformask.records.reading import Reading

sys.path.append(str(Path(__file__).parents[1]))


from stacks import packed, tiff

PER_SEED = 25 * int(os.environ.get("CONFORMASK_FUZZ", "1"))
LIMIT = 2**28
"""Bytes of an image, by the environment variable."""
MEMORY = 2**30
SECONDS = 5
HANG = 60
"""Seconds after which a file is given up, and the campaign with it."""
RANGE = (-(2.0**31), 2.0**31)
Files = dict[str, bytes]
"""Content by path; an image file has the path ""."""
POWERS = (3, 4, 5, 8, 12, 15, 16, 20, 31, 32, 63)
NUMBERS = [*range(4), *(2**power - less for power in POWERS for less in (0, 1))]


def seeds():
    """Valid files of every kind, by name."""
    with TemporaryDirectory() as folder:
        return {path.name: files_of(path) for path in sorted(written(Path(folder)))}


def files_of(path):
    if path.is_file():
        return {"": path.read_bytes()}
    return {
        str(each.relative_to(path)): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()
    }


def written(folder):
    for write in (write_pngs, write_jpegs, write_tiffs, write_arrays, write_zarrs, write_manifests):
        write(folder)
    return folder.iterdir()


def pixels(*shape, dtype="uint8"):
    smooth = np.add.outer(np.arange(shape[0]) * 7, np.arange(shape[1]) * 3)
    smooth = smooth[..., None] * np.arange(1, shape[2] + 1) if len(shape) == 3 else smooth
    top = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    return (smooth % 251 / 250 * top).astype(dtype)


def exif():
    tags = Pillow.Exif()
    tags[274] = 6
    return tags


def write_pngs(folder):
    grey, colour = Pillow.fromarray(pixels(20, 17)), Pillow.fromarray(pixels(20, 17, 3))
    grey.convert("1").save(folder / "bits.png")
    grey.save(folder / "grey.png")
    colour.save(folder / "turned.png", exif=exif())
    colour.quantize(16).save(folder / "palette.png", transparency=3)
    Pillow.fromarray(pixels(20, 17, 4)).save(folder / "alpha.png")
    for name, channels in (("deep", 1), ("deepcolour", 3), ("deepalpha", 2)):
        array = pixels(20, 17, channels, dtype="uint16")
        (folder / f"{name}.png").write_bytes(imagecodecs.png_encode(array.squeeze()))


def write_jpegs(folder):
    grey, colour = Pillow.fromarray(pixels(20, 17)), Pillow.fromarray(pixels(20, 17, 3))
    grey.save(folder / "grey.jpg")
    colour.save(folder / "turned.jpg", exif=exif())
    colour.save(folder / "progressive.jpg", progressive=True)
    colour.convert("CMYK").save(folder / "cmyk.jpeg")


def write_tiffs(folder):
    grey, colour, large = pixels(20, 17), pixels(20, 17, 3), pixels(40, 33, 3)
    palette = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    turned = [(274, "H", 1, 6, True)]
    kinds = {
        "plain": (grey, {"rowsperstrip": 5}),
        "turned": (colour, {"photometric": "rgb", "extratags": turned}),
        "big": (pixels(20, 17, dtype="uint16"), {"byteorder": ">", "bigtiff": True}),
        "white": (grey, {"photometric": "miniswhite", "compression": "packbits"}),
        "palette": (grey, {"photometric": "palette", "colormap": palette}),
        "planes": (np.moveaxis(colour, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        "alpha": (pixels(20, 17, 2), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
        "tiles": (large, {"photometric": "rgb", "tile": (16, 16), "compression": "zlib"}),
        "strips": (large, {"photometric": "rgb", "rowsperstrip": 8, "compression": "lzw", "predictor": True}),
        "float": (pixels(20, 17, dtype="float32"), {"compression": "zlib", "predictor": True}),
        "zstd": (pixels(20, 17, dtype="uint16"), {"compression": "zstd"}),
        "jpeg": (large, {"photometric": "ycbcr", "compression": "jpeg", "tile": (16, 16)}),
        "jpeg2000": (large, {"photometric": "rgb", "compression": "jpeg2000"}),
        "channels.ome": (
            np.moveaxis(colour, -1, 0),
            {"metadata": {"axes": "CYX", "UUID": "fuzz"}, "photometric": "minisblack"},
        ),
        "imagej": (np.moveaxis(colour, -1, 0), {"metadata": {"axes": "CYX"}, "imagej": True}),
    }
    for name, (array, how) in kinds.items():
        tifffile.imwrite(folder / f"{name}.tif", array, **how)
    values = pixels(20, 17, dtype="uint16") >> 4
    tiff(folder / "twelve.tiff", values.shape, [packed(values, 12)], 12)
    tiff(folder / "bits.tiff", values.shape, [packed(values >> 11, 1)], 1, PHOTOMETRIC=0)


def write_arrays(folder):
    for dtype in ("uint8", "uint16", "float16", "float32", "float64", "int16", "int32"):
        np.save(folder / f"{dtype}.npy", pixels(20, 17, dtype=dtype))
    np.save(folder / "colour.npy", np.asfortranarray(pixels(20, 17, 3)))
    np.save(folder / "truth.npy", pixels(20, 17) > 99)


def write_zarrs(folder):
    array = np.moveaxis(pixels(20, 17, 3, dtype="uint16"), -1, 0)
    for name, version, how in (
        ("old", 2, {"chunks": (3, 10, 17)}),
        ("new", 3, {"chunks": (3, 10, 17)}),
        ("shards", 3, {"chunks": (3, 5, 17), "shards": (3, 20, 17)}),
    ):
        image = {"axes": [{"name": axis} for axis in "cyx"], "datasets": [{"path": "0"}]}
        attributes = {"ome": {"version": "0.5", "multiscales": [image]}, "multiscales": [image]}
        group = zarr.create_group(folder / f"{name}.zarr", zarr_format=version, attributes=attributes)
        group.create_array("0", data=array, **how)


def write_manifests(folder):
    rows = ["name,x,y_hat,y,group,category,weight,split"]
    rows += [f'{name},x/{name}.npy,y_hat/{name}.npy,y/{name}.npy,"p, 1",dark,2.5,train' for name in "ab"]
    text = "\r\n".join(rows)
    for name, content in (
        ("comma", text.encode()),
        ("semicolon", text.replace(",", ";").replace("2.5", "2,5").encode("utf-8-sig")),
        ("tab", text.replace(",", "\t").encode("utf-16")),
    ):
        for role in ("x", "y_hat", "y"):
            (folder / name / role).mkdir(parents=True)
            for image in "ab":
                np.save(folder / name / role / f"{image}.npy", pixels(4, 5))
        (folder / name / "manifest.csv").write_bytes(content)


def damaged(files, others, rng):
    """One of the files, the manifest where there is one, changed in up to three ways; at times it is gone."""
    names = ["manifest.csv"] if "manifest.csv" in files else list(files)
    name = names[rng.integers(len(names))]
    if len(names) > 1 and rng.random() < 0.05:
        return {other: content for other, content in files.items() if other != name}
    content = files[name]
    for _ in range(rng.integers(1, 4)):
        content = CHANGES[rng.integers(len(CHANGES))](content, others, rng)
    if content.startswith(b"\x89PNG") and rng.random() < 0.7:
        content = with_right_sums(content)
    return {**files, name: content}


def flipped(content, others, rng):
    changed = bytearray(content)
    for at in rng.integers(0, max(1, len(content)), rng.integers(1, 9)):
        changed[at : at + 1] = bytes([changed[at] ^ 1 << int(rng.integers(8))]) if content else b""
    return bytes(changed)


def cut(content, others, rng):
    return content[: rng.integers(0, len(content) + 1)]


def spliced(content, others, rng):
    """A piece of another file, or of this one, put in or over."""
    source = others[rng.integers(len(others))] if rng.random() < 0.5 else content
    start, at = rng.integers(0, len(source) + 1), rng.integers(0, len(content) + 1)
    piece = source[start : start + rng.integers(1, 200)]
    return content[:at] + piece + content[at + (len(piece) if rng.random() < 0.5 else 0) :]


def renumbered(content, others, rng):
    """A field of the header, or a number in a text, becomes another."""
    places = fields(content)
    if not places:
        return content
    (start, end), value = places[rng.integers(len(places))], NUMBERS[rng.integers(len(NUMBERS))]
    if content[start:end].isdigit() and not content.startswith(MAGIC):
        return content[:start] + str(value * (-1) ** int(rng.integers(2))).encode() + content[end:]
    order = "big" if content.startswith((b"\x89PNG", b"\xff\xd8", b"MM")) else "little"
    number = (value % 256 ** (end - start)).to_bytes(end - start, order)
    return content[:start] + number + content[end:]


MAGIC = (b"\x89PNG", b"\xff\xd8", b"II", b"MM")
CHANGES = (flipped, cut, spliced, renumbered, renumbered)


def fields(content):
    """Where the numbers of a header lie."""
    if content.startswith(b"\x89PNG"):
        return [(8, 12), (16, 20), (20, 24), *((at, at + 1) for at in range(24, 29)), (33, 37)]
    if content.startswith(b"\xff\xd8"):
        starts = [match.start() for match in re.finditer(rb"\xff[\xc0-\xc2\xc4\xda\xdb\xe1]", content)]
        return [
            (at + start, at + end)
            for at in starts
            for start, end in ((2, 4), (4, 5), (5, 7), (7, 9), (9, 10))
        ]
    if content.startswith((b"II", b"MM")):
        return fields_of_tiff(content)
    return [match.span() for match in re.finditer(rb"\d+", content)]


def fields_of_tiff(content):
    order, big = "<>"[content[:1] == b"M"], content[2:4] in (b"\x2b\0", b"\0\x2b")
    try:
        start = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)[0]
        count = struct.unpack_from(order + ("Q" if big else "H"), content, start)[0]
    except (struct.error, OverflowError):
        return [(0, 2), (2, 4), (4, 8)]
    first, size = start + (8 if big else 2), 20 if big else 12
    places = ((0, 2), (2, 4), (4, 12), (12, 20)) if big else ((0, 2), (2, 4), (4, 8), (8, 12), (8, 10))
    entries = range(first, min(first + size * min(count, 99), len(content)), size)
    return [(4, 8), *((at + start, at + end) for at in entries for start, end in places)]


def with_right_sums(content):
    """A PNG whose checksums fit again, so that what follows them is looked at."""
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        length = struct.unpack_from(">I", content, at)[0]
        chunk = content[at + 4 : at + 8 + length]
        parts += [content[at : at + 4], chunk, struct.pack(">I", zlib.crc32(chunk))]
        at += 12 + length
    return b"".join(parts)


def check_image(path):
    """Whether it is read, by the law; a refusal is one, too."""
    read = False
    for data_range in (None, RANGE):
        try:
            header, image = read_header(path), read_image(path, Reading(data_range))
        except ConformaskError:
            check_windows(path, data_range, None)
            continue
        assert image.dtype == np.float32
        assert image.shape == header.shape
        assert np.isfinite(image).all()
        assert 0 <= image.min() <= image.max() <= 1
        assert (*decode(path).shape, 1)[:3] == (*header.space, header.channels)
        check_windows(path, data_range, image)
        read = True
    return read


def check_windows(path, data_range, image):
    """As of the whole image; where that was refused, refused or something else, but no other error."""
    try:
        raster = open_raster(path, Reading(data_range))
        height, width = raster.size
        rows, columns = slice(height // 3, height // 3 + 2), slice(width // 2, width)
        window = raster.read((rows, columns))
    except ConformaskError:
        assert image is None, "the whole image is read, a window is refused"
        return
    if image is not None:
        np.testing.assert_array_equal(window, image[:, rows, columns])
        np.testing.assert_array_equal(raster.read((slice(0, height), slice(0, width))), image)


def check_folder(path):
    try:
        triplets = Triplets.from_folder(path)
        assert all(triplet.x.shape == (1, 4, 5) for triplet in triplets)
    except ConformaskError:
        return False
    return True


def attempt(name, index, known, folder):
    """read, refused, or what went wrong."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), index])
    others = [content for files in known.values() for content in files.values()]
    path = folder / f"{index}-{name}"
    for relative, content in damaged(known[name], others, rng).items():
        (path / relative).parent.mkdir(parents=True, exist_ok=True)
        (path / relative).write_bytes(content)
    check = check_image if path.suffix in FORMATS else check_folder
    started, memory = time.process_time(), peak()
    try:
        outcome = "read" if check(path) else "refused"
    except Exception:
        outcome = traceback.format_exc()
    if (seconds := time.process_time() - started) > SECONDS:
        outcome = f"took {seconds:.1f} seconds"
    if memory < BASE + MEMORY < peak():
        outcome = f"took {(peak() - BASE) / 2**20:.0f} MiB"
    if path.is_dir():
        shutil.rmtree(path)
    elif path.is_file():
        path.unlink()
    return outcome


def peak():
    """Bytes; macOS counts them, Linux KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


BASE = peak()


def campaign(per_seed):
    """Print what came of the damaged files of each seed, a line of JSON each."""
    known = seeds()
    with TemporaryDirectory() as folder:
        for name in known:
            outcomes = {"read": 0, "refused": 0}
            for index in range(per_seed):
                print(name, index, file=sys.stderr)
                faulthandler.dump_traceback_later(HANG, exit=True)
                outcome = attempt(name, index, known, Path(folder))
                if outcome in outcomes:
                    outcomes[outcome] += 1
                else:
                    print(json.dumps({"seed": name, "index": index, "wrong": outcome}), flush=True)
            print(json.dumps({"seed": name, **outcomes}), flush=True)


@pytest.mark.thorough
def test_damaged_files_are_images_or_refused():
    done = subprocess.run(
        [sys.executable, __file__, str(PER_SEED)],
        env={**os.environ, "CONFORMASK_MAX_IMAGE_BYTES": str(LIMIT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600 + PER_SEED * 60,
        check=False,
    )
    assert done.returncode == 0, f"died at {done.stderr[-300:]}"
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [line for line in lines if "wrong" in line]
    assert not wrong, "\n".join(f"{line['seed']} {line['index']}: {line['wrong']}" for line in wrong[:5])
    assert sum(line["read"] + line["refused"] for line in lines) == PER_SEED * len(lines)
    assert min(line["refused"] for line in lines) > 0
    assert sum(line["read"] for line in lines) > 0


def test_seeds_are_read():
    with TemporaryDirectory() as folder:
        for path in written(Path(folder)):
            assert (check_image if path.suffix in FORMATS else check_folder)(path), path.name


ALLOWED, MORE = 2**24, 400 * 2**20
HUGE = 2**30
ZEROS = b"\0" * 2**24
REFUSED, READ, FAILED = 10, 11, 12
Make = Callable[[Path], object]
BOMBS: dict[str, tuple[str, Make, str]] = {}
"""By what it is: suffix, maker, and what the refusal says; nothing of files whose pixels are small."""


def bomb(suffix, said):
    def register(make):
        BOMBS[make.__name__] = suffix, make, said
        return make

    return register


def deflated(kind, start=b""):
    """A stream of HUGE zeros after a start, made of one block again and again; its checksum is wrong."""
    head, block = zlib.compressobj(9, zlib.DEFLATED, kind), zlib.compressobj(9, zlib.DEFLATED, -15)
    first = head.compress(start) + head.flush(zlib.Z_FULL_FLUSH)
    repeated = block.compress(ZEROS) + block.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    return first + repeated * (HUGE // len(ZEROS)) + end + b"\0" * 8


def png(*chunks):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


PIXELS = chunk(b"IDAT", zlib.compress(b"\0" * 72))


@bomb(".png", "")
def png_of_more_pixels_than_its_size(path):
    path.write_bytes(png(chunk(b"IDAT", deflated(15))))


@bomb(".png", "")
def png_with_text_and_profile(path):
    path.write_bytes(
        png(chunk(b"zTXt", b"k\0\0" + deflated(15)), chunk(b"iCCP", b"k\0\0" + deflated(15)), PIXELS)
    )


@bomb(".tif", "")
def tiff_strip(path):
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), compression="zlib")
    with tifffile.TiffFile(path) as file:
        at, count = file.pages[0].tags["StripOffsets"], file.pages[0].tags["StripByteCounts"]
        places = at.valueoffset, count.valueoffset
    content, strip = bytearray(path.read_bytes()), deflated(15)
    for place, value in zip(places, (len(content), len(strip)), strict=True):
        struct.pack_into("<I", content, place, value)
    path.write_bytes(bytes(content) + strip)


@bomb(".npz", "are allowed")
def npz(path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**15, 2**15)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("a.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(HUGE // len(ZEROS)):
            member.write(ZEROS)


def small_nifti():
    return nibabel.Nifti1Image(np.zeros((8, 8, 2), np.uint8), np.eye(4)).to_bytes()


@bomb(".nii.gz", "continues after its last voxel")
def nifti_that_goes_on(path):
    path.write_bytes(deflated(31, small_nifti()))


@bomb(".nii.gz", "before its voxels")
def nifti_with_a_long_header(path):
    content = bytearray(small_nifti()[:352])
    content[108:112], content[348:352] = struct.pack("<f", HUGE), b"\1\0\0\0"
    path.write_bytes(deflated(31, bytes(content) + struct.pack("<ii", HUGE - 352, 6)))


def dicom(**more):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, generate_uid()
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = (
        MRImageStorage,
        data.SOPInstanceUID,
    )
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.Rows = data.Columns = 8
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.PixelData = 7, 0, b"\0" * 64
    for keyword, value in more.items():
        setattr(data, keyword, value)
    return data


@bomb(".dcm", "too short for them")
def dicom_of_many_frames(path):
    dicom(NumberOfFrames=2**31 - 1).save_as(path, enforce_file_format=True)


@bomb(".dcm", "deflated, takes")
def dicom_deflated(path):
    data = dicom()
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    start = 144 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
    body = zlib.decompress(content[start:], -15)
    endless = struct.pack("<HH2sHI", 0x7FE1, 0x0011, b"OB", 0, 0xFFFFFFF0)
    path.write_bytes(content[:start] + deflated(-15, body + endless))


def ome_tiff(sides):
    def make(path):
        stated = f'DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" {sides}'
        pixels = f'<Pixels ID="Pixels:0" {stated}><TiffData/></Pixels>'
        space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
        xml = f'<?xml version="1.0"?><OME xmlns="{space}"><Image ID="Image:0">{pixels}</Image></OME>'
        tifffile.imwrite(path, np.zeros((8, 8), np.uint8), description=xml, metadata=None, ome=False)

    return make


BOMBS["ome-tiff of many planes"] = (
    ".ome.tif",
    ome_tiff('SizeZ="2147483647" SizeC="1" SizeT="1"'),
    "planes but contains 1",
)
BOMBS["ome-tiff of many times"] = (
    ".ome.tif",
    ome_tiff('SizeZ="1" SizeC="1" SizeT="100000000"'),
    "planes but contains 1",
)


def in_a_child(path):
    """How reading it ends where little memory can be had, and what is said."""
    said = path.with_name("said")
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, said.read_text() if said.exists() else ""
    status = FAILED
    try:
        limit = next(_memory()) + MORE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        os.environ[VARIABLE] = str(ALLOWED)
        try:
            rows_of_manifest(path) if path.suffix == ".csv" else read_image(path)
            status = READ
        except ConformaskError as error:
            said.write_text(str(error))
            status = REFUSED
        except BaseException as error:
            said.write_text(repr(error))
    finally:
        os._exit(status)


def _memory():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmSize"):
            yield int(line.split()[1]) * 1024


@pytest.mark.thorough
@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="needs Linux, which says what a process holds"
)
@pytest.mark.parametrize("name", BOMBS)
def test_what_becomes_huge_is_refused(tmp_path, name):
    suffix, make, said = BOMBS[name]
    path = tmp_path / f"bomb{suffix}"
    make(path)
    assert not path.is_file() or path.stat().st_size < 2**22, "a bomb is small"
    status, told = in_a_child(path)
    assert "not enough memory" not in told, told
    assert status == REFUSED or (not said and status == READ), told
    assert said in told


def test_a_manifest_of_many_columns(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("x,y_hat," + ",".join(f"c{column}" for column in range(100_000)) + "\na,b\n")
    status, told = in_a_child(path)
    assert status == REFUSED
    assert "line 1 has 100,002 columns" in told


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    if len(sys.argv) == 2:
        campaign(int(sys.argv[1]))
    else:
        with TemporaryDirectory() as scratch:
            print(attempt(sys.argv[2], int(sys.argv[3]), seeds(), Path(scratch)))
