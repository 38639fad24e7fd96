"""Small files that state or become something huge: refused before the memory for it is taken.

Each is read in a child process that may take 400 MiB more than it has; what it says must be the refusal of a
limit, not that memory is short.
"""

import io
import os
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from test_known_pixels import chunk

from conformask.errors import ConformaskError
from conformask.images.formats import VARIABLE
from conformask.images.read import read_image
from conformask.images.rows import rows_of_manifest

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
