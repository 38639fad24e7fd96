"""A campaign of requests against the viewer: whatever is sent, it refuses in order and goes on.

The application gets 300 requests, or with CONFORMASK_FUZZ=4 four times as many; a server gets a fifth of
them, as bytes. Each hundred has its own seed.
"""

import io
import os
import socket
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from conformask.extras.view import app as connections, uploads
from conformask.extras.view.app import application, listening, server
from conformask.extras.view.session import Session
from conformask.masker.calibrate import calibrate
from conformask.scores.scorer import Heuristic
from synthetic_triplets import scale_of, triplets

EACH, EACH_RAW = 100, 20
SEEDS = range(300 * int(os.environ.get("CONFORMASK_FUZZ", "1")) // EACH)
PORT, TOKEN, SIDE = 8000, "token-of-the-campaign", 8
QUESTION = "/api/promise?image=00000"
BUSY = 503

METHODS = ("GET",) * 6 + ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "X" * 40)
PLACES = (
    "/", "/palette.css", "/api/session", "/api/images", "/api/images/{}", "/api/images/{}/score",
    "/api/images/{}/thumbnail.jpg", "/api/images/{}/output.png", "/api/images/{}/truth.png", "/api/promise",
    "/api/distance", "/api/uploads", "/static/app.js", "/static/{}", "/static", "/{}", "/api/{}",
)  # fmt: skip
NAMES = (
    "00001", "nobody", "", ".", "..", "../../app.py", "%2e%2e%2fapp.py", "%00", "a%00b", "%ff%fe", "%", "%zz",
    "%C3%A9", "\\", "//", "a" * 5000, "%0d%0aX: y", "?", ";", "~root", "C:", "{name}", "%F0%9F%98%80",
)  # fmt: skip
KEYS = ("image", "threshold", "confidence", "token", "nobody", "", "%00")
VALUES = (
    "0.1", "1", "nan", "-nan", "inf", "-inf", "1e400", "1e-320", "-1", "0", "", "true", "None", "0x10", "1_0",
    "[]", "%00", "9" * 400, "1" * 5000, "%ff", "0.9999999999999999", "00000", "nobody", " 1 ", "%EF%BC%91",
)  # fmt: skip
FORM = "multipart/form-data; boundary=b"
TYPES = (
    FORM, "multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="b',
    "multipart/form-data; boundary=" + "b" * 300, "multipart/form-data; boundary=ü", FORM + "; charset=utf-7",
    FORM + "; charset=unicode_escape", FORM + "; charset=utf-16", FORM + "; charset=a\0",
    FORM + "; charset=punycode", FORM + "; charset=rot13", FORM + "; charset=zlib",
    "multipart/mixed; boundary=b", "application/x-www-form-urlencoded", "application/json", "", ";", "text",
)  # fmt: skip
ROLES = ("x", "y_hat", "y", "category", "weight", "z", "", "x" * 2000)
FILES = (
    "mine.png", "mine.tif", "mine.npy", "mine.jpg", "mine.zarr", "mine.txt", "", ".png", "../x.png",
    "a\0.png", "a\nb.png", "+2AA-.png", "\\ud800.png", "x" * 3000 + ".png", "C:\\x.png", "é.png", '"',
    "00000.png", "%.png", "a;b.png",
)  # fmt: skip
HEADERS = {
    "Cookie": ("conformask-8000=no", "=;;=", "a" * 4000, 'x="\\', "conformask=é"),
    "Accept": ("text/html", "", "*/*;q=é", "text/html" * 100),
    "Sec-Fetch-Site": ("cross-site", "same-site", "none", "é"),
    "Range": ("bytes=0-1", "bytes=-", "bytes=9-1", "bytes=0-1,2-3", "bytes=" + "0-1," * 300, "x=é"),
    "If-None-Match": ("*", '"', "é"),
    "If-Modified-Since": ("yesterday", "Fri, 99 Foo 9999 99:99:99 GMT", "1"),
    "If-Range": ("*", "é"),
    "X-Forwarded-For": ("evil.example", "é"),
    "X-Forwarded-Proto": ("javascript", "https"),
    "Upgrade": ("websocket", "h2c"),
    "Connection": ("upgrade", "close"),
    "Expect": ("100-continue", "200"),
}
HOSTS = ("localhost", "evil.example", "127.0.0.1:8000:1", "[::1]", "", "127.0.0.1:99999", "a" * 3000)
ORIGINS = ("null", "https://evil.example", "", "é")
LENGTHS = ("0", "1", "-1", str(10**9), str(10**30), "x")
PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


