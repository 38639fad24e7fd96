"""The options in the help of a verb: cyclopts' own columns, but they break lines only between words."""

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from cyclopts.help import (
    ColumnSpec,
    DefaultFormatter,
    DescriptionRenderer,
    HelpEntry,
    HelpPanel,
    NameRenderer,
)
from cyclopts.help.specs import get_default_parameter_columns

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

RARE = ("Images", "Devices")
"""Groups of options that few need."""


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
    return DescriptionRenderer()(entry.copy(description=_text(entry)))


def _beginning(entry: HelpEntry) -> str:
    return re.split(r"[.:](?: |$)", _text(entry))[0] + "."


def _text(entry: HelpEntry) -> str:
    text = getattr(entry.description, "primary_renderable", entry.description)
    return " ".join(getattr(text, "plain", text or "").split())


class CommonOptions(DefaultFormatter):
    """Help with the options that are often needed, and how their descriptions begin; --help-all has all."""

    def __init__(self, common: Collection[str]) -> None:
        """Take the names of the options beside --json; none for all but those of images and devices."""
        super().__init__(column_specs=option_columns)
        self._common = common and {*common, "--json"}

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: HelpPanel) -> None:
        """Show a panel, unless nothing of it is common."""
        entries = [entry for entry in panel.entries if self._is_common(entry, str(panel.title))]
        if self._common:
            entries = [entry.copy(description=_beginning(entry)) for entry in entries]
        if entries:
            super().__call__(console, options, panel.copy(entries=entries))

    def _is_common(self, entry: HelpEntry, title: str) -> bool:
        if self._common:
            return not entry.names or any(name in self._common for name in entry.names)
        return title not in RARE
