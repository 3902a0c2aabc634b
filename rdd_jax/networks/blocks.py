"""Images in blocks that stay in the caches of the cores: of more at once, memory takes most of a convolution's time."""

import math
import operator
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["BLOCK", "by_blocks", "sum_of_blocks"]

BLOCK = 2**20 * (os.cpu_count() or 1)
"""Bytes of images or outputs, whichever are wider: a mebibyte a core."""


def by_blocks(work: Callable[[Array], Array], width: int, images: Array) -> Array:
    """``work`` of images to as many of ``width`` channels, of blocks of them one after another."""
    (blocks,) = _blocks(width, images)
    if len(blocks) == 1:
        return work(images)
    found = jax.lax.map(work, blocks)
    return found.reshape(len(images), *found.shape[2:])


def sum_of_blocks(work: Callable[[Array, Array], list[Array]], images: Array, outputs: Array) -> list[Array]:
    """The sums of what ``work`` makes of blocks of images and of their outputs."""
    blocks = _blocks(0, images, outputs)
    if len(blocks[0]) == 1:
        return work(images, outputs)
    zeros = [jnp.zeros(one.shape, one.dtype) for one in jax.eval_shape(work, *(part[0] for part in blocks))]
    return jax.lax.scan(lambda sums, block: (list(map(operator.add, sums, work(*block))), None), zeros, blocks)[0]


def _blocks(width: int, *arrays: Array) -> list[Array]:
    """``[n, h, w, c]`` as ``[blocks, n / blocks, h, w, c]``."""
    each = max(math.prod(array.shape[1:3]) * max(array.shape[3], width) * array.dtype.itemsize for array in arrays)
    most = max(1, min(len(arrays[0]), BLOCK // each))
    # Equal ones need no copy for a rest.
    block = next(block for block in range(most, 0, -1) if len(arrays[0]) % block == 0)
    return [array.reshape(-1, block, *array.shape[1:]) for array in arrays]
