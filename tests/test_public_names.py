"""What has to work without torch, and what is refused in words that say what to give."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

import conformask
import conformask as cm
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.masker.run_folder import StoredMasker, write_stored
from synthetic_card import card
from synthetic_triplets import scale_of, triplets
from untyped import UNTYPED

FOLDER = Path(__file__).parents[1] / "src" / "conformask" / "promises"
PROMISES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
LIGHT = ("conformask.records.evaluation", "conformask.records.record", "conformask.errors")
MODULES = (*(f"conformask.promises.{name}" for name in PROMISES), *LIGHT)
REPORT = ("conformask.extras.view.page", "conformask.extras.view.figures", "conformask.images.pictures")


def without_torch(code, *arguments):
    """Run code in a fresh process, which ends with 77 if it has loaded torch."""
    ending = (
        "import atexit, os, sys\natexit.register(lambda: os._exit(77) if 'torch' in sys.modules else 0)\n"
    )
    command = [sys.executable, "-c", ending + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_numbers_and_reports_load_no_torch():
    done = without_torch("import " + ", ".join((*MODULES, *REPORT)))
    assert done.returncode == 0, done.stderr


def test_the_check_sees_torch():
    assert without_torch("sys.modules['torch'] = None").returncode == 77


def test_promises_are_not_empty():
    assert {"promise", "procedures", "order"} < set(PROMISES)


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "arguments", [["--help"], ["info", "RUN"], ["info", "RUN", "--json"], ["plan"], ["plan", "--json"]]
)
def test_light_verbs_load_no_torch(arguments, tmp_path):
    write_stored(tmp_path, StoredMasker(card(), "3f9a-07c1-55be-d20e", np.ones(1), None, None, None))
    given = [argument.replace("RUN", str(tmp_path)) for argument in arguments]
    done = without_torch("from conformask.cli import main; main()", *given)
    assert done.returncode == 0, done.stderr
    said = {"--help": "calibrate", "info": "P(l1 <= 0.02)", "plan": "marginal"}[arguments[0]]
    assert said in done.stdout


# Importing conformask does nothing; its names resolve when asked for
QUIET = """
import logging, os, random, sys
import numpy
before = set(os.listdir("."))
states = random.getstate(), numpy.random.get_state()[1].tolist()
import conformask, conformask.cli, conformask.records.evaluation, conformask.records.record
import conformask.extras.view.page, conformask.promises.promise
assert (random.getstate(), numpy.random.get_state()[1].tolist()) == states
assert set(os.listdir(".")) == before
assert not logging.getLogger().handlers
assert not logging.getLogger("conformask").handlers
print([name for name in ("torch", "lightning", "skimage") if name in sys.modules])
"""


def test_every_name_resolves():
    assert len(set(conformask.__all__)) == len(conformask.__all__)
    for name in conformask.__all__:
        assert callable(getattr(conformask, name)), name


def test_the_version_is_that_of_the_installed_package():
    assert conformask.__version__ == version("conformask")


def test_dir_lists_them():
    assert dir(conformask) == sorted(conformask.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'fit_everything'"):
        conformask.fit_everything  # noqa: B018


def test_importing_does_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", QUIET], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_every_warning_can_be_filtered_by_its_category():
    source = Path(conformask.__file__).parent
    warning = [path for path in source.rglob("*.py") if "warnings.warn(" in path.read_text(encoding="utf-8")]
    assert warning == [source / "errors.py"], "errors.warn gives them all"


SCORER = cm.Heuristic(scale_of, channels=1)


@pytest.fixture(scope="module")
def masker():
    return cm.calibrate(SCORER, triplets(40, 0), threshold=0.03, loss="l1")


@UNTYPED
@pytest.mark.parametrize("scorer", [torch.nn.Conv2d(1, 1, 1), scale_of, "packaged", "runs/first"])
def test_what_is_no_scorer(scorer):
    with pytest.raises(InvalidArgumentError, match=r"^scorer is a (Conv2d|function|str); give .*\("):
        cm.calibrate(scorer, triplets(40, 0), threshold=0.03)


@UNTYPED
def test_what_is_no_choice_and_no_score(masker, tmp_path):
    masker.save(tmp_path)
    images, array = triplets(40, 0), np.zeros((3, 8, 8))
    of_numpy = cm.Heuristic(lambda x, y_hat: y_hat.numpy(), channels=1)
    for call, match in (
        (lambda: cm.load(tmp_path, scorer=scale_of), "^scorer is a function; give Heuristic"),
        (lambda: cm.Given("confidence"), "^higher 'confidence' is unknown"),
        (lambda: cm.losses.loss(lambda mask, y, y_hat, region: y_hat), r"takes no \(a, b\), .* CustomLoss"),
        (lambda: cm.calibrate(SCORER, images, threshold=0.03, loss="l1", level="pixel"), "^level 'pixel'"),
        (lambda: cm.calibrate(of_numpy, images, threshold=0.03, loss="l1"), "ndarray; give a tensor"),
        (lambda: cm.Triplets.from_arrays(array, array, data_range=255)[0], "range is 255; give"),
    ):
        with pytest.raises(InvalidArgumentError, match=match):
            call()


CALLS: dict[str, Callable[..., object]] = {
    "evaluate": lambda masker: cm.evaluate(masker, triplets(5, 1)),
    "write_masks": lambda masker: cm.write_masks(masker, triplets(5, 1), "out"),
    "monitor": lambda masker: cm.monitor(masker, triplets(5, 1)),
    "release": lambda masker: cm.release(masker, triplets(5, 1)),
    "Watch": lambda masker: cm.StreamMonitor(masker),
    "OnlineMasker": lambda masker: cm.OnlineMasker(masker),
    "export": lambda masker: cm.export(masker, "masker.onnx"),
    "show": lambda masker: cm.show(masker, np.zeros((8, 8)), np.zeros((8, 8))),
    "masked": lambda masker: cm.masked(masker, np.zeros((8, 8)), np.zeros((8, 8))),
}


@UNTYPED
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_masker(name):
    with pytest.raises(InvalidArgumentError, match=r"^masker is a str; give what calibrate\(\) or load\(\)"):
        CALLS[name]("runs/first")


@UNTYPED
def test_what_are_no_triplets(masker, tmp_path):
    for call in (
        lambda: cm.evaluate(masker, tmp_path),
        lambda: cm.write_masks(masker, tmp_path, tmp_path / "out"),
        lambda: cm.monitor(masker, tmp_path),
        lambda: cm.release(masker, tmp_path),
        lambda: cm.StreamMonitor(masker).add(tmp_path),
        lambda: cm.calibrate(SCORER, tmp_path, threshold=0.03),
        lambda: cm.fit_scorer(tmp_path, out=tmp_path / "run"),
    ):
        with pytest.raises(InvalidArgumentError, match=r"Path: give .*\.from_folder\(PATH\)"):
            call()
    assert not list(tmp_path.iterdir())


@UNTYPED
def test_a_report_of_a_masker_and_a_module_to_export(masker, tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"^evaluation is a Masker; give what evaluate\(\)"):
        cm.write_report(masker, tmp_path / "report.html")
    with pytest.raises(InvalidArgumentError, match=r"^predictor is a Conv2d; give the path of an ONNX file"):
        cm.export(masker, tmp_path / "masker.onnx", predictor=torch.nn.Conv2d(1, 1, 1))


@UNTYPED
def test_volumes_where_planes_were_calibrated(masker, tmp_path):
    stack = np.full((3, 4, 8, 8), 0.5, np.float32)
    volumes = cm.Triplets.from_arrays(stack, stack, stack, reading=cm.Reading(axes="ZYX"))
    image = torch.full((1, 1, 4, 8, 8), 0.5)
    for call in (
        lambda: cm.evaluate(masker, volumes),
        lambda: cm.write_masks(masker, volumes, tmp_path / "out"),
        lambda: masker(image, image),
    ):
        with pytest.raises(MismatchError, match=r"about planes, but these are volumes"):
            call()


@UNTYPED
def test_a_packaged_score_by_tiles_is_one_of_images_first():
    with pytest.raises(InvalidArgumentError, match=r"Tiled\(packaged_scorer\(\)\.of\(TRIPLETS\)\)"):
        cm.Tiled(cm.packaged_scorer())
    known = triplets(40, 0, (40, 40))
    masker = cm.calibrate(cm.Tiled(cm.packaged_scorer().of(known), 128, 32), known, threshold=0.05)
    assert masker.card.tiles == (128, 32)


@UNTYPED
@pytest.mark.parametrize("name", ["a\rb", "a\nb", "a\tb", "a\x1b[31mb"])
def test_control_characters_in_names(name):
    with pytest.raises(InvalidArgumentError, match="control characters"):
        cm.Triplets.from_arrays(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)), names=[name])
