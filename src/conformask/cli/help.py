"""The help of a verb: what is often needed under --help, everything under --help-all."""

import inspect
import re
from collections.abc import Callable, Collection
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
    from rich.console import Console, ConsoleOptions

HELP_ALL = "--help-all"
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
        descriptions.copy(renderer=lambda entry: DescriptionRenderer()(entry.copy(description=_text(entry)))),
    )


def _text(entry: HelpEntry) -> str:
    """Return the description as one paragraph, without the line breaks of the docstring it is from."""
    text = getattr(entry.description, "primary_renderable", entry.description)
    return " ".join(getattr(text, "plain", text or "").split())


MOST_CHOICES = 4
"""Most choices that a brief help lists: more need the words that only the whole help has room for."""


def _brief(entry: HelpEntry) -> HelpEntry:
    """Return an option with how its description begins, and its choices if these are few."""
    beginning = re.split(r"[.:](?: |$)", _text(entry))[0]
    if len(entry.choices or ()) <= MOST_CHOICES:
        return entry.copy(description=f"{beginning}.")
    return entry.copy(description=f"{beginning} ({HELP_ALL} explains the choices).", choices=())


class CommonOptions(DefaultFormatter):
    """Help with the options that are often needed, and how their descriptions begin; --help-all has all."""

    def __init__(self, common: Collection[str]) -> None:
        """Take the names of the options beside --json; none for all but those of images and devices."""
        super().__init__(column_specs=option_columns)
        self._common = {*common, "--json"} if common else set()

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: HelpPanel) -> None:
        """Show a panel, unless nothing of it is common."""
        entries = panel.entries if str(panel.title) not in RARE else []
        if self._common:
            entries = [
                _brief(entry) for entry in panel.entries if not entry.names or self._common & {*entry.names}
            ]
        if entries:
            super().__call__(console, options, panel.copy(entries=entries))


def description(function: Callable[..., None]) -> str:
    """Return what a docstring says before its parameters, each paragraph in one line."""
    text = (inspect.getdoc(function) or "").split("Parameters\n---")[0]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def usage(name: str, function: Callable[..., None]) -> str:
    """Return the line of usage: its arguments by their names, in brackets those that can be left out."""
    arguments = [
        f"[{each.name.upper()}]" if each.default is None else each.name.upper()
        for each in inspect.signature(function).parameters.values()
        if each.kind is each.POSITIONAL_ONLY
    ]
    return " ".join(["Usage: conformask", name, "[OPTIONS]", *arguments])
