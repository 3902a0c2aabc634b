"""What corruptions share: pixels in blocks, in [0, 1] and in 8 bits."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32
from PIL import Image

from rdd_jax.contracts import Corruption
from rdd_jax.pixels import as_pixels

__all__ = ["BLOCK", "Pixels", "Rng", "apply", "blocks", "clip", "codes", "from_pixels", "planes"]

Pixels = Float32[np.ndarray, "n h w c"]
Rng = np.random.Generator
BLOCK = 1000
"""Images worked on at a time, so that nothing of the data's size is held several times."""


def clip(pixels: np.ndarray) -> Pixels:
    """Into [0, 1], as float32."""
    return np.clip(pixels, 0, 1).astype(np.float32, copy=False)


def codes(pixels: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] as ``uint8``, rounded."""
    return np.rint(pixels * 255).astype(np.uint8)


def planes(pixels: Pixels, function: Callable[[Image.Image], Image.Image]) -> Pixels:
    """Applies a Pillow operation to every channel of every image, in 8 bits."""
    stored = np.ascontiguousarray(np.moveaxis(codes(pixels), -1, 1))
    for image in stored:
        for plane in image:
            plane[:] = np.asarray(function(Image.fromarray(plane)))
    return as_pixels(np.moveaxis(stored, 1, -1))


def blocks(n: int) -> Iterator[slice]:
    """``0..n`` in slices of `BLOCK`."""
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def from_pixels(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Pixels in [0, 1] rounded to ``uint8`` where the images were that, else float32: undoes `as_pixels`."""
    return codes(pixels) if dtype == np.uint8 else np.asarray(pixels, np.float32)


def apply(corruption: Corruption, rng: Rng, images: np.ndarray) -> np.ndarray:
    """Corrupts ``uint8`` or floating-point images ``[n, h, w, c]`` in blocks; ``uint8`` stays ``uint8``."""
    parts = [from_pixels(corruption(rng, as_pixels(images[block])), images.dtype) for block in blocks(len(images))]
    return np.concatenate(parts)
