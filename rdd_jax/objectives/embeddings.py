"""Matching mean embeddings: DM."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rdd_jax.augment import none
from rdd_jax.contracts import Augment, Objective
from rdd_jax.kernels.blocks import in_blocks
from rdd_jax.networks import Network
from rdd_jax.objectives.cells import laid
from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

__all__ = ["distribution_matching"]


def distribution_matching(network: Network, augment: Augment = none) -> Objective:
    r"""DM: the squared distance of mean embeddings at ``model``, usually random weights (Zhao & Bilen 2023).

    .. math::  l_c = k \left\| \sum_{i \in c} \tfrac{w_i}{w_c} f(x_i) - \tfrac{1}{|S_c|} \sum_{j \in S_c} f(s_j)
               \right\|^2

    Cells and batches are as in `gradient_matching`.

    Args:
      augment: as in `gradient_matching`.

    Raises:
      InputError: when traced, a batch that its cells do not divide, or cells that the classes do not.
    """

    def objective(key: PRNGKey, model: Any, synthetic: Synthetic, batch: Batch) -> Losses:
        by = laid(key, synthetic, batch)
        classes = len(by.rows)

        def embedded(key: PRNGKey, images: Array) -> Array:
            return in_blocks(lambda block: network.features(model, block), augment(key, images))

        # One class after another, in a loop: the memory of one.
        of_class = batch.images.reshape(classes, -1, *batch.images.shape[1:])
        real = by.in_cells(jax.lax.map(lambda one: embedded(*one), (by.keys, of_class)).reshape(len(batch.images), -1))
        real = jnp.einsum("cp,cpd->cd", by.share, real)
        augmented = jax.vmap(augment)(by.keys, synthetic.images[by.rows])
        ours = network.features(model, augmented.reshape(synthetic.images.shape))
        ours = jnp.mean(ours.reshape(*by.rows.shape, -1), 1)
        value = jnp.sum((jax.lax.stop_gradient(real) - ours[by.of_cell]) ** 2, 1)
        return by.losses(classes * value)

    return objective
