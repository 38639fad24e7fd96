"""A first look at triplets: what could spoil a promise, before hours of work."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformask.background import tracked
from conformask.errors import CalibrationError, verb
from conformask.images.formats import DataRange
from conformask.images.layers import LAYERS, Findings, Measures
from conformask.images.read import is_constant, pixel_hash
from conformask.images.rows import PARTS, n_set_aside
from conformask.images.scan import (
    copies_text,
    copies_within,
    find_copies,
    mean_difference,
    perceptual_hash,
    role_distances,
    swap_question,
)
from conformask.images.triplets import SET_ASIDE, Triplets
from conformask.records.numbers import plural, rounded_share
from conformask.records.reading import Geometry, Network, Reading, Reference, Size, covered, extra_text
from conformask.records.words import clipped_text

SLIGHTLY_FILLED = 0.1
"""Share of the range, up to which it is probably not the one that was meant."""
SEVERAL = 3
"""Ratio of the highest values of bright and dim images from which on their brightness is said to vary."""
SOURCE = r"^(.*[^\W\d_].*\d)[-_. ]"
"""Pattern of the source in a name: the part before the last separator, with a letter and a final digit."""


@dataclass(frozen=True)
class CheckReport:
    """Findings of check_triplets: facts about the images and warnings."""

    n: int
    groups: int
    has_truth: bool
    reference: Reference
    """What y is: the truth, or repeats with noise."""
    has_regions: bool
    channels: int
    x_channels: int
    sizes: tuple[Size, ...]
    mean_error: float | None
    """Mean over images of mean |y - y_hat| in the region; None where the truth is not known."""
    error_quantiles: tuple[float, float, float] | None
    """0.1, 0.5 and 0.9 quantiles, over images, of mean |y - y_hat|."""
    worst: str | None
    """Name of the image with the largest mean |y - y_hat|."""
    network: Network | None
    """The network that made y_hat; None if not recorded."""
    parts: Mapping[str, int]
    """Number of images in each part of the manifest's split; empty where there is none."""
    duplicates: tuple[tuple[str, str], ...]
    """Pairs of names with identical pixels, unless of one group and part, as samples of one input are."""
    near_duplicates: tuple[tuple[str, str], ...]
    """Pairs of names that look like copies, in different parts or in two groups of the calibration part."""
    spacings: Mapping[str, int]
    """Number of images by spacing; empty where no spacing is known."""
    orientations: Mapping[str, int]
    """Number of images by orientation, such as RAS: x leads right, y anterior, z superior."""
    patients: int | None
    """Number of patients named by the files; None where none is."""
    of_layers: tuple[Findings, ...]
    """What the kinds of layers say of theirs."""
    warnings: tuple[str, ...]


