"""Real images that are not on the device: those that a step looks at are handed to it, read while earlier steps go on.

What a step looks at follows from the key of the run and its number, so that it can be known before, and a run that is
taken up again sees the same.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from rdd_jax.devices import placed
from rdd_jax.pixels import Images, as_held
from rdd_jax.types import Examples

__all__ = ["HELD", "Looks", "handed"]

Looks = Callable[[Any, Array, Examples], Int[Array, " r"]]
"""``looks(key, step, data) -> index``: the examples that a step looks at; some may be there twice. For
`distill.over_seeds` there is a key a seed."""

HELD = 2**28
"""Bytes of images that are handed over together, those of several steps: every dispatch makes its memory anew."""


class _ByPiece:
    """The data of pieces of a run, ``size`` steps each, of which the first and the last may be cut; Grain's access."""

    def __init__(self, looks: Looks, key: Key[Array, "*s"], data: Examples, images: Images, steps: range, size: int):
        self.looks, self.key, self.data, self.images = looks, key, data, as_held(images)
        self.steps, self.size = steps, size
        self.mesh = jax.sharding.get_mesh()  # which another thread does not have

    def __len__(self) -> int:
        return -(-self.steps.stop // self.size) - self.steps.start // self.size

    def __getitem__(self, number: int) -> tuple[int, np.ndarray, Array]:
        # Of all steps of a piece, where it is cut too: one shape is compiled.
        begin = (self.steps.start // self.size + number) * self.size
        index = np.asarray(_looked(self.looks, self.key, begin + jnp.arange(self.size), self.data))
        with nullcontext() if self.mesh.empty else jax.set_mesh(self.mesh):
            found = placed(_Later(self.images, index))
        return min(begin + self.size, self.steps.stop) - max(begin, self.steps.start), index, found


@partial(jax.jit, static_argnums=0)
def _looked(looks: Looks, key: Key[Array, "*s"], steps: Int[Array, " t"], data: Examples) -> Int[Array, " r"]:
    """What several steps look at, in rising order."""
    return jnp.sort(jax.vmap(lambda step: looks(key, step, data))(steps).reshape(-1))


class _Later:
    """Rows that are read where a device asks for its own."""

    def __init__(self, images: Images, index: np.ndarray):
        self.images, self.index = images, index
        self.shape = (len(index), *images.shape[1:])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, where: slice | np.ndarray) -> np.ndarray:
        return np.asarray(self.images[self.index[where]])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:]


def handed(
    looks: Looks, key: Key[Array, "*s"], data: Examples, images: Images, steps: range, most: int
) -> Iterator[tuple[int, Examples]]:
    """``data`` with the images that the next steps look at, and how many steps these are.

    As many steps as `HELD` has room for, ``most`` of them, or a number that divides it. Grain reads those of one piece
    while the one before is worked on, so that three pieces are there at most. Every host reads what its devices are to
    have.

    Args:
      data: all but the images, of which one stands for their shape, see `Prepared.examples`.
      images: all images, on the host or in a file.
      steps: of which number.
      most: steps at a time.

    Raises:
      InputError: a file cannot be read any more.
    """
    import grain

    looked = math.prod(jax.eval_shape(looks, key, jnp.zeros((), int), data).shape)
    room = HELD // max(1, looked * data.images.nbytes // len(data.images))
    size = next(size for size in range(most, 0, -1) if most % size == 0 and (size <= room or size == 1))
    pieces = _ByPiece(looks, key, data, images, steps, size)
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    reading = iter(grain.MapDataset.source(pieces).to_iter_dataset(options))
    try:
        for count, index, found in reading:
            yield count, replace(data, images=found, held=jnp.asarray(index))
    finally:
        reading.close()
