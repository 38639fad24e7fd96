"""Nobody but the page itself, on this machine, is answered."""

import pytest

pytestmark = pytest.mark.xdist_group("viewer")

OURS = "http://127.0.0.1:8000"
EVIL = "https://evil.example"


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