def cookie(port):
    return f"conformask-{port}={TOKEN}"


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    has_token: bool

    @property
    def encoded_headers(self):
        return [(name.encode(), value.encode()) for name, value in self.headers]


class Requests:
    """The random requests of a seed."""

    def __init__(self, seed, port):
        self._draw = np.random.default_rng(seed)
        self._port = port

    def _one(self, choices):
        return choices[self._draw.integers(len(choices))]

    def _often(self, share):
        return bool(self._draw.random() < share)

    def request(self):
        uploads_one, has_token = self._often(0.4), self._often(0.7)
        method, place = ("POST", "/api/uploads") if uploads_one else (self._one(METHODS), self._one(PLACES))
        path = place.format("00000" if self._often(0.5) else self._one(NAMES)) + self._query()
        headers = self._headers() + ([("Cookie", cookie(self._port))] if has_token else [])
        if not uploads_one:
            return Asked(method, path, tuple(headers), b"", has_token)
        headers.append(("Content-Type", FORM if self._often(0.7) else self._one(TYPES)))
        return Asked(method, path, tuple(headers), self._form(), has_token)

    def wire(self):
        """A request with its bytes, now and then broken."""
        asked = self.request()
        length = str(len(asked.body)) if self._often(0.9) else self._one(LENGTHS)
        lines = [f"{asked.method} {asked.path.replace(' ', '%20')} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in asked.headers]
        lines += [f"Content-Length: {length}", "Connection: close", "", ""]
        whole = "\r\n".join(lines).encode() + asked.body
        return asked, self._mutated(whole) if self._often(0.4) else whole

    def _query(self):
        if self._often(0.4):
            return ""
        count = self._draw.integers(1, 5) if self._often(0.95) else 2000
        pairs = [f"{self._one(KEYS)}={self._one(VALUES)}" for _ in range(count)]
        return "?" + "&".join(["image=00001"] * self._often(0.5) + pairs)[:50_000]

    def _headers(self):
        host = f"127.0.0.1:{self._port}" if self._often(0.9) else self._one(HOSTS)
        origin = f"http://{host}" if self._often(0.9) else self._one(ORIGINS)
        strange = [(name, self._one(values)) for name, values in HEADERS.items() if self._often(0.1)]
        return [("Host", host), ("Origin", origin), *strange]

    def _form(self):
        roles = ["x", "y_hat"] + ["y"] * self._often(0.5)
        if self._often(0.3):
            roles += [self._one(ROLES) for _ in range(self._draw.integers(1, 4) if self._often(0.9) else 500)]
        form = b"".join(map(self._part, roles)) + b"--b--\r\n"
        return self._mutated(form) if self._often(0.4) else form

    def _part(self, role):
        if role in ("category", "weight"):
            return PART % (role.encode(), b"", self._one(VALUES).encode())
        suffix, content = IMAGES[0] if self._often(0.5) else self._one(IMAGES)
        name = f"mine.{suffix}" if self._often(0.8) else self._one(FILES)
        if self._often(0.2):
            content = self._mutated(content) if self._often(0.9) else self._form()
        return PART % (role.encode(), b'; filename="%s"' % name.encode(), content)

    def _mutated(self, content):
        """Some bytes of its head changed, a piece cut out or doubled, or the end cut off."""
        changed = bytearray(content)
        start, stop = sorted(self._draw.integers(0, len(content) + 1, 2))
        match self._draw.integers(4):
            case 0:
                places = self._draw.integers(0, min(len(content), 400), 1 + self._draw.integers(8))
                for place in places:
                    changed[place] = self._draw.integers(256)
            case 1:
                del changed[start:stop]
            case 2:
                changed[stop:stop] = changed[start:stop]
            case _:
                del changed[stop:]
        return bytes(changed)


def _images():
    """Suffix and content: first what the masker takes."""
    grey = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)
    deep, colour = grey.astype(np.uint16) * 257, np.repeat(grey[..., None], 3, axis=2)
    pillow = [("png", grey), ("tif", grey), ("jpg", grey), ("png", deep), ("png", colour), ("jpg", colour)]
    images = [(suffix, Image.fromarray(array)) for suffix, array in pillow]
    images += [("png", Image.fromarray(grey).convert(mode)) for mode in ("1", "P", "LA", "RGBA")]
    unit = grey / np.float32(255)
    odd = [unit[:5], unit[:, :0], unit[0], np.stack([unit] * 40, 2), unit * np.nan, unit * 1e9, unit * 1j]
    odd += [grey.astype(kind) for kind in (bool, np.int64, np.float16, np.float64, ">f4", "U3")]
    arrays = [("npy", array) for array in (grey, unit, *odd, np.zeros(3, "i4,f4"))]
    return [(suffix, _file(suffix, content)) for suffix, content in (*images, *arrays)]


