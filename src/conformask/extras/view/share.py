"""One page that runs without an installation: images under their masks, and a threshold that moves."""

import base64
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from conformask.background import tracked
from conformask.errors import InvalidArgumentError, expect
from conformask.extras.view.session import Session
from conformask.extras.view.sliders import (
    SliderSetting,
    SliderState,
    is_measurable,
    losses_of,
    mask_size_of,
    recalibrated_at,
    sliders,
)
from conformask.images.pictures import HATCH, in_colors
from conformask.images.svg import template
from conformask.images.triplets import Triplets, refuse_others
from conformask.masker.masker import Masker
from conformask.masker.whole import level_of
from conformask.records.reading import CLEAN, Reference
from conformask.records.record import Array, Json, atomic_write, to_jsonable

FOLDER = Path(__file__).parent
POSITIONS = 24
"""Number of positions of the slider beside the calibrated threshold."""
LONGEST = 512
"""Longest side of a picture, in pixels."""
VIEWS = "output", "truth", "input"
QUALITY = 88


@dataclass(frozen=True)
class SharedImage:
    """An image of the page."""

    name: str
    views: dict[str, str]
    """Pictures by view, as data URIs."""
    codes: str
    """A grey PNG, as a data URI: at each pixel, the number of positions at which it is hidden. Masks of
    larger thresholds show more, so a pixel is shown from the position with this number on."""
    hidden: list[float]
    """The hidden share at each position."""
    loss: list[float] | None
    """The loss under the mask at each position; None without truth."""
    met: list[bool] | None
    notes: list[str]
    """What is to be said beside the image."""
    contrast: str = ""
    """How the contrast of its pictures is stretched; empty if it is not."""


@dataclass(frozen=True)
class SharedCase:
    """A masker and images of the page."""

    title: str
    note: str
    """What one should know of the images, such as their licence."""
    states: list[dict[str, Json]]
    """What is promised at each position."""
    calibrated: int
    """The position of the calibrated threshold."""
    images: list[SharedImage]
    titles: dict[str, str] = field(default_factory=lambda: _titles(CLEAN))
    """The titles of the views; by default those of images with truth."""
    hidden_title: str = "Hidden"
    """The title of the hidden share."""


def share(masker: Masker, triplets: Triplets, path: str | Path, *, images: int = 6) -> Path:
    """Write one HTML file that shows images under their masks to whoever opens it, and return its path.

    It needs neither conformask nor a connection: pictures, masks at every position of the threshold, and what
    is promised there are in the file. Images are taken evenly from the test part, if the triplets are split,
    and shown with the most hidden first. Pictures are at most 512 pixels wide; a volume is shown by its most
    hidden slice. What a grey mask hides in part counts as hidden.

    Args:
        masker: a calibrated masker.
        triplets: images (x, y_hat), and y where it is known.
        path: the file, which ends with .html.
        images: how many images are taken, at least 1.

    Raises:
        InvalidArgumentError: another suffix, or no image.
        MismatchError: outputs of another network, or images of other channels.
        OutputError: the file cannot be written, or is not conformask's.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> y = np.random.default_rng(1).random((20, 16, 16), dtype=np.float32)
        >>> new = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> print(cm.share(masker, new, "look.html"))
        look.html
    """
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    refuse_others(triplets)
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm") or images < 1:
        raise InvalidArgumentError(
            f"{path}, images {images}: give a name that ends with .html, and at least 1"
        )
    with atomic_write(path) as temporary:
        temporary.write_text(page([shared_case(masker, triplets, images)]), encoding="utf-8")
    return path


def page(cases: Sequence[SharedCase]) -> str:
    """Return a page that shows these cases, the first of them first; its promise is the title."""
    first = cases[0]
    return template(FOLDER / "share.html").render(
        title=first.states[first.calibrated]["sentence"] or first.title,
        count=sum(len(case.images) for case in cases),
        data=to_jsonable({"cases": cases, "hatch": "#{:02x}{:02x}{:02x}".format(*HATCH)}),
        scripts=[_script("hidden_marks.js"), _script("share.js")],
    )  # fmt: skip


