"""Matching gradients: DC, DSA, RDD."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rdd_jax.augment import none
from rdd_jax.contracts import Augment, Objective
from rdd_jax.kernels.blocks import in_turns
from rdd_jax.networks import Network, check_batch
from rdd_jax.networks.training import cross_entropy
from rdd_jax.objectives.cells import laid
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


def gradient_matching(network: Network, distance: Distance = cosine, augment: Augment = none) -> Objective:
    r"""Dataset condensation: the gradient of the cross-entropy at ``model`` on a cell's real examples and on its class.

    .. math::
        l_c = k \sum_W d\left(\nabla_W \sum_{i \in c} \tfrac{w_i}{w_c} \ell(x_i, y_i),\;
        \nabla_W \tfrac{1}{|S_c|} \sum_{j \in S_c} \ell(s_j, y_j)\right)

    over the weights :math:`W` of all layers, biases and normalisation left out (Zhao et al. 2021); ``k`` is the number
    of classes.

    The cells are the groups of the examples, as many of each class. The batch holds as many examples of each, cell by
    cell, as `sampling.stratified` draws them; examples elsewhere count for nothing; a cell without any has weight 0.

    The real side is looked at a cell at a time, the set all classes at once where what the gradient keeps of them fits
    `kernels.blocks.HELD`, else some classes after others.

    Args:
      distance: `cosine` or `squared`.
      augment: of the real and the synthetic images of a class, with one key: the same transform of all of them, where
        it is one a call (`augment.dsa`). DSA draws one a class.

    Raises:
      InputError: when traced, a batch that its cells do not divide, cells that the classes do not, a network of
        another number of outputs, or batch statistics of one image a class.
    """

    def objective(key: PRNGKey, model: Any, synthetic: Synthetic, batch: Batch) -> Losses:
        by = laid(key, synthetic, batch)
        classes, ipc = by.rows.shape
        check_batch(network, ipc)
        matrices, rebuild = _matrices(model)

        def gradient(images: Array, labels: Array, weight: Array) -> list[Array]:
            loss = lambda w: jnp.sum(weight * cross_entropy(network.apply(rebuild(w), images), labels))  # noqa: E731
            return jax.grad(loss)(matrices)

        def augmented(key: PRNGKey, images: Array, labels: Array, weight: Array) -> list[Array]:
            return gradient(augment(key, images), labels + 1 / classes, weight)

        # One cell after another, in a loop: the memory of one.
        cell = by.keys[by.of_cell], by.in_cells(batch.images), by.in_cells(batch.labels), by.share
        real = jax.lax.stop_gradient(jax.lax.map(lambda one: augmented(*one), cell))
        equal = jnp.full(ipc, 1 / ipc)

        def apart(real: list[Array], ours: list[Array]) -> Array:
            columns = lambda leaf: leaf.reshape(-1, leaf.shape[-1])  # noqa: E731
            return sum((distance(columns(a), columns(b)) for a, b in zip(real, ours, strict=True)), jnp.zeros(()))

        def of_classes(keys: Key[Array, " n"], images: Array, labels: Array, real: list[Array]) -> Array:
            ours = jax.vmap(augmented, (0, 0, 0, None))(keys, images, labels, equal)
            return jax.vmap(jax.vmap(apart, (0, None)))(real, ours)

        by_class = [leaf.reshape(classes, -1, *leaf.shape[1:]) for leaf in real]
        value = in_turns(of_classes, by.keys, synthetic.images[by.rows], synthetic.labels[by.rows], by_class)
        return by.losses(classes * value.reshape(-1))

    return objective


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