def _file(suffix, content):
    buffer = io.BytesIO()
    if suffix == "npy":
        np.save(buffer, content)
    else:
        content.save(buffer, {"png": "PNG", "tif": "TIFF", "jpg": "JPEG"}[suffix])
    return buffer.getvalue()


IMAGES = _images()


@pytest.fixture(scope="module")
def masker():
    parts = triplets(60, 0), triplets(60, 1)
    scorer = Heuristic(scale_of, channels=1)
    return calibrate(scorer, parts[0], selection=parts[1], loss="l1", threshold="q0.3", family="power")


@pytest.fixture
def session(masker):
    return Session(masker, triplets(3, 2))


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.iterdir()) == []


def check(asked, status, content, refusals):
    """A refusal without the token, and never a failure."""
    assert status < 500 or status == BUSY, (asked, content)
    assert asked.has_token or (status in refusals and TOKEN.encode() not in content), (asked, status, content)


@pytest.mark.quick(1)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_request_breaks_the_application(session, seed):
    origin, mine = f"http://127.0.0.1:{PORT}", {"Cookie": cookie(PORT)}
    client = TestClient(application(session, PORT, TOKEN), base_url=origin, follow_redirects=False)
    before = promised(client, mine)
    requests = Requests(seed, PORT)
    for _ in range(EACH):
        asked = requests.request()
        url = client.base_url.copy_with(raw_path=asked.path.encode("ascii"))
        answer = client.request(asked.method, url, headers=asked.encoded_headers, content=asked.body)
        check(asked, answer.status_code, answer.content, refusals=(403,))
    assert before["status"]["name"] == "calibrated"
    assert promised(client, mine) == before
    entries = client.get("/api/images", headers=mine).json()["images"]
    assert [entry["name"] for entry in entries if not entry["uploaded"]] == list(triplets(3, 2).names)


@pytest.mark.quick(1)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_bytes_break_the_server(session, seed, monkeypatch, capfd):
    for module in (connections, uploads):
        monkeypatch.setattr(module, "PATIENCE", 0.2)
    with served(session) as port:
        requests = Requests(len(SEEDS) + seed, port)
        asked, sent = zip(*(requests.wire() for _ in range(EACH_RAW)), strict=True)
        clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in sent]
        for client, content in zip(clients, sent, strict=True):
            with suppress(ConnectionError):
                client.sendall(content)
        for one, client in zip(asked, clients, strict=True):
            if content := all_of(client):
                check(one, int(content.split(b" ", 2)[1]), content, refusals=(400, 403))
        answer = httpx.get(f"http://127.0.0.1:{port}{QUESTION}", headers={"Cookie": cookie(port)})
        assert answer.json()["status"]["name"] == "calibrated"
    assert "Exception" not in capfd.readouterr().err


def promised(client, mine):
    """The answer but for what was measured, which grows with the images that were opened."""
    answer = client.get(QUESTION, headers=mine).json()
    return {name: value for name, value in answer.items() if name != "measured"}


def all_of(client):
    """What comes until the connection is closed."""
    content = b""
    with client, suppress(ConnectionError):
        while piece := client.recv(2**16):
            content += piece
    return content


@contextmanager
def served(session):
    """The port of a real server."""
    with listening(0) as bound:
        running = server(session, bound, TOKEN)
        thread = threading.Thread(target=running.run, args=([bound],), daemon=True)
        thread.start()
        try:
            yield bound.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join(10)
