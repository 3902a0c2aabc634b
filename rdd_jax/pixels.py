"""Pixels as they are stored, and as models see them: on the host and on the device."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from rdd_jax.arrays import Stored
from rdd_jax.devices import Rows, placed

__all__ = [
    "Images",
    "Mapped",
    "PixelMap",
    "Pixels",
    "Space",
    "as_held",
    "as_pixels",
    "flat",
    "on_device",
    "parts",
    "rows_of",
]

Pixels = np.ndarray | Stored
"""Images ``[n, h, w, c]`` as they came, in memory or in a file."""


@runtime_checkable
class Images(Rows, Protocol):
    """Images ``[n, h, w, c]`` on the host, float32, that are looked at in parts: an array, or what maps its parts."""


class PixelMap(NamedTuple):
    """From pixels to model space, on the device: ``scale (x - mean)``, or ``matrix (x - mean)`` where there is one."""

    mean: Float[Array, "*p"]
    scale: Float[Array, "*p"]
    matrix: Float[Array, "d d"] | None = None

    def __call__(self, images: Num[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
        """``uint8`` in 0..255, or floating point in [0, 1], to model space, float32."""
        pixels = images.reshape(-1, *images.shape[-3:])
        pixels = pixels * jnp.float32(1 / 255) if images.dtype == jnp.uint8 else pixels
        centred = pixels - self.mean[None]
        if self.matrix is None:
            return (centred * self.scale[None]).reshape(images.shape)
        points = jnp.matmul(centred.reshape(len(pixels), -1), self.matrix, precision="highest")
        return points.reshape(images.shape)


@runtime_checkable
class Space(Protocol):
    """A map from pixels to model space; `rdd_jax.datasets.Preprocess` is one."""

    def apply(self, pixels: np.ndarray, /) -> np.ndarray: ...

    @property
    def on_device(self) -> PixelMap: ...


class Mapped:
    """Images that stay as they came, and are mapped to model space where they are looked at.

    Attributes:
      pixels: ``[n, h, w, c]``, ``uint8`` or floating point.
      space: the map.
      shape: as mapped; ``(n, d)`` where they are looked at as points.

    ``np.asarray`` of it maps them all.
    """

    def __init__(self, pixels: Pixels, space: Space, points: bool = False):
        self.pixels, self.space, self.points = pixels, space, points
        self.shape = (len(pixels), math.prod(pixels.shape[1:])) if points else pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Those at a slice, or at integers or booleans ``[b]``, or the one at an integer; float32."""
        if isinstance(index, int | np.integer):
            return self._seen(self.pixels[index][None])[0]
        return self._seen(self.pixels[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._seen(self.pixels[:]), dtype)

    def _seen(self, pixels: np.ndarray) -> np.ndarray:
        return self.space.apply(pixels).reshape(len(pixels), *self.shape[1:])


def rows_of(images: Images, index: np.ndarray | slice) -> Any:
    """The images at ``index``, as they are held: of those in a file, which ones they are."""
    if isinstance(images, Mapped):
        return Mapped(rows_of(images.pixels, index), images.space, images.points)
    return images.select(index) if isinstance(images, Stored) else images[index]


def flat(images: Images) -> Images:
    """``[n, d]``: the images as points."""
    if isinstance(images, Mapped):
        return Mapped(images.pixels, images.space, points=True)
    return np.asarray(images).reshape(len(images), -1)


def as_held(images: Images) -> Images:
    """The images as they are held: as they came, where they are mapped when they are looked at."""
    return images.pixels if isinstance(images, Mapped) else images


def on_device(images: Images) -> tuple[Num[Array, "N h w c"], PixelMap | None]:
    """The images as they are held, on the devices (`devices.placed`), and what maps them there."""
    return placed(as_held(images)), images.space.on_device if isinstance(images, Mapped) else None


PART = 2**22
"""Numbers that `parts` holds at a time, unless told how many rows."""


def parts(images: Images, size: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """So many rows at a time, and where they are."""
    size = size or max(1, PART // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), size):
        where = slice(start, min(start + size, len(images)))
        yield where, images[where]


def as_pixels(images: np.ndarray) -> np.ndarray:
    """``uint8`` images divided by 255, floating-point ones as they are; float32."""
    if images.dtype == np.uint8:
        return np.multiply(images, np.float32(1 / 255), dtype=np.float32)
    return np.asarray(images, np.float32)
