"""Figures of an evaluation: each function returns SVG text, or None if the record lacks its data."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from conformask.extras.view.facts import by_tenths
from conformask.images import svg
from conformask.masker.card import size_curve
from conformask.promises.intervals import clopper_pearson
from conformask.promises.order import meets_threshold
from conformask.records import numbers
from conformask.records.card import promised_share
from conformask.records.evaluation import Evaluation, judged_coverage
from conformask.records.numbers import rounded_share
from conformask.records.record import Array

Figure = Callable[[Evaluation], str | None]

DIFFICULTY = "tenth of the images by mean score, 1 = easiest"
BINS = 36
"""Number of bars of a histogram."""
MEASURED = f"fill:{svg.OURS};font-weight:600"
MOST_POINTS = 1500
"""Largest number of dots drawn, evenly selected; more would be indistinguishable."""


def distances(evaluation: Evaluation) -> str | None:
    """Draw histograms of the loss with and without a mask, against the threshold."""
    masked, unmasked = map(_finite_values, (evaluation.images.loss, evaluation.images.unmasked_loss))
    if not masked.size:
        return None
    threshold, missed = evaluation.card.threshold, numbers.share(1 - evaluation.coverage)
    edges = _edges(masked, unmasked, threshold)
    unmasked_counts, masked_counts = _counts(unmasked, edges, threshold), _counts(masked, edges, threshold)
    plot = svg.plot((max(edges[0], 0), edges[-1]), (0, max(*unmasked_counts, *masked_counts) * 1.05), top=68)
    beyond = np.array(edges[:-1]) >= threshold * (1 - 1e-9)
    within_counts, beyond_counts = (np.where(here, masked_counts, 0).tolist() for here in (~beyond, beyond))
    keys = [
        ("masked, within the threshold", svg.OURS, ""),
        ("beyond", svg.LIMIT, ""),
        ("unmasked", svg.BEHIND, ""),
    ]
    marks = [
        svg.key(keys),
        svg.axes(plot, f"{evaluation.card.loss.words.label}, of an image", "images", (svg.plain, svg.whole)),
        _bars(plot, edges, unmasked_counts, "unmasked", svg.BEHIND),
        _bars(plot, edges, within_counts, "masked", svg.OURS),
        _bars(plot, edges, beyond_counts, "masked", svg.LIMIT),
        svg.upright(plot, threshold, f"threshold {svg.plain(threshold)}", "images"),
        svg.text(plot.x.end, plot.y.end + 16, f"{missed} beyond", "end", f"fill:{svg.LIMIT};font-weight:600"),
    ]
    further = int((unmasked > edges[-1]).sum())
    if further:
        note = f"{further} unmasked further right →"
        marks.append(svg.text(plot.x.end, plot.y.end + 34, note, "end", f"fill:{svg.QUIET}"))
    label = f"Histogram of loss: {missed} of {masked.size} images lie beyond the threshold"
    return svg.document(label, marks)


def sizes(evaluation: Evaluation) -> str | None:
    """Draw histograms of hidden shares: ours filled, the oracles' as outlines."""
    images = evaluation.images
    series = [
        ("ours", _finite_values(images.size), svg.OURS, ""),
        ("best possible", _finite_values(images.oracle_size), svg.ORACLE, "none"),
        ("the paper's Opt", _finite_values(images.paper_oracle_size), svg.OPT, "5 3"),
    ]
    series = [entry for entry in series if entry[1].size]
    if not series or series[0][0] != "ours":
        return None
    high = min(max(1.05 * max(values.max() for _, values, _, _ in series), 0.05), 1.0)
    edges = [float(edge) for edge in np.linspace(0, high, 31)]
    counts = [_histogram(values, edges) for _, values, _, _ in series]
    plot = svg.plot((0, high), (0, max(map(max, counts)) * 1.05), top=68)
    keys = [(name, colour, dash) for name, _, colour, dash in series]
    marks = [
        svg.key(keys),
        svg.axes(plot, f"hidden of {evaluation.card.loss.extent.whole}", "images", (svg.percent, svg.whole)),
        svg.group([_bars(plot, edges, counts[0], "hidden %", svg.OURS, unit=100)], "fill-opacity:.55"),
        *(
            svg.outline(plot, edges, count, colour, dash)
            for (_, _, colour, dash), count in zip(series[1:], counts[1:], strict=True)
        ),
    ]
    return svg.document("Histograms of hidden shares: " + "; ".join(label for label, _, _ in keys), marks)


