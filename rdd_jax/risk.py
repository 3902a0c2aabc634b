"""From losses to the one number that is minimised.

A risk is a function ``risk(losses: Losses) -> scalar``, differentiable in ``losses.value``.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.types import Losses

Risk = Callable[[Losses], Float[Array, ""]]


def mean(losses: Losses) -> Float[Array, ""]:
    r"""The weighted mean :math:`\sum_i w_i l_i / \sum_i w_i`: plain distillation.

    >>> import jax.numpy as jnp
    >>> from rdd_jax.types import Losses
    >>> float(mean(Losses(jnp.array([1.0, 3.0]), jnp.zeros(2, int), jnp.array([1.0, 3.0]))))
    2.5
    """
    return jnp.sum(losses.weight * losses.value) / jnp.sum(losses.weight)
