"""Risks: from losses to the number that is minimised."""

import jax
import jax.numpy as jnp
import numpy as np

from rdd_jax import risk
from rdd_jax.types import Losses

LOSSES = Losses(jnp.array([1.0, 2.0, 6.0]), jnp.array([0, 1, 1]), jnp.array([1.0, 3.0, 0.5]))


def test_mean_is_weighted():
    np.testing.assert_allclose(risk.mean(LOSSES), (1 + 3 * 2 + 0.5 * 6) / 4.5, rtol=1e-6)


def test_gradient_of_the_mean_is_the_share_of_the_weight():
    gradient = jax.grad(lambda value: risk.mean(LOSSES._replace(value=value)))(LOSSES.value)
    np.testing.assert_allclose(gradient, np.array([1, 3, 0.5]) / 4.5, rtol=1e-6)


def test_mean_does_not_depend_on_the_scale_of_the_weights():
    scaled = LOSSES._replace(weight=7 * LOSSES.weight)
    np.testing.assert_allclose(risk.mean(scaled), risk.mean(LOSSES), rtol=1e-6)
