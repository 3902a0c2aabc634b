"""A set that a network which has learned the classes tells apart, beside what else is asked of it."""

from typing import Any

import jax
import jax.numpy as jnp

from rdd_jax.augment import none
from rdd_jax.contracts import Augment, Objective
from rdd_jax.kernels.blocks import in_turns
from rdd_jax.networks import Network
from rdd_jax.networks.training import cross_entropy
from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

__all__ = ["taught"]


def taught(objective: Objective, network: Network, weight: int | float, augment: Augment = none) -> Objective:
    r"""``objective``, and the mean cross-entropy of the set's images under a network that has learned the classes.

    .. math::  l_j + \lambda \tfrac1m \sum_{i \in S} CE(f(a(s_i)), c_i)

    with ``weight`` :math:`\lambda`, the class :math:`c_i` of every image and an augmentation :math:`a`. All losses are
    moved alike, so that a mean, a CVaR, a maximum or an entropic risk of them is moved by as much, a sum of two by
    twice that. TGDD (AAAI 2026) has the term beside DM, under a later network of the training that is matched at.

    Args:
      objective: what is asked besides; its model is the first of the two.
      network: of the second of the model's two, such as `snapshots.at_snapshots` gives them ``with_last``.
      augment: of the set's images.
    """

    def both(key: PRNGKey, model: Any, synthetic: Synthetic, batch: Batch) -> Losses:
        now, teacher = model
        losses = objective(key, now, synthetic, batch)
        images = augment(jax.random.fold_in(key, 1), synthetic.images)
        classes = jax.nn.one_hot(synthetic.of_class, synthetic.labels.shape[1], dtype=images.dtype)
        wrong_by = lambda images, classes: cross_entropy(network.apply(teacher, images), classes)  # noqa: E731
        # Statistics over a batch are those of the whole set, which cannot be had in turns.
        wrong = jnp.mean(in_turns(wrong_by, images, classes) if network.settle is None else wrong_by(images, classes))
        return losses.replace(value=losses.value + weight * wrong)

    return both
