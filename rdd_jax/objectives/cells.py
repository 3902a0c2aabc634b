"""What matching objectives share: how cells of real examples and classes of synthetic images lie."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rdd_jax.devices import spread
from rdd_jax.errors import InputError
from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

__all__ = ["Laid", "laid"]


class Laid(NamedTuple):
    """A batch by cells, a set by classes, and what goes with each.

    Attributes:
      share: of every real example in its cell; they sum to 1 in cells that have any.
      present: which cells have any.
      rows: the synthetic images of every class, of which there are as many of each.
      of_cell: the class of every cell.
      keys: one a class: both sides of a class are augmented alike.
    """

    share: Float[Array, "cells per"]
    present: Bool[Array, " cells"]
    rows: Int[Array, "classes ipc"]
    of_cell: Int[Array, " cells"]
    keys: PRNGKey

    def in_cells(self, leaf: Array) -> Array:
        """``[b, ...] -> [cells, per, ...]``."""
        return spread(leaf.reshape(*self.share.shape, *leaf.shape[1:]), axis=1)

    def losses(self, value: Float[Array, " cells"]) -> Losses:
        """One loss a cell; one without examples has weight 0."""
        return Losses(value, jnp.arange(len(value)), self.present.astype(value.dtype), group_count=len(value))


def laid(key: PRNGKey, synthetic: Synthetic, batch: Batch) -> Laid:
    """The layout of a step; the groups of the batch are its cells.

    Raises:
      InputError: cells or synthetic images that are no multiple of the classes, or a batch that is none of the cells.
    """
    classes, cells = synthetic.labels.shape[1], batch.group_count
    if cells % classes or len(synthetic.images) % classes:
        raise InputError(
            f"{cells} cells and {len(synthetic.images)} synthetic images for {classes} classes: both must be multiples"
        )
    if len(batch.images) % cells:
        raise InputError(f"a batch of {len(batch.images)} does not hold {cells} cells evenly: use a multiple")
    per = len(batch.images) // cells
    weight = (batch.weight * (batch.group == jnp.repeat(jnp.arange(cells), per))).reshape(cells, per)
    total = jnp.sum(weight, 1)
    share = weight / jnp.where(total > 0, total, 1)[:, None]
    rows = jnp.argsort(synthetic.of_class).reshape(classes, -1)
    return Laid(share, total > 0, rows, jnp.arange(cells) // (cells // classes), jax.random.split(key, classes))
