"""A function of many images, with the memory of few."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.devices import size_of, spread

__all__ = ["BLOCK", "in_blocks"]

BLOCK = 256
"""Images that a network looks at at a time."""


def in_blocks(
    function: Callable[[Array], Array], images: Float[Array, "b h w c"], most: int | None = None
) -> Float[Array, "b d"]:
    """``function`` of a block of images after another, as even as can be: the memory of one.

    Args:
      most: images of a block; unset: `BLOCK` on each of the devices along ``data``, which look at them together.
    """
    along = size_of("data") if most is None else 1
    count = -(-len(images) // (along * (most or BLOCK)))
    size = -(-len(images) // (along * count))
    # The padding repeats real images: a kernel is defined there, which it need not be at zero.
    padded = jnp.pad(images, ((0, along * count * size - len(images)), (0, 0), (0, 0), (0, 0)), mode="wrap")
    # A device holds images that follow each other, so that a block has some of each.
    laid = jnp.swapaxes(padded.reshape(along, count, size, *images.shape[1:]), 0, 1)
    laid = laid.reshape(count, along * size, *images.shape[1:])
    found = jax.lax.map(function, laid if along == 1 else spread(laid, axis=1))
    return jnp.swapaxes(found.reshape(count, along, size, -1), 0, 1).reshape(along * count * size, -1)[: len(images)]
