"""From measures to the risk that is minimised."""

import functools
import operator

import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.contracts import Measure, Risk
from rdd_jax.errors import at_least
from rdd_jax.risk.segments import group_sum
from rdd_jax.types import Losses

__all__ = ["grouped", "overall", "plus"]


def plus(*measures: Measure) -> Measure:
    """The sum of measures, such as RDD's ``plus(mean, worst)``."""
    return lambda losses, groups: functools.reduce(operator.add, (m(losses, groups) for m in measures))


def overall(measure: Measure) -> Risk:
    """The measure of all losses, whatever their groups. ``overall(mean)`` is plain distillation."""
    return lambda losses: measure(losses._replace(group=jnp.zeros_like(losses.group)), 1)[0]


def grouped(within: Measure, across: Measure, groups: int) -> Risk:
    """``across`` the groups of the measure ``within`` each; every group that has weight counts as one.

    Args:
      groups: how many there are; ``losses.group`` lies in ``0..groups-1``.
    """
    at_least("groups", groups, 1)

    def risk(losses: Losses) -> Float[Array, ""]:
        present = group_sum(losses.weight, losses, groups) > 0
        value = within(losses, groups)
        return overall(across)(Losses(value, jnp.arange(groups), present.astype(value.dtype)))

    return risk
