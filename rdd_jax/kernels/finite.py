r"""Kernels of finite networks with random weights: of their features, and of their tangents.

For a network :math:`f` of :math:`k` outputs with the :math:`d` features :math:`\phi` under its last layer, and with
the gradients :math:`J_o(x) = \partial_\theta f_o(x)` of the outputs in all weights, the means over random networks of

.. math::
    \tfrac1d\, \phi(x)^T \phi(x'), \quad
    \tfrac1k \sum_o J_o(x)^T J_o(x'), \quad
    \tfrac1k \Big(\sum_o J_o(x)\Big)^T \Big(\sum_o J_o(x')\Big) .

The first estimates the kernel of the features of an infinitely wide network (NNGP). The second, the empirical NTK, is
the kernel with which this one learns at its start. The third (Mohamadi, Bae & Sutherland 2023, *A Fast, Well-Founded
Approximation to the Empirical Neural Tangent Kernel*) has the same mean over random weights at a :math:`k`-th of the
cost: products of the gradients of different outputs have mean zero. All three are inner products, and so positive
semidefinite whatever the width. Weights are those that training starts from, in the parameterisation that it uses.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.contracts import Kernel
from rdd_jax.errors import InputError, at_least
from rdd_jax.kernels.features import streamed
from rdd_jax.kernels.gram import BUDGET
from rdd_jax.networks import Network, check_apart, check_images

__all__ = ["network_features", "network_ntk", "network_ntk_sum", "output_gradients"]

OfVariables = Callable[[Any, Array], Array]
"""``(variables, images [b, h, w, c]) -> [b, d]``."""


@cache  # as `fc_ntk`
def network_features(network: Network, count: int = 1, seed: int = 0, budget: int = BUDGET) -> Kernel:
    r"""The mean of :math:`\phi(x)^T \phi(x') / d` over ``count`` random networks.

    The weights follow from ``seed`` alone: they are drawn anew whenever the kernel is called, and are always the same.

    Args:
      budget: bytes that the weights of a network, and the features of images, may take at a time (`features.streamed`).

    Raises:
      InputError: ``count < 1``; a network that normalises over a batch; when called or traced, images that are too
        small for the network, or what does not fit the budget.
    """

    def embed(variables: Any, images: Array) -> Array:
        return _over_root(network.features(variables, images))

    return _averaged(network, embed, count, seed, budget)


@cache
def network_ntk(network: Network, count: int = 1, seed: int = 0, budget: int = BUDGET) -> Kernel:
    r"""The mean of :math:`\sum_o J_o(x)^T J_o(x') / k` over ``count`` random networks; else as `network_features`.

    An image takes as many numbers as the network has weights, times its outputs.
    """
    return _averaged(network, _jacobian(lambda *at: _over_root(network.apply(*at))), count, seed, budget)


@cache
def network_ntk_sum(network: Network, count: int = 1, seed: int = 0, budget: int = BUDGET) -> Kernel:
    r"""The mean of :math:`(\sum_o J_o(x))^T (\sum_o J_o(x')) / k`; else as `network_features`.

    An image takes as many numbers as the network has weights.
    """

    def summed(variables: Any, images: Array) -> Array:
        return jnp.sum(_over_root(network.apply(variables, images)), 1, keepdims=True)

    return _averaged(network, _jacobian(summed), count, seed, budget)


def output_gradients(outputs: OfVariables, variables: Any, image: Float[Array, "h w c"]) -> Float[Array, "k p"]:
    """The gradient of every output for an image in all ``p`` numbers of ``variables``, side by side."""
    found, pull = jax.vjp(lambda variables: outputs(variables, image[None])[0], variables)
    (rows,) = jax.vmap(pull)(jnp.eye(len(found), dtype=found.dtype))
    return jnp.concatenate([leaf.reshape(len(found), -1) for leaf in jax.tree.leaves(rows)], 1)


def _jacobian(outputs: OfVariables) -> OfVariables:
    return lambda variables, images: jax.vmap(partial(output_gradients, outputs, variables))(images)


def _over_root(found: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Such that the inner product of two rows is a mean."""
    return found / found.shape[1] ** 0.5


def _averaged(network: Network, embed: OfVariables, count: int, seed: int, budget: int) -> Kernel:
    """The mean of the inner products of what ``embed`` makes of images over random networks: the memory of one."""
    at_least("count", count, 1)
    check_apart(network)

    def kernel(x1: Array, x2: Array) -> Array:
        check_images(network, x1.shape[1:], "the kernel's network")
        key = jax.random.key(seed)
        _check_weights(jax.eval_shape(network.init, key, x1[:1]), budget)

        @jax.checkpoint
        def add(total: Array, key: Array) -> tuple[Array, None]:
            variables = jax.tree.map(lambda leaf: leaf.astype(x1.dtype), network.init(key, x1[:1]))
            return total + streamed(partial(embed, variables), budget)(x1, x2), None

        # Products that are rounded to fewer digits, as on GPUs, make a kernel indefinite.
        with jax.default_matmul_precision("highest"):
            total, _ = jax.lax.scan(add, jnp.zeros((len(x1), len(x2)), x1.dtype), jax.random.split(key, count))
        return total / count

    return kernel


def _check_weights(variables: Any, budget: int) -> None:
    """Raises `InputError` where the weights of one network do not fit."""
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables))
    if needed > budget:
        raise InputError(
            f"the weights of the kernel's network take {needed / 2**20:,.1f} MiB, but it may hold {budget / 2**20:g}: "
            "raise kernel_memory, or lower kernel_width"
        )
