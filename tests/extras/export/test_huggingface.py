"""Folders for the Hugging Face Hub, read by its own library."""

import json
import re
import sys
import threading
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from conformask.errors import MissingFileError, OutputError
from conformask.extensions import pip_install
from conformask.extras.export.folders import Credits
from conformask.extras.export.huggingface import export_huggingface
from conformask.masker.calibrate import calibrate
from conformask.masker.load import load
from conformask.scores.scorer import Heuristic
from conformask.scores.untrained import Untrained
from synthetic_triplets import triplets

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
SIDE = 16
GIVEN = Credits(("Ada L.", "Bo M."), "CC-BY-4.0", "Doe et al., 2026, https://doi.org/10.1000/182")


def faint(x, y_hat):
    """Far smaller than a mask, as scores are."""
    return x / 100


@pytest.fixture(scope="module")
def masker():
    known = triplets(40, 0, (SIDE, SIDE), 3)
    return calibrate(Heuristic(faint, channels=3), known, threshold=0.03, loss="l1")


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory):
    """A masker of a network, which its folder holds."""
    masker = calibrate(Untrained("spread"), triplets(40, 0, (SIDE, SIDE)), threshold=0.03, loss="l1")
    folder = tmp_path_factory.mktemp("hub") / "folder"
    assert export_huggingface(masker, folder, credits=GIVEN).missing == ()
    return masker, folder


def test_the_card_as_huggingface_hub_reads_it(uploaded):
    masker, folder = uploaded
    card = hub.ModelCard.load(folder / "README.md")
    assert card.data.to_dict() == {
        "license": "cc-by-4.0",
        "library_name": "conformask",
        "pipeline_tag": "image-to-image",
        "tags": ["uncertainty", "conformal-prediction", "image-to-image"],
        "metrics": ["l1"],
    }
    for words in (
        masker.sentence,
        masker.fingerprint,
        "## Limits",
        "Ada L., Bo M.",
        "10.1000/182",
        "cm.load(",
    ):
        assert words in card.text
    assert "code of its author" not in card.text
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


class Stub(BaseHTTPRequestHandler):
    """What snapshot_download asks the Hub for: a revision, its files, and each of them."""

    folder: Path
    commit = "0" * 40

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        files = list(self.folder.iterdir())
        if "/tree/" in self.path:
            tree = [{"type": "file", "path": path.name, "oid": "0", "size": 1} for path in files]
            self.answer(json.dumps(tree).encode())
        elif "/revision/" in self.path:
            siblings = [{"rfilename": path.name} for path in files]
            self.answer(json.dumps({"id": "me/mine", "sha": self.commit, "siblings": siblings}).encode())
        else:
            self.answer((self.folder / self.path.split("/")[-1]).read_bytes())

    def answer(self, content):
        self.send_response(200)
        for name, value in {"ETag": f'"{sha1(content).hexdigest()}"', "X-Repo-Commit": self.commit}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving(folder):
    handler = type("OfFolder", (Stub,), {"folder": folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_load_reads_what_snapshot_download_fetches_from_a_stub_of_the_hub(uploaded, tmp_path):
    masker, folder = uploaded
    with serving(folder) as endpoint:
        found = hub.snapshot_download("me/mine", endpoint=endpoint, cache_dir=tmp_path)
    assert {path.name for path in Path(found).iterdir()} == {path.name for path in folder.iterdir()}
    again = load(hub.snapshot_download("me/mine", cache_dir=tmp_path, local_files_only=True))
    assert again.fingerprint == masker.fingerprint
    batch = next(triplets(3, 5, (SIDE, SIDE)).batches(3))
    assert torch.equal(again.masks(batch.x, batch.y_hat), masker.masks(batch.x, batch.y_hat))


def test_a_masker_that_rests_on_code_says_so(masker, tmp_path):
    (tmp_path / "folder").mkdir()
    done = export_huggingface(masker, tmp_path / "folder")
    assert done.missing == ("authors", "license", "cite")
    card = hub.ModelCard.load(done.path / "README.md")
    assert "license" not in card.data.to_dict()
    assert "code of its author" in card.text
    assert load(done.path, scorer=masker.scorer).fingerprint == masker.fingerprint


def test_what_huggingface_refuses(masker, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(OutputError, match="exists already: choose another folder"):
            export_huggingface(masker, taken)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingFileError, match=re.escape(f"{pip_install('hub')}")):
        export_huggingface(masker, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
