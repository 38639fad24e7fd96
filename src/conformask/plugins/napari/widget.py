"""The widget: choose run, input and output, compute the masks, and move the threshold."""

from functools import partial
from pathlib import Path
from typing import Any, no_type_check

from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, Container, FileEdit, Label, LineEdit, PushButton, Slider, Widget
from napari.components import ViewerModel
from napari.layers import Image
from napari.qt.threading import create_worker
from napari.utils import progress
from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QScrollArea

from conformask.errors import ConformaskError, failure_of_system
from conformask.pictures.titles import TITLES
from conformask.plugins.napari.layers import Index, layer_style
from conformask.plugins.napari.register import explain_offset, geometry_of, placement_of, with_size
from conformask.plugins.napari.roles import SAME_LAYER, guess_pair, images_in, is_mask, needs_map, trouble_of
from conformask.plugins.napari.scores import STEPS, MasksOfLayer, Scores, scores_of
from conformask.plugins.napari.words import image_html, promise_html, trouble_html
from conformask.records.size import Size
from conformask.report.sliders import SliderSetting, recalibrated_at
from conformask.wording.numbers import figure

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
        index, card = self._index(self._layer, len(scores.lead)), scores.masker.card
        image = masks.image(index)
        unit = "mm" if card.geometry is None else card.geometry.unit
        geometry = geometry_of(scores.y_hat, len(image.size), unit)
        fixed_note = None if scores.ends.stuck is None else f"The slider is fixed: {scores.ends.stuck}"
        notes = (
            fixed_note,
            card.not_covered(image.size),
            card.other_spacing(geometry),
            card.unknown_network,
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
    label.value, label.visible = trouble_html(trouble), trouble is not None


def _advance(bar: progress, total: int) -> None:
    bar.total = total
    bar.update(1)
