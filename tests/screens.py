"""What a command draws on a terminal of a given width, and what axe-core finds wrong in a page."""

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and moves of the cursor."""


def drawn(code, width):
    """Run Python code with its outputs in a terminal of `width` columns; return what it draws, by line.

    A line that is drawn again, as the bar of a progress is, comes again.
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=theirs, stderr=theirs, env={**plain, "TERM": "xterm"}
    )
    os.close(theirs)
    text = b"".join(_chunks(ours)).decode()
    os.close(ours)
    assert process.wait() == 0, text
    lines = re.split(r"[\r\n]+", ESCAPES.sub("", text))
    return [line.rstrip() for line in lines if line.strip()]


heed_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
"""What a new process calls first: it would ignore Ctrl-C where the tests are a background job of a shell."""


def stopped(code, awaited):
    """Run Python code in a terminal until it has shown a text, then stop it as Ctrl-C does.

    Returns what it showed and its exit status.
    """
    ours, theirs = os.openpty()
    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen([sys.executable, "-c", code], **terminal, preexec_fn=heed_ctrl_c)
    os.close(theirs)
    shown, chunks = b"", _chunks(ours)
    for chunk in chunks:
        shown += chunk
        if awaited.encode() in shown:
            break
    # what comes after is read too: a process that writes more than a terminal holds would wait forever
    Thread(target=list, args=[chunks], daemon=True).start()
    process.send_signal(signal.SIGINT)
    status = process.wait(timeout=60)
    os.close(ours)
    return shown.decode(), status


def _chunks(terminal):
    with suppress(OSError):  # what Linux answers once the other side is closed
        while chunk := os.read(terminal, 2**16):
            yield chunk


AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
VIOLATIONS = """async () => (await axe.run({ resultTypes: ['violations'] })).violations.flatMap(
  ({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 200)} ${node.failureSummary}`))"""


def violations(page):
    """One text for each element."""
    if not AXE.exists():
        pytest.skip("no axe-core (make browser, which needs npm)")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(VIOLATIONS)
    return found