def size_against_oracle(evaluation: Evaluation) -> str | None:
    """Draw each image's hidden share against the oracle's, or the paper's Opt's if there is none."""
    images = evaluation.images
    exact = bool(np.isfinite(images.oracle_size).any())
    oracle = images.oracle_size if exact else images.paper_oracle_size
    indices = np.flatnonzero(np.isfinite(oracle) & np.isfinite(images.size))
    if not indices.size:
        return None
    indices = indices[np.linspace(0, indices.size - 1, min(indices.size, MOST_POINTS)).astype(int)]
    xs, ys = oracle[indices], images.size[indices]
    high = min(max(1.05 * max(xs.max(), ys.max()), 0.05), 1.0)
    plot = svg.plot((0, high), (0, high))
    name = "the best possible masks" if exact else "the paper's Opt"
    titles = [
        f"{n}: {rounded_share(y)} hidden, at best {rounded_share(x)}"
        for n, x, y in zip(images.name[indices], xs, ys, strict=True)
    ]
    by_truth = f"hidden by {name}, with the {evaluation.reference.noun} known"
    marks = [
        svg.axes(plot, by_truth, "hidden by our masks", (svg.percent, svg.percent)),
        svg.line(plot, (0, high), (0, high), svg.QUIET, "2 4"),
        svg.group([svg.points(plot, xs, ys, titles, svg.OURS)], "fill-opacity:.45"),
        svg.along(plot, (0, 0), (high, high), "as good as possible"),
    ]
    return svg.document(f"Scatter of what our masks hide against {name}, {indices.size} images", marks)


def coverage_by_difficulty(evaluation: Evaluation) -> str | None:
    """Draw coverage by tenths of predicted difficulty, with Clopper-Pearson intervals, and the promise."""
    deciles = _enumerate_finite(evaluation.coverage_by_difficulty)
    if not deciles or not by_tenths(evaluation):
        return None
    count = max(round(evaluation.n_test / len(evaluation.coverage_by_difficulty)), 1)
    intervals = [clopper_pearson(round(share * count), count) for _, share in deciles]
    confidence = promised_share(evaluation.card.promise)
    lowest = min([a for a, _ in intervals] + ([] if confidence is None else [confidence]))
    low = max(0.0, math.floor(10 * lowest - 0.5) / 10)
    plot = svg.plot((0.5, len(evaluation.coverage_by_difficulty) + 0.5), (low, 1.0))
    xs, ys = zip(*deciles, strict=True)
    titles = [
        f"tenth {x}: {y:.1%}, 95 % interval {a:.1%} to {b:.1%}"
        for (x, y), (a, b) in zip(deciles, intervals, strict=True)
    ]
    marks = [
        svg.axes(plot, DIFFICULTY, "images within the threshold", (svg.plain, svg.percent), xs),
        "" if confidence is None else svg.band(plot, confidence, 1.0, svg.OURS),
        svg.whiskers(plot, xs, intervals, svg.OURS),
        svg.points(plot, xs, ys, titles, svg.OURS, 5.5),
    ]
    if confidence is not None:
        marks.append(svg.level(plot, confidence, f"promised on average, {svg.percent(confidence)}"))
    return svg.document("Coverage by difficulty: " + "; ".join(titles), marks)


def size_by_difficulty(evaluation: Evaluation) -> str | None:
    """Draw the mean hidden share in each tenth of predicted difficulty."""
    deciles = _enumerate_finite(evaluation.size_by_difficulty)
    if not deciles or not by_tenths(evaluation):
        return None
    top = min(1.0, 1.1 * max(max(y for _, y in deciles), 0.05))
    plot = svg.plot((0.5, len(evaluation.size_by_difficulty) + 0.5), (0, top))
    titles = [f"tenth {x}: {rounded_share(y)} hidden" for x, y in deciles]
    ticks = [x for x, _ in deciles]
    marks = [
        svg.axes(plot, DIFFICULTY, "hidden on average", (svg.plain, svg.percent), ticks),
        *(
            svg.bars(plot, (x - 0.32, x + 0.32), (y,), (title,), svg.OURS)
            for (x, y), title in zip(deciles, titles, strict=True)
        ),
    ]
    return svg.document("Hidden share by difficulty: " + "; ".join(titles), marks)


def risk(evaluation: Evaluation) -> str | None:
    """Draw the error that is left against the share that is hidden, by the score, at best and by no score."""
    curve = evaluation.risk
    if curve is None or evaluation.card.loss.extent.counts_objects:
        return None
    shares, worst = curve.shares, curve.by_score[0]
    plot = svg.plot((0, 1), (0, 1.08 * (max(curve.by_score) or 1)), top=68)
    errors = evaluation.images.shown_error
    shown = None if errors is None or np.isnan(errors).all() else float(np.nanmean(errors))
    keys = [
        ("by our score", svg.OURS, ""),
        ("at best", svg.ORACLE, "none"),
        ("at random", svg.BEHIND, "none"),
    ]
    titles = [f"{100 * x:.0f} % hidden: {y:.3g} left" for x, y in zip(shares, curve.by_score, strict=True)]
    marks = [
        svg.key(keys),
        svg.axes(plot, "hidden of each image", "mean |y − ŷ| of what is shown", (svg.percent, svg.plain)),
        svg.line(plot, (0, 1), (worst, worst), svg.BEHIND),
        svg.line(plot, shares, curve.best, svg.ORACLE),
        svg.line(plot, shares, curve.by_score, svg.OURS),
        svg.points(plot, shares, curve.by_score, titles, svg.OURS, 2.5),
    ]
    if shown is not None:
        size, left = evaluation.mask_size, min(shown, plot.y.high)
        title = f"our masks: {rounded_share(size)} hidden, {shown:.3g} left"
        marks.append(svg.points(plot, (size,), (left,), (title,), svg.LIMIT, 5.5))
    return svg.document(
        f"Error left against the share hidden: from {worst:.3g} to {curve.by_score[-1]:.3g} by the score, "
        f"to {curve.best[-1]:.3g} at best",
        marks,
    )


