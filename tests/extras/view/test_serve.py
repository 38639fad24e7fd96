"""Where the viewer listens, and how it is opened."""

import socket
import threading
import webbrowser
from pathlib import Path
from queue import Queue

import pytest

from conformask.errors import InvalidArgumentError
from conformask.extras.view.app import listening, open_browser, url_of

pytestmark = pytest.mark.xdist_group("viewer")


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
