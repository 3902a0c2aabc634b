"""Matching mean embeddings: DM."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.augment import none
from rdd_jax.contracts import Augment, Objective
from rdd_jax.errors import at_least
from rdd_jax.networks import Network
from rdd_jax.objectives.cells import classes_and_cells, rows_by_class
from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

__all__ = ["distribution_matching"]


def distribution_matching(network: Network, cells: int, augment: Augment = none) -> Objective:
    r"""DM: the squared distance of mean embeddings at ``model``, usually random weights (Zhao & Bilen 2023).

    .. math::  l_c = k \left\| \sum_{i \in c} \tfrac{w_i}{w_c} f(x_i) - \tfrac{1}{|S_c|} \sum_{j \in S_c} f(s_j)
               \right\|^2

    Args:
      cells: a multiple of the number of classes; the batch may hold them in any numbers and order. A cell without
        examples has weight 0.
      augment: the same transform for real and synthetic images, where it is one a call (`augment.dsa`).

    Raises:
      InputError: when traced, ``cells`` that the number of classes does not divide.
    """
    at_least("cells", cells, 1)

    def objective(key: PRNGKey, model: Any, synthetic: Synthetic, batch: Batch) -> Losses:
        classes, of_cell = classes_and_cells(synthetic, cells)
        images = jax.lax.stop_gradient(augment(key, batch.images))
        real = _in_blocks(lambda block: network.features(model, block), images)
        total = jax.ops.segment_sum(batch.weight, batch.group, cells)
        share = batch.weight / jnp.where(total > 0, total, 1)[batch.group]
        real = jax.ops.segment_sum(share[:, None] * real, batch.group, cells)
        rows = rows_by_class(synthetic, classes)
        ours = jnp.mean(network.features(model, augment(key, synthetic.images))[rows], 1)
        value = jnp.sum((jax.lax.stop_gradient(real) - ours[of_cell]) ** 2, 1)
        return Losses(classes * value, jnp.arange(cells), (total > 0).astype(value.dtype))

    return objective


BLOCK = 256
"""Images whose embeddings are computed at a time."""


def _in_blocks(function: Callable[[Array], Array], images: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
    """``function`` of a block of images after another: the memory of one."""
    count = -(-len(images) // BLOCK)
    size = -(-len(images) // count)
    padded = jnp.pad(images, ((0, count * size - len(images)), (0, 0), (0, 0), (0, 0)), mode="wrap")
    found = jax.lax.map(function, padded.reshape(count, size, *images.shape[1:]))
    return found.reshape(count * size, -1)[: len(images)]
