"""A function of many images, with the memory of few."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from rdd_jax.devices import size_of, spread

__all__ = ["BLOCK", "HELD", "in_blocks", "in_turns"]

BLOCK = 256
"""Images that a network looks at at a time."""

HELD = 2**30
"""Bytes that `in_turns` keeps for a gradient. Ten classes of ten images of 32x32 at width 128 take less."""


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


def in_turns(function: Callable[..., PyTree[Array]], *rows: PyTree[Array]) -> PyTree[Array]:
    """``function(*rows)``, whose gradient takes the memory of as many rows as fit `HELD`.

    Reverse-mode derivatives keep what every row left on its way. Where all of them would keep more than `HELD` bytes,
    rows are looked at some after others, as even as can be, and in the gradient a second time: what they keep is then
    that of one turn. Where they fit, it is ``function(*rows)`` and nothing else.

    Args:
      function: of rows that do not depend on each other: its value for some rows is that part of the value for all.
        Its arguments and its value are pytrees of arrays ``[n, ...]`` with one ``n``.
      rows: the arguments, of any dtypes, keys too.

    Returns:
      The value for all rows; turn by turn it is equal but for rounding.
    """
    count = len(jax.tree.leaves(rows)[0])
    turns = min(count, -(-count * _kept(function, *jax.tree.map(lambda leaf: leaf[:1], rows)) // HELD))
    if turns <= 1:
        return function(*rows)
    size = -(-count // turns)
    turns = -(-count // size)
    index = jnp.arange(turns * size) % count  # What the last turn lacks is filled up by the first rows.
    whole = rows if turns * size == count else jax.tree.map(lambda leaf: leaf[index], rows)
    laid = jax.tree.map(lambda leaf: leaf.reshape(turns, size, *leaf.shape[1:]), whole)
    found = jax.lax.map(lambda some: jax.checkpoint(function)(*some), laid)
    return jax.tree.map(lambda leaf: leaf.reshape(turns * size, *leaf.shape[2:])[:count], found)


def _kept(function: Callable[..., PyTree[Array]], *rows: PyTree[Array]) -> int:
    """Bytes that reverse-mode differentiation keeps between the value and the gradient."""
    kept = jax.eval_shape(lambda *rows: jax.vjp(function, *rows)[1], *rows)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
