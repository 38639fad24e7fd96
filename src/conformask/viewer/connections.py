"""Connections that no client can hold open: uvicorn alone waits forever for a request."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 10.0
"""Seconds that a client has for the head of a request, and for the rest of its body after the answer."""
MOST_CONNECTIONS = 256
"""Most connections open at a time, well below what a process may open; a browser uses six."""


class PromptProtocol(H11Protocol):
    """Protocol that closes a connection kept waiting by its client; of too many, the one waiting longest."""

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Continue with a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        """Run the clock while no request is being answered; data that arrives meanwhile does not reset it."""
        if self.conn.our_state not in (h11.IDLE, h11.DONE):
            self._stop()
        elif self._clock is None:
            self._clock = self.loop.call_later(PATIENCE, self.transport.close)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _make_room(self) -> None:
        waiting = {
            connection: connection._clock.when()
            for connection in self.connections
            if isinstance(connection, PromptProtocol) and connection._clock is not None
        }
        longest = min(waiting, key=waiting.__getitem__)
        longest._stop()
        longest.transport.abort()
