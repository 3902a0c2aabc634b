"""Real images that are not on the device: those that a step looks at are handed to it, read while earlier steps go on.

What a step looks at follows from the key of the run and its number, so that it can be known before, and a run that is
taken up again sees the same.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from rdd_jax.devices import placed
from rdd_jax.pixels import Images, as_held
from rdd_jax.types import Examples

__all__ = ["AHEAD", "THREADS", "Looks", "handed"]

Looks = Callable[[Any, Array, Examples], Int[Array, " r"]]
"""``looks(key, step, data) -> index``: the examples that a step looks at, in rising order; some may be there twice.
For `distill.over_seeds` there is a key a seed."""

AHEAD = 2
"""Steps whose images are read before they are asked for."""

THREADS = 2
"""That read, each the images of a step."""


class _ByStep:
    """The data of each of the steps ``first..until-1``; Grain's random access."""

    def __init__(self, looks: Looks, key: Key[Array, "*s"], data: Examples, images: Images, first: int, until: int):
        self.looks, self.key, self.data, self.images = looks, key, data, as_held(images)
        self.first, self.count = first, until - first
        self.mesh = jax.sharding.get_mesh()  # which another thread does not have

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[np.ndarray, Array]:
        index = np.asarray(self.looks(self.key, jnp.asarray(self.first + number), self.data))
        with nullcontext() if self.mesh.empty else jax.set_mesh(self.mesh):
            return index, placed(_Later(self.images, index))


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
    looks: Looks, key: Key[Array, "*s"], data: Examples, images: Images, first: int, until: int
) -> Iterator[Examples]:
    """``data`` with the images that a step looks at, for each of the steps ``first..until-1``.

    Grain reads those of the next `AHEAD` steps in `THREADS` threads, so that at most ``AHEAD + 1`` steps' images are
    there. Every host reads what its devices are to have.

    Args:
      data: all but the images, of which one stands for their shape, see `Prepared.examples`.
      images: all images, on the host or in a file.

    Raises:
      InputError: a file cannot be read any more.
    """
    import grain

    steps = _ByStep(looks, key, data, images, first, until)
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
    reading = iter(grain.MapDataset.source(steps).to_iter_dataset(options))
    try:
        for index, found in reading:
            yield replace(data, images=found, held=jnp.asarray(index))
    finally:
        reading.close()
