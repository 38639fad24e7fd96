"""Figures of an evaluation: each function returns SVG text, or None if the record lacks its data."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from conformask.conformal.crossing import meets_threshold
from conformask.conformal.intervals import clopper_pearson
from conformask.records.card import CalibrationCard
from conformask.records.evaluation import Evaluation
from conformask.report import svg, words
from conformask.storage.as_arrays import Array

Figure = Callable[[Evaluation], str | None]

DIFFICULTY = "tenth of the images by mean score, 1 = easiest"
BINS = 36
"""Number of bars of a histogram."""
MEASURED = f"fill:{svg.OURS};font-weight:600"
MOST_POINTS = 1500
"""Largest number of dots drawn, evenly selected; more would be indistinguishable."""


def distances(evaluation: Evaluation) -> str | None:
    """Draw histograms of the loss with and without a mask, against the threshold."""
    masked, unmasked = _finite(evaluation.images.distance), _finite(evaluation.images.unmasked_distance)
    if not masked.size:
        return None
    threshold, missed = evaluation.threshold, words.share(1 - evaluation.coverage)
    edges = _edges(masked, unmasked, threshold)
    before, after = _counts(unmasked, edges, threshold), _counts(masked, edges, threshold)
    on = svg.plot((max(edges[0], 0), edges[-1]), (0, max(*before, *after) * 1.05), top=68)
    late = [left >= threshold * (1 - 1e-9) for left in edges[:-1]]
    parts = {
        svg.OURS: [0 if beyond else count for count, beyond in zip(after, late, strict=True)],
        svg.LIMIT: [count if beyond else 0 for count, beyond in zip(after, late, strict=True)],
    }
    keys = [
        ("masked, within the threshold", svg.OURS, ""),
        ("beyond", svg.LIMIT, ""),
        ("unmasked", svg.BEHIND, ""),
    ]
    marks = [
        svg.key(keys),
        svg.axes(on, f"{evaluation.loss_label}, of an image", "images", (svg.plain, svg.whole)),
        svg.bars(on, edges, before, _spans(edges, before, "unmasked"), svg.BEHIND),
        *(svg.bars(on, edges, part, _spans(edges, part, "masked"), fill) for fill, part in parts.items()),
        svg.upright(on, threshold, f"threshold {svg.plain(threshold)}"),
        svg.text(on.x.end, on.y.end + 16, f"{missed} beyond", "end", f"fill:{svg.LIMIT};font-weight:600"),
        _further(on, int((unmasked > edges[-1]).sum())),
    ]
    label = f"Histogram of loss: {missed} of {masked.size} images lie beyond the threshold"
    return svg.document(label, marks)


def sizes(evaluation: Evaluation) -> str | None:
    """Draw histograms of mask sizes: ours filled, the oracles' as outlines."""
    images = evaluation.images
    kinds = [
        ("ours", _finite(images.size), svg.OURS, ""),
        ("oracle", _finite(images.oracle_size), svg.ORACLE, "none"),
        ("the paper's Opt", _finite(images.paper_oracle_size), svg.OPT, "5 3"),
    ]
    kinds = [kind for kind in kinds if kind[1].size]
    if not kinds or kinds[0][0] != "ours":
        return None
    high = min(max(1.05 * max(values.max() for _, values, _, _ in kinds), 0.05), 1.0)
    edges = [float(edge) for edge in np.linspace(0, high, 31)]
    counts = [_histogram(values, edges) for _, values, _, _ in kinds]
    on = svg.plot((0, high), (0, max(map(max, counts)) * 1.05), top=68)
    means = [(f"{name} {values.mean():.3f}", colour, dash) for name, values, colour, dash in kinds]
    marks = [
        svg.key(means),
        svg.axes(on, "mask size, the share hidden", "images", (svg.plain, svg.whole)),
    ]
    ours = svg.bars(on, edges, counts[0], _spans(edges, counts[0], "mask size"), svg.OURS)
    marks.append(svg.group([ours], "fill-opacity:.55"))
    for (_, _, colour, dash), count in zip(kinds[1:], counts[1:], strict=True):
        marks.append(svg.outline(on, edges, count, colour, dash))
    return svg.document("Histograms of mask sizes: " + "; ".join(label for label, _, _ in means), marks)


