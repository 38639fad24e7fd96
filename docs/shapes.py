"""A griffe extension: shapes of jaxtyping as they are written, where griffe takes "n *g" for a product."""

from collections.abc import Iterator
from typing import Any

import griffe


class Shapes(griffe.Extension):
    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        for annotation in (func.returns, *(parameter.annotation for parameter in func.parameters)):
            quote(annotation)

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        quote(attr.annotation)


def quote(annotation: str | griffe.Expr | None) -> None:
    """Write the shapes in it as strings again."""
    for part in parts(annotation):
        if isinstance(part, griffe.ExprSubscript) and str(part.left) == "Float":
            kind, shape = part.slice.elements
            written = str(shape).strip("'\"").replace(" * ", " *")
            part.slice.elements = [kind, f'"{written}"']


def parts(annotation: str | griffe.Expr | None) -> Iterator[griffe.Expr]:
    if isinstance(annotation, griffe.Expr):
        yield annotation
        for part in annotation.iterate(flat=False):
            if part is not annotation:
                yield from parts(part)
