"""Access to the viewer: for whoever has its token, on this machine, and no page of another origin."""

from pathlib import Path
from secrets import compare_digest
from string import Template

from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")
READS = ("GET", "HEAD")
OUR_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; form-action 'self'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PAGE = Template((Path(__file__).parent / "refused.html").read_text(encoding="utf-8"))
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""Content security policy of the page of a refusal, which carries its style because it may load nothing."""
NO_TOKEN = "the viewer's token is missing or old: open the address that conformask view printed"
AGAIN = "0; url=/"
"""Refresh header that makes a browser ask again: after a link on another site it omits a Strict cookie."""


class Guard:
    """Middleware that refuses other hosts (DNS rebinding) or origins, writes without origin, or no token."""

    def __init__(self, app: ASGIApp, port: int, token: str | None) -> None:
        self._app, self._token = app, token
        self._hosts = {f"{host}:{port}" for host in HOSTS} | (set(HOSTS) if port == 80 else set())
        self._cookie = f"conformask-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in OUR_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._answer(HTTPConnection(scope)) or self._app
        await answer(scope, receive, send_guarded)

    def _answer(self, request: HTTPConnection) -> Response | None:
        """Return a refusal, or the cookie in exchange for the token; None passes on to the application."""
        if refusal := self._refusal(request):
            return _refusal_response(request, refusal)
        if self._token is None:
            return None
        if request.scope["method"] in READS and self._is_token(request.query_params.get("token")):
            return self._admit(request, self._token)
        if self._is_token(request.cookies.get(self._cookie)):
            return None
        response = _refusal_response(request, NO_TOKEN)
        if request.headers.get("sec-fetch-site") == "cross-site":
            response.headers["Refresh"] = AGAIN
        return response

    def _refusal(self, request: HTTPConnection) -> str | None:
        headers, scope = request.headers, request.scope
        if headers.get("host") not in self._hosts:
            return f"this viewer answers at {' and '.join(sorted(self._hosts))} only"
        if scope["path"].startswith("/api/") and headers.get("sec-fetch-site", "none") not in (
            "same-origin",
            "none",
        ):
            return "this viewer does not answer requests from pages of another origin"
        if scope["method"] not in READS and headers.get("origin") != f"http://{headers['host']}":
            return "this viewer takes uploads from its own page only"
        return None

    def _is_token(self, token: str | None) -> bool:
        # compare_digest takes the same time for any wrong token, so that it cannot be guessed byte by byte
        return self._token is not None and compare_digest((token or "").encode(), self._token.encode())

    def _admit(self, request: HTTPConnection, token: str) -> Response:
        """Redirect to the address without the token, which is in the cookie from now on."""
        response = RedirectResponse(str(request.url.remove_query_params("token")), 303)
        response.set_cookie(self._cookie, token, httponly=True, samesite="strict")
        return response


def _refusal_response(request: HTTPConnection, message: str) -> Response:
    """Return 403 as a page for a browser, as JSON for the page's own requests; then close the connection."""
    headers = {"Connection": "close"}
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": message}, 403, headers)
    headers["Content-Security-Policy"] = PAGE_POLICY
    return HTMLResponse(PAGE.substitute(message=message), 403, headers)
