"""Tests that give arguments of wrong types, which `make types` refuses before conformask sees them."""

import os

import pytest

UNTYPED = pytest.mark.skipif(
    os.environ.get("CONFORMASK_TYPES") == "1", reason="types are checked at every call in this run"
)
