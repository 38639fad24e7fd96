"""SHA-256 of texts and of parts, by which records recognise what they are about."""

import hashlib
from collections.abc import Iterable


def hash_of_parts(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of parts one after another, which need not be in memory together."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def hash_of_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8."""
    return hash_of_parts([text.encode()])
