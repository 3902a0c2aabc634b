"""Kernels of a feature map: inner products of what it makes of two images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rdd_jax.contracts import Kernel
from rdd_jax.errors import InputError
from rdd_jax.kernels.blocks import BLOCK, in_blocks
from rdd_jax.kernels.gram import BUDGET

__all__ = ["feature_kernel", "streamed"]


def feature_kernel(embed: Callable[[Array], Array]) -> Kernel:
    r""":math:`k(x, x') = \langle \phi(x), \phi(x') \rangle` for ``embed(images [b, h, w, c]) -> [b, ...]``, flattened.

    With the features of a network it is that network's empirical (conjugate) kernel.
    """

    def kernel(x1: Array, x2: Array) -> Array:
        left, right = (embed(x).reshape(len(x), -1) for x in (x1, x2))
        # "highest": as in `fc_ntk`.
        return jnp.matmul(left, right.T, precision="highest")

    return kernel


def streamed(embed: Callable[[Array], Array], budget: int = BUDGET) -> Kernel:
    """`feature_kernel` of features that are many or dear, which take no more than ``budget`` bytes at a time.

    As many images of the smaller side as fit are held, and those of the other stream past them: each is embedded again
    for every such part. A gradient embeds them once more, and takes a few times the memory.

    Raises:
      InputError: when called or traced, a budget that does not hold two images.
    """

    def kernel(x1: Array, x2: Array) -> Array:
        if len(x1) > len(x2):
            return kernel(x2, x1).T
        one = jax.eval_shape(embed, x1[:1])
        fit = budget // (one.size * one.dtype.itemsize)
        if fit < 2:
            raise InputError(
                f"two images take {2 * one.size * one.dtype.itemsize / 2**20:.1f} MiB in this kernel, which may hold "
                f"{budget / 2**20:g}: raise kernel_memory, or take a smaller network, or network-ntk-sum"
            )
        columns = max(1, min(BLOCK, fit // 8))
        embedded = jax.checkpoint(lambda images: embed(images).reshape(len(images), -1))
        # "highest": as in `fc_ntk`.
        product = jax.checkpoint(lambda block, held: jnp.matmul(embedded(block), held.T, precision="highest"))

        @jax.checkpoint
        def against(some: Array) -> Array:
            held = in_blocks(embedded, some, columns)
            return in_blocks(lambda block: product(block, held), x2, columns).T

        return in_blocks(against, x1, fit - columns)

    return kernel


linear = feature_kernel(lambda images: images)
"""Inner products of the flat images."""
