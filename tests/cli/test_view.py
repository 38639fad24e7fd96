"""The viewer by command line: started, found, stopped."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

START = "from conformask.cli import main; main()"


@pytest.fixture
def viewer(made):
    """Starts one; whatever happens, it is gone afterwards."""
    running = []

    def start(*options: str) -> subprocess.Popen:
        run, data = str(made / "run"), str(made / "data")
        command = [sys.executable, "-c", START, "view", run, data, "--headless", *options]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_it_serves_a_run_and_ends_quietly_with_ctrl_c(viewer, made):
    process = viewer("--port", "0", "--json")
    told = json.loads("".join(process.stdout.readline() for _ in range(3)))
    assert told["url"].startswith("http://127.0.0.1:")
    with urllib.request.urlopen(told["url"] + "api/images", timeout=30) as answer:
        names = {entry["name"] for entry in json.load(answer)}
    assert names == {path.stem for path in (made / "data" / "x").iterdir()}
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


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
    monkeypatch.delitem(sys.modules, "conformask.viewer.serve", raising=False)
    answer = conformask("view", made / "run", made / "data", "--headless")
    assert answer.status == 1
    assert "pip install 'conformask[view]'" in answer.err


def test_a_run_that_is_not_calibrated_is_refused(conformask, made, tmp_path):
    answer = conformask("view", tmp_path, made / "data", "--headless", "--port", 0)
    assert answer.status == 1
    assert "calibrate it first" in answer.err
