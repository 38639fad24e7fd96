"""Who may ask the server, and what slow, silent and broken connections do to it."""

import io
import json
import os
import socket
import tempfile
import threading
import time
import webbrowser
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
from fastapi.testclient import TestClient

from conformask.errors import InvalidArgumentError
from conformask.extras.view import app as connections, uploads
from conformask.extras.view.app import application, listening, open_browser, url_of
from conformask.extras.view.session import Session
from conformask.images.triplets import Triplets

pytestmark = pytest.mark.xdist_group("viewer")
PATIENCE, TICK = 0.4, 0.05
FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="wire.npy"\r\n\r\n%s\r\n'
END = b"--b--\r\n"


class Wire:
    """Raw connections to a viewer, with its token."""

    def __init__(self, address):
        self.origin, _, query = address.partition("/?")
        self.host = self.origin.partition("//")[2]
        self.place = ("127.0.0.1", int(self.host.partition(":")[2]))
        self.cookie = f"conformask-{self.place[1]}={query.removeprefix('token=')}"

    def connect(self):
        return socket.create_connection(self.place, timeout=5)

    def head(self, method, path, **more):
        headers = {"Host": self.host, "Origin": self.origin, "Cookie": self.cookie} | more
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()

    def upload_of(self, size):
        return self.head("POST", "/api/uploads", Content_Type=FORM, Content_Length=size)

    def ask(self, method, path, body=None, timeout=2):
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

    def answers(self):
        return self.ask("GET", "/api/images")[0] == 200


@pytest.fixture
def wire(address):
    return Wire(address)


@pytest.fixture
def pair(world):
    """The parts of a good upload."""
    return b"".join(PART % (role.encode(), npy(getattr(world.shown[0], role))) for role in ("x", "y_hat"))


def npy(image):
    buffer = io.BytesIO()
    np.save(buffer, np.moveaxis(image, 0, -1))
    return buffer.getvalue()


def dribbled(client, rest):
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
    started = time.monotonic()
    with wire.connect() as client:
        if first:
            client.sendall(wire.head("GET", "/api/images") + (b"G" if first == BEGUN else b""))
            assert client.recv(2**16).startswith(b"HTTP/1.1 200")
        assert wire.answers()
        assert dribbled(client, rest)[0] < 10 * PATIENCE
        assert time.monotonic() - started > 0.5 * PATIENCE


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


def spooled(folder):
    """Open files there, which have no name any more."""
    opened = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [file for file in opened if file.startswith(str(folder))]


def wait_for(happened):
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


def test_it_listens_on_this_machine_only_and_answers_without_delay():
    with listening(0) as bound:
        assert bound.getsockname()[0] == "127.0.0.1"
        assert bound.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sets TCP_NODELAY
        with socket.create_connection(bound.getsockname(), timeout=5):
            assert url_of(bound, None) == f"http://127.0.0.1:{bound.getsockname()[1]}/"
            assert url_of(bound, "abc") == f"http://127.0.0.1:{bound.getsockname()[1]}/?token=abc"