def size_against_oracle(evaluation: Evaluation) -> str | None:
    """Draw each image's mask size against the oracle's, or the paper's Opt if there is no exact oracle."""
    images = evaluation.images
    exact = bool(np.isfinite(images.oracle_size).any())
    oracle = images.oracle_size if exact else images.paper_oracle_size
    known = np.flatnonzero(np.isfinite(oracle) & np.isfinite(images.size))
    if not known.size:
        return None
    known = known[np.linspace(0, known.size - 1, min(known.size, MOST_POINTS)).astype(int)]
    xs, ys = oracle[known], images.size[known]
    high = min(max(1.05 * max(xs.max(), ys.max()), 0.05), 1.0)
    on = svg.plot((0, high), (0, high))
    name = "the oracle" if exact else "the paper's Opt"
    titles = [
        f"{n}: ours {y:.3f}, oracle {x:.3f}" for n, x, y in zip(images.name[known], xs, ys, strict=True)
    ]
    marks = [
        svg.axes(on, f"mask size of {name}, which sees the truth", "our mask size"),
        svg.line(on, (0, high), (0, high), svg.QUIET, "2 4"),
        svg.group([svg.points(on, xs, ys, titles, svg.OURS)], "fill-opacity:.45"),
        svg.along(on, (0, 0), (high, high), "as good as the oracle"),
    ]
    return svg.document(f"Scatter plot of our mask size against {name}, {known.size} images", marks)


def coverage_by_difficulty(evaluation: Evaluation) -> str | None:
    """Draw coverage by tenths of predicted difficulty, with Clopper-Pearson intervals, and the promise."""
    parts = _parts(evaluation.coverage_by_difficulty)
    if not parts:
        return None
    count = max(round(evaluation.n_test / len(evaluation.coverage_by_difficulty)), 1)
    intervals = [clopper_pearson(round(share * count), count) for _, share in parts]
    promised = words.promised_share(evaluation)
    lowest = min([a for a, _ in intervals] + ([] if promised is None else [promised]))
    low = max(0.0, math.floor(10 * lowest - 0.5) / 10)
    on = svg.plot((0.5, len(evaluation.coverage_by_difficulty) + 0.5), (low, 1.0))
    xs, ys = zip(*parts, strict=True)
    titles = [
        f"tenth {x}: {y:.1%}, 95 % interval {a:.1%} to {b:.1%}"
        for (x, y), (a, b) in zip(parts, intervals, strict=True)
    ]
    marks = [
        svg.axes(on, DIFFICULTY, "images within the threshold", (svg.plain, svg.percent), xs),
        "" if promised is None else svg.band(on, promised, 1.0, svg.OURS),
        svg.whiskers(on, xs, intervals, svg.OURS),
        svg.points(on, xs, ys, titles, svg.OURS, 5.5),
        "" if promised is None else svg.level(on, promised, f"promised on average, {svg.percent(promised)}"),
    ]
    return svg.document("Coverage by difficulty: " + "; ".join(titles), marks)


def size_by_difficulty(evaluation: Evaluation) -> str | None:
    """Draw the mean mask size in each tenth of predicted difficulty."""
    parts = _parts(evaluation.size_by_difficulty)
    if not parts:
        return None
    top = min(1.0, 1.1 * max(max(y for _, y in parts), 0.05))
    on = svg.plot((0.5, len(evaluation.size_by_difficulty) + 0.5), (0, top))
    titles = [f"tenth {x}: mean mask size {y:.3f}" for x, y in parts]
    marks = [svg.axes(on, DIFFICULTY, "mean mask size", x_ticks=[x for x, _ in parts])]
    for (x, y), title in zip(parts, titles, strict=True):
        marks.append(svg.bars(on, (x - 0.32, x + 0.32), (y,), (title,), svg.OURS))
    return svg.document("Mask size by difficulty: " + "; ".join(titles), marks)


def size_by_threshold(evaluation: Evaluation) -> str | None:
    """Draw mean mask size against threshold, to show the cost of others; mark the chosen one."""
    return size_curve(evaluation.size_by_threshold, evaluation)


