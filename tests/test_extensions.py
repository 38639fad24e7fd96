"""Choices of installed packages: found without an import, and with an error that names who is to blame."""

import json
import re
import subprocess
import sys
import tomllib
import warnings
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from textwrap import dedent

import pytest

from conformask import extensions
from conformask.cli import main
from conformask.errors import MismatchError, MissingFileError
from conformask.extensions import Extensions
from conformask.extras.export.folders import EXPORTS
from conformask.extras.make.predictors import NETWORKS, custom_predictor
from conformask.images.npy_png import PNG
from conformask.images.read import (
    FOLDER,
    FORMATS,
    format_of,
    image_suffixes,
    is_image,
    read_header,
    suffix_of,
)
from conformask.losses import loss
from conformask.losses.means import Mean
from installed import install
from leaves import LEAVES

ROOT = Path(__file__).parents[1]
WITHOUT_PLUGINS = """
import sys
import numpy as np
import conformask as cm
from conformask.images.read import list_images, read_image, write_image
write_image("a.png", np.zeros((1, 4, 4), np.float32))
read_image("a.png"), list_images("."), cm.Mean("l1")
assert not [name for name in sys.modules if name.startswith("conformask.extras")]
"""


def test_what_conformask_adds_itself():
    assert image_suffixes() == (
        ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".npz", ".dcm", ".map", ".mrc", ".mrcs", ".nii",
        ".nii.gz", ".rec", ".st", ".zarr",
    )  # fmt: skip
    assert set(FORMATS) - set(image_suffixes()) == {FOLDER, "geotiff.tif", "geotiff.tiff"}
    assert set(NETWORKS) == {
        ".pt2", ".pt", ".pth", ".ts", ".onnx", "monai", "careamics", "transformers", "spandrel",
    }  # fmt: skip
    assert set(EXPORTS) == {"onnx", "bioimageio", "huggingface"}
    with warnings.catch_warnings(action="error"):
        for choices in (FORMATS, NETWORKS, EXPORTS):
            assert choices.usable().keys() == set(choices)
            assert len(choices) == len(set(choices))


def test_no_plugin_is_imported_before_it_is_asked_for(tmp_path):
    subprocess.run([sys.executable, "-c", WITHOUT_PLUGINS], cwd=tmp_path, check=True)


def test_built_in_choices_come_first_then_packages_by_name(tmp_path, found_in):
    for package, suffix in (("zebra", ".aaa"), ("acme", ".zzz"), ("acme-more", ".bbb")):
        install(tmp_path, package, {"conformask.formats": {suffix: "nowhere:FORMAT"}})
    found_in(tmp_path)
    assert image_suffixes()[0] == ".png"
    assert image_suffixes()[-4:] == (".zarr", ".zzz", ".bbb", ".aaa")


def test_a_format_may_share_a_suffix(tmp_path, found_in):
    module = """
        from conformask.images.formats import Format
        ONE = Format(print, recognises=lambda path: path.name.startswith("acme"))
    """
    install(tmp_path, "acme", {"conformask.formats": {"acme.npy": "acme:ONE"}}, dedent(module))
    found_in(tmp_path)
    assert format_of(Path("acme1.npy")) == FORMATS["acme.npy"]
    assert format_of(Path("other.npy")) == FORMATS[".npy"]
    assert format_of(Path("acme1.png")) == FORMATS[".png"]
    assert format_of(Path("acme")) is None


def test_the_longest_suffix_decides(tmp_path, found_in):
    module = "from conformask.images.formats import Format\nONE, TWO = Format(print), Format(open)\n"
    install(tmp_path, "acme", {"conformask.formats": {".gz": "acme:ONE", ".raw.gz": "acme:TWO"}}, module)
    found_in(tmp_path)
    assert format_of(Path("a.raw.gz")) == FORMATS[".raw.gz"] != FORMATS[".gz"] == format_of(Path("a.gz"))
    assert format_of(Path("a.nii.gz")) == FORMATS[".nii.gz"]
    assert suffix_of(Path("a.RAW.gz")) == ".raw.gz"


def test_two_packages_with_one_suffix(tmp_path, found_in):
    for package in ("acme", "umbrella"):
        install(tmp_path, package, {"conformask.formats": {".raw": f"{package}:FORMAT"}})
    install(tmp_path, "brash", {"conformask.formats": {".png": "brash:FORMAT"}})
    found_in(tmp_path)
    for suffix, owners in ((".raw", "acme and umbrella"), (".png", "conformask and brash")):
        with pytest.raises(MismatchError, match=rf"'{suffix}' is claimed by several packages, {owners} \("):
            format_of(Path(f"a{suffix}"))


def test_two_packages_with_one_loss(tmp_path, found_in):
    install(tmp_path, "acme", {"conformask.losses": {"l1": "acme:LOSS", "mine": "acme:LOSS"}})
    install(tmp_path, "umbrella", {"conformask.losses": {"mine": "umbrella:LOSS"}})
    found_in(tmp_path)
    for name, owners in (("l1", "conformask and acme"), ("mine", "acme and umbrella")):
        with pytest.raises(MismatchError, match=f"'{name}' is claimed by several packages, {owners}"):
            loss(name)
    assert isinstance(loss("l2"), Mean)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (None, r"package acme, which cannot be loaded \(ModuleNotFoundError: No module named 'acme'\)"),
        ("1 / 0", r"package acme, which cannot be loaded \(ZeroDivisionError: division by zero\)"),
        ("OTHER = 1", r"package acme, which cannot be loaded \(AttributeError"),
        ("FORMAT = 1", "package acme, but acme:FORMAT is a int, not a Format: update it or uninstall it"),
    ],
)
def test_a_broken_package_is_named_where_it_is_needed(tmp_path, found_in, module, words):
    install(tmp_path, "acme", {"conformask.formats": {".raw": "acme:FORMAT"}}, module)
    found_in(tmp_path)
    (tmp_path / "a.raw").write_bytes(b"")
    with pytest.raises(MismatchError, match=words):
        read_header(tmp_path / "a.raw")
    assert FORMATS[".png"] is PNG
    assert not is_image(tmp_path / "acme.py")
    with pytest.warns(UserWarning, match=words):
        assert set(FORMATS.usable()) == set(FORMATS) - {".raw"}


