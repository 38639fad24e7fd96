"""The JSON of a verb: stdout is kept for it, while networks and libraries print to stderr."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, TextIO

from conformask.progress import main_process

STDOUT, STDERR = 1, 2
"""Descriptors of the standard streams, to which C libraries print."""
_JSON_STREAM: ContextVar[TextIO | None] = ContextVar("json_stream", default=None)
"""Stream of the JSON; None where text is printed."""


@contextmanager
def json_alone() -> Iterator[None]:
    """Keep stdout for `show_json`: what networks and libraries print meanwhile goes to stderr."""
    with _kept(sys.stdout) as stream, redirect_stdout(sys.stderr):
        token = _JSON_STREAM.set(stream)
        try:
            yield
        finally:
            _JSON_STREAM.reset(token)


@contextmanager
def _kept(stdout: TextIO) -> Iterator[TextIO]:
    """Return a stream to stdout, whose descriptor leads to stderr meanwhile."""
    if stdout is not sys.__stdout__:  # somebody else's, as in a notebook
        yield stdout
        return
    stdout.flush()
    kept = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    with open(kept, "w", encoding=stdout.encoding, errors=stdout.errors) as stream:
        try:
            yield stream
        finally:
            os.dup2(kept, STDOUT)


def show_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object, where stdout is kept for it and this is the first of several processes."""
    stream = _JSON_STREAM.get()
    if stream is None or not main_process():
        return
    from conformask.storage.as_json import to_jsonable  # loads numpy, which help and text do without

    json.dump(to_jsonable(record), stream, indent=2)
    stream.write("\n")
    stream.flush()
