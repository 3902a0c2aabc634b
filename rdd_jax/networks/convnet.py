"""The ConvNet of dataset distillation (Gidaris & Komodakis 2018; Zhao et al. 2021)."""

from collections.abc import Sequence

import flax.linen as nn

from rdd_jax.errors import InputError, at_least, check_one_of
from rdd_jax.networks.base import Classifier, Network, from_flax
from rdd_jax.networks.layers import NORMS, Conv, Linear, Norm, activation_by_name, flat, pool_by_name, whole

__all__ = ["GROWTHS", "ConvNetBody", "convnet", "fitting_depth"]

GROWTHS = ("constant", "double")
"""What becomes of the width from block to block."""

WIDEST = 2**16


class ConvNetBody(nn.Module):
    """A block for each of ``widths``: 3x3 convolution, normalisation, activation, 2x2 pooling."""

    widths: tuple[int, ...]
    norm: str
    pool: str
    activation: str

    @nn.compact
    def __call__(self, x):
        if self.pool != "none":
            x = whole(x, 2 ** len(self.widths))
        for width in self.widths:
            x = Norm(self.norm)(Conv(width)(x))
            x = pool_by_name(self.pool)(activation_by_name(self.activation)(x))
        return flat(x)


def convnet(
    classes: int,
    depth: int = 3,
    width: int = 128,
    norm: str = "instance",
    pool: str = "average",
    activation: str = "relu",
    growth: str = "constant",
) -> Network:
    """ConvNet-``depth``-``width``; images need a side of at least ``2**depth`` where there is pooling.

    Args:
      norm: of `layers.NORMS`; pool: of `layers.POOLS`; activation: of `layers.ACTIVATIONS`.
      growth: the width is that of every block (``constant``), or of the first and twice the last one's (``double``).

    Raises:
      InputError: an unknown name, ``depth`` or ``width`` below 1, group norm of a width that 4 does not divide,
        a width that doubles too often.

    >>> import jax, jax.numpy as jnp
    >>> variables = jax.eval_shape(convnet(10).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    >>> sum(leaf.size for leaf in jax.tree.leaves(variables))
    320010
    """
    at_least("depth", depth, 1)
    at_least("width", width, 1)
    check_one_of("norm", norm, NORMS)
    if norm == "group" and width % 4:
        raise InputError(f"width is {width}: group norm has 4 groups, so give a multiple of 4")
    pool_by_name(pool)
    activation_by_name(activation)
    check_one_of("growth", growth, GROWTHS)
    widths = tuple(width * 2**block if growth == "double" else width for block in range(depth))
    if growth == "double" and widths[-1] > WIDEST:
        raise InputError(f"width is {width}, doubled {depth - 1} times: give fewer blocks or a smaller width")
    smallest = 1 if pool == "none" else 2**depth
    body = ConvNetBody(widths, norm, pool, activation)
    return from_flax(Classifier(body, Linear(classes)), "features", smallest, batch_statistics=norm == "batch")


def fitting_depth(shape: Sequence[int]) -> int:
    r"""The usual depth of a ConvNet for images of ``shape = (h, w, ...)``.

    .. math::  \max(1, \min(3, l), l - 2), \qquad l = \lfloor \log_2 \min(h, w) \rfloor

    That is 3 for 28x28 and 32x32, as published, and a block more for every doubling of the side (Cazenavette et al.
    2022), so that the last feature map has a side of 4 to 8; smaller images have as many blocks as can be, up to 3.

    >>> [fitting_depth((side, side)) for side in (4, 8, 28, 32, 64, 96, 128, 224)]
    [2, 3, 3, 3, 4, 4, 5, 5]
    """
    halvings = min(shape[:2]).bit_length() - 1
    return max(1, min(3, halvings), halvings - 2)
