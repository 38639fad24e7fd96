"""The numbers of a run folder: numbers/NAME.json, one for each, beside the score; no masks are needed."""

from dataclasses import replace
from pathlib import Path

from conformask.errors import MismatchError, MissingFileError
from conformask.extras.measure.interval import Number, Quantity, Side, alone, quantity
from conformask.promises.promise import Promise
from conformask.records.card import Domain
from conformask.records.record import (
    Json,
    exclusive_folder,
    from_dict,
    publish,
    read_json,
    read_sealed,
    refuse_unclaimed,
    value_as,
    vars_but,
)
from conformask.scores.network_scorer import load_scorer, save_scorer
from conformask.scores.scorer import Scorer
from conformask.scores.untrained import load_given

NUMBERS = "numbers"
"""Subfolder of the run folder."""
SETTINGS = ("label", "relative", "symmetric")
"""Settings of a number; a second calibration with others is exploratory."""
KEPT = (*SETTINGS, "exponent", "unit", "n", "n_groups", "exploratory")


def file_of(run: Path, of: Quantity) -> Path:
    """Return the file of a number."""
    return run / NUMBERS / f"{of.name}.json"


def save(number: Number, run: Path) -> Number:
    """Write a number and its score into a run folder, in the place of a number of this name; return it.

    It is exploratory if the other one was calibrated, with other settings, on some of the same images.
    """
    path = file_of(run, number.quantity)
    refuse_unclaimed([path])
    if path.exists():
        before = load(number.scorer, path, number.quantity, unsealed=True)
        changed = any(vars(before)[name] != vars(number)[name] for name in ("promise", *SETTINGS))
        overlap = not before.seen.isdisjoint(number.seen)
        number = replace(number, exploratory=overlap and (changed or before.exploratory))
    promise = vars_but(number.promise, "weight", "t", "thresholds")
    record: dict[str, Json] = {
        "number": number.quantity.name, "sentence": number.sentence, "formula": number.formula,
        "fingerprint": number.scorer.fingerprint, "promise": promise,
        **{name: vars(number)[name] for name in KEPT}, "sides": number.sides, "seen": sorted(number.seen),
        "domain": number.domain.to_json(),
    }  # fmt: skip
    with exclusive_folder(run):
        save_scorer(number.scorer, run)
        publish(path, record, {})
    return number


def load(scorer: Scorer, path: Path, of: Quantity, *, unsealed: bool = False) -> Number:
    """Read a number that `save` wrote, if `unsealed` even a changed one; the scorer is that of its run."""
    read = read_json if unsealed else read_sealed
    record = read(path, ("fingerprint", "promise", "sides", "seen", "domain", *KEPT))
    domain = Domain.from_json(record["domain"], path)
    scorer = alone(scorer, domain.tiles)
    if record["fingerprint"] != scorer.fingerprint:
        raise MismatchError(
            f"{path} is a number with another score than that of its run: remove it and measure it again"
        )
    promise = from_dict(Promise, record["promise"], path)
    high, low = value_as(tuple[Side, Side], record["sides"], path)
    kept = {name: record[name] for name in KEPT}
    seen = frozenset(record["seen"])
    return Number(scorer, domain, of, promise=promise, sides=(high, low), seen=seen, **kept)


def scorer_of(run: Path) -> Scorer:
    """Return the score of a run, by itself."""
    return load_given(run) or load_scorer(run)


def load_all(run: Path, scorer: Scorer | None = None) -> list[Number]:
    """Read all numbers of a run; the scorer is given where a run does not hold it.

    Raises:
        MissingFileError: there is none.
        InvalidArgumentError: the number of a function of somebody's own, which no file holds.
    """
    paths = sorted((run / NUMBERS).glob("*.json"))
    if not paths:
        raise MissingFileError(
            f"no number is calibrated in {run}: conformask measure {run} DATA --of volume calibrates one"
        )
    scorer = scorer or scorer_of(run)
    return [load(scorer, path, quantity(path.stem)) for path in paths]