def size_curve(curve: Sequence[tuple[float, float]], about: Evaluation | CalibrationCard) -> str | None:
    """Draw mean mask size against threshold, from pairs of them; mark the evaluation's or card's."""
    curve = [(t, size) for t, size in curve if math.isfinite(t) and math.isfinite(size)]
    if len(curve) < 2:
        return None
    xs, ys = zip(*curve, strict=True)
    threshold, cost = about.threshold, float(np.interp(about.threshold, xs, ys))
    low, high = min(xs[0], threshold), max(xs[-1], threshold)
    on = svg.plot((low, high), (0, min(1.0, 1.08 * max(*ys, 0.05))))
    titles = [f"threshold {x:.4g}: mean mask size {y:.3f}" for x, y in curve]
    marks = [
        svg.axes(on, f"threshold on {about.loss_label}", "mean mask size"),
        svg.line(on, xs, ys, svg.OURS),
        svg.points(on, xs, ys, titles, svg.OURS, 2.5),
        svg.upright(on, threshold, f"chosen, {svg.plain(threshold)}"),
        svg.points(on, (threshold,), (cost,), (f"chosen: {cost:.3f}",), svg.LIMIT, 5.5),
    ]
    return svg.document(f"Mean mask size against threshold; {cost:.3f} at the chosen {threshold:.4g}", marks)


def gauge(evaluation: Evaluation) -> str | None:
    """Draw the measured coverage with its interval on a line, beside the promised share."""
    promised = words.promised_share(evaluation)
    if promised is None:
        return None
    (low, high), measured = evaluation.coverage_interval, evaluation.coverage
    counted = f"test {words.promise_of(evaluation).unit.singular}s"
    start, end = min(low, promised), max(high, promised)
    margin = max(0.35 * (end - start), 0.01)
    x = svg.Scale(max(start - margin, 0.0), min(end + margin, 1.0), 24, svg.WIDTH - 24)
    on = svg.Plot(x, svg.Scale(0, 1, 90, 30))
    labels = [svg.text(x(v), 110, svg.percent(v), "middle") for v in svg.ticks(x.low, x.high, 6)]
    title = f"measured {measured:.1%}, 95 % interval {low:.1%} to {high:.1%}"
    marks = [
        svg.group([svg.segment(x.start, 90, x.end, 90)], f"stroke:{svg.QUIET}"),
        svg.group(labels, f"fill:{svg.QUIET};font-size:12.5px"),
        svg.group([svg.segment(x(low), 72, x(high), 72)], f"stroke:{svg.OURS};stroke-width:5;opacity:.45"),
        svg.text(
            x.end, 132, f"{counted} within the threshold; bar: 95 % interval", "end", f"fill:{svg.QUIET}"
        ),
        svg.upright(on, promised, f"promised {svg.percent(promised)}"),
        svg.points(on, (measured,), (0.3,), (title,), svg.OURS, 7),
        svg.text(x(measured), 56, f"measured {words.share(measured)}", svg.anchor(on, x(measured)), MEASURED),
    ]
    return svg.document(f"Coverage: {title}; promised {svg.percent(promised)}", marks, 140)


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]


def _parts(values: Sequence[float]) -> list[tuple[int, float]]:
    numbered = enumerate(values, start=1)
    return [(i, value) for i, value in numbered if value is not None and math.isfinite(value)]


def _histogram(values: Array, edges: Sequence[float]) -> list[float]:
    return [float(count) for count in np.histogram(values, edges)[0]]


def _edges(masked: Array, unmasked: Array, threshold: float) -> list[float]:
    """Return bin edges, one of them on the threshold, over all masked and most unmasked losses."""
    tail = float(np.quantile(unmasked, 0.95)) if unmasked.size else 0.0
    high = max(1.2 * threshold, 1.02 * float(masked.max()), min(tail, 3 * threshold), 1e-12)
    width = high / BINS
    if threshold > width:
        width = threshold / round(threshold / width)
    below, above = math.floor(threshold / width + 1e-9), math.ceil((high - threshold) / width - 1e-9)
    return [threshold + width * i for i in range(-below, max(above, 1) + 1)]


def _counts(values: Array, edges: Sequence[float], threshold: float) -> list[float]:
    """Count images in each bin; one on the threshold meets it; those outside the bins are left out."""
    just_below = threshold - 0.5 * (edges[1] - edges[0]) * 1e-3
    inside = np.where(meets_threshold(values, threshold), np.minimum(values, just_below), values)
    return _histogram(np.maximum(inside, edges[0]), edges)


def _further(on: svg.Plot, count: int) -> str:
    """Return a note on the unmasked images that the axis leaves out."""
    note = f"{count} unmasked further right →"
    return svg.text(on.x.end, on.y.end + 34, note, "end", f"fill:{svg.QUIET}") if count else ""


def _spans(edges: Sequence[float], counts: Sequence[float], word: str) -> list[str]:
    spans = zip(edges, edges[1:], counts, strict=False)
    return [f"{word} {a:.4g} to {b:.4g}: {count:.0f} images" for a, b, count in spans]
