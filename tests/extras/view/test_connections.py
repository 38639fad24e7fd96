"""Clients that send slowly, read slowly, or not at all: the others do not notice."""

import io
import json
import os
import socket
import tempfile
import time
from contextlib import suppress
from http.client import HTTPConnection

import numpy as np
import pytest

from conformask.extras.view import app as connections
from conformask.extras.view import session as uploads
from conformask.extras.view.session import Session
from conformask.images.triplets import Triplets

pytestmark = pytest.mark.xdist_group("viewer")

PATIENCE, TICK = 0.4, 0.05
FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="wire.npy"\r\n\r\n%s\r\n'
END = b"--b--\r\n"


class Wire:
    """Raw connections to a viewer, with its token."""

    def __init__(self, address: str) -> None:
        self.origin, _, query = address.partition("/?")
        self.host = self.origin.partition("//")[2]
        self.place = ("127.0.0.1", int(self.host.partition(":")[2]))
        self.cookie = f"conformask-{self.place[1]}={query.removeprefix('token=')}"

    def connect(self) -> socket.socket:
        return socket.create_connection(self.place, timeout=5)

    def head(self, method: str, path: str, **more: object) -> bytes:
        headers = {"Host": self.host, "Origin": self.origin, "Cookie": self.cookie} | more
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()

    def upload_of(self, size: int) -> bytes:
        return self.head("POST", "/api/uploads", Content_Type=FORM, Content_Length=size)

    def ask(self, method: str, path: str, body: bytes | None = None, timeout: float = 2) -> tuple[int, bytes]:
        """What a prompt client is answered within two seconds, or another time."""
        asking = HTTPConnection(*self.place, timeout=timeout)
        try:
            asking.request(
                method, path, body, {"Origin": self.origin, "Cookie": self.cookie, "Content-Type": FORM}
            )
            answer = asking.getresponse()
            return answer.status, answer.read()
        finally:
            asking.close()

    def answers(self) -> bool:
        return self.ask("GET", "/api/images")[0] == 200


@pytest.fixture
def wire(address) -> Wire:
    return Wire(address)


@pytest.fixture
def pair(world) -> bytes:
    """The parts of a good upload."""
    return b"".join(PART % (role.encode(), npy(getattr(world.shown[0], role))) for role in ("x", "y_hat"))


def npy(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.moveaxis(image, 0, -1))
    return buffer.getvalue()


def dribbled(client: socket.socket, rest: bytes) -> tuple[float, bytes]:
    """Send the rest byte by byte until the connection is closed; after how long it was, and what came."""
    client.settimeout(TICK)
    started, got = time.monotonic(), b""
    for place in range(int(20 * PATIENCE / TICK)):
        try:
            client.sendall(rest[place : place + 1])
            with suppress(TimeoutError):
                answer = client.recv(2**16)
                if answer == b"":
                    return time.monotonic() - started, got
                got += answer
        except ConnectionError:
            return time.monotonic() - started, got
    return float("inf"), got


WHOLE = "a whole request first"
BEGUN = "a whole request and a byte of the next"


@pytest.mark.quick(2)
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\nX: " + b"a" * 1000], ids=["nothing", "dribble"])
@pytest.mark.parametrize("first", ["", WHOLE, BEGUN])
def test_who_does_not_finish_a_head_is_dropped(wire, monkeypatch, first, rest):
    monkeypatch.setattr(connections, "PATIENCE", PATIENCE)
    with wire.connect() as client:
        if first:
            client.sendall(wire.head("GET", "/api/images") + (b"G" if first == BEGUN else b""))
            assert client.recv(2**16).startswith(b"HTTP/1.1 200")
        assert wire.answers()
        assert 0.5 * PATIENCE < dribbled(client, rest)[0] < 10 * PATIENCE


