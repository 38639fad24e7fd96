"""Masks in a pipeline of MONAI. Needs the extra monai."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from monai.data import MetaTensor
from monai.transforms import MapTransform

from conformask.arrays import Images
from conformask.extras.make.monai import reorder_axes
from conformask.extras.make.predictors import required
from conformask.masker.arguments import given
from conformask.masker.masker import Masker
from conformask.records.reading import Geometry

required("monai.transforms")
ORIGINAL = "original_affine"
"""What readers of MONAI note of a file: other images have the spacing 1, which states nothing."""


class ConformalMaskd(MapTransform):  # type: ignore[misc]
    """A dictionary transform: from x and y_hat to the mask, in [0, 1], 1 = trusted.

    Images are tensors (C, *space), read as the calibration images were. The mask has the affine, the
    metadata and the applied operations of y_hat, so that Invertd and SaveImaged treat it like y_hat.
    """

    def __init__(
        self,
        masker: Masker,
        keys: Sequence[Hashable] = ("x", "y_hat"),
        mask_key: Hashable = "mask",
        *,
        reversed_axes: bool = True,
    ) -> None:
        """Set up the transform.

        Args:
            masker: a calibrated masker.
            keys: the keys of x, of y_hat and of the layers that the score takes, such as maps (K, *space).
            mask_key: the key under which the mask is put, (1 or C, *space), float32.
            reversed_axes: whether the images have MONAI's order of axes, (C, X, Y, Z), and conformask has
                read the calibration images from files, in the order (C, Z, Y, X); if False, the masker was
                calibrated on tensors in the order of these images.
        """
        super().__init__(keys)
        self.masker, self.mask_key, self.reversed_axes = masker, mask_key, reversed_axes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with the mask added.

        Raises:
            KeyError: x, y_hat or the maps are missing.
            MismatchError: channels that differ from the calibration images, or no key of the maps.
            ImageError: values outside the range, NaN or infinity.
        """
        x, y_hat, *others = (data[key] for key in self.keys)
        layers = dict(zip(self.masker.scorer.layers, map(self._batch, others), strict=False))
        batch = given(self.masker.card, self._batch(x), self._batch(y_hat), layers)
        batch = replace(batch, geometry=(self._geometry(y_hat),))
        item, admission = self.masker.admit_and_score(batch)
        admission.warn()
        mask = self.masker.open(item)
        meta_mask = MetaTensor(reorder_axes(mask, self.reversed_axes)[0].to(y_hat.device))
        return {
            **data,
            self.mask_key: meta_mask.copy_meta_from(y_hat) if isinstance(y_hat, MetaTensor) else meta_mask,
        }

    def _geometry(self, image: Any) -> Geometry | None:
        """Return the spacing that the file of an image states; None where it was read from no file.

        MONAI names no unit: it is taken to be that of the calibration images.
        """
        known = self.masker.card.geometry
        if known is None or not isinstance(image, MetaTensor) or ORIGINAL not in image.meta:
            return None
        steps = image.pixdim.tolist()[: image.ndim - 1]
        return Geometry(tuple(reversed(steps) if self.reversed_axes else steps), known.unit)

    def _batch(self, image: Any) -> Images:
        tensor = image.as_tensor() if isinstance(image, MetaTensor) else image
        return reorder_axes(tensor[None].float(), self.reversed_axes).contiguous()
