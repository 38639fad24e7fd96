"""Losses of objects, such as nuclei: which of those of y_hat are shown, and which of them are wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from conformask.errors import InvalidArgumentError, MismatchError, chosen
from conformask.losses.base import Form, Loss, NumberOption, OwnOption
from conformask.losses.window import BY_LARGEST
from conformask.records.extent import Extent, Layered, Use
from conformask.records.loss import Traits
from conformask.records.loss_words import LossWords, Texts
from conformask.records.numbers import Values
from conformask.records.record import Array

if TYPE_CHECKING:
    from conformask.arrays import Batch, Images
    from conformask.extras.objects.scorer import ObjectScorer
    from conformask.losses.of_images import LargestShown, Sums
    from conformask.records.card import CalibrationCard

OfObjects = Literal["any", "missed", "wrong"]
"""What is counted of objects."""
ROUNDING = 1e-9
"""Fraction of a pixel by which an intersection may fall short: in floats 0.07 times 100 is above 7."""


@dataclass(frozen=True)
class LabelledObjects:
    """The objects of a label image."""

    ids: Array
    """Labels of the objects, (k,), ascending."""
    areas: Array
    """Numbers of pixels of the objects, (k,)."""
    firsts: Array
    """The first pixel of each object in the flat image, (k,)."""
    of_pixel: Array
    """The place of the object of each pixel in `ids`, (*space); k for the background."""

    @classmethod
    def of(cls, labels: Array) -> "LabelledObjects":
        """Return the objects of labels (*space), in which 0 is the background."""
        ids, firsts, inverse, areas = np.unique(
            labels, return_index=True, return_inverse=True, return_counts=True
        )
        is_object = ids != 0
        places = np.where(is_object, np.cumsum(is_object) - 1, is_object.sum())
        pixels = places[inverse.reshape(labels.shape)]
        return cls(ids[is_object], areas[is_object], firsts[is_object], pixels)

    def painted(self, values: Array, background: float = 0.0) -> Array:
        """Return at each pixel the value of its object, (*space); values are (k,)."""
        return np.append(values, background)[self.of_pixel]

    def means(self, image: Array) -> Array:
        """Return the mean of an image (*space) over each object, (k,) float64."""
        sums = np.bincount(self.of_pixel.ravel(), image.ravel(), minlength=len(self.ids) + 1)
        return np.asarray(sums[:-1] / self.areas)

    def met_by(self, others: "LabelledObjects", iou: float) -> Array:
        """Return which of the objects one of the others meets with this IoU or a larger one, (k,) bool.

        The IoU of two objects is the number of their common pixels, divided by that of the pixels of either.
        """
        pairs, common = np.unique(self.of_pixel * (len(others.ids) + 1) + others.of_pixel, return_counts=True)
        own, other = np.divmod(pairs, len(others.ids) + 1)
        is_pair = (own < len(self.ids)) & (other < len(others.ids))
        own, other, common = own[is_pair], other[is_pair], common[is_pair]
        union = self.areas[own] + others.areas[other] - common
        met = np.zeros(len(self.ids), bool)
        met[own[common >= iou * union - ROUNDING]] = True
        return met


@dataclass(frozen=True)
class ObjectExtent(Extent):
    """The objects of each image, which count alike."""

    iou: float
    """The intersection over union from which on two objects are the same one."""
    name = "objects"
    layers = ("labels", "y_labels")
    whole = "the objects of an image"
    where = " of the objects"
    counts_objects = True

    def refuse(self, use: Use, image: str = "") -> None:
        """Refuse a score trained for objects, patches, and tiles, by which no object is whole."""
        raise InvalidArgumentError(REFUSED[use].format(image=image))

    def check_layers(self, has: Callable[[str], bool]) -> None:
        """Refuse a calibration without labels of y_hat and y."""
        if not all(map(has, self.layers)):
            raise InvalidArgumentError(
                "a promise about objects needs labels of the objects of each y_hat and y: labels= and "
                "y_labels= (Python), or the folder of --objects (command line)"
            )

    def weights(self, batch: Layered) -> "Images":
        """Return 1 / area at each pixel of an object, so that objects count alike, (N, 1, *space) float32.

        An image without objects weights all of its pixels: what is hidden of it is then defined.
        """
        import torch

        labels, weights = labels_of(batch), []
        for image in _arrays(labels):
            objects = LabelledObjects.of(image)
            weights.append(objects.painted(1 / objects.areas) if len(objects.ids) else np.ones(image.shape))
        return torch.from_numpy(np.stack(weights)[:, None]).to(labels)

    def scorer(self, scorer: Any) -> "ObjectScorer":
        """Return the scorer averaged over objects."""
        from conformask.extras.objects.scorer import ObjectScorer
        from conformask.scores.scorer import Tiled

        if isinstance(scorer, Tiled):
            raise InvalidArgumentError(
                "objects are scored in one pass, not by tiles: leave out --tiled (Tiled), and cut images "
                "into fields that the score network takes"
            )
        return scorer if isinstance(scorer, ObjectScorer) else ObjectScorer(scorer)

    def counted_scores(self, scores: "list[Images]") -> "list[Images]":
        """Return the scores of objects alone, as the background is always shown."""
        import torch

        of_objects = torch.cat([score[score > 0] for score in scores])[None, None]
        if not of_objects.numel():
            raise InvalidArgumentError("no object of the selection images has a score above 0: add images")
        return [of_objects]

    def columns(self, mask: "Images", batch: Layered) -> dict[str, Array]:
        """Return the fields of ObjectCounts of each image, (n, 6); nothing without labels of y."""
        if "y_labels" not in batch.layers:
            return {}
        counts = []
        for shown_share, own, true in zip(
            _arrays(mask), _arrays(labels_of(batch)), _arrays(batch.layers["y_labels"]), strict=True
        ):
            objects, truth = LabelledObjects.of(own), LabelledObjects.of(true)
            right, shown = objects.met_by(truth, self.iou), objects.means(shown_share) > 0
            lacking = ~truth.met_by(objects, self.iou)
            each = (right | True, right, shown, shown & right, lacking | True, lacking)
            counts.append([int(flags.sum()) for flags in each])
        return {"objects": np.array(counts)}


REFUSED: Mapping[Use, str] = {
    "training": "a score is trained for the errors of pixels, such as loss='l1', and promises objects "
    "afterwards: calibrate(scorer, images, loss=Objects(...))",
    "patches": "patches go with promises about pixels; objects are shown or hidden whole: leave patches out",
    "tiles": "{image} is an OME-Zarr or too large for one pass, and by tiles no object is whole: cut it into "
    "fields of the size of the calibration images, as TIFF or npy",
}
"""What is said of each use that promises about objects refuse."""
J_WRONG = "j the objects of ŷ, j wrong where {wrong}; 0 / 0 is 0"
OBJECT_NAME = "{over}(objects, IoU < {iou})"
OBJECT_TEXTS: Mapping[OfObjects, Texts] = {
    "any": Texts(
        OBJECT_NAME,
        "whether a wrong object ({wrong}) is shown",
        ("[#{{j : m_j > 0, j wrong}} > 0]", J_WRONG),
        "no wrong object is shown {if_wrong}",
        "the chance that a wrong object is shown {if_wrong} is at most {threshold}",
    ),
    "missed": Texts(
        OBJECT_NAME,
        "share of the wrong objects ({wrong}) that are shown",
        ("#{{j : m_j > 0, j wrong}} / #{{j : j wrong}}", J_WRONG),
        "at most {threshold} of the wrong objects {are} shown {if_wrong}",
        "of the wrong objects {if_wrong}, the share that is shown is at most {threshold}",
    ),
    "wrong": Texts(
        OBJECT_NAME,
        "share of the objects shown that are wrong ({wrong})",
        ("#{{j : m_j > 0, j wrong}} / #{{j : m_j > 0}}", J_WRONG),
        "at most {threshold} of the objects shown {are} wrong {if_wrong}",
        "the share of the objects shown that are wrong {if_wrong} is at most {threshold}",
    ),
}


@dataclass(frozen=True)
class Objects(Loss):
    """A loss of the objects of y_hat, each shown or hidden whole, in label images of y_hat and y.

    An object of y_hat is wrong if no object of y meets it with an IoU of at least `iou`. The background does
    not count, nor do objects of y that y_hat lacks, which no mask can bring back; `evaluate` counts them.

    Args:
        over: "any": 1 if a wrong object is shown, else 0; "missed": the share of the wrong objects that is
            shown, 0 where none is wrong; "wrong": the share of the shown objects that is wrong, 0 where none
            is shown, not monotone.
        iou: the intersection over union from which on two objects are the same one, in (0, 1].

    Raises:
        InvalidArgumentError: another aggregate, or an iou outside (0, 1].

    Examples:
        >>> import conformask as cm
        >>> cm.Objects("missed").name
        'missed(objects, IoU < 0.5)'
    """

    over: OfObjects = "wrong"
    iou: float = 0.5
    of = "objects"
    common = Traits(takes_regions=False, is_share=True, upper_bound=1.0, family=BY_LARGEST)
    form = Form(
        numbers={
            "iou": NumberOption(
                "the IoU with an object of y below which an object of y_hat is wrong; 0.5 if not given."
            )
        },
        own=OwnOption(
            "objects",
            "Promise objects, such as nuclei, shown or hidden whole: the folder beside y_hat/ with labels "
            "y_hat/NAME and y/NAME, 0 for the background; or components:T, for the parts of y_hat and y "
            "above T in [0, 1].",
            "labels of the objects",
            get_args(OfObjects),
            "With --objects: the share of the objects shown that is wrong, if not given; of the wrong ones "
            "that is shown (missed); whether any is (any)",
        ),
    )

    def __post_init__(self) -> None:
        chosen({name: name for name in get_args(OfObjects)}, self.over, "loss of objects")
        if not 0 < self.iou <= 1:
            raise InvalidArgumentError(f"iou = {self.iou:g}: must be above 0 and at most 1, such as 0.5")

    @property
    def extent(self) -> "ObjectExtent":
        """The objects of each image."""
        return ObjectExtent(self.iou)

    @property
    def traits(self) -> Traits:
        """The traits of the loss: the share of wrong ones is divided by what is shown."""
        relative = self.over == "wrong"
        return replace(super().traits, relative=relative, monotone=not relative)

    def in_regions(self, regions: bool) -> "Objects":
        """Return the loss itself; raise for regions."""
        if regions:
            raise InvalidArgumentError(
                "a promise about objects takes no regions: leave them out, and give objects outside of them "
                "the label 0"
            )
        return self

    def on(
        self, y: "Images", y_hat: "Images", region: "Images | None", channels: int
    ) -> "Sums | LargestShown":
        """Return the loss on label images of y and y_hat, (N, 1, *space), for masks of one channel."""
        import torch

        from conformask.extras.objects.scorer import SumsOfObjects
        from conformask.losses.of_images import LargestShown, shown_share_of

        pixels = np.stack([self._pixels(*labels) for labels in zip(_arrays(y), _arrays(y_hat), strict=True)])
        counted, wrong = torch.from_numpy(pixels)[:, :, None].to(y_hat.device).unbind(1)
        if self.over == "any":
            return LargestShown(wrong.double())
        if self.over == "wrong":
            return SumsOfObjects(wrong, shown=counted)
        return SumsOfObjects(shown_share_of(wrong).error)

    def of_batch(self, batch: "Batch", channels: int) -> "Sums | LargestShown":
        """Return the loss on the labels of a batch."""
        return self.on(labels_of(batch, "y_labels"), labels_of(batch), None, channels)

    @property
    def words(self) -> LossWords:
        """The words for the loss."""
        return ObjectWords(self)

    def _pixels(self, y: Array, y_hat: Array) -> Array:
        """Return 1 at one pixel of each object, and of each wrong object, (2, *space) float32.

        A mask has one value on an object, so that one of its pixels stands for it, and counts are exact. For
        "any", which counts nothing, wrong objects are 1 everywhere: the best mask hides them.
        """
        objects = LabelledObjects.of(y_hat)
        wrong = ~objects.met_by(LabelledObjects.of(y), self.iou)
        if self.over == "any":
            return np.stack([y_hat > 0, objects.painted(wrong)]).astype(np.float32)
        pixels = np.zeros((2, y_hat.size), np.float32)
        pixels[:, objects.firsts] = np.ones(len(wrong)), wrong
        return pixels.reshape(2, *y_hat.shape)


@dataclass(frozen=True)
class ObjectWords(LossWords):
    """The words for a loss of objects."""

    loss: Objects
    caveat = "Nothing is promised about objects of the reference that the network lacks."

    @property
    def texts(self) -> Texts:
        """The templates for what is counted."""
        return OBJECT_TEXTS[self.loss.over]

    @property
    def symbols(self) -> dict[str, str]:
        """What stands for the parts of the loss in templates."""
        wrong = f"no object of the reference meets it with an IoU of {self.loss.iou:g} or more"
        return super().symbols | {"wrong": wrong, "where": ""}

    def in_sentences(self, card: "CalibrationCard") -> dict[str, str]:
        """Return what stands for the parts of the loss, the promise and its images in sentences."""
        words = super().in_sentences(card)
        are = "is" if words["threshold"].startswith("a ") else "are"
        return words | {"are": are, "if_wrong": f"(IoU below {self.loss.iou:g})"}

    def limit(self, threshold: float, values: Values | None) -> str:
        """Return the threshold in words."""
        return "a tenth" if threshold == 0.1 else super().limit(threshold, values)


def labels_of(batch: Layered, layer: str = "labels") -> "Images":
    """Return the labels of y_hat, or of y, of each image, (N, 1, *space)."""
    if layer not in batch.layers:
        raise MismatchError(
            f"the promise is about objects, and {batch.names[0]!r} comes without labels of y_hat and y: give "
            "labels= and y_labels= (Python), or the folder of --objects (command line)"
        )
    labels: Images = batch.layers[layer]
    return labels


def _arrays(images: "Images") -> Array:
    return images[:, 0].detach().cpu().numpy()
