"""Every test runs with shapes (jaxtyping) and types (beartype) checked inside conformask."""

from jaxtyping import install_import_hook

install_import_hook("conformask", "typechecked.typechecked")
