"""Large images, read by windows, and OME-Zarr, against what zarr and tifffile themselves read and write."""

import imagecodecs
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr

from conformask.errors import ImageError, InvalidArgumentError
from conformask.images.formats import SourceImage
from conformask.images.read import BLOCK_SIDE as BLOCK, grid, open_raster, read_image, write_blocks
from conformask.images.triplets import Triplets
from conformask.records.reading import PLAIN, Reading
from conformask.records.record import write_json

ALONE = SourceImage(None, None, PLAIN)
CYX = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]


def pixels(seed, *shape, dtype="uint8"):
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    return (np.random.default_rng(seed).random(shape) * top).astype(dtype)


def write_zarr(path, array, axes="yx", version="0.5", **more):
    """OME-Zarr by zarr alone, as others write it."""
    named = [{"name": axis, "type": "space"} for axis in axes] if isinstance(axes, str) else axes
    image = {"axes": named, "datasets": [{"path": "s0"}, {"path": "s1"}]}
    new = version == "0.5"
    attributes = {"ome": {"version": version, "multiscales": [image]}} if new else {"multiscales": [image]}
    group = zarr.create_group(path, zarr_format=3 if new else 2, attributes=attributes)
    made = group.create_array("s0", data=array, chunks=more.pop("chunks", (16,) * array.ndim), **more)
    group.create_array("s1", data=array[..., ::2, ::2])
    return made


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("axes", "shape"), [("yx", (40, 50)), (CYX, (3, 40, 50)), ("tczyx", (1, 2, 1, 40, 50))]
)
def test_zarr_of_both_versions(tmp_path, version, axes, shape):
    array = pixels(0, *shape, dtype="uint16")
    write_zarr(tmp_path / "a.ome.zarr", array, axes, version)
    expected = array.reshape(-1, 40, 50) / 65535
    np.testing.assert_allclose(read_image(tmp_path / "a.ome.zarr"), expected, atol=1e-7)
    raster = open_raster(tmp_path / "a.ome.zarr")
    assert (raster.header.channels, raster.size) == (len(expected), (40, 50))
    window = raster.read((slice(3, 30), slice(17, 50)))
    np.testing.assert_allclose(window, expected[:, 3:30, 17:50], atol=1e-7)


def test_few_rows_of_many_channels(tmp_path):
    """They are no array with its channels first."""
    array = pixels(0, 6, 40, 50)
    write_zarr(tmp_path / "a.zarr", array, CYX)
    window = open_raster(tmp_path / "a.zarr").read((slice(5, 8), slice(0, 50)))
    np.testing.assert_allclose(window, array[:, 5:8] / 255, atol=1e-7)
    with pytest.raises(ImageError, match="channels last"):
        open_raster(array[:4])
    write_zarr(tmp_path / "flat.zarr", array[:, :3], CYX)
    np.testing.assert_allclose(read_image(tmp_path / "flat.zarr"), array[:, :3] / 255, atol=1e-7)


def test_sharded_zarr(tmp_path):
    array = pixels(0, 40, 50)
    write_zarr(tmp_path / "a.zarr", array, chunks=(8, 8), shards=(32, 32))
    np.testing.assert_allclose(read_image(tmp_path / "a.zarr")[0], array / 255, atol=1e-7)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_missing_chunks_are_named(tmp_path, version):
    """zarr itself reads them as black, without a word."""
    array = write_zarr(tmp_path / "a.ome.zarr", pixels(0, 40, 50) | 1, "yx", version)
    key = array.metadata.encode_chunk_key((1, 2))
    (tmp_path / "a.ome.zarr" / "s0" / key).unlink()
    assert (zarr.open_array(tmp_path / "a.ome.zarr" / "s0", mode="r")[16:32, 32:48] == 0).all()
    with pytest.raises(ImageError, match=rf"a\.ome\.zarr is missing chunks {key} of array 's0'"):
        open_raster(tmp_path / "a.ome.zarr")
    with pytest.raises(ImageError, match="missing chunks"):
        read_image(tmp_path / "a.ome.zarr")


@pytest.mark.parametrize("how", [{}, {"chunks": (8, 8), "shards": (16, 16)}], ids=["chunks", "shards"])
def test_empty_chunks_are_missing(tmp_path, how):
    """zarr itself reads an empty shard as black."""
    array = write_zarr(tmp_path / "a.zarr", pixels(0, 40, 50) | 1, **how)
    key = array.metadata.encode_chunk_key((1, 2))
    (tmp_path / "a.zarr" / "s0" / key).write_bytes(b"")
    for read in (read_image, open_raster):
        with pytest.raises(ImageError, match=rf"a\.zarr is missing chunks {key} of array 's0'"):
            read(tmp_path / "a.zarr")


