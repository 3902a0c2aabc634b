"""From measures to the risk that is minimised."""

import functools
import operator

import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.contracts import Measure, Risk
from rdd_jax.risk.segments import group_sum
from rdd_jax.types import Losses

__all__ = ["grouped", "overall", "plus"]


def plus(*measures: Measure) -> Measure:
    """The sum of measures, such as RDD's ``plus(mean, worst)``."""
    return lambda losses: functools.reduce(operator.add, (measure(losses) for measure in measures))


def overall(measure: Measure) -> Risk:
    """The measure of all losses, whatever their groups. ``overall(mean)`` is plain distillation."""
    return lambda losses: measure(losses.replace(group=jnp.zeros_like(losses.group), group_count=1))[0]


def grouped(within: Measure, across: Measure) -> Risk:
    """``across`` the groups of the measure ``within`` each; every group that has weight counts as one.

    Where the losses have one group there is nothing to compare, and the risk is ``overall(within)``: without groups a
    robust run is the plain one, also under an ``across`` that is a sum (``mean+max`` of one number is twice that).
    """

    def risk(losses: Losses) -> Float[Array, ""]:
        if losses.group_count == 1:
            return overall(within)(losses)
        value, count = within(losses), losses.group_count
        present = (group_sum(losses.weight, losses) > 0).astype(value.dtype)
        return overall(across)(Losses(value, jnp.arange(count), present, group_count=count))

    return risk
