"""Output of the verbs: text for people, or one JSON object."""

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from cyclopts import Parameter, Token, convert

from conformask.background import main_process

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from conformask.masker.masker import Masker
    from conformask.masker.thresholds import ThresholdChoice
    from conformask.promises.promise import Promise
    from conformask.records.loss import StatedLoss

STDOUT, STDERR = 1, 2
"""Descriptors of the standard streams, to which C libraries print."""


PERCENTAGE = re.compile(r"([\d.]+) ?%")


def converted(kind: Any, tokens: Sequence[Token]) -> Any:
    """Convert tokens as cyclopts does, but take 90% for 0.9 and refuse 1.5 for a whole number."""
    if kind in (int, int | None) and not tokens[0].value.removeprefix("-").isdecimal():
        raise ValueError(f"{tokens[0].value!r} is not a whole number")
    if kind in (float, float | None) and (share := PERCENTAGE.fullmatch(tokens[0].value)):
        tokens = [tokens[0].evolve(value=f"{share[1]}e-2")]
    return convert(kind, tokens)


def shown(default: object) -> str | None:
    """Return a default as help shows it; None for a flag, and for an option that is not given."""
    return None if default in (None, ()) or default is False else str(default)


DEFAULTS = Parameter(negative=(), converter=converted, show_default=shown)
"""How every option is read and shown in the help."""


_JSON_STREAM: ContextVar[TextIO | None] = ContextVar("json_stream", default=None)
"""Stream of the JSON; None where text is printed."""


@contextmanager
def json_alone() -> Iterator[None]:
    """Keep stdout for `show_json`: what networks and libraries print meanwhile goes to stderr."""
    with _kept(sys.stdout) as stream, redirect_stdout(sys.stderr):
        token = _JSON_STREAM.set(stream)
        try:
            yield
        finally:
            _JSON_STREAM.reset(token)


@contextmanager
def _kept(stdout: TextIO) -> Iterator[TextIO]:
    """Return a stream to stdout, whose descriptor leads to stderr meanwhile."""
    if stdout is not sys.__stdout__:  # somebody else's, as in a notebook
        yield stdout
        return
    stdout.flush()
    kept = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    with open(kept, "w", encoding=stdout.encoding, errors=stdout.errors) as stream:
        try:
            yield stream
        finally:
            os.dup2(kept, STDOUT)


def show_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object, where stdout is kept for it and this is the first of several processes."""
    stream = _JSON_STREAM.get()
    if stream is None or not main_process():
        return
    from conformask.records.record import to_jsonable  # loads numpy, which help and text do without

    json.dump(to_jsonable(record), stream, indent=2)
    stream.write("\n")
    stream.flush()


COMMAND = re.compile("(^|: )conformask ")
"""What a line that holds a command contains: it stays whole, so that it can be copied."""


def show(record: Mapping[str, Any], *text: "str | Table", as_json: bool) -> None:
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
            from rich.console import Console

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


def table(columns: Sequence[str], rows: "Sequence[Sequence[RenderableType]]") -> "Table":
    """Return a plain table with right-aligned numbers and a left-aligned last column."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        inner = 0 < index < len(columns) - 1
        drawn.add_column(column, justify="right" if inner else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def facts(rows: Sequence[tuple[str, str]]) -> "Table":
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


BAR = 30
"""Length of the bar of a mask of size 1, in characters; less on a terminal that is too narrow for it."""


def show_choices(
    choices: "list[ThresholdChoice]", loss: "StatedLoss", stated: "Promise", step: str, *, as_json: bool
) -> None:
    """Print a table of thresholds with their masks, and the next step."""
    from rich.bar import Bar

    from conformask.records.numbers import rounded_share
    from conformask.records.words import CHOSEN_ON_CALIBRATION

    exploratory = any(choice.exploratory for choice in choices)
    images = f"{'calibration' if exploratory else 'selection'} images"
    confidence = "" if stated.confidence is None else f", confidence {stated.confidence:g}"
    rows = [
        (f"{c.threshold:.4g}", f"{c.pass_rate:.0%}", rounded_share(c.mask_size), Bar(1, 0, c.mask_size))
        for c in choices
    ]
    drawn = table(("threshold", "pass unmasked", "hidden", ""), rows)
    drawn.columns[-1].max_width = BAR
    record = {
        "loss": loss.to_json(), "confidence": stated.confidence,
        "choices": [vars(choice) for choice in choices],
    }  # fmt: skip
    show(
        record,
        f"What a threshold on {loss.name} would mean ({stated.guarantee}{confidence}), on the {images}:",
        "",
        drawn,
        "",
        *([CHOSEN_ON_CALIBRATION] if exploratory else []),
        step,
        as_json=as_json,
    )


def show_calibration(run: Path, masker: "Masker", *notes: str, as_json: bool) -> None:
    """Print the promise, how much its masks hide, what it rests on, notes, and the promise as a formula."""
    from conformask.masker.card import hidden_of
    from conformask.records.words import EXPLORATORY_TEXT, comparison_text, useless_text
    from conformask.scores.untrained import BY_VALUE

    card, lam, coverage, comparison = masker.card, masker.card.lam, masker.coverage_range, masker.comparison
    exactness = "exact" if card.exact else "on a grid, slightly conservative"
    rule = f"lambda by image ({card.rule.kind})" if lam is None else f"lambda = {lam:.6g}"
    if lam is not None and card.level == "image":
        rule += " at level 1, and each image has its own level"
    rule += (
        " (nothing needs hiding)" if lam == math.inf else f" (how far masks open: {card.masks}; {exactness})"
    )
    lines = [card.sentence, card.choice_text, hidden_of(card), rule]
    if lam is not None and card.family == BY_VALUE:
        lines.append(card.promise.named(masker.scorer.shown_text(lam) or ""))
    if card.n_effective is not None:
        lines.append(f"effective calibration images: {card.n_effective:.1f}")
    if coverage is not None:
        units = card.promise.named(f"{card.promise.axes.unit.singular}s")
        lines.append(
            f"For 90 % of such calibration sets, the coverage of new {units} is {range_text(coverage)}."
        )
    lines += notes
    if comparison is not None:
        lines += [comparison_text(comparison), useless_text(comparison)]
    lines += [EXPLORATORY_TEXT] if card.exploratory else []
    record: dict[str, Any] = {"run": str(run), "sentence": card.sentence, "formula": card.formula}
    hashes = ("calibrated_on", "seen")
    record |= {key: value for key, value in card.to_json().items() if key not in hashes}
    record |= {"claim": card.promise.named(card.claim)}  # its file keeps it without a word for groups
    record |= {"lam": lam, "coverage_range": coverage, "comparison": comparison and asdict(comparison)}
    show(record, *filter(None, lines), card.formula, as_json=as_json)


def replaced_text(run: Path) -> str:
    """Return what a calibration of a calibrated run replaces."""
    from conformask.records.card import CalibrationCard
    from conformask.records.record import CALIBRATION, read_json

    earlier = CalibrationCard.from_json(read_json(run / CALIBRATION), run / CALIBRATION)
    confidence = earlier.promise.confidence
    terms = f"threshold {earlier.threshold:.4g}"
    terms += "" if confidence is None else f", confidence {confidence:g}"
    return (
        f"{run} was calibrated already ({terms}); this calibration has replaced that one. conformask "
        f"recalibrate {run} changes threshold and confidence without images."
    )