def test_who_goes_on_sending_after_the_answer_is_dropped(wire, monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE", PATIENCE)
    with wire.connect() as client:
        client.sendall(wire.head("GET", "/api/images", Content_Length=10**9))
        assert client.recv(2**16).startswith(b"HTTP/1.1 200")
        assert dribbled(client, b"a" * 1000)[0] < 10 * PATIENCE


def test_a_stranger_s_body_is_not_waited_for(wire):
    with wire.connect() as client:
        client.sendall(wire.head("POST", "/api/uploads", Cookie="", Content_Length=10**9) + bytes(1000))
        assert client.recv(2**16).startswith(b"HTTP/1.1 403")
        assert dribbled(client, b"a" * 1000)[0] < PATIENCE


def test_of_too_many_connections_those_that_wait_for_longest_go(wire, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    idle = [wire.connect() for _ in range(20)]
    assert wire.answers()
    open_ones = []
    for client in idle:
        client.settimeout(TICK)
        try:
            open_ones.append(client.recv(1) != b"")
        except TimeoutError:
            open_ones.append(True)
        except ConnectionError:
            open_ones.append(False)
        client.close()
    assert open_ones == [False] * 13 + [True] * 7


@pytest.mark.thorough
def test_an_upload_at_a_mebibyte_a_second_is_taken(wire, pair, monkeypatch):
    """It takes longer than the patience with a client that sends nothing."""
    monkeypatch.setattr(uploads, "PATIENCE", 0.3)
    body = PART.replace(b'; filename="wire.npy"', b"") % (b"category", bytes(600_000)) + pair + END
    with wire.connect() as client:
        client.sendall(wire.upload_of(len(body)))
        started = time.monotonic()
        for start in range(0, len(body), 2**15):
            client.sendall(body[start : start + 2**15])
            time.sleep(2**15 / 2**20)
        assert time.monotonic() - started > 0.6
        answer = client.recv(2**16)
        while b"\r\n\r\n{" not in answer:  # the body may come in a packet of its own
            answer += client.recv(2**16)
        assert answer.endswith(b'{"name":"wire"}')


@pytest.mark.thorough
def test_an_upload_byte_by_byte_is_refused_and_gives_its_room_back(wire, pair, monkeypatch):
    for module in (uploads, connections):
        monkeypatch.setattr(module, "PATIENCE", PATIENCE)
    with wire.connect() as client:
        client.sendall(wire.upload_of(uploads.MOST_BYTES) + pair[:1000])
        time.sleep(TICK)
        status, answer = wire.ask("POST", "/api/uploads", pair + END)
        assert status == 400
        assert "other uploads are being read: try again" in json.loads(answer)["error"]
        seconds, answer = dribbled(client, b"a" * 1000)
    assert answer.startswith(b"HTTP/1.1 400")
    assert "too slow, below 64 KiB per second" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert seconds < 10 * PATIENCE
    assert wire.ask("POST", "/api/uploads", pair + END) == (200, b'{"name":"wire"}')


def test_an_upload_that_breaks_off_leaves_nothing(capfd, wire, pair, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with wire.connect() as client:
        begun = PART.removesuffix(b"%s\r\n") % b"x" + bytes(3 * 2**20)
        client.sendall(wire.upload_of(uploads.MOST_BYTES) + begun)
        wait_for(lambda: spooled(tmp_path))
    wait_for(lambda: not spooled(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert wire.ask("POST", "/api/uploads", pair + END)[0] == 200
    assert capfd.readouterr().err == ""


def spooled(folder) -> list[str]:
    """Open files there, which have no name any more."""
    opened = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [file for file in opened if file.startswith(str(folder))]


def wait_for(happened) -> None:
    for _ in range(100):
        if happened():
            return
        time.sleep(TICK)
    raise AssertionError("it did not happen")


@pytest.mark.thorough
def test_who_reads_slowly_does_not_hold_the_others(world, serving):
    """An answer of 16 MiB, which no buffer holds, to twenty clients that do not read."""
    noise = np.random.default_rng(0).random((2048, 2048, 3), np.float32)
    with serving(Session(world.masker, Triplets.from_arrays([noise], [noise], names=["large"]))) as address:
        wire = Wire(address)
        wire.ask("GET", "/api/images/large", timeout=60)  # scored once, which is not what is tested
        clients = [wire.connect() for _ in range(20)]
        for client in clients:
            client.sendall(wire.head("GET", "/api/images/large/score"))
        assert [client.recv(12) for client in clients] == [b"HTTP/1.1 200"] * 20
        assert wire.answers()
        for client in clients:
            client.close()
        assert wire.answers()
