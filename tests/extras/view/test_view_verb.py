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
from urllib.parse import parse_qs, urlsplit

import pytest

from conformask.extensions import pip_install
from conformask.extras.view import verbs as verb
from conformask.images.triplets import Triplets

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

    def start(*options: str, headless: bool = True) -> subprocess.Popen:
        run, data = str(made / "run"), str(made / "data")
        command = [sys.executable, "-c", START, "view", run, data, *(["--headless"] * headless), *options]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def url_of(process: subprocess.Popen) -> str:
    return json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["url"]


def names_at(origin: str, asking: urllib.request.OpenerDirector) -> set[str]:
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
        answer = conformask("view", made / "run", made / "data", "--headless", "--port", port)
    assert (answer.status, answer.out) == (1, "")
    assert f"port {port} cannot be used" in answer.err
    assert "choose another with --port" in answer.err


@pytest.mark.parametrize("port", [-1, 70000])
def test_no_such_port(conformask, made, port):
    answer = conformask("view", made / "run", made / "data", "--headless", f"--port={port}")
    assert answer.status == 1
    assert "give 0 (any free one) to 65535" in answer.err


def test_without_the_extra_it_says_what_to_install(conformask, made, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "conformask.extras.view.app", raising=False)
    answer = conformask("view", made / "run", made / "data", "--headless")
    assert answer.status == 1
    assert pip_install("view") in " ".join(answer.err.split())


def test_a_run_that_is_not_calibrated_is_refused(conformask, made, tmp_path):
    answer = conformask("view", tmp_path, made / "data", "--headless", "--port", 0)
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
