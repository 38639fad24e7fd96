"""Nobody but the page itself, opened with the token on this machine, is answered."""

import pytest
from fastapi.testclient import TestClient

from conformask.extras.view.app import application

pytestmark = pytest.mark.xdist_group("viewer")

PORT = 8000
OURS = f"http://127.0.0.1:{PORT}"
EVIL = "https://evil.example"
TOKEN = "another-token"
PATHS = ("/", "/api/images", "/api/session", "/static/app.js", "/palette.css", "/nowhere")


@pytest.fixture
def stranger(session) -> TestClient:
    """From the right origin, without the token."""
    return TestClient(
        application(session, PORT, TOKEN),
        base_url=OURS,
        headers={"Origin": OURS},
        follow_redirects=False,
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
