"""The widget: choose run, input and output, compute the masks, and move the threshold."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from threading import Lock
from typing import Any, no_type_check

import dask.array as da
import numpy as np
from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, Container, FileEdit, Label, LineEdit, PushButton, Slider, Widget
from napari.components import ViewerModel
from napari.layers import Image
from napari.qt.threading import create_worker
from napari.utils import progress
from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QScrollArea
from torch import Tensor

from conformask.arrays import window_index
from conformask.errors import (
    ConformaskError,
    InvalidArgumentError,
    MismatchError,
    failure_of_system,
    one_line,
)
from conformask.extras.napari.layers import (
    SAME_LAYER,
    Frames,
    Index,
    explain_offset,
    guess_pair,
    images_in,
    images_of,
    is_mask,
    layer_style,
    lazy_masks,
    needs_map,
    placement_of,
    score_images,
    trouble_of,
    with_size,
)
from conformask.extras.view.sliders import (
    SliderLimits,
    SliderSetting,
    SliderState,
    bound_text,
    mask_size_of,
    recalibrated_at,
    sliders,
)
from conformask.images.formats import DataRange, Places
from conformask.images.pictures import TITLES
from conformask.masker.load import load
from conformask.masker.masker import Masker
from conformask.masker.whole import ScoredImage, level_of
from conformask.records.numbers import figure, rounded_share
from conformask.records.reading import Size
from conformask.records.record import Array

TONES = {"calibrated": "#00735a", "simultaneous": "#00735a", "exploratory": "#ad4d06"}
BAD = "#b84500"
"""Tones of the light viewer, behind white letters, by the name of a standing; BAD for the others."""
MARKS = {"calibrated": "✓", "simultaneous": "✓", "exploratory": "~"}


def promise_html(state: SliderState) -> str:
    """Return the promise at a setting, and how far it can be relied on."""
    name, title = state.status.name, escape(state.status.title)
    tone, mark = TONES.get(name, BAD), MARKS.get(name, "✗")
    badge = f'<b style="background-color: {tone}; color: white">&nbsp;{mark} {title}&nbsp;</b>'
    sentence = "" if state.sentence is None else f"<big>{escape(state.sentence)}</big>"
    notes = (
        escape(note or "") for note in (state.status.text, state.useless, state.score, state.about_masks)
    )
    loss = f" Loss: {escape(state.loss or '')}."
    formula = "" if state.formula is None else f"<small><code>{escape(state.formula)}</code>{loss}</small>"
    paragraphs = (badge, sentence, *notes, formula)
    return "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs if paragraph)


def image_html(title: str, size: float, bound: str | None, *notes: str | None) -> str:
    """Return how much is hidden of an image, its bound, and further notes on its mask."""
    facts = [f"{title}: <b>{rounded_share(size)} hidden</b>"]
    if bound is not None:
        facts.append(f"Promised without a mask: {escape(bound)}")
    return "".join(f"<p>{paragraph}</p>" for paragraph in (*facts, *(escape(note) for note in notes if note)))


STEPS = 1000
"""Number of steps of the slider, which is logarithmic."""
DIGITS = 4
"""Significant digits of a threshold that the slider gives."""


@dataclass(frozen=True)
class Scores:
    """Images of an output layer with their scores."""

    masker: Masker
    """The masker as calibrated."""
    x: Image
    y_hat: Image
    images: list[ScoredImage]
    lead: Size
    """Number of images of the layer, along each of its first axes."""
    ends: SliderLimits

    @property
    def in_one_pass(self) -> bool:
        """True if one tile holds an image, so that its mask follows a slider at once."""
        return self.masker.by_tiles.holds(self.images[0].size)

    def bound(self, image: ScoredImage) -> str | None:
        """Return the largest possible difference of output and truth, in words; None where unknown."""
        return bound_text(self.masker, image.item) if self.in_one_pass else None

    @property
    def home(self) -> int:
        """Position of the slider as calibrated."""
        (low, high), threshold = self.ends.threshold, self.masker.card.threshold
        return round(STEPS * math.log(threshold / low) / math.log(high / low)) if high > low else 0

    def threshold(self, position: int) -> float | None:
        """Return the threshold at a position of the slider; None at the calibrated one."""
        low, high = self.ends.threshold
        return (
            None if position == self.home else float(f"{low * (high / low) ** (position / STEPS):.{DIGITS}g}")
        )


def scores_of(
    run: Path | None, x: Image | None, y_hat: Image | None, data_range: str, cues: Image | None = None
) -> Generator[int, None, Scores]:
    """Load a run and score the layers, by the map `cues` if it needs one; yield the number of tiles."""
    if run is None or x is None or y_hat is None:
        raise InvalidArgumentError("choose a run (a calibrated folder) and the layers of input and output")
    if x is y_hat:
        raise InvalidArgumentError(SAME_LAYER)
    masker = load(run)
    if not masker.scorer.cue_channels:
        cues = None
    elif cues is None:
        raise InvalidArgumentError("the score is read from a map beside ŷ: choose its layer")
    images = images_of(masker, x, y_hat, parse_range(data_range), cues)
    try:
        scored_images = yield from score_images(masker, images)
    except RuntimeError as error:  # napari would take it for a deleted worker
        raise MismatchError(f"the layers cannot be scored: {one_line(error)}") from error
    masker.lambdas(scored_images[0].item)
    return Scores(
        masker, x, y_hat, scored_images, Frames(y_hat, len(images[0].y_hat.size)).lead, sliders(masker)
    )


def parse_range(text: str) -> DataRange | None:
    """Parse the two numbers of "0 4095"; return None for an empty text."""
    try:
        numbers = [float(number) for number in text.replace(",", " ").split()]
        low, high = numbers or (None, None)
    except ValueError as error:
        raise InvalidArgumentError(
            f"data range {text!r}: give two numbers, such as 0 4095, or nothing for the range of the "
            "calibration or of the type"
        ) from error
    return None if low is None or high is None else (low, high)


class MasksOfLayer:
    """The masks of the images of a layer at one setting, each computed when it is first looked at."""

    def __init__(self, masker: Masker, images: Sequence[ScoredImage], lead: Size) -> None:
        self._masker, self._images, self._lead = masker, images, lead
        self._levels: dict[Index, Tensor] = {}
        self._lock = Lock()

    @property
    def channels(self) -> int:
        """Number of channels: 1, or that of the images."""
        return self._images[0].item.score.map.shape[1]

    @property
    def array(self) -> da.Array:
        """Masks as `Masker.__call__` gives them, in [0, 1], (*lead, *size) or (*lead, *size, C)."""
        return lazy_masks(self._read, self._lead, self._images[0].size, self.channels)

    def image(self, index: Index) -> ScoredImage:
        """Return the image at a place along the first axes."""
        return self._images[int(np.ravel_multi_index(index, self._lead)) if index else 0]

    def size(self, index: Index) -> float:
        """Return the mask size of one image, mean(1 - m)."""
        return mask_size_of(self._masker.family, self.image(index), self._level(index))

    def _level(self, index: Index) -> Tensor:
        with self._lock:
            if index not in self._levels:
                self._levels[index] = level_of(self._masker, self.image(index).item)[1]
            return self._levels[index]

    def _read(self, index: Index, places: Places) -> Array:
        score = self.image(index).item.score.map[window_index(places)]
        mask: Array = self._masker.family.apply(score, self._level(index))[0].numpy()
        return mask


RANGE = "Values that become 0 and 1, such as 0 4095; if empty, as calibrated, or as the type defines"


class Masks(Container[Widget]):
    """Widget that masks an output layer's images, and shows the promise at the slider's threshold."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        self._viewer = napari_viewer
        self._scores: Scores | None = None
        self._masks: MasksOfLayer | None = None
        self._layer: Image | None = None
        self.run = FileEdit(label="Run", mode=FileDialogMode.EXISTING_DIRECTORY, nullable=True)
        self.about_run = Label(visible=False)
        self.x = ComboBox(label=TITLES["input"], choices=self._images, nullable=True)
        self.y_hat = ComboBox(label=TITLES["output"], choices=self._images, nullable=True)
        self.cues = ComboBox(label=TITLES["map"], choices=self._images, nullable=True, visible=False)
        self.data_range = LineEdit(label="Data range", tooltip=RANGE)
        self.compute = PushButton(text="Compute masks")
        self.about_layers = Label(visible=False)
        self.threshold = Slider(label="Threshold", max=STEPS, readout=False, enabled=False)
        self.reset = PushButton(text="Reset", enabled=False)
        self.promise, self.about_image = Label(), Label()
        of_layers, of_slider = (
            [self.x, self.y_hat, self.cues, self.data_range, self.compute],
            [self.threshold, self.reset],
        )
        groups = [Container(widgets=widgets) for widgets in ([self.run], of_layers, of_slider)]
        for group in groups:
            group.margins = (0, 0, 0, 0)
        texts = Container(widgets=[self.promise, self.about_image], labels=False)
        run, layers, slider = groups
        super().__init__(widgets=[run, self.about_run, layers, self.about_layers, slider], labels=False)
        for label in (self.about_run, self.about_layers, self.promise, self.about_image):
            _wrap(label)
        texts.native.layout().addStretch(1)
        self.native.layout().addWidget(_scroll_area(texts), 1)
        self.run.changed.connect(self._show_run_trouble)
        for selector in (self.x, self.y_hat):
            selector.changed.connect(self._show_layer_trouble)
        self.compute.changed.connect(self._compute)
        self.threshold.changed.connect(self._open)
        self.reset.changed.connect(self._reset)
        napari_viewer.dims.events.current_step.connect(self._show_image_facts)

    def reset_choices(self, *_: object) -> None:
        """Offer the open images; keep what was chosen, and guess the rest."""
        selection = self.x.value, self.y_hat.value, self.cues.value
        super().reset_choices()
        images = self._images()
        x, y_hat, cues = (layer if layer in images else None for layer in selection)
        self.x.value, self.y_hat.value = x, y_hat = guess_pair(images, x, y_hat)
        self.cues.value = cues or next((layer for layer in images if layer not in (x, y_hat)), None)

    def _images(self, widget: Widget | None = None) -> list[Image]:
        return images_in(self._viewer.layers)

    def _show_run_trouble(self, run: Path | None) -> None:
        """Show what is wrong with the run, as soon as it is chosen; offer a layer of maps if it needs one."""
        trouble = trouble_of(run)
        _show_trouble(self.about_run, trouble)
        self.cues.visible = run is not None and trouble is None and needs_map(run)
        self._show_layer_trouble()

    def _show_layer_trouble(self, layer: Image | None = None) -> None:
        """Show whether one layer was chosen twice, instead of what went wrong with the layers before."""
        same = self.x.value is not None and self.x.value is self.y_hat.value
        _show_trouble(self.about_layers, SAME_LAYER if same else None)

    def _compute(self) -> None:
        """Score the layers in a thread; its errors become notifications of napari, and stay in the widget."""
        layers = self.x.value, self.y_hat.value
        arguments = self.run.value, *layers, self.data_range.value, self.cues.value
        worker = create_worker(_score, *arguments, _progress={"desc": "conformask"}, _ignore_errors=True)
        worker.yielded.connect(partial(_advance, worker.pbar))
        worker.errored.connect(self._report)
        worker.returned.connect(self._show)
        worker.finished.connect(partial(setattr, self.compute, "enabled", True))
        self.compute.enabled = False
        worker.start()

    def _report(self, error: Exception) -> None:
        """Show an error of conformask or of the system; raise others, so that napari shows a traceback."""
        text = str(error) if isinstance(error, ConformaskError) else failure_of_system(error)
        if text is None:
            raise error
        if not self.about_run.value:
            _show_trouble(self.about_layers, text)
        show_error(text)

    def _show(self, scores: Scores) -> None:
        """Open the masks as calibrated, in their own layer."""
        _show_trouble(self.about_layers, None)
        self._scores, self._layer = scores, None
        with self.threshold.changed.blocked():
            self.threshold.value = scores.home
        self.threshold.tracking = scores.in_one_pass
        self.threshold.enabled = self.reset.enabled = scores.ends.stuck is None
        self._open()

    def _reset(self) -> None:
        if self._scores is not None:
            self.threshold.value = self._scores.home

    def _open(self) -> None:
        """Open the masks at the slider's threshold."""
        if self._scores is None:
            return
        setting = SliderSetting(self._scores.threshold(self.threshold.value))
        masker, state = recalibrated_at(self._scores.masker, setting)
        self._masks = MasksOfLayer(masker, self._scores.images, self._scores.lead)
        self.threshold.label = f"Threshold {figure(state.threshold, 4)}"
        self.promise.value = promise_html(state)
        self.promise.tooltip = "\n\n".join(filter(None, (state.holds, state.silent)))
        self._draw(self._masks, {"sentence": state.sentence, "masker": self._scores.masker.fingerprint})
        self._show_image_facts()

    def _draw(self, masks: MasksOfLayer, metadata: dict[str, Any]) -> None:
        assert self._scores is not None
        if self._layer is not None and self._layer in self._viewer.layers:
            self._layer.data, self._layer.metadata = masks.array, metadata
            return
        y_hat, channels = self._scores.y_hat, masks.channels
        options = {
            **placement_of(y_hat),
            **layer_style(channels),
            "name": f"mask of {y_hat.name}",
            "metadata": metadata,
        }
        self._layer = self._viewer.add_image(masks.array, **options)

    def _show_image_facts(self, event: object = None) -> None:
        """Show what is known about the image that the dimension sliders show."""
        scores, masks = self._scores, self._masks
        if scores is None or masks is None or self._layer is None:
            return
        index = self._index(self._layer, len(scores.lead))
        image = masks.image(index)
        admission = image.admission
        fixed_note = None if scores.ends.stuck is None else f"The slider is fixed: {scores.ends.stuck}"
        notes = (
            fixed_note,
            *admission.notes,
            None if admission.caveat is None else admission.caveat.text,
            *self._offset_notes(image.size),
        )
        title = scores.y_hat.name + (f" at {', '.join(map(str, index))}" if index else "")
        self.about_image.value = image_html(title, masks.size(index), scores.bound(image), *notes)

    def _offset_notes(self, size: Size) -> list[str | None]:
        """Return how to lay the input, and masks of this size opened from files, over the output."""
        assert self._scores is not None
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        mask_layers = [layer for layer in images if layer.source.path and is_mask(layer)]
        layers = [self._scores.x, *with_size(mask_layers, size)]
        return [explain_offset(layer, self._scores.y_hat, len(size)) for layer in layers]

    def _index(self, layer: Image, axes: int) -> Index:
        """Return the place that is shown along the first axes of a layer."""
        places = layer.world_to_data(self._viewer.dims.point)[:axes]
        ends = layer.data.shape[:axes]
        return tuple(
            min(max(round(position), 0), end - 1) for position, end in zip(places, ends, strict=True)
        )


def _wrap(label: Label) -> None:
    """Break long text at the width of the widget, at any height; magicgui fixes the size of labels."""
    label.native.setWordWrap(True)
    policy = label.native.sizePolicy()
    policy.setHorizontalPolicy(policy.Policy.Preferred)
    policy.setVerticalPolicy(policy.Policy.Minimum)
    label.native.setSizePolicy(policy)


def _scroll_area(container: Container[Widget]) -> QScrollArea:
    """Return an area for a container that may be higher than the window; napari ignores magicgui's own."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(container.native)
    container.margins = (0, 0, 0, 0)
    return area


@no_type_check  # napari asks whether this is a generator function, and one whose types are checked is not
def _score(*arguments):
    return (yield from scores_of(*arguments))


def _show_trouble(label: Label, trouble: str | None) -> None:
    """Show what is wrong with the chosen run or layers; hide the label if nothing is."""
    tone = f"background-color: {BAD}; color: white"
    text = "" if trouble is None else f'<span style="{tone}">&nbsp;✗ {escape(trouble)}&nbsp;</span>'
    label.value, label.visible = text, trouble is not None


def _advance(bar: progress, total: int) -> None:
    bar.total = total
    bar.update(1)
