"""Numbers with a promise in a run folder: numbers/NAME.json, one for each number."""

from dataclasses import replace
from pathlib import Path

from conformask.errors import MismatchError, MissingFileError
from conformask.extras.measure.interval import Number, Side
from conformask.extras.measure.quantities import Function, Quantity, quantity
from conformask.masker.masker import Masker
from conformask.promises.promise import Promise
from conformask.records.files import refuse_unclaimed
from conformask.records.record import Json, from_dict, read_json, value_as, vars_but, write_json

NUMBERS = "numbers"
"""Subfolder of the run folder."""
SETTINGS = ("label", "relative", "symmetric")
"""Settings of a number; a second calibration with others is exploratory."""
KEPT = (*SETTINGS, "exponent", "unit", "n", "exploratory")


def file_of(run: Path, of: Quantity) -> Path:
    """Return the file of a number."""
    return run / NUMBERS / f"{of.name}.json"


def save(number: Number, run: Path) -> Number:
    """Write a number into the folder of its run, in the place of one of this name; return it.

    It is exploratory if the other one was calibrated, with other settings, on some of the same images.
    """
    path = file_of(run, number.quantity)
    refuse_unclaimed([path])
    if path.exists():
        before = load(number.masker, path, number.quantity)
        changed = any(vars(before)[name] != vars(number)[name] for name in ("promise", *SETTINGS))
        overlap = not before.seen.isdisjoint(number.seen)
        number = replace(number, exploratory=overlap and (changed or before.exploratory))
    path.parent.mkdir(exist_ok=True)
    promise = vars_but(number.promise, "weight", "t", "thresholds")
    record: dict[str, Json] = {
        "number": number.quantity.name, "sentence": number.sentence, "formula": number.formula,
        "fingerprint": number.masker.fingerprint, "promise": promise,
        **{name: vars(number)[name] for name in KEPT}, "sides": number.sides, "seen": sorted(number.seen),
    }  # fmt: skip
    write_json(path, record)
    return number


def load(masker: Masker, path: Path, of: Quantity) -> Number:
    """Read a number that `save` wrote."""
    record = read_json(path, needed=("fingerprint", "promise", "sides", "seen", *KEPT))
    if record["fingerprint"] != masker.fingerprint:
        raise MismatchError(f"{path} is a number of another masker than that of its run: calibrate it again")
    promise = from_dict(Promise, record["promise"], path)
    high, low = value_as(tuple[Side, Side], record["sides"], path)
    kept = {name: record[name] for name in KEPT}
    return Number(masker, of, promise=promise, sides=(high, low), seen=frozenset(record["seen"]), **kept)


def load_all(masker: Masker, run: Path, functions: tuple[Function, ...] = ()) -> list[Number]:
    """Read all numbers of a run; functions of somebody's own are given again.

    Raises:
        MissingFileError: there is none.
        InvalidArgumentError: a number that is no function of these, and has no name of its own.
    """
    own = {each.name: each for each in map(quantity, functions)}
    paths = sorted((run / NUMBERS).glob("*.json"))
    if not paths:
        raise MissingFileError(
            f"no number is calibrated in {run}: conformask measure {run} DATA --of volume calibrates one"
        )
    return [load(masker, path, own.get(path.stem) or quantity(path.stem)) for path in paths]
