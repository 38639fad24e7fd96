"""The command line: verbs by name; each parses, calls one library function and prints."""

import ctypes
import io
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial, reduce
from operator import or_
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, CycloptsPanel, Group, MissingArgumentError, UnknownOptionError
from cyclopts.help import DefaultFormatter

from conformask.cli.help import HELP_ALL, CommonOptions, description, option_columns, usage
from conformask.cli.output import DEFAULTS, json_alone, print_text, show_json
from conformask.cli.verb import GROUPS, Verb
from conformask.errors import ConformaskError, ConformaskWarning, failure_of_system
from conformask.extensions import COMMANDS, Extensions

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt."""
LAYER, KEPT = 2**25, 2**28
"""Bytes up to which a freed layer is kept, and of all of them together: more would keep whole slabs."""


def verbs_of(words: Sequence[str]) -> dict[str, Verb]:
    """Return the verb that a command begins with; if it begins with none, all, in the order of the help."""
    installed = Extensions(COMMANDS, Verb, {})
    name = next(iter(words), "")
    if name in installed:
        return {name: installed[name]}
    return dict(sorted(installed.usable().items(), key=lambda item: (item[1].place, item[0])))


def build(verbs: Mapping[str, Verb], *, every_option: bool = True) -> App:
    """Build the application of these verbs. Its help has every option, or those that are often needed."""
    invitations = [verb.invitation for verb in verbs.values() if verb.invitation]
    app = App(
        name="conformask",
        help="Masks with a promise for image-to-image networks.",
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,
        help_epilogue="\n\n".join([*invitations, "For options and an example: conformask COMMAND --help"]),
        help_format="plaintext",
        group_commands=Group("More", sort_key=len(GROUPS)),
        default_parameter=DEFAULTS,
        error_formatter=partial(_error_panel, verbs),
    )
    app.register_install_completion_command(help="Enable completion of conformask commands in this shell.")
    groups = {title: Group(title, sort_key=place) for place, title in enumerate(GROUPS)}
    for place, (name, verb) in enumerate(verbs.items()):
        epilogue = [f"Example: conformask {verb.example}"] if verb.example else []
        formatter = DefaultFormatter(column_specs=option_columns)
        if not every_option:
            epilogue.append(f"All options: conformask {name} {HELP_ALL}")
            formatter = CommonOptions(verb.common)
        app.command(
            verb.function,
            name=name,
            help=description(verb.function),
            help_formatter=formatter,
            help_epilogue="\n\n".join(epilogue),
            usage=usage(name, verb.function),
            group=groups.get(verb.group, verb.group),
            sort_key=place,
        )
    return app


def _error_panel(verbs: Mapping[str, Verb], error: CycloptsError) -> Any:
    """Return the error as cyclopts shows it; an option that was renamed comes with its new name."""
    if not isinstance(error, UnknownOptionError):
        return CycloptsPanel(error)
    from conformask.cli.options import PROTECTION, RENAMED

    known = error.argument_collection  # also of the error's own text, which --json prints
    known[:] = [argument for argument in known if argument.parameter.group != (PROTECTION,)]
    old = (error.token.keyword or error.token.value).split("=")[0]
    new = reduce(or_, (verb.renamed for verb in verbs.values()), RENAMED).get(old)
    if new not in {name for argument in known for name in argument.names}:
        return CycloptsPanel(error)
    return CycloptsPanel(f"Unknown option: {old}. It is now called {new}.")


def main(tokens: list[str] | None = None) -> None:
    """Run the command line; the exit status is 0 (done), 1 (error), 2 (bad usage) or 130 (stopped).

    With --json, stdout has one JSON object: the result, or {"error": ...}.
    """
    keep_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    words = sys.argv[1:] if tokens is None else tokens
    try:
        with json_alone() if "--json" in words else nullcontext():
            _run(words)
    except BrokenPipeError:  # _run has said so; neither JSON nor its error can be written
        sys.exit(1)


def _run(words: Sequence[str]) -> None:
    verbs: Mapping[str, Verb] = {}
    try:
        with _printed_warnings():
            verbs = verbs_of(words)
            app = build(verbs, every_option=HELP_ALL in words)
            asked = ["--help" if word == HELP_ALL else word for word in words]
            app(asked, exit_on_error=False, result_action="return_value")
    except CycloptsError as error:
        verb = verbs.get(next(iter(error.command_chain or ()), ""))
        if isinstance(error, MissingArgumentError) and verb is not None and verb.example:
            _say(f"for example: conformask {verb.example}")
        _fail(2, str(error))
    except KeyboardInterrupt:
        stopped = _stopped_text(verbs.get(next(iter(words), "")))
        _say(stopped)
        _fail(130, stopped)
    except Exception as error:
        failure = None if isinstance(error, ConformaskError) else failure_of_system(error)
        if failure is None and not isinstance(error, ConformaskError | OSError):
            show_json({"error": f"{type(error).__name__}: {error}"})
            raise
        _say(failure or str(error))
        _fail(1, failure or str(error))


def _stopped_text(verb: Verb | None) -> str:
    """Return the message after Ctrl-C."""
    if verb is None or verb.resumes is None:
        return "stopped"
    options = f" with {verb.resumes}" if verb.resumes else ""
    return f"stopped; to resume, repeat the command{options}"


def _fail(status: int, message: str) -> NoReturn:
    show_json({"error": message})
    sys.exit(status)


def keep_memory() -> None:
    """Let this process keep the memory of a network's layers for the next batch, where it runs on glibc.

    Otherwise the system takes the memory back after every batch and clears it again: up to a fifth of the
    time.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_THRESHOLD, LAYER)
        libc.mallopt(TRIM_THRESHOLD, KEPT)
        libc.mallopt(ARENA_MAX, 1)  # memory freed by one thread is reused by others


@contextmanager
def _printed_warnings() -> Iterator[None]:
    """Print warnings as they come; those of a kind, such as of one file each, once and then their number."""
    counts: Counter[str] = Counter()

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        kind = message.kind if isinstance(message, ConformaskWarning) else ""
        counts[kind] += 1
        if issubclass(category, UserWarning) and (not kind or counts[kind] == 1):
            _say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        try:
            yield
        finally:
            for kind, count in counts.items():
                if kind and count > 1:
                    _say(f"warning: {count - 1} more {kind}")


def _say(text: str) -> None:
    print_text(f"conformask: {text}", sys.stderr)