def check_triplets(triplets: Triplets, needed: int, *, by_group: bool = False) -> CheckReport:
    """Read every triplet once and return the findings.

    `needed` is the number of calibration images that the promise requires, or of groups if it is `by_group`.
    Triplets without a split are taken to be one part.
    """
    sizes: Counter[Size] = Counter()
    errors, perceptual_hashes, by_hash = [], [], defaultdict(list)
    extremes: dict[str, list[float]] = {"y_hat": [], "y": []}
    geometries, patients, clipped, distances = [], [], {}, []
    measures, reference = Measures(), triplets.reference
    for index, triplet in enumerate(tracked(triplets.checked(), "checking", len(triplets))):
        sizes[triplet.y_hat.shape[1:]] += 1
        geometries.append(triplet.geometry)
        patients.append(triplet.patient)
        clipped[triplet.name] = triplet.clipped
        if triplet.y is not None:
            errors.append(mean_difference(triplet.y, triplet.y_hat, triplet.layers.get("region")))
            distances.append(role_distances(triplet))
        measures.add(triplet)
        for role, role_image in (("y_hat", triplet.y_hat), ("y", triplet.y)):
            if role_image is not None:
                extremes[role] += [float(role_image.min()), float(role_image.max())]
        image = triplet.y_hat if triplet.y is None else triplet.y
        perceptual_hashes.append(perceptual_hash(image))
        if not is_constant(image):
            by_hash[pixel_hash(image)].append(index)
    parts, groups = triplets.parts, triplets.groups
    pairs = [(indices[0], index) for indices in by_hash.values() for index in indices[1:]]
    identical = [(a, b) for a, b in pairs if (groups[a], parts[a]) != (groups[b], parts[b])]
    hashes = np.stack(perceptual_hashes)
    alike = find_copies(hashes, hashes) if len(set(parts)) > 1 else []
    similar = [(a, b) for a, b in alike if a < b and parts[a] != parts[b] and (a, b) not in identical]
    names, first = triplets.names, triplets[0]
    repeated = {index for _, index in identical}
    places = [i for i, part in enumerate(parts) if part in (None, "calibration") and i not in repeated]
    single, smallest = triplets.select(places), tuple(map(min, zip(*sizes, strict=True)))
    is_cut = triplets.provenance.population is not None  # tiles cut by conformask are not copies
    within = [] if is_cut else copies_within(hashes[places], single.groups, smallest)
    images = "calibration images" if triplets.has_split else "images"
    return CheckReport(
        n=len(triplets),
        groups=len(set(triplets.groups)),
        has_truth=triplets.has_truth,
        reference=reference,
        has_regions=triplets.has_regions,
        channels=len(first.y_hat),
        x_channels=len(first.x),
        sizes=tuple(sorted(sizes)),
        mean_error=float(np.mean(errors)) if errors else None,
        network=triplets.network,
        parts={part: parts.count(part) for part in PARTS} if triplets.has_split else {},
        error_quantiles=tuple(np.quantile(errors, (0.1, 0.5, 0.9)).tolist()) if errors else None,
        worst=names[int(np.argmax(errors))] if len(errors) == len(names) else None,
        duplicates=tuple((names[a], names[b]) for a, b in identical),
        near_duplicates=(
            *((names[a], names[b]) for a, b in similar),
            *((single.names[a], single.names[b]) for a, b in within),
        ),
        spacings=_counts(None if geometry is None else geometry.text for geometry in geometries),
        orientations=_counts(None if geometry is None else geometry.orientation for geometry in geometries),
        patients=len(set(patients) - {None}) if any(patients) else None,
        of_layers=tuple(kind.findings(measures.get(name, {})) for name, kind in LAYERS.items()),
        warnings=(
            *(text for _, text, _ in measures.verdicts()),
            *filter(None, [extra_text(len(first.x), len(first.y_hat))]),
            *_identical_warnings(names, parts, identical),
            *_group_warnings(triplets, parts, by_group=by_group),
            *_count_warnings(triplets, needed, sizes),
            *_similar_warnings(names, similar),
            *filter(None, [copies_text(single.names, within, images)]),
            *_place_warnings(names, geometries),
            *_patient_warnings(triplets, patients),
            *_range_warnings(extremes, triplets.data_range),
            *_brightness_warnings(extremes["y_hat"][1::2], triplets.reading),
            *filter(None, [clipped_text(clipped)]),
            *filter(None, [swap_question(distances)]),
        ),
    )


def _counts(values: Iterable[str | None]) -> dict[str, int]:
    """Count the values, the most frequent first; return an empty dict where none is known."""
    counts = Counter(value or "unknown" for value in values)
    return {} if set(counts) == {"unknown"} else dict(counts.most_common())


def _count_warnings(triplets: Triplets, needed: int, sizes: Collection[Size]) -> Iterator[str]:
    count = triplets.parts.count("calibration") if triplets.has_split else len(triplets)
    if count < needed:
        yield f"{plural(count, 'calibration image')}: this confidence needs at least {needed}"
    if len(sizes) > 1:
        yield f"images of several sizes: a promise calibrated on them covers only {covered(sorted(sizes))}"


def _identical_warnings(
    names: Sequence[str], parts: Sequence[str | None], identical: Sequence[tuple[int, int]]
) -> Iterator[str]:
    across_parts = [(a, b) for a, b in identical if parts[a] != parts[b]]
    for pairs, is_across in ((across_parts, True), (identical, False)):
        if pairs:
            a, b = (names[index] for index in pairs[0])
            count = plural(len(pairs), "pair")
            lie = f" {verb(len(pairs), 'lies')} in different parts" if is_across else ""
            yield f"{count} of identical images{lie}, for example {a} and {b}: keep one of each"
            return


def _similar_warnings(names: Sequence[str], similar: Sequence[tuple[int, int]]) -> Iterator[str]:
    if similar:
        a, b = (names[index] for index in similar[0])
        yield (
            f"{plural(len(similar), 'pair')} of images in different parts "
            f"{verb(len(similar), 'looks alike')}, for example {a} and {b}: put images of one patient or "
            "scene in one group, and keep only one of several copies"
        )


def _place_warnings(names: Sequence[str], geometries: Sequence[Geometry | None]) -> Iterator[str]:
    pairs = zip(names, geometries, strict=True)
    known = [(name, geometry) for name, geometry in pairs if geometry is not None]
    if not known:
        return
    if len(known) < len(names):
        missing, count = names[geometries.index(None)], len(names) - len(known)
        yield f"{plural(count, 'image')} {verb(count, 'has')} no spacing, for example {missing}"
    first_name, first = known[0]
    for aspect, differs in (
        ("spacing", first.is_finer_or_coarser),
        ("orientation", lambda geometry: geometry.orientation != first.orientation),
    ):
        others = [name for name, geometry in known if differs(geometry)]
        if others:
            yield (
                f"{plural(len(others), 'image')} {verb(len(others), 'differs')} from {first_name} in "
                f"{aspect}, for example {others[0]}: the promise is about images like the calibration "
                "images, in the same mix"
            )


