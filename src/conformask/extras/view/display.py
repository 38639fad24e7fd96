"""Figures for notebooks: masks of images under their promise, and the hidden share by threshold."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from conformask.arrays import Array, Batch, Triplet
from conformask.errors import InvalidArgumentError, MismatchError, expect
from conformask.extensions import required
from conformask.extras.view.page import LONGEST, Strip, StripRow, error_label
from conformask.images.pictures import (
    TITLES,
    Contrast,
    as_bytes,
    error_bytes,
    first_contrast,
    gray,
    heat,
    heat_between,
    in_colors,
    map_ends,
    planes_of,
    shrunk_overlay,
    titles_for,
)
from conformask.masker.arguments import batch_of, given, own_ranges
from conformask.masker.checks import has_theorem
from conformask.masker.masker import Judged, Masker
from conformask.masks.critical import mask_size, unmasked_loss
from conformask.records.card import Domain
from conformask.records.evaluation import Evaluation
from conformask.records.extent import REGION
from conformask.records.numbers import UNIT, rounded_share
from conformask.records.reading import CLEAN, Reference


def show(
    masker: Masker,
    x: Tensor | Array | Triplet,
    y_hat: Tensor | Array | None = None,
    y: Tensor | Array | None = None,
    *,
    weight: Sequence[float] | None = None,
    category: Sequence[str] | None = None,
    **layers: Tensor | Array | None,
) -> Strip:
    """Show output, overlay, mask and input of each image, with the promise; a notebook displays the result.

    With the truth it also shows y, the error, and whether the loss is within the threshold, and so it does
    for a Triplet with a noisy reference by which the loss can be measured; with maps beside y_hat, their
    mean. A volume is shown in three slices: the most hidden, the largest error, the middle; they are oriented
    like the calibration images, if the files of these say how they lie in a patient.

    Args:
        masker: from calibrate or load.
        x: the degraded input, as the masker takes it: a tensor of floats (N, Cx, *space), or an array,
            read as the calibration images were; or a Triplet, which has all that follows.
        y_hat: the network's output, of the same kind.
        y: the truth, if it is known, of the same kind and with the shape of y_hat.
        weight: the weight of each image, if the rule needs it.
        category: the category of each image, if the rule needs it.
        layers: what the score takes, as the masker does, such as `cues`; and `region`, (N, 1, *space) or
            (*space) in [0, 1], where the promise is about a region of each image.

    Raises:
        InvalidArgumentError: tensors and arrays are mixed, different numbers of images, or y with another
            shape than y_hat.
        MismatchError: channels or axes that differ from the calibration images.
        ImageError: values outside the range, NaN or infinity.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> strip = cm.show(masker, y[0]**2, y[0]**1.5)
        >>> len(strip.rows)
        1
    """
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    batch = given(masker.card, x, y_hat, layers, weight=weight, category=category)
    reference = x.reference if isinstance(x, Triplet) else CLEAN
    if not isinstance(x, Triplet):
        if y is not None and isinstance(y, Tensor) != isinstance(x, Tensor):
            raise InvalidArgumentError("x, y_hat and y must all be tensors or all be arrays")
        assert y_hat is not None  # or it was refused above
        ranges = own_ranges(masker.card, x, y_hat)
        batch = replace(batch, y=None if y is None else batch_of(masker.card, "y", y, ranges))
    if batch.y is not None and batch.y.shape != batch.y_hat.shape:
        raise InvalidArgumentError(
            f"y has shape {tuple(batch.y.shape)}, but y_hat has {tuple(batch.y_hat.shape)} (N, C, H, W): "
            "they must be the same"
        )
    item, admission = masker.admit_and_score(batch)
    admission.warn()
    truth, shown_maps = (
        [None] * len(item) if images is None else images for images in (item.y, item.layers.get("cues"))
    )
    measurable = has_theorem(masker.card.promise, masker.loss, reference)
    measurable &= not masker.card.loss.extent.counts_objects  # whose labels of y are not known here
    judged = masker.judge(item, measured=measurable)
    measures = _measure(masker, judged, item)
    rows = [
        StripRow(pictures, (*measured, *captions), met)
        for *images, (measured, met) in zip(
            item.x, item.y_hat, judged.mask, truth, shown_maps, measures, strict=True
        )
        for pictures, captions in _pictures(*map(_array, images), domain=masker.card, reference=reference)
    ]
    return Strip(masker.sentence, tuple(rows))


def plot(evaluation: Evaluation, ax: Any = None) -> Any:
    """Plot the hidden share against the threshold, as in the report, with the test result, by matplotlib.

    Args:
        evaluation: what evaluate() returned, or Evaluation.load().
        ax: matplotlib axes to draw on; new ones if None.

    Returns:
        The axes.

    Raises:
        MissingFileError: matplotlib is not installed.
        MismatchError: the masker stored no curves to read mask sizes at other thresholds from.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> y = np.random.default_rng(1).random((20, 16, 16), dtype=np.float32)
        >>> new = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> cm.plot(cm.evaluate(masker, new)).get_xlabel()
        'threshold on L1'
    """
    expect(evaluation, Evaluation, "evaluation", "what evaluate() returned")
    required("matplotlib", "plot", "plot")
    if not evaluation.size_by_threshold:
        raise MismatchError(
            "no curves are stored, because an earlier version of conformask kept none here: calibrate again"
        )
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots()[1]
    threshold, size = evaluation.card.threshold, evaluation.mask_size
    ax.plot(*zip(*evaluation.size_by_threshold, strict=True), ".-", label="calibration images")
    ax.axvline(threshold, color="C1", linestyle="--", label=f"chosen, {threshold:.4g}")
    low, high = evaluation.mask_size_interval
    ends, measured = [[size - low], [high - size]], f"{evaluation.n_test} test images, 95 % interval"
    ax.errorbar(threshold, size, ends, color="C1", fmt="o", capsize=4, label=measured)
    ax.set(xlabel=f"threshold on {evaluation.card.loss.words.label}", ylabel="hidden share", ylim=(0, None))
    ax.set_title(evaluation.kept_text)
    ax.legend()
    return ax


def _measure(masker: Masker, judged: Judged, batch: Batch) -> list[tuple[tuple[str, ...], bool | None]]:
    """Return the facts of each image, and whether it is within the threshold."""
    card = masker.card
    counted = batch.layers.get("region") if card.loss.extent == REGION else None
    sizes = [f"hidden {rounded_share(size)}" for size in mask_size(judged.mask, counted).tolist()]
    if judged.loss is None or judged.within is None:
        return [((size,), None) for size in sizes]
    masked = [
        f"{card.loss.words.label} masked {loss:.4g} of at most {card.threshold:.4g}" for loss in judged.loss
    ]
    losses = unmasked_loss(masker.loss, batch).detach().cpu().numpy()
    facts = zip(sizes, masked, (f"unmasked {loss:.4g}" for loss in losses), strict=True)
    return list(zip(facts, judged.within.tolist(), strict=True))


def _pictures(
    x: Array,
    y_hat: Array,
    mask: Array,
    y: Array | None,
    cues: Array | None,
    *,
    domain: Domain,
    reference: Reference,
) -> Iterator[tuple[dict[str, Array], tuple[str, ...]]]:
    """Yield pictures and captions, for a volume those of its selected slices."""
    error = None if y is None else np.abs(y - y_hat)
    contrast = first_contrast(domain.range_of_y_hat or UNIT, map_ends(y_hat))
    for planes, label in planes_of(mask, x, y_hat, y, cues, geometry=domain.geometry, error=error):
        panels = _panels(*planes, contrast=contrast, data_range=domain.range_of_y_hat, reference=reference)
        yield panels, tuple(filter(None, (label, contrast.text)))


def _panels(
    mask: Array,
    x: Array,
    y_hat: Array,
    y: Array | None,
    cues: Array | None,
    *,
    contrast: Contrast,
    data_range: tuple[float, float] | None,
    reference: Reference,
) -> dict[str, Array]:
    """Return pictures by label, in the order of display."""
    output, mask_bytes, labels = in_colors(contrast(y_hat)), as_bytes(mask), titles_for(reference)
    panels = {
        "output": output,
        "overlay": shrunk_overlay(output, mask_bytes, LONGEST),
        "mask": gray(mask_bytes),
        "input": in_colors(contrast(x)),
    }
    if y is not None:
        error, scale = error_bytes(y, y_hat)
        panels |= {"truth": in_colors(contrast(y)), "error": heat(error)}
        labels["error"] = error_label(scale, data_range, reference)
    if cues is not None:
        low, high = map_ends(cues)
        panels["map"] = heat_between(cues, low, high)
        labels["map"] += f", {low:.3g} to {high:.3g}"
    return {labels[name]: panels[name] for name in TITLES if name in panels}


def _array(image: Tensor | None) -> Any:
    return None if image is None else image.detach().cpu().numpy()
