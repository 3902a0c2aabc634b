"""Augmentations ``augment(key, images [b, h, w, c]) -> images``, in model space, inside ``jit``.

Differentiable with respect to the images. Zeros that come in are those of model space.
"""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float

from rdd_jax.contracts import Augment
from rdd_jax.errors import InputError, choose, unknown
from rdd_jax.types import PRNGKey

__all__ = [
    "AUGMENTATIONS",
    "NAMED",
    "PER_IMAGE",
    "SHARED",
    "Augment",
    "augment_by_name",
    "chain",
    "check_augment",
    "colour",
    "crop",
    "cutout",
    "dc",
    "dsa",
    "flip",
    "flip_shared",
    "frepo",
    "jitter",
    "none",
    "rotate",
    "scale",
    "shift",
]

Image = Float[Array, "h w c"]
Images = Float[Array, "b h w c"]


def none(key: PRNGKey, images: Images) -> Images:
    """The images as they are."""
    return images


def flip(key: PRNGKey, images: Images) -> Images:
    """Each image mirrored left to right with probability 1/2."""
    mirrored = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def flip_shared(key: PRNGKey, images: Images) -> Images:
    """All images mirrored left to right, or none, with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), images[:, :, ::-1], images)


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


def _mapped(one: Callable[[PRNGKey, Image], Image], shared: bool) -> Augment:
    """``one`` on every image: with the key of the call where ``shared``, else with a key for each.

    A key that is not mapped over leaves what is drawn from it, and what follows from that alone
    (a sampling grid, a branch), computed once, whatever the number of images.
    """

    def augment(key: PRNGKey, images: Images) -> Images:
        if shared:
            return jax.vmap(one, (None, 0))(key, images)
        return jax.vmap(one)(jax.random.split(key, len(images)), images)

    return augment


def colour(brightness: float = 1.0, saturation: float = 2.0, contrast: float = 0.5, shared: bool = False) -> Augment:
    """Brightness, saturation and contrast, in this order, by u, v, w ~ U(0, 1).

    Adds ``(u - 1/2) brightness``; multiplies distances from the grey image (the mean over
    channels) by ``v saturation``, those from the mean of the image by ``w + contrast``.
    """

    def one(key: PRNGKey, image: Image) -> Image:
        u, v, w = jax.random.uniform(key, (3,), image.dtype)
        return _coloured(image, (u - 0.5) * brightness, v * saturation, w + contrast)

    return _mapped(one, shared)


def jitter(amount: float = 0.25) -> Augment:
    """Brightness moved by up to ``amount`` either way, saturation and contrast multiplied by 1 and up to as much."""

    def one(key: PRNGKey, image: Image) -> Image:
        u, v, w = jax.random.uniform(key, (3,), image.dtype, -amount, amount)
        return _coloured(image, u, 1 + v, 1 + w)

    return _mapped(one, shared=False)


def _coloured(image: Image, brightness: Array, saturation: Array, contrast: Array) -> Image:
    image = image + brightness
    grey = jnp.broadcast_to(image.mean(-1, keepdims=True), image.shape)
    image = (image - grey) * saturation + grey
    mean = image.mean()
    return (image - mean) * contrast + mean


def _pixels(share: float, side: int) -> int:
    """The share of a side in whole pixels, halves up."""
    return int(share * side + 0.5)


def crop(share: float = 0.125, shared: bool = False) -> Augment:
    """A window of the images' size out of them with zeros around, ``share`` of a side wide."""

    def one(key: PRNGKey, image: Image) -> Image:
        pad = [_pixels(share, side) for side in image.shape[:2]]
        padded = jnp.pad(image, ((pad[0], pad[0]), (pad[1], pad[1]), (0, 0)))
        top, left = jax.random.randint(key, (2,), 0, 2 * jnp.array(pad) + 1)
        return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)

    return _mapped(one, shared)


def cutout(share: float = 0.5, shared: bool = False) -> Augment:
    """Zeros in a rectangle, ``share`` of a side long, that is centred anywhere and ends at the edges."""

    def one(key: PRNGKey, image: Image) -> Image:
        inside = []
        for axis_key, side in zip(jax.random.split(key), image.shape[:2], strict=True):
            length = _pixels(share, side)
            # The centre of an even length lies between two pixels or on an edge, of an odd one on a pixel.
            start = jax.random.randint(axis_key, (), 0, side + 1 - length % 2) - length // 2
            inside.append((jnp.arange(side) >= start) & (jnp.arange(side) < start + length))
        return jnp.where((inside[0][:, None] & inside[1][None])[..., None], 0, image)

    return _mapped(one, shared)


