"""The measures: from the losses of every group to one number a group."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.contracts import Measure
from rdd_jax.errors import InputError
from rdd_jax.risk.segments import group_max, group_sum, ratio, running
from rdd_jax.types import Losses

__all__ = ["check_tau", "cvar", "entropic", "mean", "worst"]


def mean(losses: Losses) -> Float[Array, " g"]:
    r""":math:`\sum_{i \in g} w_i l_i / \sum_{i \in g} w_i`.

    >>> import jax.numpy as jnp
    >>> losses = Losses(jnp.array([1.0, 3.0, 5.0]), jnp.array([0, 0, 1]), jnp.array([1.0, 3.0, 1.0]))
    >>> mean(losses).tolist()
    [2.5, 5.0]
    """
    return ratio(group_sum(losses.weight * losses.value, losses), group_sum(losses.weight, losses))


def worst(losses: Losses) -> Float[Array, " g"]:
    """The largest loss of the group; ties share the gradient evenly.

    >>> import jax.numpy as jnp
    >>> losses = Losses(jnp.array([1.0, 3.0, 5.0]), jnp.array([0, 0, 1]), jnp.ones(3), group_count=3)
    >>> worst(losses).tolist()
    [3.0, 5.0, 0.0]
    """
    value = jax.lax.stop_gradient(losses.value)
    top = group_max(jnp.where(losses.weight > 0, value, -jnp.inf), losses)
    tied = losses.weight * ~(value < top[losses.group])  # NaN ties with NaN, and is not lost
    return mean(losses.replace(weight=tied))


def cvar(tau: float) -> Measure:
    r"""Conditional value at risk of **tail mass** ``tau``: the mean of the worst fraction ``tau`` of a group.

    .. math::
        CVaR_\tau = \min_t \; t + \frac{1}{\tau W} \sum_i w_i (l_i - t)_+ , \quad W = \sum_i w_i

    (Rockafellar & Uryasev 2000). The example at the quantile is taken fractionally; examples tied there share its
    mass evenly. ``tau = 1`` is the mean, ``tau -> 0`` the largest loss. Sorted once, ``O(l log l)``.

    Raises:
      InputError: ``tau`` outside (0, 1].

    >>> import jax.numpy as jnp
    >>> losses = Losses(jnp.array([4.0, 1.0, 2.0, 3.0]), jnp.zeros(4, int), jnp.ones(4))
    >>> cvar(0.5)(losses).tolist()
    [3.5]
    """
    check_tau(tau)

    def measure(losses: Losses) -> Float[Array, " g"]:
        value, weight = jax.lax.stop_gradient(losses.value), losses.weight
        total = group_sum(weight, losses)
        tail = tau * total
        # In the order (group, worst first), the weight of a group's examples up to each one.
        group, negative, ordered = jax.lax.sort((losses.group, -value, weight), num_keys=2)
        before = running(ordered, group) - ordered
        reached = (before < tail[group]) & (ordered > 0)
        quantile = -group_max(jnp.where(reached, negative, -jnp.inf), losses.replace(group=group))
        above = value > quantile[losses.group]
        at = weight * ~(above | (value < quantile[losses.group]))  # NaN is at NaN, and is not lost
        above = weight * above
        share = ratio(tail - group_sum(above, losses), group_sum(at, losses))
        return mean(losses.replace(weight=above + at * jnp.clip(share, 0, 1)[losses.group]))

    return measure


def check_tau(tau: float) -> None:
    """Raises `InputError` where ``tau`` is outside (0, 1]."""
    if not 0 < tau <= 1:
        raise InputError(f"tau is {tau}: it is a tail mass, above 0 and at most 1 (1 is the mean)")


def entropic(temperature: float) -> Measure:
    r"""The entropic risk :math:`\frac1t \log \sum_i \frac{w_i}{W} e^{t\, l_i}` of ``temperature`` ``t``, in 1 / loss.

    ``t -> 0`` is the mean, ``t -> inf`` the largest loss. Across groups its gradient weighs them as exponentiated
    gradient ascent does (Sagawa et al. 2020, group DRO).

    Raises:
      InputError: a temperature that is not positive and finite.

    >>> import jax.numpy as jnp
    >>> losses = Losses(jnp.array([0.0, 1.0]), jnp.zeros(2, int), jnp.ones(2))
    >>> round(float(entropic(1.0)(losses)[0]), 4)  # log((1 + e) / 2)
    0.6201
    """
    if not 0 < temperature < math.inf:
        raise InputError(f"temperature is {temperature}: it must be positive and finite")

    def measure(losses: Losses) -> Float[Array, " g"]:
        value = jnp.where(losses.weight > 0, losses.value, -jnp.inf)
        top = jax.lax.stop_gradient(group_max(value, losses))
        top = jnp.where(jnp.isfinite(top), top, 0)
        average = mean(losses.replace(value=jnp.exp(temperature * (value - top[losses.group]))))
        present = average != 0
        return jnp.where(present, top + jnp.log(jnp.where(present, average, 1)) / temperature, 0)

    return measure
