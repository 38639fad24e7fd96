"""What a verb prints: a text for people, or one JSON object."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from conformask.results import plain


def show(record: Mapping[str, Any], *text: Any, as_json: bool) -> None:
    """Print the record as JSON and nothing else, or the text (strings and rich tables)."""
    if as_json:
        json.dump(plain(record), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    console = Console(highlight=False)
    for part in text:
        console.print(part, soft_wrap=isinstance(part, str), markup=False)


def table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table, numbers to the right."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="right" if index else "left")
    for row in rows:
        drawn.add_row(*row)
    return drawn
