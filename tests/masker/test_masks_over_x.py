"""Masks of a NIfTI that a network made of a DICOM series, written over the series."""

import nibabel
import numpy as np
import pytest

import conformask as cm
from conformask.errors import MismatchError
from conformask.images.triplets import Triplets
from conformask.records.reading import Reading
from conformask.scores.scorer import Heuristic, Tiled

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")
hd = pytest.importorskip("highdicom", reason="the extra dicom is not installed")

SPACE = (4, 20, 130)
"""Wider than a tile."""
HU = Reading(data_range=(-1024, 3071))
AFFINE = np.array([[-0.75, 0, 0, -10], [0, -0.5, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
"""From (column, row, slice) to right, anterior, superior, of the series."""


def expected_error(x, y_hat):
    return (x - y_hat).abs()


def volume(seed):
    return np.random.default_rng(seed).integers(-1000, 3000, SPACE).astype(np.int16)


def write_series(folder):
    """CT slices from the feet up, written from the head down; the UID of the series."""
    folder.mkdir(parents=True)
    data = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    data.RescaleIntercept, data.RescaleSlope = 0, 1
    data.PixelSpacing, data.ImageOrientationPatient, data.SliceThickness = (
        [0.5, 0.75],
        [1, 0, 0, 0, 1, 0],
        2.5,
    )
    data.Rows, data.Columns = SPACE[1:]
    for index, plane in reversed(list(enumerate(volume(0)))):
        data.ImagePositionPatient = [10, -20, 30 + 2.5 * index]
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        data.PixelData = plane.tobytes()
        data.save_as(folder / f"{SPACE[0] - index}.dcm")
    return str(data.SeriesInstanceUID)


def write_y_hat(path, array, affine=AFFINE):
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.T, affine), path)


def masker_of(scorer):
    known = [[volume(seed + step) for seed in range(10)] for step in (100, 200, 300)]
    triplets = Triplets.from_arrays(*known, reading=Reading(HU.data_range, axes="ZYX"))
    return cm.calibrate(scorer, triplets, threshold=0.1, loss="l1")


SCORER = Heuristic(expected_error, channels=1)


@pytest.mark.leaf("formats")
@pytest.mark.parametrize("scorer", [SCORER, Tiled(SCORER, 128, 32)], ids=["one pass", "tiles"])
def test_a_parametric_map_refers_to_the_series_of_x(tmp_path, scorer):
    """In one pass, and tile by tile."""
    masker = masker_of(scorer)
    uid = write_series(tmp_path / "x" / "p1")
    write_y_hat(tmp_path / "y_hat" / "p1.nii.gz", volume(1))
    triplets = Triplets.from_folder(tmp_path, reading=HU)
    written = cm.write_masks(masker, triplets, tmp_path / "out", mask_geometry="x", dicom_seg=True)
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["p1.dcm"]
    data = hd.pm.ParametricMap.from_dataset(pydicom.dcmread(tmp_path / "out" / "masks" / "p1.dcm"))
    assert data.ReferencedSeriesSequence[0].SeriesInstanceUID == uid
    slices = {each.SOPInstanceUID: each for each in map(pydicom.dcmread, (tmp_path / "x" / "p1").iterdir())}
    for item in data.PerFrameFunctionalGroupsSequence:
        (source,) = item.DerivationImageSequence[0].SourceImageSequence
        under = slices[source.ReferencedSOPInstanceUID]
        assert item.PlanePositionSequence[0].ImagePositionPatient == under.ImagePositionPatient
    found = data.get_volume(apply_real_world_transform=True, dtype=np.float64)
    order = np.argsort([found.affine @ [z, 0, 0, 1] for z in range(SPACE[0])], axis=0)[:, 2]
    mask = masker(triplets[0])
    np.testing.assert_allclose(found.array[order], mask, atol=2.0**-15)
    assert 0.05 < written.sizes["p1"] == pytest.approx(1 - mask.mean(), abs=1e-6)
    assert (tmp_path / "out" / "segmentations" / "p1.dcm").is_file()


MOVED = AFFINE + np.outer([1, 0, 0, 0], [0, 0, 0, 1])
FLIPPED = AFFINE @ np.array([[1, 0, 0, 0], [0, -1, 0, SPACE[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
"""Rows from back to front, as dcm2niix turns them."""


@pytest.mark.leaf("formats")
@pytest.mark.parametrize(
    ("array", "affine", "message"),
    [
        (volume(1), MOVED, "x and y_hat have affines that differ by 1 mm; leave out mask_geometry='x'"),
        (volume(1)[:, ::-1], FLIPPED, "affines that differ by .* mm, axes towards LPS and LAS"),
        (volume(1)[:, :-1], AFFINE, r"x has \(4, 20, 130\) pixels, but y_hat has \(4, 19, 130\)"),
        (volume(1), None, "do not both state their position"),
    ],
)
def test_masks_over_an_x_elsewhere_are_refused(tmp_path, array, affine, message):
    write_series(tmp_path / "x" / "p1")
    write_y_hat(tmp_path / "y_hat" / "p1.nii.gz", array, affine)
    masker = masker_of(SCORER)
    with pytest.raises(MismatchError, match=f"mask of 'p1' cannot be placed over x: .*{message}"):
        cm.write_masks(
            masker, Triplets.from_folder(tmp_path, reading=HU), tmp_path / "out", mask_geometry="x"
        )
    assert not (tmp_path / "out").exists()
