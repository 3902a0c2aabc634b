"""A function of many images, with the memory of few."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["BLOCK", "in_blocks"]

BLOCK = 256
"""Images that a network looks at at a time."""


def in_blocks(
    function: Callable[[Array], Array], images: Float[Array, "b h w c"], most: int | None = None
) -> Float[Array, "b d"]:
    """``function`` of a block of images after another, as even as can be: the memory of one.

    Args:
      most: images of a block; unset: `BLOCK`.
    """
    count = -(-len(images) // (most or BLOCK))
    size = -(-len(images) // count)
    # The padding repeats real images: a kernel is defined there, which it need not be at zero.
    padded = jnp.pad(images, ((0, count * size - len(images)), (0, 0), (0, 0), (0, 0)), mode="wrap")
    found = jax.lax.map(function, padded.reshape(count, size, *images.shape[1:]))
    return found.reshape(count * size, -1)[: len(images)]