def shared_case(
    masker: Masker, triplets: Triplets, images: int, title: str | None = None, note: str = ""
) -> SharedCase:
    """Return what a page shows of a masker on the test part, its title the promise if none is given."""
    shown = triplets.part("test")
    places = np.linspace(0, len(shown) - 1, min(images, len(shown))).round().astype(int)
    session = Session(masker, shown.select(places.tolist()))
    moved = list(_positions(masker))
    calibrated = [state.threshold for _, state in moved].index(masker.card.threshold)
    shared = _images(session, [each for each, _ in moved])
    return SharedCase(
        title=title or masker.sentence,
        note=note,
        states=[asdict(state) for _, state in moved],
        calibrated=calibrated,
        images=sorted(shared, key=lambda image: -image.hidden[calibrated]),
        titles=_titles(shown.reference),
        hidden_title=f"Hidden{masker.card.promise.named(masker.card.loss.extent.where)}",
    )


def _titles(reference: Reference) -> dict[str, str]:
    return {
        "output": "What the network made",
        "truth": f"The {reference.noun}",
        "input": "What the network was given",
    }


def _positions(masker: Masker) -> Iterator[tuple[Masker, SliderState]]:
    """Yield the masker and its promise at each threshold, ascending; the calibrated one is among them."""
    limits = sliders(masker)
    thresholds = {masker.card.threshold}
    if masker.card.thresholds:
        thresholds |= {*masker.card.thresholds}
    elif limits.stuck is None:
        thresholds |= {float(f"{each:.4g}") for each in np.geomspace(*limits.threshold, POSITIONS)}
    for threshold in sorted(thresholds):
        yield recalibrated_at(masker, SliderSetting(threshold=threshold))


def _images(session: Session, maskers: list[Masker]) -> Iterator[SharedImage]:
    names = [entry.name for entry in session.entries()]
    for name in tracked(names, "images", len(names)):
        image = session.viewed_image(name)
        levels = [level_of(masker, image.item)[1] for masker in maskers]
        measured = maskers if is_measurable(session.masker, image) else []
        losses = [losses_of(masker, image) for masker in measured]
        views, codes = _pictures(session, name, maskers, levels)
        hidden = [mask_size_of(each.family, image, at) for each, at in zip(maskers, levels, strict=True)]
        yield SharedImage(
            name=name,
            views=views,
            codes=codes,
            hidden=hidden,
            loss=[each.loss for each in losses] or None,
            met=[each.met for each in losses] or None,
            notes=session.notes(name),
            contrast=session.collection_image(name).contrast(image).text,
        )


def _pictures(
    session: Session, name: str, maskers: list[Masker], levels: list[Tensor]
) -> tuple[dict[str, str], str]:
    """Return the views and the codes of the most hidden plane, as data URIs."""
    image, collection_image = session.viewed_image(name), session.collection_image(name)
    view, *_ = place = session.most_hidden_plane(name)
    masks = [(masker.family, level) for masker, level in zip(maskers, levels, strict=True)]
    codes = np.sum(session.hidden_pixels(name, masks), axis=0).astype(np.uint8)
    if "region" in image.sources:
        codes[session.plane(name, "region", *place)[0] == 0] = 0
    contrast = collection_image.contrast(image)
    steps = (collection_image.steps[axis] for axis in (view.down.axis, view.right.axis))
    size = picture_size(view.sides(image.deep), *steps)
    pixels = {
        role: in_colors(contrast(session.plane(name, role, *place)))
        for role in VIEWS
        if role in image.sources
    }
    return {role: _uri(each, size, "JPEG") for role, each in pixels.items()}, _uri(codes, size, "PNG")


def picture_size(shape: tuple[int, int], down: float, right: float) -> tuple[int, int]:
    """Return width and height of a picture of pixels with these steps, not enlarged where they are equal."""
    height, width = (
        length * step / min(down, right) for length, step in zip(shape, (down, right), strict=True)
    )
    scale = min(1.0, LONGEST / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _uri(pixels: Array, size: tuple[int, int], kind: Literal["JPEG", "PNG"]) -> str:
    """Encode a picture at this size, as a data URI; PNG keeps values, JPEG averages where it shrinks."""
    large = size[0] >= pixels.shape[1]
    resampling = Image.Resampling.NEAREST if large or kind == "PNG" else Image.Resampling.BOX
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, resampling).save(buffer, kind, quality=QUALITY)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _script(name: str) -> Markup:
    """Return a module of the viewer, to be put into the page beside others."""
    text = (FOLDER / "static" / name).read_text(encoding="utf-8")
    text = re.sub(r"^import .*;\n", "", text, flags=re.MULTILINE)
    return Markup(re.sub(r"^export ", "", text, flags=re.MULTILINE))
