"""The masks of a family in an ONNX graph: its own formula, at a level found in the graph."""

from collections.abc import Callable

import torch

from conformask.arithmetic import per_image
from conformask.masks.mask_family import Family, refuse_unrelated
from conformask.types import Images, PerImage

Opening = Callable[[Images, PerImage], Images]
"""Function (score float32, lam float64) -> mask."""


def opening(family: Family) -> Opening:
    """Return the function that computes a family's masks; they are 0 where lambda is 0, negative or NaN.

    Raises:
        MismatchError: your own family does not find its level in a graph.
    """
    refuse_unrelated(family)
    # a family without a level in the graph is refused here, before the work of an export
    family.level_in_graph(torch.ones(1, 1, 1, 1), torch.ones(1, dtype=torch.float64))

    def opened(score: Images, lam: PerImage) -> Images:
        mask = family.apply(score, family.level_in_graph(score, lam))
        return torch.where(per_image(lam > 0, score), mask, 0.0)

    return opened