def size_by_threshold(evaluation: Evaluation) -> str | None:
    """Draw the hidden share against the threshold, to show the cost of others; mark the chosen one."""
    return size_curve(evaluation.size_by_threshold, evaluation.card)


def gauge(evaluation: Evaluation) -> str | None:
    """Draw the measured coverage with its interval on a line, beside the promised share."""
    confidence = promised_share(evaluation.card.promise)
    if confidence is None:
        return None
    coverage, (low, high) = judged_coverage(evaluation)
    stated, worst = evaluation.card.promise, evaluation.worst
    units = stated.named(f"test {stated.axes.unit.singular}s")
    units += "" if worst is None else f" of {worst.category}, the worst category,"
    expected = evaluation.expected
    ends = (low, high, confidence, *(expected or ()))
    start, end = min(ends), max(ends)
    margin = max(0.35 * (end - start), 0.01)
    x = svg.Scale(max(start - margin, 0.0), min(end + margin, 1.0), 24, svg.WIDTH - 24)
    plot = svg.Plot(x, svg.Scale(0, 1, 90, 30))
    labels = [svg.text(x(v), 110, svg.percent(v), "middle") for v in svg.ticks(x.low, x.high, 6)]
    title = f"measured {coverage:.1%}, 95 % interval {low:.1%} to {high:.1%}"
    measured = f"measured {numbers.share(coverage)}"
    notes = [f"{units} within the threshold; bar: 95 % interval"]
    if expected is not None:
        notes.append("band: 95 of 100 tests of a promise that is kept")
    marks = [
        "" if expected is None else svg.strip(plot, *expected, svg.OURS),
        svg.group([svg.segment(x.start, 90, x.end, 90)], f"stroke:{svg.QUIET}"),
        svg.group(labels, f"fill:{svg.QUIET};font-size:12.5px"),
        svg.group([svg.segment(x(low), 72, x(high), 72)], f"stroke:{svg.OURS};stroke-width:5;opacity:.45"),
        *(svg.text(x.end, 132 + 18 * i, note, "end", f"fill:{svg.QUIET}") for i, note in enumerate(notes)),
        svg.upright(plot, confidence, f"promised {svg.percent(confidence)}"),
        svg.points(plot, (coverage,), (0.3,), (title,), svg.OURS, 7),
        svg.text(x(coverage), 56, measured, svg.anchor(plot, x(coverage)), MEASURED),
    ]
    label = f"Coverage: {title}; promised {svg.percent(confidence)}"
    return svg.document(label, marks, 122 + 18 * len(notes))


def _finite_values(values: Array) -> Array:
    return values[np.isfinite(values)]


def _enumerate_finite(values: Sequence[float]) -> list[tuple[int, float]]:
    entries = enumerate(values, start=1)
    return [(i, value) for i, value in entries if value is not None and math.isfinite(value)]


def _histogram(values: Array, edges: Sequence[float]) -> list[float]:
    return [float(count) for count in np.histogram(values, edges)[0]]


def _edges(masked: Array, unmasked: Array, threshold: float) -> list[float]:
    """Return bin edges, one of them on the threshold, over all masked and most unmasked losses."""
    tail = float(np.quantile(unmasked, 0.95)) if unmasked.size else 0.0
    high = max(1.2 * threshold, 1.02 * float(masked.max()), min(tail, 3 * threshold), 1e-12)
    width = high / BINS
    # bins start at the threshold and go both ways, so that no bar straddles it
    if threshold > width:
        width = threshold / round(threshold / width)
    n_below, n_above = math.floor(threshold / width + 1e-9), math.ceil((high - threshold) / width - 1e-9)
    return [threshold + width * i for i in range(-n_below, max(n_above, 1) + 1)]


def _counts(values: Array, edges: Sequence[float], threshold: float) -> list[float]:
    """Count images in each bin; one on the threshold meets it; those outside the bins are left out."""
    just_below = threshold - 0.5 * (edges[1] - edges[0]) * 1e-3
    clipped = np.where(meets_threshold(values, threshold), np.minimum(values, just_below), values)
    return _histogram(np.maximum(clipped, edges[0]), edges)


def _bars(
    plot: svg.Plot, edges: Sequence[float], counts: Sequence[float], word: str, fill: str, unit: float = 1
) -> str:
    """Draw bars with tooltips such as "masked 0.1 to 0.2: 7 images", the ends of bins in this unit."""
    bins = zip(edges, edges[1:], counts, strict=False)
    titles = [f"{word} {unit * a:.4g} to {unit * b:.4g}: {count:.0f} images" for a, b, count in bins]
    return svg.bars(plot, edges, counts, titles, fill)
