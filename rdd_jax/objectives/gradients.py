"""Matching gradients: DC, DSA, RDD."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.augment import none
from rdd_jax.contracts import Augment, Objective
from rdd_jax.errors import InputError, at_least
from rdd_jax.networks import Network, check_batch
from rdd_jax.networks.training import cross_entropy
from rdd_jax.objectives.cells import classes_and_cells, rows_by_class
from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

__all__ = ["DISTANCES", "cosine", "gradient_matching", "squared"]

Distance = Callable[[Array, Array], Array]
"""``distance(a, b) -> scalar`` of the gradients of one weight, columns being the outputs of its layer."""


def cosine(a: Float[Array, "i o"], b: Float[Array, "i o"]) -> Float[Array, ""]:
    r"""DC's :math:`\sum_o 1 - \cos(a_{:o}, b_{:o})` over the outputs of the layer (Zhao et al. 2021).

    A small constant keeps the quotient finite; it stands above too, so that equal gradients are at distance 0 even
    where they vanish, as at a unit that no image activates.
    """
    small = 1e-6
    return jnp.sum(1 - (jnp.sum(a * b, 0) + small) / (_norms(a) * _norms(b) + small))


def _norms(a: Float[Array, "i o"]) -> Float[Array, " o"]:
    """Of columns, with a gradient at 0."""
    return jnp.sqrt(jnp.maximum(jnp.sum(a**2, 0), 1e-36))


def squared(a: Float[Array, "i o"], b: Float[Array, "i o"]) -> Float[Array, ""]:
    """The squared error, which also matches how long gradients are."""
    return jnp.sum((a - b) ** 2)


DISTANCES: dict[str, Distance] = {"cosine": cosine, "squared": squared}


def gradient_matching(network: Network, cells: int, distance: Distance = cosine, augment: Augment = none) -> Objective:
    r"""Dataset condensation: the gradient of the cross-entropy at ``model`` on a cell's real examples and on its class.

    .. math::
        l_c = k \sum_W d\left(\nabla_W \sum_{i \in c} \tfrac{w_i}{w_c} \ell(x_i, y_i),\;
        \nabla_W \tfrac{1}{|S_c|} \sum_{j \in S_c} \ell(s_j, y_j)\right)

    over the weights :math:`W` of all layers, biases and normalisation left out (Zhao et al. 2021); ``k`` is the number
    of classes.

    Args:
      cells: a multiple of the number of classes. The batch holds as many examples of each, cell by cell, as
        `sampling.stratified` draws them; examples elsewhere count for nothing, and a cell without any has weight 0.
      distance: `cosine` or `squared`.
      augment: the same transform for real and synthetic images, where it is one a call (`augment.dsa`): DSA.

    Raises:
      InputError: when traced, a batch that ``cells`` does not divide, ``cells`` that the classes do not, a network of
        another number of outputs, or batch statistics of one image a class.
    """
    at_least("cells", cells, 1)

    def objective(key: PRNGKey, model: Any, synthetic: Synthetic, batch: Batch) -> Losses:
        classes, of_cell = classes_and_cells(synthetic, cells)
        if len(batch.images) % cells:
            raise InputError(f"a batch of {len(batch.images)} does not hold {cells} cells evenly: use a multiple")
        per = len(batch.images) // cells
        matrices, rebuild = _matrices(model)

        def gradient(images: Array, labels: Array, weight: Array) -> list[Array]:
            loss = lambda w: jnp.sum(weight * cross_entropy(network.apply(rebuild(w), images), labels))  # noqa: E731
            return jax.grad(loss)(matrices)

        weight = batch.weight * (batch.group == jnp.repeat(jnp.arange(cells), per))
        in_cells = lambda leaf: leaf.reshape(cells, per, *leaf.shape[1:])  # noqa: E731
        weight, present = _shares(in_cells(weight))
        images = jax.lax.stop_gradient(augment(key, batch.images))
        # One cell after another, in a loop: the memory of one.
        labels = in_cells(batch.labels + 1 / classes)
        real = jax.lax.map(lambda cell: gradient(*cell), (in_cells(images), labels, weight))
        rows = rows_by_class(synthetic, classes)
        check_batch(network, rows.shape[1])
        images = augment(key, synthetic.images)[rows]
        labels = synthetic.labels[rows] + 1 / classes
        ours = jax.vmap(gradient)(images, labels, jnp.full(rows.shape, 1 / rows.shape[1]))

        def apart(real: list[Array], ours: list[Array]) -> Array:
            columns = lambda leaf: leaf.reshape(-1, leaf.shape[-1])  # noqa: E731
            return sum((distance(columns(a), columns(b)) for a, b in zip(real, ours, strict=True)), jnp.zeros(()))

        value = jax.vmap(apart)(jax.lax.stop_gradient(real), [leaf[of_cell] for leaf in ours])
        return Losses(classes * value, jnp.arange(cells), present.astype(value.dtype))

    return objective


def _shares(weight: Float[Array, "cells per"]) -> tuple[Float[Array, "cells per"], Array]:
    """Weights that sum to 1 in every cell that has any, and which have."""
    total = jnp.sum(weight, 1)
    return weight / jnp.where(total > 0, total, 1)[:, None], total > 0


def _matrices(variables: Any) -> tuple[list[Array], Callable[[list[Array]], Any]]:
    """The weights of two or more axes, and what puts them back into the variables."""
    leaves, tree = jax.tree.flatten(variables)
    chosen = [i for i, leaf in enumerate(leaves) if leaf.ndim > 1]

    def rebuild(matrices: list[Array]) -> Any:
        mixed = list(leaves)
        for i, matrix in zip(chosen, matrices, strict=True):
            mixed[i] = matrix
        return jax.tree.unflatten(tree, mixed)

    return [leaves[i] for i in chosen], rebuild
