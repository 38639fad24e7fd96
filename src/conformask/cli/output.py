"""Output of the verbs: text for people, or one JSON object."""

import re
import sys
from collections.abc import Mapping, Sequence
from shutil import get_terminal_size
from textwrap import fill
from typing import Any, NoReturn, TextIO

from rich.console import Console, RenderableType
from rich.table import Table

from conformask.cli.json_output import show_json
from conformask.progress import main_process

COMMAND = re.compile("(^|: )conformask ")
"""What a line that holds a command contains: it stays whole, so that it can be copied."""


def show(record: Mapping[str, Any], *text: str | Table, as_json: bool) -> None:
    """Print the record as JSON and nothing else, or the text; only in the first of several processes."""
    if not main_process():
        return
    if as_json:
        show_json(record)
        return
    for part in text:
        if isinstance(part, str):
            print_text(part)
        else:
            Console(highlight=False).print(part)


def print_text(text: str, file: TextIO | None = None) -> None:
    """Print lines, by default to stdout; for a terminal, broken between words, unless they hold a command."""
    to_terminal = (file or sys.stdout).isatty()
    for line in text.split("\n"):
        broken = to_terminal and not COMMAND.search(line)
        print(_filled(line) if broken else line, file=file)


def _filled(line: str) -> str:
    width = get_terminal_size().columns
    return fill(line, width, break_long_words=False, break_on_hyphens=False)


def bad_usage(message: str) -> NoReturn:
    """Print what is wrong with the command, and exit with status 2."""
    print(f"Error: {message}", file=sys.stderr)
    show_json({"error": message})
    sys.exit(2)


def table(columns: Sequence[str], rows: Sequence[Sequence[RenderableType]]) -> Table:
    """Return a plain table with right-aligned numbers and a left-aligned last column."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        inner = 0 < index < len(columns) - 1
        drawn.add_column(column, justify="right" if inner else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def facts(rows: Sequence[tuple[str, str]]) -> Table:
    """Return a table of names and values, without a header."""
    drawn = table(("", ""), rows)
    drawn.show_header = False
    return drawn


def range_text(coverage: Sequence[float] | None) -> str:
    """Return the range of coverage as text."""
    return "not known" if coverage is None else f"{coverage[0]:.3f} to {coverage[1]:.3f}"


def sizes_text(sizes: Sequence[Sequence[int]], most: int = 5) -> str:
    """Return image sizes as text, such as 64x64, 128x128."""
    shown = ["x".join(map(str, size)) for size in sizes[:most]]
    return ", ".join(shown) + (", ..." if len(sizes) > most else "")