def test_a_truncated_chunk_says_which_rows(tmp_path):
    array = write_zarr(tmp_path / "a.ome.zarr", pixels(0, 40, 50))
    chunk = tmp_path / "a.ome.zarr" / "s0" / array.metadata.encode_chunk_key((1, 0))
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(ImageError, match=r"a\.ome\.zarr: rows 10 to 20 cannot be read"):
        open_raster(tmp_path / "a.ome.zarr").read((slice(10, 20), slice(0, 50)))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("kept", [10, 200, -1])
def test_a_truncated_blosc_chunk_is_not_filled_from_memory(tmp_path, version, kept):
    """Blosc itself reads past its end."""
    codec = numcodecs.Blosc() if version == "0.4" else zarr.codecs.BloscCodec()
    noise = pixels(0, 40, 50, dtype="uint16")
    array = write_zarr(tmp_path / "a.ome.zarr", noise, "yx", version, compressors=codec)
    np.testing.assert_allclose(read_image(tmp_path / "a.ome.zarr")[0], noise / 65535, atol=1e-7)
    chunk = tmp_path / "a.ome.zarr" / "s0" / array.metadata.encode_chunk_key((1, 0))
    chunk.write_bytes(chunk.read_bytes()[:kept])
    raster = open_raster(tmp_path / "a.ome.zarr")
    assert raster.read((slice(0, 16), slice(0, 50))).shape == (1, 16, 50)
    with pytest.raises(ImageError, match=r"rows 10 to 20 cannot be read \(chunk .* header states \d+\)"):
        raster.read((slice(10, 20), slice(0, 50)))


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("ztyx", (2, 3, 20, 20)),
        ("xy", (20, 20)),
        ("yxc", (20, 20, 3)),
        ("qyx", (2, 20, 20)),
        ("yx", (1, 20, 20)),
    ],
)
def test_other_axes_are_refused(tmp_path, axes, shape):
    write_zarr(tmp_path / "a.ome.zarr", pixels(0, *shape), axes)
    with pytest.raises(ImageError, match=f"axes {', '.join(axes)} of shape"):
        open_raster(tmp_path / "a.ome.zarr")


def test_folders_that_are_no_images(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    zarr.create_group(tmp_path / "b.zarr")
    for name in "ab":
        with pytest.raises(ImageError, match=rf"{name}\.zarr is not an OME-Zarr image"):
            open_raster(tmp_path / f"{name}.zarr")


@pytest.mark.parametrize("kind", ["plain", "zlib", "tiled", "rgb", "palette", "white", "planes", "bigtiff"])
def test_tiffs_by_windows_as_whole(tmp_path, kind):
    grey, colour = pixels(0, 70, 90), pixels(1, 70, 90, 3)
    palette = np.random.default_rng(2).integers(0, 65535, (3, 256)).astype(np.uint16)
    array, how = {
        "plain": (grey, {}),
        "zlib": (grey, {"compression": "zlib"}),
        "tiled": (grey, {"tile": (32, 32), "compression": "zlib"}),
        "rgb": (colour, {"compression": "zlib", "photometric": "rgb"}),
        "palette": (grey, {"photometric": "palette", "colormap": palette, "compression": "zlib"}),
        "white": (grey, {"photometric": "miniswhite"}),
        "planes": (np.moveaxis(colour, -1, 0), {"metadata": {"axes": "CYX"}, "photometric": "minisblack"}),
        "bigtiff": (grey, {"bigtiff": True}),
    }[kind]
    tifffile.imwrite(tmp_path / "a.ome.tif", array, **how)
    whole, raster = read_image(tmp_path / "a.ome.tif"), open_raster(tmp_path / "a.ome.tif")
    assert raster.size == (70, 90)
    np.testing.assert_array_equal(raster.read((slice(10, 64), slice(33, 90))), whole[:, 10:64, 33:90])
    np.testing.assert_array_equal(raster.read((slice(0, 70), slice(0, 90))), whole)


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_other_files_and_arrays_by_windows(tmp_path, suffix):
    array, path = pixels(0, 40, 50, 3), tmp_path / f"a{suffix}"
    if suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(array))
    else:
        np.save(path, array)
    expected = np.moveaxis(array, -1, 0)[:, 5:21, 7:9] / 255
    for raster in (open_raster(path), open_raster(array)):
        np.testing.assert_allclose(raster.read((slice(5, 21), slice(7, 9))), expected, atol=1e-7)