def _warped(image: Image, matrix: Float[Array, "2 2"]) -> Image:
    """Each pixel is what ``matrix @ (its place from the centre)`` shows: bilinear, zeros outside."""
    middle = [(side - 1) / 2 for side in image.shape[:2]]
    y, x = (jnp.arange(side, dtype=image.dtype) - at for side, at in zip(image.shape[:2], middle, strict=True))
    y, x = jnp.meshgrid(y, x, indexing="ij")
    places = [row[0] * y + row[1] * x + at for row, at in zip(matrix, middle, strict=True)]
    sample = lambda channel: map_coordinates(channel, places, order=1, mode="constant")  # noqa: E731
    return jax.vmap(sample, -1, -1)(image)


def scale(ratio: float = 1.2, shared: bool = False) -> Augment:
    """Height and width shrunk by a factor each, U(1 / ratio, ratio), about the centre; zeros outside."""

    def one(key: PRNGKey, image: Image) -> Image:
        return _warped(image, jnp.diag(jax.random.uniform(key, (2,), image.dtype, 1 / ratio, ratio)))

    return _mapped(one, shared)


def rotate(degrees: float = 15.0, shared: bool = False) -> Augment:
    """Turned about the centre by an angle of up to ``degrees`` either way; zeros outside."""

    def one(key: PRNGKey, image: Image) -> Image:
        angle = jnp.deg2rad(jax.random.uniform(key, (), image.dtype, -degrees, degrees))
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return _warped(image, jnp.array([[cos, -sin], [sin, cos]]))

    return _mapped(one, shared)


SHARED = {
    "colour": colour(shared=True),
    "crop": crop(shared=True),
    "cutout": cutout(shared=True),
    "flip": flip_shared,
    "scale": scale(shared=True),
    "rotate": rotate(shared=True),
}


def dsa(names: str = "+".join(SHARED), shared: bool = True) -> Augment:
    """Differentiable Siamese augmentation: one of the named parts for all images of a call, picked anew at each.

    As published (Zhao & Bilen 2021, a single part at a time, mode S); digits (MNIST) go without ``flip``.

    Args:
      names: parts of `SHARED`, joined by ``+``.
      shared: all images of a call are transformed alike, so that one key treats real and synthetic ones alike, as in
        matching; False: each by a draw of its own, as where networks are trained.

    Raises:
      InputError: an unknown part.
    """
    own = SHARED if shared else PER_IMAGE
    parts = [own[name] for name in names.split("+") if choose("part of dsa", name, SHARED)]

    def augment(key: PRNGKey, images: Images) -> Images:
        pick_key, part_key = jax.random.split(key)
        return jax.lax.switch(jax.random.randint(pick_key, (), 0, len(parts)), parts, part_key, images)

    return augment


def dc() -> Augment:
    """A crop, a scaling or a rotation by up to 45 degrees of each image.

    With it, and 1,001 epochs, were networks trained for DC's published figures on MNIST (Zhao et al. 2021).
    """
    parts = [SHARED["crop"], SHARED["scale"], rotate(45.0, shared=True)]

    def one(key: PRNGKey, image: Image) -> Image:
        pick_key, part_key = jax.random.split(key)
        return jax.lax.switch(jax.random.randint(pick_key, (), 0, len(parts)), parts, part_key, image[None])[0]

    return _mapped(one, shared=False)


def frepo(mirror: bool = True) -> Augment:
    """All of FRePo's at once, of each image: jitter, zoom, turn, move, cut out and, where it may be, mirror.

    Its strengths (Zhou et al. 2022), through the operations that there are here: brightness is added, in units of model
    space, each side is zoomed by a factor of its own, and where nothing is left of an image there are zeros.
    """
    parts = [jitter(0.25), scale(1.25), rotate(15.0), crop(0.125), cutout(0.25)]
    return chain(*[flip] * mirror, *parts)


PER_IMAGE: dict[str, Augment] = {
    "flip": flip,
    "colour": colour(),
    "crop": crop(),
    "cutout": cutout(),
    "scale": scale(),
    "rotate": rotate(),
}
NAMED = {
    **PER_IMAGE,
    "dsa": dsa(shared=False),
    "dsa-no-flip": dsa("colour+crop+cutout+scale+rotate", shared=False),
    "dc": dc(),
    "frepo": frepo(),
    "frepo-no-flip": frepo(mirror=False),
}
AUGMENTATIONS = ("none", "shift1", "shift2", "shift4", *NAMED)


@cache
def augment_by_name(name: str) -> Augment:
    """``none``, ``shiftN`` (N pixels), one of `NAMED`, or several joined by ``+``; else `InputError`.

    The same function for the same name, so that what is compiled with it is compiled once.
    """
    parts = []
    for part in name.split("+"):
        if part in NAMED:
            parts.append(NAMED[part])
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