def test_two_viewers_do_not_share_a_port():
    with listening(0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(InvalidArgumentError, match=f"port {port} cannot be used.*another viewer"):
            listening(port)
    with listening(port):
        pass


def test_the_browser_s_command_line_holds_no_token(monkeypatch):
    """It gets a file that only its owner can read, gone when the viewer stops."""
    opened, stopped = Queue(), threading.Event()
    monkeypatch.setattr(webbrowser, "open", opened.put)
    thread = threading.Thread(target=open_browser, args=("http://127.0.0.1:8000/?token=secret", stopped))
    thread.start()
    page = Path(opened.get(timeout=5).removeprefix("file://"))
    assert "secret" not in str(page)
    assert "url=http://127.0.0.1:8000/?token=secret" in page.read_text()
    assert page.parent.stat().st_mode & 0o777 == 0o700
    stopped.set()
    thread.join(5)
    assert not page.parent.exists()


@pytest.mark.parametrize("error", [webbrowser.Error("no runnable browser"), OSError("no such file")])
@pytest.mark.parametrize("what", ["webbrowser.open", "tempfile.mkdtemp"])
def test_a_browser_that_cannot_be_opened_breaks_nothing(monkeypatch, what, error):
    def fail(*given):
        raise error

    monkeypatch.setattr(what, fail)
    open_browser("http://127.0.0.1:8000/", threading.Event())


PORT = 8000
OURS = f"http://127.0.0.1:{PORT}"
EVIL = "https://evil.example"
TOKEN = "another-token"
PATHS = ("/", "/api/images", "/api/session", "/static/app.js", "/palette.css", "/nowhere")


@pytest.fixture
def stranger(session):
    """From the right origin, without the token."""
    return TestClient(
        application(session, PORT, TOKEN), base_url=OURS, headers={"Origin": OURS}, follow_redirects=False
    )


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_answered(stranger, path):
    answer = stranger.get(path)
    assert answer.status_code == 403
    assert "open the address that conformask view printed" in answer.json()["error"]
    assert list(answer.json()) == ["error"]
    assert stranger.post("/api/uploads").status_code == 403


@pytest.mark.parametrize("path", PATHS)
def test_the_token_becomes_a_cookie_and_leaves_the_address(stranger, path):
    answer = stranger.get(path, params={"image": "a b", "token": TOKEN})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{OURS}{path}?image=a+b"
    assert answer.content == b""
    value, *attributes = answer.headers["set-cookie"].lower().split("; ")
    assert value == f"conformask-8000={TOKEN}"
    assert set(attributes) == {"httponly", "samesite=strict", "path=/"}  # ends with the browser
    assert stranger.get(path).status_code == (404 if path == "/nowhere" else 200)
    assert stranger.get("/", params={"token": TOKEN}).status_code == 303


@pytest.mark.parametrize("wrong", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ü", "\0", "a" * 50_000])
def test_another_token_is_refused(stranger, wrong):
    assert stranger.get("/", params={"token": wrong}).status_code == 403
    for cookie in (f"conformask-8000={wrong}", f"conformask-8001={TOKEN}", f"token={TOKEN}"):
        answer = stranger.get("/api/images", headers={b"Cookie": cookie.encode()})
        assert answer.status_code == 403


def test_the_token_in_the_address_of_a_write_is_not_enough(stranger):
    assert stranger.post("/api/uploads", params={"token": TOKEN}).status_code == 403


def test_a_refusal_ends_the_connection(stranger):
    assert stranger.post("/api/uploads").headers["connection"] == "close"


def test_a_browser_is_refused_in_a_page(stranger):
    answer = stranger.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/html")
    assert "open the address that conformask view printed" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_link_of_another_site_is_asked_once_more_without_end(stranger):
    """The browser keeps a SameSite=Strict cookie from it, but not from the page of the refusal."""
    assert stranger.get("/", headers={"Sec-Fetch-Site": "cross-site"}).headers["refresh"] == "0; url=/"
    for site in ("same-origin", "same-site", "none"):
        assert "refresh" not in stranger.get("/", headers={"Sec-Fetch-Site": site}).headers
    assert "refresh" not in stranger.get("/api/images", headers={"Sec-Fetch-Site": "cross-site"}).headers


def test_a_viewer_without_a_token_asks_for_none(session):
    everybody = TestClient(application(session, PORT, None), base_url=OURS)
    for path in PATHS[:-1]:
        answer = everybody.get(path)
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
    assert everybody.get("/api/images", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1:8001", "127.0.0.1", "[::1]:8000", ""]
)
def test_another_host_is_refused(client, host):
    for path in ("/", "/api/images", "/static/app.js"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 403
        assert "answers at 127.0.0.1:8000 and localhost:8000 only" in answer.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000"])
def test_its_own_names_are_answered(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", [EVIL, "null", "http://127.0.0.1:8001", "http://localhost:8000", "https://127.0.0.1:8000"]
)
def test_writes_from_another_origin_are_refused(client, origin):
    answer = client.post("/api/uploads", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "own page only" in answer.json()["error"]


def test_writes_without_an_origin_are_refused(client):
    del client.headers["Origin"]
    assert client.post("/api/uploads").status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_pages_read_nothing(client, site):
    for path in ("/api/images", "/api/session"):
        assert client.get(path, headers={"Sec-Fetch-Site": site}).status_code == 403
    assert client.get("/", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_no_answer_is_shared_with_other_origins(client):
    for path in ("/", "/api/images", "/static/app.js", "/palette.css", "/nowhere"):
        headers = client.get(path, headers={"Origin": OURS}).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.startswith("access-control")]
    preflight = client.options(
        "/api/uploads", headers={"Origin": EVIL, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 403


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/docs", "/openapi.json"]
)
def test_only_the_page_s_own_files_are_served(client, path):
    assert client.get(path).status_code == 404
