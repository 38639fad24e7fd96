"""Output of the verbs: text for people, or one JSON object."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from rich.console import Console, RenderableType
from rich.table import Table

from conformask.cli.json_output import show_json
from conformask.progress import main_process


def show(record: Mapping[str, Any], *text: str | Table, as_json: bool) -> None:
    """Print the record as JSON and nothing else, or the text; only in the first of several processes."""
    if not main_process():
        return
    if as_json:
        show_json(record)
        return
    console = Console(highlight=False)
    for part in text:
        console.print(part, soft_wrap=isinstance(part, str), markup=False)


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
