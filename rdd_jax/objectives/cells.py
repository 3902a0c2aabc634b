"""What matching objectives share: how cells of real examples and classes of synthetic images are numbered."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from rdd_jax.errors import InputError
from rdd_jax.types import Synthetic

__all__ = ["classes_and_cells", "rows_by_class"]


def classes_and_cells(synthetic: Synthetic, cells: int) -> tuple[int, Int[Array, " cells"]]:
    """The number of classes, and the class of every cell."""
    classes = synthetic.labels.shape[1]
    if cells % classes or len(synthetic.images) % classes:
        raise InputError(
            f"{cells} cells and {len(synthetic.images)} synthetic images for {classes} classes: both must be multiples"
        )
    return classes, jnp.arange(cells) // (cells // classes)


def rows_by_class(synthetic: Synthetic, classes: int) -> Int[Array, "classes ipc"]:
    """The rows of every class, of which there are as many of each: soft labels are to keep their largest entry."""
    return jnp.argsort(jnp.argmax(synthetic.labels, 1)).reshape(classes, -1)
