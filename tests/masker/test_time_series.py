"""Masks of all time points of a file end in one file, in its place, with its times; killed or not."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

import conformask as cm
from conformask.masker import write as masks_module
from conformask.records.reading import PLAIN, Reading
from leaves import asking
from synthetic_triplets import scale_of

zarr = pytest.importorskip("zarr")

SPACES = {"TYX": (8, 9), "TZYX": (4, 8, 9)}
STEPS = {"T": 59.86, "Z": 2.0, "Y": 0.5, "X": 0.25}
ORIGIN = {"T": 7.0, "Z": 10.0, "Y": 20.0, "X": 30.0}
AFFINE = np.array([[-0.25, 0, 0, 9], [0, 0.4, -0.3, -5], [0, 0.3, 1.9, 1], [0, 0, 0, 1]])
TIMES = 3
UUID = re.compile(rb"urn:uuid:[0-9a-f-]+")


def film(role: str, axes: str, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    x = generator.uniform(0.01, 0.1, (TIMES, *SPACES[axes])).astype(np.float32)
    return x if role == "x" else generator.uniform(0.2, 0.8, x.shape).astype(np.float32)


@pytest.fixture(scope="module")
def maskers() -> dict[str, cm.Masker]:
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


def write_tiff(path: Path, array: np.ndarray, axes: str) -> None:
    sizes = {f"PhysicalSize{axis}": STEPS[axis] for axis in axes[1:]}
    planes = [{"DeltaT": ORIGIN["T"] + at} for at in range(int(np.prod(array.shape[:-2])))]
    metadata = {"axes": axes, **sizes, "TimeIncrement": STEPS["T"], "TimeIncrementUnit": "s", "Plane": planes}
    tifffile.imwrite(path, array, ome=True, metadata=metadata)


def write_zarr(path: Path, array: np.ndarray, axes: str) -> None:
    named = [{"name": "t", "type": "time", "unit": "second"}]
    named += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in axes[1:].lower()]
    place = [
        {"type": "scale", "scale": [STEPS[axis] for axis in axes]},
        {"type": "translation", "translation": [ORIGIN[axis] for axis in axes]},
    ]
    image = {"axes": named, "datasets": [{"path": "0", "coordinateTransformations": place}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    group.create_array("0", data=array, chunks=(1, *array.shape[1:]))


def write_nifti(path: Path, array: np.ndarray, axes: str) -> None:
    pixels = array.T if axes == "TZYX" else array.T[:, :, None]
    image = nibabel.Nifti1Image(pixels, AFFINE)
    image.header["pixdim"][4], image.header["toffset"] = STEPS["T"], ORIGIN["T"]
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def read_tiff(path: Path, axes: str) -> np.ndarray:
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == axes
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["TimeIncrement"], pixels["TimeIncrementUnit"]) == (STEPS["T"], "s")
        assert [pixels[f"PhysicalSize{axis}"] for axis in axes[1:]] == [STEPS[axis] for axis in axes[1:]]
        planes = pixels["Plane"]
        assert [plane["DeltaT"] for plane in planes] == [ORIGIN["T"] + at for at in range(len(planes))]
        return file.asarray() / 65535


def read_zarr(path: Path, axes: str) -> np.ndarray:
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


def read_nifti(path: Path, axes: str) -> np.ndarray:
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


def data_of(folder: Path, suffix: str, axes: str, seed: int = 0) -> Path:
    for role in ("x", "y_hat"):
        (folder / role).mkdir(parents=True, exist_ok=True)
        FORMATS[suffix][0](folder / role / f"a{suffix}", film(role, axes, seed), axes)
    return folder


def triplets_of(folder: Path, suffix: str, axes: str) -> cm.Triplets:
    nifti = {"TYX": "XYT", "TZYX": "XYZT"}[axes]
    return cm.Triplets.from_folder(folder, reading=Reading(axes=nifti) if suffix == ".nii.gz" else PLAIN)


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file, without the UUID of an OME-TIFF."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): UUID.sub(b"", path.read_bytes()) for path in files}


@pytest.mark.parametrize("axes", SPACES)
@pytest.mark.parametrize("suffix", [s if "tif" in s else asking("formats", s) for s in FORMATS])
def test_a_film_has_one_mask_in_its_place(maskers, tmp_path: Path, suffix: str, axes: str) -> None:
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


def dying(original: Callable, after: int) -> Callable:
    """The function, which may be called so often."""
    calls = iter(range(after))

    def call(*given: object, **named: object) -> object:
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
def test_a_killed_film_goes_on(
    maskers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: int, left: list[str]
) -> None:
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


def test_a_film_of_which_something_is_gone_is_masked_again(maskers, tmp_path: Path) -> None:
    triplets = triplets_of(data_of(tmp_path, ".ome.tif", "TYX"), ".ome.tif", "TYX")
    cm.write_masks(maskers["TYX"], triplets, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    (tmp_path / "out" / "overlays" / "a_t001.jpg").unlink()
    cm.write_masks(maskers["TYX"], triplets, tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_some_time_points_keep_their_own_masks(maskers, tmp_path: Path) -> None:
    triplets = triplets_of(data_of(tmp_path, ".ome.tif", "TYX"), ".ome.tif", "TYX")
    cm.write_masks(maskers["TYX"], triplets.select([0, 2]), tmp_path / "out")
    assert listed(tmp_path / "out" / "masks") == ["a_t000.ome.tif", "a_t002.ome.tif"]
    cm.write_masks(maskers["TYX"], triplets, tmp_path / "out")
    assert listed(tmp_path / "out" / "masks") == ["a.ome.tif"]
