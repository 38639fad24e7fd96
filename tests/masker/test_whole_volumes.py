"""Whole volumes: tiles in three axes give the masks of one pass in their place, and films stay one file."""

import csv
import re
from collections.abc import Callable

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from torch.nn.functional import avg_pool3d, pad

import conformask as cm
from conformask.images.read import decode, read_header
from conformask.images.triplets import Triplets
from conformask.masker import mask_files as masks_module
from conformask.masker.write import write_masks
from conformask.records.reading import PLAIN, Reading
from conformask.scores.scorer import Heuristic, Tiled
from leaves import asking
from synthetic_triplets import scale_of

zarr = pytest.importorskip("zarr")
ZYX = Reading(axes="ZYX")


def smoothed(x, y_hat):
    """Looks three pixels far along each axis; x is brought to the size of y_hat by repeating."""
    for axis in range(2, 5):
        x = x.repeat_interleave(y_hat.shape[axis] // x.shape[axis], dim=axis)
    return avg_pool3d(pad((x - y_hat).abs(), (3,) * 6, mode="replicate"), 7, stride=1)


def pair(size, factors=(1, 1, 1), seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(
        1, 1, *(side // factor for side, factor in zip(size, factors, strict=True)), generator=generator
    )
    return x, torch.rand(1, 1, *size, generator=generator)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("size", "factors"),
    [
        ((40, 300, 130), (1, 1, 1)),
        ((128, 128, 160), (4, 1, 1)),
        ((6, 260, 192), (1, 2, 4)),
        ((260, 8, 9), (1, 1, 1)),
    ],
)
def test_blended_tiles_are_the_score_of_one_pass(size, factors):
    scorer = Heuristic(smoothed, channels=1)
    x, y_hat = pair(size, factors)
    whole = Tiled(scorer, 512, 64)(x, y_hat).map
    by_tiles = Tiled(scorer, 128, 32)(x, y_hat).map
    torch.testing.assert_close(by_tiles, whole, rtol=0, atol=1e-5)


def triplets(count, size, seed):
    pairs = [[image[0, 0].numpy() for image in pair(size, seed=seed + index)] for index in range(count)]
    x, y_hat = zip(*pairs, strict=True)
    return Triplets.from_arrays(x, y_hat, [0.9 * image for image in y_hat], reading=ZYX)


def ome_zarr(path, array):
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scale = [{"type": "scale", "scale": [2.0, 0.5, 0.25]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    stored = group.create_array("0", shape=array.shape, chunks=(16, 64, 64), dtype=array.dtype)
    stored[...] = array


@pytest.fixture(scope="module")
def masker():
    scorer = Tiled(Heuristic(smoothed, channels=1, family="water_filling"), 128, 32)
    return cm.calibrate(scorer, triplets(10, (6, 140, 132), 0), threshold=0.02, loss="l1")


@pytest.mark.leaf("formats")
def test_from_zarr_to_zarr(masker, tmp_path):
    images = dict(zip(("x", "y_hat"), pair((10, 200, 170), seed=77), strict=True))
    for role, image in images.items():
        (tmp_path / role).mkdir()
        ome_zarr(tmp_path / role / "a.ome.zarr", image[0, 0].numpy())
    given = Triplets.from_folder(tmp_path)
    written = write_masks(masker, given, tmp_path / "out")
    path = tmp_path / "out" / "masks" / "a.ome.zarr"
    header = read_header(path)
    assert header.space == (10, 200, 170)
    assert (header.geometry.spacing, header.geometry.unit) == ((2.0, 0.5, 0.25), "µm")
    expected = masker.masks(images["x"], images["y_hat"])[0, 0].numpy()
    values = decode(path).reshape(expected.shape) / 65535
    assert (values <= expected + 1e-7).all()
    np.testing.assert_allclose(values, expected, atol=1.1 / 65535)
    assert written.sizes["a"] == pytest.approx(float(1 - expected.mean()), abs=1e-6)


@pytest.mark.parametrize("suffix", [".npy", asking("formats", ".nii.gz"), ".ome.tif"])
def test_of_any_type_a_mask_is_that_of_the_arrays(tmp_path, suffix):
    small = cm.calibrate(
        Heuristic(smoothed, channels=1), triplets(10, (5, 20, 30), 0), threshold=0.02, loss="l1"
    )
    images = dict(zip(("x", "y_hat"), pair((5, 20, 30), seed=5), strict=True))
    for role, image in images.items():
        (tmp_path / role).mkdir()
        save(tmp_path / role / f"a{suffix}", image[0, 0].numpy())
    reading = ZYX if suffix == ".npy" else Reading()
    write_masks(small, Triplets.from_folder(tmp_path, reading=reading), tmp_path / "out")
    (path,) = (tmp_path / "out" / "masks").iterdir()
    assert path.name == {".npy": "a.ome.tif"}.get(suffix, f"a{suffix}")
    expected = small.masks(images["x"], images["y_hat"])[0, 0].numpy()
    values = decode(path).astype(np.float64) / (1 if suffix == ".nii.gz" else 65535)
    assert (values <= expected + 1e-7).all()
    np.testing.assert_allclose(values, expected, atol=1e-4)


def save(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        import tifffile

        tifffile.imwrite(path, array, metadata={"axes": "ZYX"})
    else:
        nibabel = pytest.importorskip("nibabel")
        nibabel.Nifti1Image(array.T, np.eye(4)).to_filename(path)


@pytest.mark.leaf("formats")
def test_another_spacing_is_said_by_name_wherever_it_comes(tmp_path):
    """Of new NIfTI volumes the second has slices twice as thick."""
    rng = np.random.default_rng(0)
    for folder, thick in (("known", ()), ("new", (1,))):
        for index in range(10 if folder == "known" else 2):
            for role in ("x", "y_hat", "y"):
                path = tmp_path / folder / role / f"p{index}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                step = 4.0 if index in thick else 2.0
                nibabel.Nifti1Image(rng.random((8, 8, 4), np.float32), np.diag([1, 1, step, 1])).to_filename(
                    path
                )
    known, new = (cm.Triplets.from_folder(tmp_path / name) for name in ("known", "new"))
    masker = cm.calibrate(cm.Heuristic(cm.local_spread, 1), known, threshold=0.05, loss="l1")
    with pytest.warns(UserWarning, match=r"p1: a spacing of 4 x 1 x 1 mm: .* on 2 x 1 x 1 mm"):
        cm.write_masks(masker, new, tmp_path / "masks")
    with pytest.warns(UserWarning, match="p1: a spacing"):
        cm.evaluate(masker, new)


SPACES = {"TYX": (8, 9), "TZYX": (4, 8, 9)}
STEPS = {"T": 59.86, "Z": 2.0, "Y": 0.5, "X": 0.25}
ORIGIN = {"T": 7.0, "Z": 10.0, "Y": 20.0, "X": 30.0}
AFFINE = np.array([[-0.25, 0, 0, 9], [0, 0.4, -0.3, -5], [0, 0.3, 1.9, 1], [0, 0, 0, 1]])
TIMES = 3
UUID = re.compile(rb"urn:uuid:[0-9a-f-]+")


def film(role, axes, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.uniform(0.01, 0.1, (TIMES, *SPACES[axes])).astype(np.float32)
    return x if role == "x" else generator.uniform(0.2, 0.8, x.shape).astype(np.float32)


@pytest.fixture(scope="module")
def maskers():
    """Of planes and of volumes."""
    found = {}
    for axes in SPACES:
        x, y_hat = (
            np.concatenate([film(role, axes, seed) for seed in range(1, 9)]) for role in ("x", "y_hat")
        )
        y = y_hat + x * np.random.default_rng(9).standard_normal(x.shape).astype(np.float32)
        known = cm.Triplets.from_arrays(x, y_hat, y.clip(0, 1), reading=Reading(axes=axes[1:]))
        found[axes] = cm.calibrate(cm.Heuristic(scale_of, channels=1), known, threshold=0.02, loss="l1")
    return found


def write_tiff(path, array, axes):
    sizes = {f"PhysicalSize{axis}": STEPS[axis] for axis in axes[1:]}
    planes = [{"DeltaT": ORIGIN["T"] + at} for at in range(int(np.prod(array.shape[:-2])))]
    metadata = {"axes": axes, **sizes, "TimeIncrement": STEPS["T"], "TimeIncrementUnit": "s", "Plane": planes}
    tifffile.imwrite(path, array, ome=True, metadata=metadata)


def write_zarr(path, array, axes):
    named = [{"name": "t", "type": "time", "unit": "second"}]
    named += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in axes[1:].lower()]
    place = [
        {"type": "scale", "scale": [STEPS[axis] for axis in axes]},
        {"type": "translation", "translation": [ORIGIN[axis] for axis in axes]},
    ]
    image = {"axes": named, "datasets": [{"path": "0", "coordinateTransformations": place}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    group.create_array("0", data=array, chunks=(1, *array.shape[1:]))


def write_nifti(path, array, axes):
    pixels = array.T if axes == "TZYX" else array.T[:, :, None]
    image = nibabel.Nifti1Image(pixels, AFFINE)
    image.header["pixdim"][4], image.header["toffset"] = STEPS["T"], ORIGIN["T"]
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def read_tiff(path, axes):
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == axes
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["TimeIncrement"], pixels["TimeIncrementUnit"]) == (STEPS["T"], "s")
        assert [pixels[f"PhysicalSize{axis}"] for axis in axes[1:]] == [STEPS[axis] for axis in axes[1:]]
        planes = pixels["Plane"]
        assert [plane["DeltaT"] for plane in planes] == [ORIGIN["T"] + at for at in range(len(planes))]
        return file.asarray() / 65535


def read_zarr(path, axes):
    import yaozarrs

    yaozarrs.validate_zarr_store(path)
    group = zarr.open_group(path, mode="r")
    image = group.attrs["ome"]["multiscales"][0]
    names, units = zip(*((axis["name"], axis.get("unit")) for axis in image["axes"]), strict=True)
    assert names == ("t", "c", *axes[1:].lower())
    assert units == ("second", None, *("micrometer",) * len(axes[1:]))
    scale, translation = image["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [STEPS["T"], 1, *(STEPS[axis] for axis in axes[1:])]
    assert translation["translation"] == [ORIGIN["T"], 0, *(ORIGIN[axis] for axis in axes[1:])]
    return group["0"][:, 0] / 65535


def read_nifti(path, axes):
    image = nibabel.load(path)
    assert image.shape == (*SPACES[axes][::-1], *((1,) if axes == "TYX" else ()), TIMES)
    np.testing.assert_array_equal(image.affine, AFFINE.astype(np.float32))
    assert image.header.get_zooms()[3] == np.float32(STEPS["T"])
    assert (image.header.get_xyzt_units(), image.header["toffset"]) == (("mm", "sec"), ORIGIN["T"])
    values = image.get_fdata().T
    return values[:, 0] if axes == "TYX" else values


FORMATS: dict[str, tuple[Callable, Callable]] = {
    ".ome.tif": (write_tiff, read_tiff),
    ".ome.zarr": (write_zarr, read_zarr),
    ".nii.gz": (write_nifti, read_nifti),
}


def data_of(folder, suffix, axes, seed=0):
    for role in ("x", "y_hat"):
        (folder / role).mkdir(parents=True, exist_ok=True)
        FORMATS[suffix][0](folder / role / f"a{suffix}", film(role, axes, seed), axes)
    return folder


def triplets_of(folder, suffix, axes):
    nifti = {"TYX": "XYT", "TZYX": "XYZT"}[axes]
    return cm.Triplets.from_folder(folder, reading=Reading(axes=nifti) if suffix == ".nii.gz" else PLAIN)


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def snapshot(folder):
    """Every file, without the UUID of an OME-TIFF."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): UUID.sub(b"", path.read_bytes()) for path in files}


@pytest.mark.parametrize("axes", SPACES)
@pytest.mark.parametrize("suffix", [s if "tif" in s else asking("formats", s) for s in FORMATS])
def test_a_film_has_one_mask_in_its_place(maskers, tmp_path, suffix, axes):
    masker, triplets = maskers[axes], triplets_of(data_of(tmp_path, suffix, axes), suffix, axes)
    cm.write_masks(masker, triplets, tmp_path / "out")
    assert listed(tmp_path / "out" / "masks") == [f"a{suffix}"]
    found = FORMATS[suffix][1](tmp_path / "out" / "masks" / f"a{suffix}", axes)
    expected = np.stack([masker(each) for each in triplets])
    assert (found.astype(np.float32) <= expected).all()
    np.testing.assert_allclose(found, expected, atol=1 / 2**15)
    assert listed(tmp_path / "out" / "overlays") == [f"a_t00{time}.jpg" for time in range(TIMES)]
    with (tmp_path / "out" / "sizes.csv").open(newline="") as file:
        rows = [(row["name"], float(row["mask_size"])) for row in csv.DictReader(file)]
    assert rows == [
        (f"a_t00{time}", pytest.approx(1 - expected[time].mean(), abs=1e-6)) for time in range(TIMES)
    ]


class Killed(BaseException):
    pass


def dying(original, after):
    """The function, which may be called so often."""
    calls = iter(range(after))

    def call(*given, **named):
        if next(calls, None) is None:
            raise Killed
        return original(*given, **named)

    return call


KILLS = [
    ("write_blocks", 2, ["a_t002.ome.tif", "a.ome.tif"]),
    ("write_blocks", 3, ["a.ome.tif"]),
    ("remove", 2, []),
]
"""Between two time points, before they are joined, and when one of them was removed."""


@pytest.mark.parametrize(("name", "after", "left"), KILLS)
def test_a_killed_film_goes_on(maskers, tmp_path, monkeypatch, name, after, left):
    """Also where its file changed between two runs: nothing of the old one is left."""
    masker, out, suffix = maskers["TYX"], tmp_path / "out", ".ome.tif"
    data_of(tmp_path, suffix, "TYX", seed=20)
    cm.write_masks(masker, triplets_of(tmp_path, suffix, "TYX"), out)
    triplets = triplets_of(data_of(tmp_path, suffix, "TYX"), suffix, "TYX")
    with monkeypatch.context() as patch:
        patch.setattr(masks_module, name, dying(getattr(masks_module, name), after))
        with pytest.raises(Killed):
            cm.write_masks(masker, triplets, out)
    assert (out / "masks" / "a.ome.tif").exists() == (name == "remove")
    write, made = masks_module.write_blocks, []
    monkeypatch.setattr(
        masks_module, "write_blocks", lambda path, *given: (made.append(path.name), write(path, *given))
    )
    cm.write_masks(masker, triplets, out)
    assert made == left
    cm.write_masks(masker, triplets, tmp_path / "whole")
    assert snapshot(out) == snapshot(tmp_path / "whole")


def test_a_film_of_which_something_is_gone_is_masked_again(maskers, tmp_path):
    triplets = triplets_of(data_of(tmp_path, ".ome.tif", "TYX"), ".ome.tif", "TYX")
    cm.write_masks(maskers["TYX"], triplets, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    (tmp_path / "out" / "overlays" / "a_t001.jpg").unlink()
    cm.write_masks(maskers["TYX"], triplets, tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_some_time_points_keep_their_own_masks(maskers, tmp_path):
    triplets = triplets_of(data_of(tmp_path, ".ome.tif", "TYX"), ".ome.tif", "TYX")
    cm.write_masks(maskers["TYX"], triplets.select([0, 2]), tmp_path / "out")
    assert listed(tmp_path / "out" / "masks") == ["a_t000.ome.tif", "a_t002.ome.tif"]
    cm.write_masks(maskers["TYX"], triplets, tmp_path / "out")
    assert listed(tmp_path / "out" / "masks") == ["a.ome.tif"]
