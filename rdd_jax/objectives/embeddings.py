"""Matching the distributions of embeddings: DM by their means, NCFM by their characteristic functions."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rdd_jax.augment import none
from rdd_jax.contracts import Augment, Objective
from rdd_jax.devices import spread
from rdd_jax.errors import InputError, at_least
from rdd_jax.kernels.blocks import in_blocks, in_turns
from rdd_jax.networks import Network
from rdd_jax.objectives.cells import laid
from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

__all__ = ["characteristic", "distribution_matching", "means"]

EmbeddingDistance = Callable[[PRNGKey, Array, Array, Array], Array]
"""``distance(key, real [n, d], share [n], ours [m, d]) -> scalar`` of the embeddings of a cell's real examples, whose
shares sum to 1 (to 0 in an empty cell), and of its class's images."""


def means(
    key: PRNGKey, real: Float[Array, "n d"], share: Float[Array, " n"], ours: Float[Array, "m d"]
) -> Float[Array, ""]:
    """DM's: the squared distance of the means (Zhao & Bilen 2023)."""
    return jnp.sum((share @ real - jnp.mean(ours, 0)) ** 2)


def characteristic(frequencies: int = 1024, phase: float = 0.5) -> EmbeddingDistance:
    r"""NCFM's: the distance of the characteristic functions at random frequencies (Wang et al., CVPR 2025).

    .. math::  \tfrac1F \sum_t \sqrt{(1 - p) (|\varphi_t| - |\psi_t|)^2
               + 2 p \left(|\varphi_t| |\psi_t| - \mathrm{Re}\, \varphi_t \bar\psi_t\right)},
               \qquad \varphi_t = \mathrm{E}\, e^{i t \cdot f}

    with :math:`\varphi` of the real examples and :math:`\psi` of the images; the whole distribution has a part in it,
    not its mean alone. At ``phase`` :math:`p = 1/2` a term is :math:`|\varphi_t - \psi_t| / \sqrt 2`. The ``t`` are
    normal, one over the root mean squared distance of the cell's real embeddings to their mean: that scale is ours
    where NCFM learns one. They are drawn at every call.

    Args:
      frequencies: ``F``.
      phase: the weight of the phases, the rest being that of the amplitudes.

    Raises:
      InputError: ``frequencies < 1``, or ``phase`` outside [0, 1].
    """
    at_least("frequencies", frequencies, 1)
    if not 0 <= phase <= 1:
        raise InputError(f"phase is {phase}: give a share, 0 to 1")

    def distance(key: PRNGKey, real: Array, share: Array, ours: Array) -> Array:
        # About the mean, which turns both functions by the same phases: angles are small, and so are their errors.
        mean = share @ real
        spread = jnp.sqrt(_positive(share @ jnp.sum((real - mean[None]) ** 2, 1)))
        t = jax.random.normal(key, (real.shape[1], frequencies), real.dtype)

        def function(points: Array, share: Array) -> tuple[Array, Array]:
            angles = (points - mean[None]) @ t / spread
            return share @ jnp.cos(angles), share @ jnp.sin(angles)

        a, b = function(real, share), function(ours, jnp.full(len(ours), 1 / len(ours), ours.dtype))
        apart = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
        of_amplitudes = (_length(*a) - _length(*b)) ** 2
        return jnp.mean(jnp.sqrt(_positive(phase * apart + (1 - 2 * phase) * of_amplitudes)))

    return distance


def _length(x: Array, y: Array) -> Array:
    return jnp.sqrt(_positive(x**2 + y**2))


def _positive(square: Array) -> Array:
    """Where the root has a gradient."""
    return jnp.maximum(square, 1e-36)


def distribution_matching(network: Network, augment: Augment = none, distance: EmbeddingDistance = means) -> Objective:
    r"""DM: the distance of mean embeddings at ``model``, usually random weights (Zhao & Bilen 2023); or another.

    .. math::  l_c = k \left\| \sum_{i \in c} \tfrac{w_i}{w_c} f(x_i) - \tfrac{1}{|S_c|} \sum_{j \in S_c} f(s_j)
               \right\|^2

    Cells and batches are as in `gradient_matching`.

    Args:
      augment: as in `gradient_matching`.
      distance: `means`, as in the formula, or `characteristic`, in the place of the squared norm.

    Raises:
      InputError: when traced, a batch that its cells do not divide, or cells that the classes do not.
    """

    def objective(key: PRNGKey, model: Any, synthetic: Synthetic, batch: Batch) -> Losses:
        by = laid(key, synthetic, batch)
        classes = len(by.rows)

        def embedded(key: PRNGKey, images: Array) -> Array:
            return in_blocks(lambda block: network.features(model, block), augment(key, images))

        # One class after another, in a loop: the memory of one.
        of_class = spread(batch.images.reshape(classes, -1, *batch.images.shape[1:]), axis=1)
        real = jax.lax.map(lambda one: embedded(*one), (by.keys, of_class)).reshape(len(batch.images), -1)
        real = by.in_cells(jax.lax.stop_gradient(real))

        def of_classes(keys: Key[Array, " n"], images: Array) -> Array:
            augmented = jax.vmap(augment)(keys, images)
            return network.features(model, augmented.reshape(-1, *images.shape[2:])).reshape(*images.shape[:2], -1)

        own = by.keys, synthetic.images[by.rows]
        # Statistics over a batch are those of the whole set, which cannot be had in turns.
        ours = (in_turns(of_classes, *own) if network.settle is None else of_classes(*own))[by.of_cell]
        apart = jax.vmap(partial(distance, jax.random.fold_in(key, 2)))
        return by.losses(classes * apart(real, by.share, ours))

    return objective
