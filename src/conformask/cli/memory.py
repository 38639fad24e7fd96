"""Memory of the command line's own processes; a user's process keeps its settings."""

import ctypes
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt."""
LAYER, KEPT = 2**25, 2**28
"""Bytes up to which a freed layer is kept, and of all of them together: more would keep whole slabs."""


def keep_memory() -> None:
    """Let this process keep the memory of a network's layers for the next batch, where it runs on glibc.

    Otherwise the system takes the memory back after every batch and clears it again: up to a fifth of the
    time.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_THRESHOLD, LAYER)
        libc.mallopt(TRIM_THRESHOLD, KEPT)
        libc.mallopt(ARENA_MAX, 1)  # memory freed by one thread is reused by others
