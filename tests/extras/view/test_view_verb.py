"""The viewer by command line: started, found, stopped."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.extensions import pip_install
from conformask.extras.view import verbs as verb
from conformask.images.triplets import Triplets
from conformask.records.numbers import rounded_share
from conformask.records.reading import Reading
from untyped import UNTYPED

BROWSER = """#!/bin/sh
page="${{1#file://}}"
{{ echo "$@"; stat -c %a "$(dirname "$page")"; cat "$page"; }} > {asked}.part
mv {asked}.part {asked}
exit 1
"""
START = "from conformask.cli import main; main()"


@pytest.fixture
def viewer(made):
    """Starts one; whatever happens, it is gone afterwards."""
    running = []

    def start(*options, headless=True):
        run, data = str(made / "run"), str(made / "data")
        command = [sys.executable, "-c", START, "view", run, data, *(["--no-browser"] * headless), *options]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def url_of(process):
    return json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["url"]


def names_at(origin, asking):
    with asking.open(f"{origin}/api/images", timeout=30) as answer:
        return {entry["name"] for entry in json.load(answer)["images"]}


@pytest.mark.thorough
def test_it_serves_a_run_and_ends_quietly_with_ctrl_c(viewer, made):
    """Whatever is sent meanwhile: the token is said once, and no warning follows."""
    process = viewer("--port", "0", "--json")
    url = url_of(process)
    origin, _, query = url.partition("/?")
    assert origin.startswith("http://127.0.0.1:")
    assert len(parse_qs(query)["token"][0]) >= 43  # 32 bytes
    asking = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    with pytest.raises(urllib.error.HTTPError, match="403"):
        names_at(origin, asking)
    with asking.open(url, timeout=30) as page:
        assert page.url == f"{origin}/"
    triplets = Triplets.from_folder(made / "data")
    assert names_at(origin, asking) == set(triplets.names)
    with asking.open(f"{origin}/api/images", timeout=30) as answer:
        used = {entry["name"]: entry["part"] for entry in json.load(answer)["images"]}
    parts = dict(zip(triplets.names, triplets.parts, strict=True))
    assert used == {name: None if part == "test" else part for name, part in parts.items()}
    for version in ("nonsense", "HTTP/1.1\r\nHost: me\r\nConnection: Upgrade\r\nUpgrade: websocket"):
        with socket.create_connection(("127.0.0.1", urlsplit(url).port), timeout=30) as client:
            client.sendall(f"GET /?{query} {version}\r\n\r\n".encode())
            assert client.recv(100)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.thorough
def test_with_no_token_everybody_is_answered(viewer, made):
    url = url_of(viewer("--port", "0", "--json", "--no-token"))
    assert url == f"http://127.0.0.1:{urlsplit(url).port}/"
    shown = names_at(url.rstrip("/"), urllib.request.build_opener())
    assert shown == {path.stem for path in (made / "data" / "x").iterdir()}


def test_the_help_says_what_no_token_means(conformask):
    words = " ".join(conformask("view", "--help").out.replace("│", " ").split())
    assert "everyone with an account on this machine can then see" in words


def test_without_a_browser_it_says_how_to_open_the_address_from_elsewhere(conformask, made, monkeypatch):
    monkeypatch.setattr("conformask.extras.view.app.serve", lambda *_, **__: None)
    answer = conformask("view", made / "run", made / "data", "--no-browser", "--port", 0)
    _, url, elsewhere, _ = answer.out.splitlines()
    port = urlsplit(url.partition("  ")[0]).port
    assert elsewhere == f"From another machine: ssh -L {port}:127.0.0.1:{port} HOST, then open it there"
    assert "token=" in url


@pytest.mark.thorough
def test_the_browser_gets_a_private_file_and_may_fail(viewer, monkeypatch, tmp_path):
    """A command line can be read by every account: the address with the token is not in it."""
    browser, asked = tmp_path / "browser", tmp_path / "asked"
    browser.write_text(BROWSER.format(asked=asked))
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    process = viewer("--port", "0", headless=False)
    shown = (process.stdout.readline().partition("  (press Ctrl-C to stop)\n")[0] for _ in range(3))
    promise, url, formula = shown
    assert promise.startswith("In at least ")
    assert formula.startswith("P(")
    deadline = time.monotonic() + 30
    while not asked.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    command_line, mode, page = asked.read_text().splitlines()
    assert command_line.startswith("file:///")
    assert "token" not in command_line
    assert mode == "700"
    assert f"url={url}" in page
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert not Path(command_line.removeprefix("file://")).exists()


def test_a_port_in_use_is_told_at_once(conformask, made):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        answer = conformask("view", made / "run", made / "data", "--no-browser", "--port", port)
    assert (answer.status, answer.out) == (1, "")
    assert f"port {port} cannot be used" in answer.err
    assert "choose another with --port" in answer.err


@pytest.mark.parametrize("port", [-1, 70000])
def test_no_such_port(conformask, made, port):
    answer = conformask("view", made / "run", made / "data", "--no-browser", f"--port={port}")
    assert answer.status == 1
    assert "give 0 (any free one) to 65535" in answer.err


def test_without_the_extra_it_says_what_to_install(conformask, made, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "conformask.extras.view.app", raising=False)
    answer = conformask("view", made / "run", made / "data", "--no-browser")
    assert answer.status == 1
    assert pip_install("view") in " ".join(answer.err.split())


def test_a_run_that_is_not_calibrated_is_refused(conformask, made, tmp_path):
    answer = conformask("view", tmp_path, made / "data", "--no-browser", "--port", 0)
    assert answer.status == 1
    assert "calibrate it first" in answer.err


def test_a_release_is_remembered_before_anything_is_shown(conformask, own, monkeypatch):
    opened = []
    monkeypatch.setattr(verb, "open_viewer", lambda masker, shown, **how: opened.append(how["released"]))
    assert conformask("view", own / "run", own / "data", "--release", 0.1).status == 0
    again = conformask("release", own / "run", own / "data", "--share", 0.1, "--json")
    assert again.status == 0, again.err
    names = [image["name"] for image in again.record["images"]]
    assert sorted(image.name for image in opened[0].images) == sorted(names), "the test part"
    other = conformask("view", own / "run", own / "data", "--release", 0.2)
    assert other.status == 1
    assert "were judged before" in other.err
    assert len(opened) == 1


Pair = tuple[Any, Any]
RNG = np.random.default_rng(0)
PLANES, VOLUMES = RNG.random((30, 16, 16)), RNG.random((30, 4, 8, 8))
GREY, COLOUR = PLANES[0], RNG.random((16, 16, 3))
TENSOR = torch.rand(2, 1, 16, 16)


def heuristic(x, y_hat):
    """Take an x with other channels than y_hat."""
    return (x.mean(dim=1, keepdim=True) - y_hat).abs()


@pytest.fixture(scope="module")
def planes():
    return masker_of(PLANES)


@pytest.fixture(scope="module")
def volumes():
    return masker_of(VOLUMES, Reading(axes="ZYX"))


def masker_of(y, reading=None):
    images = cm.Triplets.from_arrays(y**2, y**1.5, y, reading=reading)
    return cm.calibrate(cm.Heuristic(heuristic, channels=1), images, threshold=0.05, loss="l1")


def refusal(take):
    """What a call says that it refuses; None if it takes what it is given."""
    try:
        take()
    except cm.ConformaskError as error:
        return f"{type(error).__name__}: {error}"
    return None


ACCEPTED = {
    "(H, W)": (GREY, GREY),
    "(H, W, 1)": (GREY[..., None], GREY[..., None]),
    "(H, W) and (H, W, 1)": (GREY, GREY[..., None]),
    "x with colour": (COLOUR, GREY),
    "float32": (GREY.astype(np.float32), GREY.astype(np.float32)),
    "float16 and float64": (GREY.astype(np.float16), GREY),
    "uint8": ((255 * GREY).astype(np.uint8), (255 * GREY).astype(np.uint8)),
    "bool": (GREY > 0.5, GREY > 0.5),
    "another size": (GREY[:8], GREY[:8]),
    "tensors": (TENSOR, TENSOR),
    "tensors of half precision": (TENSOR.half(), TENSOR.half()),
    "tensors with colour": (TENSOR.expand(2, 3, 16, 16), TENSOR),
    "tensors with gradients": (TENSOR.clone().requires_grad_(), TENSOR),
}
REFUSED = {
    "a tensor and an array": (TENSOR, GREY),
    "an array and a tensor": (GREY, TENSOR),
    "more x": (TENSOR, TENSOR[:1]),
    "more y_hat": (TENSOR[:1], TENSOR),
    "no images": (TENSOR[:0], TENSOR[:0]),
    "one tensor (C, H, W)": (TENSOR[0], TENSOR[0]),
    "a tensor (H, W)": (TENSOR, TENSOR[0, 0]),
    "a volume": (VOLUMES[0], VOLUMES[0]),
    "a tensor of volumes": (TENSOR[None], TENSOR[None]),
    "too many channels": (COLOUR, COLOUR),
    "uint16 where the range was 0 to 1": ((65535 * GREY).astype(np.uint16), GREY),
    "int64": (GREY.astype(np.int64), GREY.astype(np.int64)),
    "uint8 tensors": ((255 * TENSOR).byte(), (255 * TENSOR).byte()),
    "complex": (GREY.astype(complex), GREY),
    "values above 1": (2 * GREY, GREY),
    "a tensor above 1": (2 * TENSOR, TENSOR),
    "NaN": (GREY * np.nan, GREY),
    "an empty array": (GREY[:0], GREY[:0]),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("pair", ACCEPTED.values(), ids=ACCEPTED)
def test_what_both_take(planes, pair):
    masks = np.asarray(planes(*pair))
    rows = cm.show(planes, *pair).rows
    sizes = 1 - masks.reshape(len(rows), -1).mean(axis=1)
    assert [row.facts[0] for row in rows] == [f"hidden {rounded_share(size)}" for size in sizes]


@pytest.mark.parametrize("pair", REFUSED.values(), ids=REFUSED)
def test_what_both_refuse(planes, pair):
    said = refusal(lambda: planes(*pair))
    assert said is not None
    assert said == refusal(lambda: cm.show(planes, *pair)) == refusal(lambda: planes.error_bounds(*pair))


@UNTYPED
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_no_type_allows(planes):
    for pair in ((GREY, None), ("x.png", "y_hat.png")):
        test_what_both_refuse(planes, pair)
    test_what_both_take(planes, (GREY.tolist(), GREY.tolist()))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_volumes(volumes):
    array = VOLUMES[0]
    tensor = torch.from_numpy(array)[None, None]
    assert volumes(array, array).shape == array.shape
    assert volumes(tensor, tensor).shape == tensor.shape
    assert len(cm.show(volumes, array, array).rows) == len(cm.show(volumes, tensor, tensor).rows) > 1
    said = refusal(lambda: volumes(TENSOR, TENSOR))
    assert said == refusal(lambda: cm.show(volumes, TENSOR, TENSOR))
    assert said is not None
    assert "the promise is about volumes, but these are planes of 16 x 16 pixels" in said
    said = refusal(lambda: volumes(TENSOR[0], TENSOR[0]))
    assert said == refusal(lambda: cm.show(volumes, TENSOR[0], TENSOR[0]))
    assert said is not None
    assert said.endswith("give a tensor (N, C, D, H, W), or an array of one image")


def test_a_triplet_has_all(planes):
    y = PLANES[:1]
    triplet = cm.Triplets.from_arrays(y**2, y**1.5, y)[0]
    (row,) = cm.show(planes, triplet).rows
    (same,) = cm.show(planes, y[0] ** 2, y[0] ** 1.5, y[0]).rows
    assert row.facts == same.facts
    assert row.facts[0] == f"hidden {rounded_share(1 - planes(triplet).mean())}"
    with pytest.raises(cm.ConformaskError, match="x is a Triplet, which has y_hat: give it alone"):
        cm.show(planes, triplet, y[0])
    with pytest.raises(cm.ConformaskError, match="x is a Triplet, which has y_hat: give it alone"):
        planes(triplet, y[0])


def test_a_truth_is_of_the_same_kind(planes):
    with pytest.raises(cm.ConformaskError, match="x, y_hat and y must all be tensors or all be arrays"):
        cm.show(planes, GREY, GREY, TENSOR)
