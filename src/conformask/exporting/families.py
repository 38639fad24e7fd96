"""The masks of a family in an ONNX graph: its own formula, at a level found in the graph."""

from collections.abc import Callable

import torch

from conformask.arithmetic import per_image
from conformask.errors import MismatchError
from conformask.types import Family, Images, PerImage

Opening = Callable[[Images, PerImage], Images]
"""Function (score float32, lam float64) -> mask."""


def opening(family: Family) -> Opening:
    """Return the function that computes a family's masks; they are 0 where lambda is 0, negative or NaN.

    Raises:
        MismatchError: your own family does not find its level in a graph.
    """
    level_in_graph = getattr(family, "level_in_graph", None)
    if level_in_graph is None:
        raise MismatchError(
            f"your own family {family.name!r} needs a method level_in_graph(score, lam), which computes its "
            "level in operations of an ONNX graph"
        )

    def opened(score: Images, lam: PerImage) -> Images:
        return torch.where(per_image(lam > 0, score), family.apply(score, level_in_graph(score, lam)), 0.0)

    return opened