def test_a_loss_whose_names_differ(tmp_path, found_in):
    module = "def error(a, b): return (a - b).mean((1, 2, 3)).abs()\n"
    install(tmp_path, "acme", {"conformask.losses": {"mine": "acme:error", "error": "acme:error"}}, module)
    found_in(tmp_path)
    assert loss("error").name == "error"
    with pytest.raises(MismatchError, match="adds the loss 'mine', which calls itself 'error'"):
        loss("mine")


def test_a_network_of_a_package(tmp_path, found_in):
    module = (
        "from conformask.extras.make.predictors import CustomPredictor, NetworkFormat\n"
        "ACME = NetworkFormat(lambda path, data_range: CustomPredictor(lambda x: x, path, 'acme'), 'MODEL')\n"
    )
    install(tmp_path, "acme", {"conformask.predictors": {"acme": "acme:ACME"}}, module)
    found_in(tmp_path)
    assert custom_predictor("acme:sharpen").name == "sharpen"
    with pytest.raises(ValueError, match=r"transformers:FOLDER, acme:MODEL$"):
        custom_predictor("sharpen")


@pytest.mark.parametrize("is_older", [False, True])
def test_without_its_metadata_conformask_says_so(monkeypatch, found_in, tmp_path, is_older):
    class Metadata:
        entry_points = ()

        def __init__(self, name):
            if not is_older:
                raise PackageNotFoundError(name)

    monkeypatch.setattr(extensions, "distribution", Metadata)
    found_in(tmp_path)
    with pytest.raises(MissingFileError, match=r"is not installed.* pip install --editable"):
        Extensions(extensions.FORMATS, object, {})["x"]


@pytest.mark.parametrize(
    ("record", "command"),
    [
        (None, "pip install 'conformask[onnx]'"),
        (
            {"url": "file:///my%20clone", "dir_info": {"editable": True}},
            "pip install --editable '/my clone[onnx]'",
        ),
        ({"url": "file:///clone", "dir_info": {}}, "pip install '/clone[onnx]'"),
        ({"url": "file:///a/conformask.whl", "archive_info": {}}, "pip install '/a/conformask.whl[onnx]'"),
        ({"url": "https://example/a.git", "vcs_info": {"vcs": "git"}}, "pip install 'conformask[onnx]'"),
    ],
)
def test_what_to_type_for_an_extra(monkeypatch, record, command):
    class Metadata:
        def __init__(self, name): ...

        def read_text(self, name):
            return None if record is None else json.dumps(record)

    monkeypatch.setattr(extensions, "distribution", Metadata)
    assert extensions.pip_install("onnx") == command


def test_a_package_adds_a_verb(tmp_path, found_in, capsys):
    module = (
        "from conformask.cli.verb import Verb\n"
        'def greet(name: str):\n    """Greet somebody."""\n    print(f"hello, {name}")\n'
        'GREET = Verb(greet, group="Look", order=9, example="greet you")\n'
    )
    install(tmp_path, "acme", {"conformask.commands": {"greet": "acme:GREET"}}, module)
    found_in(tmp_path)
    main(["greet", "you"])
    with pytest.raises(SystemExit):
        main(["greet"])
    main(["greet", "--help"])
    said = capsys.readouterr()
    assert "hello, you" in said.out
    assert "Example: conformask greet you" in said.out
    assert "for example: conformask greet you" in said.err
    main(["--help"])
    assert re.search(" greet +Greet somebody", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("object_name", "said"),
    [
        ("acme:VERB", "'info' is claimed by several packages, conformask and acme"),
        ("acme:greet", "not a Verb"),
    ],
)
def test_what_a_package_claims_wrongly_is_said(tmp_path, found_in, capsys, object_name, said):
    module = "from conformask.cli.verb import Verb\ndef greet(): ...\nVERB = Verb(greet)\n"
    name = "info" if object_name == "acme:VERB" else "greet"
    install(tmp_path, "acme", {"conformask.commands": {name: object_name}}, module)
    found_in(tmp_path)
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert said in capsys.readouterr().err
    main(["--help"])
    shown = capsys.readouterr()
    assert said in shown.err
    assert " calibrate " in shown.out


def test_every_entry_point_is_there_and_every_leaf_has_its_tests():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    places = [place for names in project["entry-points"].values() for place in names.values()]
    for place in places:
        module, _, name = place.partition(":")
        folder = ROOT / "src" / Path(*module.split("."))
        file = folder / name if name.endswith(".yaml") else folder.with_suffix(".py")
        assert file.is_file(), place
        stated = rf"^(def |class )?{name}\b"
        assert name.endswith(".yaml") or re.search(stated, file.read_text("utf-8"), re.M), place
    assert set(LEAVES) == {path.name.removesuffix("_plugin") for path in (ROOT / "tests/extras").iterdir()}
