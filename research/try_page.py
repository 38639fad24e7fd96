"""The page that runs without an installation, from three folders for each case: research/try_page.py WORK.

WORK is what try_networks.py wrote. Each case is calibrated as `conformask look` does, the first is the
demonstration. Writes docs/try.json, of which docs/build.py makes try.html. Two minutes.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from conformask.extras.make.demonstration import POPULATION, write_crops
from conformask.extras.make.look import HALF, SELECTION, TEST
from conformask.extras.view.share import SharedCase, shared_case
from conformask.images.rows import Provenance
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate
from conformask.promises.promise import Promise
from conformask.records.record import to_jsonable
from conformask.scores.untrained import Untrained

OUT = Path(__file__).parents[1] / "docs" / "try.json"
IMAGES = 4


@dataclass(frozen=True)
class Case:
    """A case of the page."""

    title: str
    note: str
    population: str | None = None
    group_name: str = "group"
    group_from: str = "(.+)"
    scorer: Literal["packaged", "gradient"] = "packaged"


CASES = {
    "crops": Case(
        "A GAN enlarges photographs",
        "Real-ESRGAN enlarges photographs of scikit-image four times, and paints what is not there.",
    ),
    "photographs": Case(
        "Noise is taken from photographs",
        "Open Image Denoise takes noise from photographs of scikit-image.",
        POPULATION,
    ),
    "cells": Case(
        "Noise of a microscope",
        "Open Image Denoise takes the noise from crops of single shots; the truth is the mean of fifty. From "
        "FMD (Zhang et al. 2019, MIT).",
        "new crops of these fields",
    ),
    "brains": Case(
        "A brain, enlarged",
        "Cubic splines enlarge slices of half the resolution twice. The brains are from the IXI dataset "
        "(brain-development.org/ixi-dataset, CC BY-SA 3.0, as are the pictures of them); a promise about "
        "slices of new people.",
        group_from=r"(ixi\d+)_",
        group_name="person",
        scorer="gradient",  # the packaged score has learnt from some of these brains
    ),
}


def shared(name: str, case: Case, work: Path) -> SharedCase:
    """Calibrate on the images of a case as a first look does, and return what the page shows of it."""
    if case.population is not None:
        Provenance(population=case.population).save(work / name)
    images = Triplets.from_folder(work / name, group_from=case.group_from)
    rest, test = images.holdout(TEST)
    calibration, selection = rest.holdout(SELECTION)
    unit = "image_of_new_group" if len(set(images.groups)) < len(images) else None
    masker = calibrate(
        Untrained(case.scorer),
        calibration,
        threshold=HALF,
        promise=Promise(confidence=0.9, unit=unit, group_name=case.group_name),
        selection=selection,
    )
    hidden = evaluate(masker, test).images.size
    ranks = np.linspace(0, len(test) / 2, IMAGES).astype(int)  # from the most hidden to the middle
    return shared_case(masker, test.select(np.argsort(-hidden)[ranks]), IMAGES, case.title, case.note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    write_crops(work / "crops")
    cases = [asdict(shared(name, case, work)) for name, case in CASES.items()]
    OUT.write_text(json.dumps(to_jsonable(cases), indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