def test_nan_is_found_where_it_is(tmp_path):
    array = pixels(0, 40, 50, dtype="float32")
    array[25, 44] = np.nan
    write_zarr(tmp_path / "a.ome.zarr", array)
    raster = open_raster(tmp_path / "a.ome.zarr")
    raster.read((slice(0, 20), slice(0, 50)))
    with pytest.raises(ImageError, match=r"a\.ome\.zarr \(rows 20 to 40, columns 32 to 50\) contains NaN"):
        raster.read((slice(20, 40), slice(32, 50)))


def test_a_stated_range_and_one_that_is_missing(tmp_path):
    write_zarr(tmp_path / "a.ome.zarr", np.full((20, 20), 1000, np.int32))
    assert (
        open_raster(tmp_path / "a.ome.zarr", Reading((0, 4000))).read((slice(0, 9), slice(0, 9))).max()
        == 0.25
    )
    with pytest.raises(ImageError, match="int32"):
        open_raster(tmp_path / "a.ome.zarr").read((slice(0, 9), slice(0, 9)))


def test_folders_of_zarr_and_ome_tiff_are_triplets(tmp_path):
    array = pixels(0, 40, 50)
    for name in ("one", "two"):
        write_zarr(tmp_path / "x" / f"{name}.ome.zarr", array)
        (tmp_path / "y_hat").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "y_hat" / f"{name}.ome.tif", array)
        write_zarr(tmp_path / "y" / f"{name}.zarr", array)
    triplets = Triplets.from_folder(tmp_path)
    assert (triplets.names, triplets.suffixes) == (("one", "two"), (".ome.tif", ".ome.tif"))
    np.testing.assert_array_equal(triplets[1].x, triplets[1].y_hat)
    assert triplets.raster(1, "x").size == (40, 50)
    (tmp_path / "manifest.csv").write_text("x,y_hat\nx/one.ome.zarr,y_hat/two.ome.tif\n")
    assert Triplets.from_folder(tmp_path).names == ("two",)


@pytest.fixture
def mask():
    """In 16 bits."""
    return pixels(3, 1, BLOCK + 100, BLOCK + 50, dtype="uint16")


def blocks(mask):
    return ((places, (mask[:, *places] / 65535).astype(np.float32)) for places in grid(mask.shape[1:]))


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif", ".png"])
@pytest.mark.parametrize("channels", [1, 3])
def test_masks_come_back_as_written(tmp_path, mask, suffix, channels):
    mask = np.concatenate([mask, mask[:, ::-1], mask[..., ::-1]])[:channels]
    mask[:, :BLOCK, :BLOCK] = 0  # a chunk that zarr would leave out
    path, record = tmp_path / f"m{suffix}", tmp_path / "masks.json"
    write_json(record, {"files": [path.name]})
    for _ in range(2):  # a mask of an earlier run is replaced
        write_blocks(path, mask.shape, blocks(mask), ALONE)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, record.name}
    np.testing.assert_allclose(read_image(path), mask / 65535, atol=1e-7)
    if suffix == ".ome.zarr":
        group = zarr.open_group(path, mode="r")
        image = group.attrs["ome"]["multiscales"][0]
        array = group[image["datasets"][0]["path"]]
        assert [axis["name"] for axis in image["axes"]] == ["c", "y", "x"]
        assert (array.dtype, array.chunks) == (np.uint16, (1, BLOCK, BLOCK))
        np.testing.assert_array_equal(array[:], mask)
    elif suffix == ".ome.tif":
        with tifffile.TiffFile(path) as file:
            assert file.is_ome
            assert file.pages[0].tile == (BLOCK, BLOCK)
            np.testing.assert_array_equal(np.moveaxis(np.atleast_3d(file.asarray()), -1, 0), mask)
    else:
        np.testing.assert_array_equal(np.moveaxis(np.atleast_3d(imagecodecs.imread(path)), -1, 0), mask)


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif", ".png"])
def test_an_interrupted_mask_leaves_nothing_or_the_old_one(tmp_path, mask, suffix):
    path, record = tmp_path / f"m{suffix}", tmp_path / "masks.json"
    write_json(record, {"files": [path.name]})

    def interrupted():
        yield next(blocks(mask), ALONE)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_blocks(path, mask.shape, interrupted(), ALONE)
    assert list(tmp_path.iterdir()) == [record]
    write_blocks(path, mask.shape, blocks(mask), ALONE)
    with pytest.raises(KeyboardInterrupt):
        write_blocks(path, mask.shape, interrupted(), ALONE)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, record.name}
    np.testing.assert_allclose(read_image(path), mask / 65535, atol=1e-7)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"suffix '\.jpg' is unknown"):
        write_blocks(tmp_path / "a.jpg", (1, 4, 4), iter(()), ALONE)
    with pytest.raises(ImageError, match="2 channels"):
        write_blocks(tmp_path / "a.tif", (2, 4, 4), iter(()), ALONE)
