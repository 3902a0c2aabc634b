"""Kernels of a feature map: inner products of what it makes of two images."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from rdd_jax.contracts import Kernel

__all__ = ["feature_kernel"]


def feature_kernel(embed: Callable[[Array], Array]) -> Kernel:
    r""":math:`k(x, x') = \langle \phi(x), \phi(x') \rangle` for ``embed(images [b, h, w, c]) -> [b, ...]``, flattened.

    With the features of a network it is that network's empirical (conjugate) kernel.
    """

    def kernel(x1: Array, x2: Array) -> Array:
        left, right = (embed(x).reshape(len(x), -1) for x in (x1, x2))
        # "highest": as in `fc_ntk`.
        return jnp.matmul(left, right.T, precision="highest")

    return kernel


linear = feature_kernel(lambda images: images)
"""Inner products of the flat images."""
