"""Volumes by command line alone: NIfTI in, a promise by subject, NIfTI masks in their place."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

nibabel = pytest.importorskip("nibabel")

AFFINE = np.array([[0.0, 0.0, 2.5, -20.0], [-1.0, 0.1, 0.0, 11.5], [0.1, 1.0, 0.0, 7.25], [0, 0, 0, 1]])
"""Oblique, with axes of its own order."""
LENGTHS = "7.5 x 5.025 x 5.025 mm"
"""True lengths of a window of 5 mm along the axes of AFFINE: odd numbers of pixels."""
SIZES = ((20, 22, 12), (21, 24, 12), (20, 26, 13), (23, 22, 11))


def volume(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    smooth = gaussian_filter(generator.random(size), 2)
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def write(path: Path, values: np.ndarray, dtype: type = np.float32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values.astype(dtype), AFFINE).to_filename(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two volumes of each of thirty subjects; outside a box they are NaN."""
    folder, generator = tmp_path_factory.mktemp("volumes"), np.random.default_rng(0)
    for subject in range(30):
        for session in range(2):
            y = volume(generator, SIZES[subject % len(SIZES)])
            x = y + 0.1 * generator.standard_normal(y.shape)
            y_hat = gaussian_filter(x, 0.7).clip(0, 1)
            y[:2], y_hat[:2] = np.nan, np.nan
            name = f"sub-{subject:02d}_ses-{session}.nii.gz"
            for role, values in {"x": x, "y_hat": y_hat, "y": y}.items():
                write(folder / role / name, values)
    return folder


READ = ("--clip", "x", "--nan", "outside", "--group-from", r"sub-(\d+)")


@pytest.fixture(scope="module")
def parts(data: Path, tmp_path_factory) -> dict[str, Path]:
    """The subjects in three folders."""
    made = {}
    for part, subjects in {"train": range(10), "calibration": range(10, 22), "test": range(22, 30)}.items():
        folder = made[part] = tmp_path_factory.mktemp(part)
        for role in ("x", "y_hat", "y"):
            (folder / role).mkdir()
            for path in (data / role).iterdir():
                if int(path.name[4:6]) in subjects:
                    (folder / role / path.name).symlink_to(path)
    return made


@pytest.mark.thorough
@pytest.mark.leaf("formats", "train", "view")
def test_a_promise_for_every_volume_of_a_new_subject(conformask, parts, tmp_path: Path) -> None:
    checked = conformask("check", parts["train"], *READ, "--json").record
    assert (checked["n"], checked["groups"], checked["has_regions"]) == (20, 10, True)
    assert checked["spacings"] == {"2.5 x 1.005 x 1.005 mm": 20}
    assert checked["orientations"] == {"PSR": 20}
    run, about = tmp_path / "run", ("--over", "local", "--window", "5mm")
    conformask("train", parts["train"], run, *READ, *about, "--width", "4", "--epochs", "1")
    record = conformask(
        "calibrate", run, parts["calibration"], *READ, "--threshold", "q0.3", "--unit", "group", "--json"
    ).record
    assert (record["loss"]["window"], record["loss"]["length"]) == ([3, 5, 5], LENGTHS)
    assert record["formula"].startswith(f"P(local(l1, {LENGTHS}) in the region <= ")
    assert record["n_groups"] == 12
    evaluated = conformask("evaluate", run, parts["test"], *READ, "--report", tmp_path / "r.html", "--json")
    assert evaluated.record["n_test"] == 16
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert f"{LENGTHS} (3 x 5 x 5 pixels)" in text
    assert ", largest error" in text
    masked = conformask("mask", run, parts["test"], tmp_path / "masks", *READ)
    assert masked.status == 0, masked.err
    for path in sorted((tmp_path / "masks" / "masks").iterdir()):
        image, under = nibabel.load(path), nibabel.load(parts["test"] / "y_hat" / path.name)
        np.testing.assert_array_equal(image.affine, under.affine)
        assert image.shape == under.shape
        values = image.get_fdata()
        assert 0 <= values.min() <= values.max() <= 1
    assert sum(1 for _ in (tmp_path / "masks" / "overlays").iterdir()) == 16


@pytest.mark.thorough
@pytest.mark.leaf("formats", "train")
def test_in_three_dimensions(conformask, parts: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    tokens = ("train", parts["train"], run, *READ, "--volume-mode", "volume", "--width", "4", "--epochs", "1")
    assert conformask(*tokens).status == 0
    promised = conformask(
        "calibrate", run, parts["calibration"], *READ, "--threshold", "q0.3", "--unit", "group"
    )
    assert "over the region (hidden pixels count as no error)." in promised.out
    assert conformask("mask", run, parts["test"], tmp_path / "masks", *READ).status == 0


def test_a_network_is_told_of_planes_only_what_they_have(conformask, made: Path, tmp_path: Path) -> None:
    answer = conformask("train", made / "data", tmp_path / "run", "--volume-mode", "slices", "--epochs", "1")
    assert answer.status == 1
    assert "volume_mode 'slices' is for volumes, but these images are planes" in answer.err


def test_windows_as_lengths_need_a_spacing(conformask, made: Path, tmp_path: Path) -> None:
    for window, said in (
        ("5mm", "states no spacing; give the window in pixels"),
        ("5 furlongs", "or a length"),
    ):
        answer = conformask("train", made / "data", tmp_path / "r", "--over", "local", "--window", window)
        assert said in answer.err


@pytest.mark.leaf("formats", "make")
def test_outputs_of_a_network_lie_where_x_does(conformask, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "smooth.py").write_text(
        "from scipy.ndimage import gaussian_filter\n"
        "def denoise(x):\n    return gaussian_filter(x, (0.5, 0.5, 0.5, 0))\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(1)
    for name in ("a", "b"):
        write(tmp_path / "d" / "x" / f"{name}.nii.gz", 100 * volume(generator, SIZES[0]))
    answer = conformask("triplets", tmp_path / "d", "--predictor", "smooth:denoise", "--data-range", 0, 100)
    assert answer.status == 0, answer.err
    made = nibabel.load(tmp_path / "d" / "y_hat" / "a.nii.gz")
    given = nibabel.load(tmp_path / "d" / "x" / "a.nii.gz")
    np.testing.assert_array_equal(made.affine, given.affine)
    x = np.asarray(given.dataobj)
    np.testing.assert_allclose(made.get_fdata(), gaussian_filter(x, 0.5), atol=1e-3)
    checked = conformask("check", tmp_path / "d", "--data-range", 0, 100)
    assert checked.status == 0, checked.err
