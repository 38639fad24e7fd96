"""What people read and what files hold, against files of today: what changes in them is changed on purpose.

`CONFORMASK_GOLDEN=write` writes the files anew; the commit that does so says what changed and why.
"""

import json
import os
import re
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from conformask.cli import main, verbs_of
from conformask.errors import InvalidArgumentError
from conformask.masker.checks import refuse_unbounded
from conformask.masker.folder import COLUMNS
from conformask.masker.resolve import family_for
from conformask.masks.families import FAMILIES
from conformask.testing import small_triplets
from masker.test_sentences import LOSSES, PROMISES
from synthetic_card import card

FOLDER = Path(__file__).parent / "golden"


def compare(name, lines):
    file = FOLDER / name
    if os.environ.get("CONFORMASK_GOLDEN") == "write":
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert lines == file.read_text(encoding="utf-8").splitlines()


def theorems(terms, promise):
    """Return the families of masks with a theorem for the loss of a card under a promise."""
    used = card(**terms).loss
    refuse_unbounded(promise, used)
    return ", ".join(
        name for name in FAMILIES if family_for(cm.Heuristic(cm.residual, channels=1), used, name)
    )


def sentences():
    for loss, (terms, *_) in LOSSES.items():
        of_loss = card(**terms).loss
        yield f"# {loss}: {of_loss.name}"
        yield from (of_loss.words.label, of_loss.words.formula, str(of_loss.words.caveat))
        for who, (promise_terms, _) in PROMISES.items():
            promise = cm.Promise(**{"guarantee": "marginal", **promise_terms})
            try:
                families = theorems(terms, promise) if of_loss.of != "worst" else "binary, reciprocal"
            except InvalidArgumentError as error:
                yield f"{who}: {error}"
                continue
            yield f"{who}: {families}"
            for family in ("binary", "reciprocal"):
                made = replace(card(**terms), promise=promise, family={"name": family})
                claim = promise.claim(of_loss.name, made.threshold)
                yield f"  {family}: {made.sentence} {replace(made, claim=claim).formula}"


def test_sentences():
    compare("sentences.txt", list(sentences()))


def printed(*words):
    """Return what a verb prints on a terminal of 200 columns."""
    out = StringIO()
    with redirect_stdout(out):
        main(list(map(str, words)))
    return out.getvalue()


def test_options(monkeypatch):
    """Every line that the help of a verb lists as an option."""
    monkeypatch.setenv("COLUMNS", "200")
    lines = []
    for verb in verbs_of([]):
        boxed = [line for line in printed(verb, "--help-all").splitlines() if line[0:1] in ("│", "╭")]
        lines += [f"# {verb}", *(line.strip("│╭╮─ ") for line in boxed)]
    compare("options.txt", lines)


def paths(value, at=""):
    """Yield the places of a JSON value: names of fields, and [] for the items of a list."""
    if isinstance(value, dict) and value:
        for key in value:
            yield from paths(value[key], f"{at}.{key}")
    elif isinstance(value, list) and value and isinstance(value[0], dict | list):
        for item in value:
            yield from paths(item, f"{at}[]")
    else:
        yield at


@pytest.fixture
def folder(tmp_path):
    """Return a folder with images to calibrate on, and new ones."""
    for part, images in (("old", small_triplets(60)), ("new", small_triplets(30, seed=1))):
        for role in ("x", "y_hat", "y"):
            (tmp_path / part / role).mkdir(parents=True)
            for triplet in images:
                np.save(tmp_path / part / role / f"{triplet.name}.npy", getattr(triplet, role)[0])
    return tmp_path


def test_fields_of_records(folder):
    """The fields of each JSON file, and of what verbs print with --json."""
    run, new, loss = folder / "run", folder / "new", ("--loss", "l1", "--threshold", "0.02")
    verbs: dict[str, tuple[object, ...]] = {
        "calibrate": ("calibrate", folder / "old", "--scorer", "residual", *loss, "--out", run),
        "info": ("info", run),
        "plan": ("plan",),
        "check": ("check", new),
        "thresholds": ("thresholds", run),
        "evaluate": ("evaluate", run, new),
        "mask": ("mask", run, new, folder / "masks"),
        "release": ("release", run, new, "--share", "0.5", "--out", folder / "released.csv"),
        "monitor": ("monitor", run, new),
        "recalibrate": ("recalibrate", run, "--threshold", "0.03"),
    }
    answers = {f"{verb} --json": printed(*words, "--json") for verb, words in verbs.items()}
    files = {
        str(file.relative_to(folder)): file.read_text("utf-8") for file in sorted(folder.rglob("*.json"))
    }
    lines = []
    for name, text in (answers | files).items():
        text = re.sub(r"-[0-9a-f]{8}\.npz", "-HASH.npz", text)  # files are named by their content
        lines += [f"# {name}", *sorted(set(paths(json.loads(text))))]
    lines += ["# sizes.csv", ",".join(COLUMNS)]
    compare("fields.txt", lines)
