"""What the numbers of a run say beside its masks: their sentences, and the interval of each image."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from conformask.errors import ConformaskError, MismatchError, MissingFileError, warn
from conformask.masker.remarks import Remark, Remarks, SaysOfImages, no_remarks
from conformask.records.card import beginning_of
from conformask.records.numbers import written
from conformask.records.record import read_json, read_sealed

if TYPE_CHECKING:
    from conformask.extras.measure.interval import Interval, Number

DIGITS = 4
"""Digits of numbers in words."""


def sentences(run: Path) -> list[str]:
    """Return the sentence of each number of a run folder, but for those of a score that was replaced."""
    paths, scorer = sorted(run.glob("numbers/*.json")), run / "scorer.json"
    score = read_json(scorer).get("fingerprint", "") if paths and scorer.is_file() else ""
    records = (read_sealed(path, ("sentence", "fingerprint")) for path in paths)
    return [record["sentence"] for record in records if record["fingerprint"].startswith(score)]


def says_of_images(run: Path, data: Path) -> SaysOfImages:
    """Return the function that gives the intervals of images; functions of somebody's own are left out."""
    from conformask.extras.measure.files import file_of, load, scorer_of
    from conformask.extras.measure.interval import QUANTITIES
    from conformask.images.triplets import Triplets

    known = [each for each in QUANTITIES.values() if file_of(run, each).is_file()]
    if not known:
        return no_remarks
    scorer, folders = scorer_of(run), dict[str, Triplets]()
    numbers: list[Number] = []
    for each in known:
        try:
            numbers.append(load(scorer, file_of(run, each), each))
        except MismatchError as error:  # masks are shown without it
            warn(str(error))

    def as_calibrated(number: "Number", images: Triplets) -> Triplets:
        """Return images of the folder as the number reads them: masks may need no labels."""
        if number.domain.read.objects is None or images.file(0) is None:
            return images
        name = number.quantity.name
        if name not in folders:
            reading = images.reading.over(number.domain.reading)
            folders[name] = Triplets.from_folder(data, reading=reading).described(images.provenance)
        places = {name: place for place, name in enumerate(folders[name].names)}
        return folders[name].select(places[name] for name in images.names)

    def says(images: Triplets) -> Mapping[str, list[Remark]]:
        found: dict[str, list[Remark]] = {name: [] for name in images.names}
        for number in numbers:
            title = number.quantity.name.capitalize()
            try:
                read = as_calibrated(number, images)
                notes, intervals = number.admit(read).notes, number.intervals(read)
            except MissingFileError:
                for remarks in found.values():
                    remarks.append((title, "not known: there are no labels"))
            except ConformaskError:  # not about these images; why not is said beside their masks
                continue
            else:
                for each in intervals:
                    found[each.name].append((title, "; but ".join([_text(number, each), *notes])))
        return found

    return says


def _text(number: "Number", interval: "Interval") -> str:
    """Return the number of an image and its interval, rounded outwards, in words."""
    unit = f" {number.unit}" if number.unit else ""
    low, high = interval.rounded(DIGITS)
    promised = beginning_of(number.promise) + " (exploratory)" * number.exploratory
    text = f"{_rounded(interval.value)}{unit}, true {written(low)} to {written(high)}{unit} {promised}"
    return text if interval.truth is None else f"{text}; here it is {_rounded(interval.truth)}{unit}"


def _rounded(value: float) -> str:
    return written(float(f"{value:.{DIGITS}g}"))


NUMBERS = Remarks(sentences, says_of_images)
