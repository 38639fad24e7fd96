"""The contract of a verb: a function of the command line, and what help and errors say of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

GROUPS = ("First", "Prepare", "Train", "Promise", "Use", "Look", "Research")
"""Titles in the main help: what most people need, then the rest in the order of the work."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command line: what an entry point in the group `conformask.commands` leads to.

    Its name is that of the entry point, and its help is the docstring of its function.
    """

    function: Callable[..., None]
    """Function that does the work; its parameters are arguments and options, as cyclopts takes them."""
    group: str = "More"
    """Title under which the main help lists the verb; those that are not in GROUPS come last."""
    order: int = 0
    """Place among the verbs of the group; those with the same place stand by name."""
    example: str = ""
    """Example of a command, without the name of the program."""
    common: tuple[str, ...] = ()
    """Options that --help shows, if a verb has many; --help-all shows the others too."""
    resumes: str | None = None
    """Options with which the same command takes up a run that was stopped; None if it begins again."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """New names of its options by the names that they had before, for the errors about these."""
    invitation: str = ""
    """Sentence at the end of the main help that invites newcomers to the verb."""

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among all verbs: by group, and within it."""
        return GROUPS.index(self.group) if self.group in GROUPS else len(GROUPS), self.order
