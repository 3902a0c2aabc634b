"""Augmentations ``augment(key, images [b, h, w, c]) -> images``, in model space, inside ``jit``."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.errors import InputError, unknown
from rdd_jax.types import PRNGKey

Images = Float[Array, "b h w c"]
Augment = Callable[[PRNGKey, Images], Images]


def none(key: PRNGKey, images: Images) -> Images:
    """The images as they are."""
    return images


def flip(key: PRNGKey, images: Images) -> Images:
    """Each image mirrored left to right with probability 1/2."""
    mirrored = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def shift(pixels: int) -> Augment:
    """Each image moved by up to ``pixels`` in both directions, edges repeated."""

    def augment(key: PRNGKey, images: Images) -> Images:
        padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
        offset = jax.random.randint(key, (len(images), 2), 0, 2 * pixels + 1)
        crop = lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), images.shape[1:])  # noqa: E731
        return jax.vmap(crop)(padded, offset)

    return augment


def chain(*parts: Augment) -> Augment:
    """One augmentation after another, each with a key of its own."""

    def augment(key: PRNGKey, images: Images) -> Images:
        for part, part_key in zip(parts, jax.random.split(key, len(parts)), strict=True):
            images = part(part_key, images)
        return images

    return augment


AUGMENTATIONS = ("none", "flip", "shift1", "shift2", "shift4")


def augment_by_name(name: str) -> Augment:
    """``none``, ``flip``, ``shiftN`` (N pixels), or several joined by ``+``; else `InputError`."""
    parts = []
    for part in name.split("+"):
        if part == "flip":
            parts.append(flip)
        elif part.startswith("shift") and part[5:].isdigit() and int(part[5:]) > 0:
            parts.append(shift(int(part[5:])))
        elif part != "none":
            raise unknown("augmentation", part, AUGMENTATIONS)
    if not parts:
        return none
    return parts[0] if len(parts) == 1 else chain(*parts)


def check_augment(name: str, image_shape: tuple[int, ...]) -> None:
    """Raises `InputError` where a shift is not smaller than the image."""
    for part in name.split("+"):
        if part.startswith("shift") and part[5:].isdigit() and int(part[5:]) >= min(image_shape[:2]):
            raise InputError(f"augmentation {part!r} on images of {image_shape[:2]}: shift by fewer pixels")
