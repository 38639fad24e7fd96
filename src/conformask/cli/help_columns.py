"""Columns of the options in the help of a verb: cyclopts' own, but they break lines only between words."""

from typing import TYPE_CHECKING

from cyclopts.help import ColumnSpec, DescriptionRenderer, HelpEntry, NameRenderer
from cyclopts.help.specs import get_default_parameter_columns

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType


def option_columns(
    console: "Console", options: "ConsoleOptions", entries: list[HelpEntry]
) -> tuple[ColumnSpec, ...]:
    """Return the columns for the entries; cyclopts gives names a third of the width, longer or not."""
    *first, names, descriptions = get_default_parameter_columns(console, options, entries)
    labels = map(str, map(NameRenderer(), entries))
    width = max(names.max_width or 0, *(len(word) for label in labels for word in label.split()))
    return (
        *first,
        names.copy(renderer=NameRenderer(max_width=width), max_width=width),
        descriptions.copy(renderer=_describe),
    )


def _describe(entry: HelpEntry) -> "RenderableType":
    """Return the description as one paragraph, without the line breaks of the docstring it is from."""
    from rich.text import Text

    text = getattr(entry.description, "primary_renderable", None)
    if isinstance(text, Text):
        entry = entry.copy(description=" ".join(text.plain.split()))
    return DescriptionRenderer()(entry)
