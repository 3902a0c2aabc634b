"""Sums and maxima by group, which measures are made of; inside ``jit``."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.types import Losses

__all__ = ["group_max", "group_sum", "ratio", "running"]


def group_sum(value: Array, losses: Losses) -> Float[Array, " g"]:
    """The sum of ``value [l]`` over the losses of every group."""
    return jax.ops.segment_sum(value, losses.group, losses.group_count)


def group_max(value: Array, losses: Losses) -> Float[Array, " g"]:
    """The largest of ``value [l]`` in every group; -inf where there is none."""
    return jax.ops.segment_max(value, losses.group, losses.group_count)


@jax.jit
def running(weight: Array, group: Array) -> Array:
    """Cumulative sums within each group, for groups in order: no group's rounding reaches another's."""

    def add(a, b):
        return b[0], b[1] + jnp.where(a[0] == b[0], a[1], 0)

    return jax.lax.associative_scan(add, (group, weight))[1]


def ratio(a: Array, b: Array) -> Array:
    """``a / b``, 0 where ``b`` is 0, with gradients that are finite there too."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)
