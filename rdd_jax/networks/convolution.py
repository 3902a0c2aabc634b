"""Convolutions as matrix products, which XLA on a CPU is good at; its own convolution on every other device.

On a CPU, XLA's convolution is quick forwards, four times slower for the gradient of the filters, and inside a compiled
loop or under ``vmap`` of its filters slower by far. Products and elementwise operations have none of these faults.
Therefore 3x3 filters at stride 1 are Winograd's (`winograd`), and everything else is one product with the patches of
the images. Both have reverse-mode derivatives of any order.

Where products are rounded to bfloat16 (`precision`), other devices take three convolutions of XLA that are one
another's derivatives, of rounded operands with sums of single precision; results are rounded once more, because
NVIDIA's library has no quick one that would not be. A CPU rounds Winograd's points, forwards and for the gradient of
images, which is quicker if it multiplies bfloat16 itself; all else, the gradient of filters included, is of single
precision there.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.networks.precision import DEFAULT, is_rounded, rounded
from rdd_jax.networks.winograd import winograd

__all__ = ["LEAST_CHANNELS", "LEAST_SIDE", "convolve"]

Images = Float[Array, "n h w c"]
Filters = Float[Array, "k k c d"]

LEAST_SIDE = 4
LEAST_CHANNELS = 16
"""Below either, transforms cost more than Winograd saves."""


def convolve(images: Images, filters: Filters, stride: int = 1, padding: int = 1) -> Float[Array, "n i j d"]:
    """The cross-correlation of images with square filters.

    Args:
      images: ``[n, h, w, c]``; ``filters``: ``[k, k, c, d]``.
      stride: every how many pixels there is an output.
      padding: zeros on every side of the images.

    The result is of the dtype of the images, whatever `precision` rounds to.
    """
    if jax.default_backend() == "cpu":
        return _by_products(images, filters, stride, padding)
    if is_rounded():
        return _outputs(stride, padding, images, filters)
    sides, numbers = ((padding, padding), (padding, padding)), ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, filters, (stride, stride), sides, dimension_numbers=numbers)


def _by_products(images: Array, filters: Array, stride: int, padding: int) -> Array:
    """On a CPU."""
    wide = min(filters.shape[2:]) >= LEAST_CHANNELS and min(images.shape[1:3]) >= LEAST_SIDE
    if len(filters) == 3 and stride == 1 and padding == 1 and wide:
        return winograd(is_rounded(), images, filters)
    return _by_patches(images, filters, stride, padding)


def _by_patches(images: Array, filters: Array, stride: int, padding: int) -> Array:
    """One product of filters and patches, which are copied with the pixels of a row side by side: that is quicker."""
    size, _, channels, width = filters.shape
    padded = jnp.pad(jnp.moveaxis(images, 3, 0), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    last = [side - size + 1 for side in padded.shape[2:]]
    patches = jnp.stack(
        [padded[:, :, i : last[0] + i : stride, j : last[1] + j : stride] for i in range(size) for j in range(size)]
    )
    products = jnp.einsum("kn,kd->nd", patches.reshape(size * size * channels, -1), filters.reshape(-1, width))
    return products.reshape(*patches.shape[2:], width)


# --- rounded, on other devices ---------------------------------------------------------------------------


def _rounded(lhs: Array, rhs: Array, sides: list[tuple[int, int]], numbers: tuple[str, str, str], **how) -> Array:
    how = {"window_strides": (1, 1), "padding": sides, "dimension_numbers": numbers, "precision": DEFAULT, **how}
    return jax.lax.conv_general_dilated(rounded(lhs), rounded(rhs), **how).astype(lhs.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _outputs(stride: int, padding: int, images: Array, filters: Array) -> Array:
    """The convolution."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return _rounded(images, filters, [(padding, padding)] * 2, numbers, window_strides=(stride, stride))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _of_images(shape: tuple[int, int], stride: int, padding: int, outputs: Array, filters: Array) -> Array:
    """The gradient of images of ``shape = (h, w)``."""
    before = len(filters) - 1 - padding
    ends = zip(shape, outputs.shape[1:3], strict=True)
    sides = [(before, side - 1 - stride * (out - 1) + padding) for side, out in ends]
    numbers = ("NHWC", "HWOI", "NHWC")
    return _rounded(outputs, filters[::-1, ::-1], sides, numbers, lhs_dilation=(stride, stride))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _of_filters(size: int, stride: int, padding: int, images: Array, outputs: Array) -> Array:
    """The gradient of filters of ``size``."""
    ends = zip(images.shape[1:3], outputs.shape[1:3], strict=True)
    sides = [(padding, size - side - padding + stride * (out - 1)) for side, out in ends]
    return _rounded(images, outputs, sides, ("CHWN", "IHWO", "HWNC"), rhs_dilation=(stride, stride))


# Each is bilinear, and its derivatives are the other two. JAX's own would multiply rounded numbers by others.
_outputs.defvjp(
    lambda *at: (_outputs(*at), at[2:]),
    lambda stride, padding, kept, outputs: (
        _of_images(kept[0].shape[1:3], stride, padding, outputs, kept[1]),
        _of_filters(len(kept[1]), stride, padding, kept[0], outputs),
    ),
)
_of_images.defvjp(
    lambda *at: (_of_images(*at), at[3:]),
    lambda shape, stride, padding, kept, images: (
        _outputs(stride, padding, images, kept[1]),
        _of_filters(len(kept[1]), stride, padding, images, kept[0]),
    ),
)
_of_filters.defvjp(
    lambda *at: (_of_filters(*at), at[3:]),
    lambda size, stride, padding, kept, filters: (
        _of_images(kept[0].shape[1:3], stride, padding, kept[1], filters),
        _outputs(stride, padding, kept[0], filters),
    ),
)