def _range_warnings(extremes: Mapping[str, list[float]], data_range: DataRange | None) -> Iterator[str]:
    """Warn of y_hat or y that fill a tenth of their range or less: thresholds are in units of it."""
    low, high = data_range or (0.0, 1.0)
    for role, values in extremes.items():
        if values and max(values) - min(values) <= SLIGHTLY_FILLED:
            lowest, highest = (f"{low + value * (high - low):.4g}" for value in (min(values), max(values)))
            yield (
                f"{role} has no value above {highest} of {high:g} and none below {lowest}: thresholds are "
                "shares of the range from black to white, so state the one that is filled (--data-range)"
            )


def _brightness_warnings(highest: Sequence[float], reading: Reading) -> Iterator[str]:
    """Warn where the highest values of y_hat differ several times from image to image."""
    dim, bright = np.quantile(highest, (0.1, 0.9)).tolist()
    if bright > SEVERAL * dim and not reading.has_own_range:
        yield (
            f"the brightness of images varies: a tenth of them reach at most {rounded_share(dim)} of the "
            f"range, a tenth at least {rounded_share(bright)}. Errors count as shares of one range, so dim "
            "images pass without a mask and bright ones are hidden; --data-range image counts them in each "
            "image's own range"
        )


def _patient_warnings(triplets: Triplets, patients: Sequence[str | None]) -> Iterator[str]:
    """Warn where images of one patient lie in several groups."""
    groups = defaultdict(set)
    for patient, group in zip(patients, triplets.groups, strict=True):
        if patient is not None:
            groups[patient].add(group)
    scattered = [of_patient for of_patient in groups.values() if len(of_patient) > 1]
    if scattered:
        one, other, *_ = sorted(scattered[0])
        yield (
            f"images of {plural(len(scattered), 'patient')} are in several groups, for example {one} and "
            f"{other}: put each patient in one group (--group-from patient)"
        )


def _group_warnings(triplets: Triplets, parts: Sequence[str | None], *, by_group: bool) -> Iterator[str]:
    parts_of = defaultdict(set)
    for group, part in zip(triplets.groups, parts, strict=True):
        parts_of[group].add(part)
    stated = (triplets.provenance.population, triplets.reading.group_from)
    divided = [group for group, of_group in parts_of.items() if len(of_group) > 1]
    if divided:
        yield (
            f"{plural(len(divided), 'group')} {verb(len(divided), 'is')} in more than one part, for example "
            f"{divided[0]!r}: keep each group in one part"
        )
    if len(parts_of) < len(triplets) and not by_group:
        yield "groups contain several images: the marginal promise needs one image per group"
    elif len(parts_of) == len(triplets) and stated == (None, None):
        yield from _source_warnings(triplets.names)


def suggested_groups(names: Sequence[str]) -> list[str] | None:
    """Return the source of each image where names show it, as in slide07_z12; None where they do not."""
    sources = [match[1] for name in names if (match := re.search(SOURCE, name))]
    return sources if len(sources) == len(names) and 2 <= len(set(sources)) <= len(names) / 2 else None


def _source_warnings(names: Sequence[str]) -> Iterator[str]:
    """Warn where names show that planes or tiles share a stack or slide."""
    sources = suggested_groups(names)
    if sources is not None:
        yield (
            f"their names suggest that these {len(names)} images come from {len(set(sources))} sources, "
            f"such as {sources[0]}: images of one slide, stack or patient are dependent. If that is so, "
            "name the source in the column group of manifest.csv"
        )


SINGLE = "; where images of a group are not alike, --group-from '(.+)' makes each a group of its own"


def refuse_too_few(
    triplets: Triplets, folders: Mapping[str, Path], needed: int, fewest: int, *, by_group: bool
) -> None:
    """Refuse fewer triplets, or groups, than the `fewest` of which some are tested and `needed` calibrate."""
    found = len(set(triplets.groups))
    units = plural(found, "group" if by_group else "image")
    if found >= fewest:
        return
    instead = ""
    if found - n_set_aside(found, SET_ASIDE) >= needed:
        parent = folders["y_hat"].parent
        is_data = all(path.absolute() == (parent / role).absolute() for role, path in folders.items())
        layout = "" if is_data else ", with these folders as x/, y_hat/ and y/ of DATA"
        grouped = f" --unit image_of_new_group --group-from '{triplets.reading.group_from}'" * by_group
        instead = (
            f". Without a test, {found} {verb(found, 'is')} enough{layout}:\nconformask calibrate "
            f"{parent if is_data else 'DATA'} --scorer packaged --threshold 5%{grouped} --out RUN"
        )
    raise CalibrationError(
        f"{units} {verb(found, 'is')} too few to calibrate and to test at this confidence: give at least "
        f"{fewest}, or a lower --confidence{SINGLE if by_group else ''}{instead}"
    )
