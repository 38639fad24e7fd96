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

from conformask.errors import ConformaskError
from conformask.masker.sliders import SliderSetting, recalibrated_at
from conformask.napari.layers import Index, drawn
from conformask.napari.masks import MasksOfLayer
from conformask.napari.register import apart, beside, with_size
from conformask.napari.roles import images_in, is_mask, paired
from conformask.napari.runs import trouble_of
from conformask.napari.scores import STEPS, Scores, scores_of
from conformask.napari.words import image_html, promise_html, trouble_html
from conformask.records.size import Size
from conformask.report.words import figure

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
        self.x = ComboBox(label="Input x", choices=self._images, nullable=True)
        self.y_hat = ComboBox(label="Output ŷ", choices=self._images, nullable=True)
        self.data_range = LineEdit(label="Data range", tooltip=RANGE)
        self.compute = PushButton(text="Compute masks")
        self.threshold = Slider(label="Threshold", max=STEPS, readout=False, enabled=False)
        self.reset = PushButton(text="Reset", enabled=False)
        self.promise, self.about_image = Label(), Label()
        layers = [self.x, self.y_hat, self.data_range, self.compute]
        run, others = Container(widgets=[self.run]), Container(widgets=[*layers, self.threshold, self.reset])
        run.margins = others.margins = (0, 0, 0, 0)
        super().__init__(widgets=[run, self.about_run, others, self.promise, self.about_image], labels=False)
        for label in (self.about_run, self.promise, self.about_image):
            _wrap(label)
        self.run.changed.connect(self._say_of_run)
        self.compute.changed.connect(self._compute)
        self.threshold.changed.connect(self._open)
        self.reset.changed.connect(self._reset)
        napari_viewer.dims.events.current_step.connect(self._say_of_image)

    def reset_choices(self, *_: object) -> None:
        """Offer the open images; keep what was chosen, and guess the rest."""
        chosen = self.x.value, self.y_hat.value
        super().reset_choices()
        images = self._images()
        self.x.value, self.y_hat.value = paired(
            images, *(each if each in images else None for each in chosen)
        )

    def _images(self, widget: Widget | None = None) -> list[Image]:
        return images_in(self._viewer.layers)

    def _say_of_run(self, run: Path | None) -> None:
        """Show what is wrong with the run, as soon as it is chosen."""
        trouble = trouble_of(run)
        self.about_run.value, self.about_run.visible = trouble_html(trouble), trouble is not None

    def _compute(self) -> None:
        """Score the layers in a thread; its errors become notifications of napari."""
        given = self.run.value, self.x.value, self.y_hat.value, self.data_range.value
        worker = create_worker(_work, *given, _progress={"desc": "conformask"}, _ignore_errors=True)
        worker.yielded.connect(partial(_advance, worker.pbar))
        worker.errored.connect(_tell)
        worker.returned.connect(self._show)
        worker.finished.connect(partial(setattr, self.compute, "enabled", True))
        self.compute.enabled = False
        worker.start()

    def _show(self, scores: Scores) -> None:
        """Open the masks as calibrated, in their own layer."""
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
        masker, promised = recalibrated_at(self._scores.masker, setting)
        self._masks = MasksOfLayer(masker, self._scores.images, self._scores.lead)
        self.threshold.label = f"Threshold {figure(promised.threshold, 4)}"
        self.promise.value = promise_html(promised)
        self.promise.tooltip = "\n\n".join(filter(None, (promised.holds, promised.silent)))
        self._draw(self._masks, {"promise": promised.promise, "masker": self._scores.masker.fingerprint})
        self._say_of_image()

    def _draw(self, masks: MasksOfLayer, metadata: dict[str, Any]) -> None:
        assert self._scores is not None
        if self._layer is not None and self._layer in self._viewer.layers:
            self._layer.data, self._layer.metadata = masks.array, metadata
            return
        y_hat, channels = self._scores.y_hat, masks.channels
        how = {**beside(y_hat), **drawn(channels), "name": f"mask of {y_hat.name}", "metadata": metadata}
        self._layer = self._viewer.add_image(masks.array, **how)

    def _say_of_image(self, event: object = None) -> None:
        """Show what is known about the image that the dimension sliders show."""
        scores, masks = self._scores, self._masks
        if scores is None or masks is None or self._layer is None:
            return
        index, card = self._index(self._layer, len(scores.lead)), scores.masker.card
        image = masks.image(index)
        stuck = None if scores.ends.stuck is None else f"The slider is fixed: {scores.ends.stuck}"
        notes = stuck, card.not_covered(image.size), card.unknown_network, *self._apart(image.size)
        which = scores.y_hat.name + (f" at {', '.join(map(str, index))}" if index else "")
        self.about_image.value = image_html(which, masks.size(index), scores.bound(image), *notes)

    def _apart(self, size: Size) -> list[str | None]:
        """Return how to lay the input, and masks of this size opened from files, over the output."""
        assert self._scores is not None
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        opened = [layer for layer in images if layer.source.path and is_mask(layer)]
        layers = [self._scores.x, *with_size(opened, size)]
        return [apart(layer, self._scores.y_hat, len(size)) for layer in layers]

    def _index(self, layer: Image, axes: int) -> Index:
        """Return the place that is shown along the first axes of a layer."""
        places = layer.world_to_data(self._viewer.dims.point)[:axes]
        ends = layer.data.shape[:axes]
        return tuple(min(max(round(at), 0), end - 1) for at, end in zip(places, ends, strict=True))


def _wrap(label: Label) -> None:
    """Break long text at the width of the widget; magicgui fixes the width of labels."""
    label.native.setWordWrap(True)
    policy = label.native.sizePolicy()
    policy.setHorizontalPolicy(policy.Policy.Preferred)
    label.native.setSizePolicy(policy)


@no_type_check  # napari asks whether this is a generator function, and one whose types are checked is not
def _work(*given):
    return (yield from scores_of(*given))


def _tell(error: Exception) -> None:
    """Show an error of conformask as a notification; raise others, so that napari shows a traceback."""
    if not isinstance(error, ConformaskError):
        raise error
    show_error(str(error))


def _advance(bar: progress, total: int) -> None:
    bar.total = total
    bar.update(1)
