"""Where the viewer listens."""

import socket

import pytest

from conformask.errors import InvalidArgumentError
from conformask.viewer.serve import listening, url_of

pytestmark = pytest.mark.xdist_group("viewer")


def test_it_listens_on_this_machine_only_and_answers_without_delay():
    with listening(0) as bound:
        assert bound.getsockname()[0] == "127.0.0.1"
        assert bound.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sets TCP_NODELAY
        with socket.create_connection(bound.getsockname(), timeout=5):
            assert url_of(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}/"


def test_two_viewers_do_not_share_a_port():
    with listening(0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(InvalidArgumentError, match=f"port {port} cannot be used.*another viewer"):
            listening(port)
    with listening(port):
        pass
