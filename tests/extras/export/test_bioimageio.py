"""Folders for bioimage.io, read by its own library."""

import re
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError
from conformask.extensions import pip_install
from conformask.extras.export import bioimageio
from conformask.extras.export.bioimageio import citation, export_bioimageio
from conformask.extras.export.folders import Credits
from conformask.masker.calibrate import calibrate
from conformask.records.reading import Network
from conformask.scores.scorer import Heuristic
from conformask.scores.untrained import GivenScorer
from onnx_predictors import blurring
from synthetic_triplets import triplets

spec = pytest.importorskip("bioimageio.spec", reason="bioimageio.spec is not installed")
SIDE = 16
GIVEN = Credits(("Ada L.", "Bo M."), "CC-BY-4.0", "Doe et al., 2026, https://doi.org/10.1000/182")
FILES = {"README.md", "cover.png", "rdf.yaml", "weights.onnx", "x.npy", "y_hat.npy", "mask.npy", "score.npy"}


def faint(x, y_hat):
    """Far smaller than a mask, as scores are."""
    return x / 100


@pytest.fixture(scope="module")
def masker():
    known = triplets(40, 0, (SIDE, SIDE), 3)
    return calibrate(Heuristic(faint, channels=3), known, threshold=0.03, loss="l1")


def described(folder):
    """The description, valid, with every file that it names there; bioimageio.core, which runs the test
    tensors, is not installed, so onnxruntime does it here."""
    description = spec.load_model_description(folder / "rdf.yaml")
    summary = description.validation_summary
    assert [detail.name for detail in summary.details if detail.errors] == []
    assert {path.name for path in folder.iterdir()} == FILES
    session = onnxruntime.InferenceSession(folder / str(description.weights.onnx.source))
    given = {str(each.id): np.load(folder / f"{each.id}.npy") for each in description.inputs}
    returned = session.run(None, given)
    for each, tensor in zip(description.outputs, returned, strict=True):
        np.testing.assert_array_equal(tensor, np.load(folder / f"{each.id}.npy"))
    return description


@pytest.mark.thorough
def test_bioimageio_takes_x_and_y_hat(masker, tmp_path):
    done = export_bioimageio(masker, tmp_path / "model")
    assert done.missing == ("authors", "license", "cite")
    description = described(done.path)
    assert [str(each.id) for each in description.inputs] == ["x", "y_hat"]
    assert [str(each.id) for each in description.outputs] == ["mask", "score"]
    assert (description.authors, description.license, description.cite) == ([], None, []), "nothing invented"
    assert description.description == masker.sentence
    assert description.inputs[1].axes[0].size is None, "any number of images"
    mask = np.load(done.path / "mask.npy")
    x, y_hat = (torch.from_numpy(np.load(done.path / f"{name}.npy")) for name in ("x", "y_hat"))
    np.testing.assert_allclose(mask, masker.masks(x, y_hat).numpy(), atol=1e-5)
    text = (done.path / "README.md").read_text()
    for words in ("## Validation", "| in | y_hat | 3 x 16 x 16 |", masker.sentence):
        assert words in text
    with Image.open(done.path / "cover.png") as cover:
        assert cover.size == (512, 256)
        assert np.unique(np.asarray(cover)).size > 100


@pytest.mark.thorough
def test_bioimageio_with_a_predictor_takes_x(masker, tmp_path):
    predictor = blurring(tmp_path / "p.onnx", given=(1, 1, SIDE, SIDE))
    about = replace(masker, card=replace(masker.card, network=Network("another")))
    more = {"predictor": predictor, "credits": GIVEN}
    with pytest.raises(MismatchError, match=r"is about outputs of another, .* made by p\.onnx"):
        export_bioimageio(about, tmp_path / "model", **more)
    with pytest.warns(UserWarning, match="made by"):
        done = export_bioimageio(about, tmp_path / "model", **more, any_network=True)
    assert done.missing == ()
    assert done.caveat.other
    description = described(done.path)
    assert [str(each.id) for each in description.inputs] == ["x"]
    assert [str(each.id) for each in description.outputs] == ["y_hat", "mask", "score"]
    assert description.inputs[0].axes[0].size == 1, "the predictor takes one at a time"
    assert [author.name for author in description.authors] == ["Ada L.", "Bo M."]
    assert description.license == "CC-BY-4.0"
    assert (description.cite[0].text, str(description.cite[0].doi)) == ("Doe et al., 2026", "10.1000/182")
    assert description.description.startswith("NOT PROMISED: ")
    assert (done.path / "README.md").read_text().startswith("**NOT PROMISED: ")


@pytest.mark.parametrize(
    ("cite", "found"),
    [
        ("Doe 2026 10.1000/182", {"text": "Doe 2026", "doi": "10.1000/182"}),
        ("Doe, https://example.org/a", {"text": "Doe", "url": "https://example.org/a"}),
    ],
)
def test_citations(cite, found):
    assert citation(cite) == found


def test_what_bioimageio_refuses(masker, tmp_path, monkeypatch):
    with pytest.raises(InvalidArgumentError, match="ends with a DOI or an address"):
        export_bioimageio(masker, tmp_path / "model", credits=Credits(cite="Doe 2026"))
    reads_maps = replace(masker, scorer=GivenScorer("distrusted", zero=0.0, channels=3, cue_channels=1))
    with pytest.raises(InvalidArgumentError, match=r"from maps beside y_hat, .* export RUN OUT\.onnx"):
        export_bioimageio(reads_maps, tmp_path / "model")
    with pytest.raises(MismatchError, match="finds the description invalid: format_version"):
        bioimageio.package({"type": "model"}, tmp_path, tmp_path / "model")
    monkeypatch.setitem(sys.modules, "bioimageio.spec", None)
    with pytest.raises(MissingFileError, match=re.escape(f"{pip_install('bioimageio')}")):
        export_bioimageio(masker, tmp_path / "model")
    assert not list(tmp_path.iterdir())
