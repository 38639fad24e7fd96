"""Every message that the page of errors quotes is one that conformask says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faq.md"
QUOTED = re.findall(r"^```text\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
FIXED = 12
"""Letters of its own that a template must have, so that not everything matches it."""


def templates() -> Iterator[re.Pattern[str]]:
    """Every text in src, with anything where a value is put in."""
    for path in (ROOT / "src" / "conformask").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield from pattern(node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from pattern([node])


def pattern(parts: list[ast.expr]) -> Iterator[re.Pattern[str]]:
    texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
    fixed = "".join(text for text in texts if text is not None)
    if sum(letter.isalpha() for letter in fixed) >= FIXED:
        yield re.compile("".join(".+" if text is None else re.escape(text) for text in texts), re.DOTALL)


TEMPLATES = list(templates())


def said(message: str) -> bool:
    return any(template.fullmatch(message) for template in TEMPLATES)


def test_the_page_quotes_messages() -> None:
    assert len(QUOTED) >= 20


@pytest.mark.parametrize("message", QUOTED)
def test_conformask_says_so(message: str) -> None:
    assert said(message)


def test_another_wording_is_noticed() -> None:
    assert not said("12 images are not enough for confidence 0.95 (marginal): it needs at least 19")
