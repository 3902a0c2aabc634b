"""Views of the examples for groupings: ``features(subject) -> [n, d]`` float32, on the host; deterministic."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rdd_jax.contracts import Features, Kernel
from rdd_jax.kernels.fully_connected import fc_ntk
from rdd_jax.kernels.gram import row_blocks
from rdd_jax.pixels import Images, Mapped, flat, parts
from rdd_jax.registry import Registry
from rdd_jax.types import Subject

__all__ = [
    "FEATURES",
    "FITTED",
    "FITTED_BYTES",
    "blocks",
    "embedding",
    "kernel_map",
    "nystroem",
    "nystroem_map",
    "pca",
    "pixels",
    "principal",
    "principal_map",
    "sample",
    "texture",
]


def pixels(subject: Subject) -> Float[np.ndarray, "n d"]:
    """The flat images, all at once."""
    return np.asarray(flat(subject.images))


def pca(components: int = 64) -> Features:
    """The leading principal components of the images; see `principal`."""
    return lambda subject: principal(subject.images, components).astype(np.float32)


FITTED = 100_000
"""Examples that a view or a simple model is fitted to, at most; more would tell it nothing new."""


FITTED_BYTES = 600 * 2**20
"""Of float32, that such a view takes of them at most."""


def sample(n: int, numbers: int = 1) -> slice | Int[np.ndarray, " m"]:
    """`FITTED` of ``n`` examples of so many numbers at most, within `FITTED_BYTES`.

    All, or drawn with a fixed seed and in their order.
    """
    most = max(1, min(FITTED, FITTED_BYTES // (4 * numbers)))
    return slice(None) if n <= most else np.sort(np.random.default_rng(0).permutation(n)[:most])


def principal(images: Images, components: int = 64) -> np.ndarray:
    """``[n, components]``: the leading principal components, or the flat images where those are fewer numbers.

    Clusters of images live there, and k-means is far quicker there. Fitted to a `sample` of the images.
    """
    points = flat(images)
    some = points[sample(*points.shape)]
    project = principal_map(some, components, keep=not isinstance(points, Mapped))
    return np.concatenate([project(part) for _, part in parts(points)])


def principal_map(points: np.ndarray, components: int, keep: bool = True) -> Callable[[np.ndarray], np.ndarray]:
    """The map to the leading principal components of points ``[n, d]``; as they are where those are fewer numbers.

    Randomised PCA, fixed seed.

    Args:
      keep: False: the points may be overwritten, which saves a copy.
    """
    from sklearn.decomposition import PCA

    if min(points.shape) <= components:
        return lambda x: x
    return PCA(components, copy=keep, svd_solver="randomized", iterated_power=2, random_state=0).fit(points).transform


def kernel_map(kernel: Kernel, landmarks: int = 500, seed: int = 0) -> Features:
    r"""Nyström features of a kernel, ``d = landmarks`` (or ``n``): inner products approximate the kernel's values.

    :math:`\phi(x) = K_{ZZ}^{-1/2} k(Z, x)` for ``landmarks`` random images ``Z`` (Williams & Seeger 2001);
    eigenvalues of :math:`K_{ZZ}` below :math:`10^{-6}` of the largest are raised to that, for float32's sake.
    """

    def features(subject: Subject) -> Float[np.ndarray, "n d"]:
        return nystroem(kernel, subject.images, landmarks, seed)

    return features


def nystroem(kernel: Kernel, images: Images, landmarks: int, seed: int) -> Float[np.ndarray, "n d"]:
    """The features of `kernel_map`, of images."""
    return np.concatenate(list(blocks(nystroem_map(kernel, images, landmarks, seed), images, 4096)))


def nystroem_map(kernel: Kernel, images: Images, landmarks: int, seed: int) -> Callable[[Array], Array]:
    """The map of `kernel_map`, ``[b, h, w, c] -> [b, landmarks]``, with landmarks of these images."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:landmarks]
    z = jnp.asarray(images[np.sort(chosen)])
    values, vectors = np.linalg.eigh(np.asarray(kernel(z, z), np.float64))
    root = vectors / np.sqrt(np.maximum(values, 1e-6 * values[-1]))
    whiten = jnp.asarray(root, jnp.float32)
    return lambda x: kernel(x, z) @ whiten


def embedding(embed: Callable[[Array], Array]) -> Features:
    """What a network makes of the images: ``embed(images [b, h, w, c]) -> [b, ...]``, flattened."""

    def features(subject: Subject) -> Float[np.ndarray, "n d"]:
        return np.concatenate(list(blocks(lambda x: embed(x).reshape(len(x), -1), subject.images, 512)))

    return features


def texture(size: int = 3, floor: float = 1e-2) -> Features:
    r"""Statistics of small patches, pooled over the image: colour, contrast, sharpness, noise - and little of shape.

    What is rare or spurious in images - a colour, a background, a blur, a style - mostly shows in any small patch,
    while what a class *is* shows in where things are. So positions are pooled away. With :math:`u_j` the principal
    axes of all ``size x size`` patches, scaled to unit variance, and ``p`` running over the patches of an image,

    .. math::
        \phi(x) = \left( \mathrm{mean}_p\, u_j \cdot p, \;\; \log(\mathrm{var}_p\, u_j \cdot p + floor) \right)_j ,

    standardised over the images; ``d`` is at most ``2 c size^2``. The logarithm makes the *absence* of something
    (of colour, of fine detail) as visible as its presence. Our own derivation. Patches start every ``ceil(side / 16)``
    pixels, so that the work for an image is bounded.
    """

    def features(subject: Subject) -> Float[np.ndarray, "n d"]:
        images = subject.images
        stride = math.ceil(max(images.shape[1:3]) / 16)
        sides = [min(size, side) for side in images.shape[1:3]]

        def patches(x: Array) -> tuple[Array, Array]:
            """``(mean [b, d], centred [b, p, d])``."""
            found = jax.lax.conv_general_dilated_patches(
                x, sides, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            ).reshape(len(x), -1, sides[0] * sides[1] * x.shape[-1])
            mean = found.mean(1)
            return mean, found - mean[:, None]

        def moments(x: Array) -> tuple[Array, Array]:
            mean, centred = patches(x)
            return mean, jnp.einsum("bpi,bpj->bij", centred, centred, precision="highest") / centred.shape[1]

        few = images[:: math.ceil(len(images) / 4096)]  # enough for a covariance of size^2 c numbers
        origin, axes = _patch_axes(*(np.concatenate(part) for part in zip(*blocks(moments, few), strict=True)))

        def describe(x: Array) -> Array:
            mean, centred = patches(x)
            # The patches are projected, not their covariance, whose rounding can make a small variance negative.
            energy = jnp.mean(jnp.matmul(centred, axes, precision="highest") ** 2, 1)
            return jnp.concatenate([(mean - origin[None]) @ axes, jnp.log(energy + floor)], 1)

        found = np.concatenate(list(blocks(describe, images)))
        return (found - found.mean(0)) / np.maximum(found.std(0), 1e-4)

    return features


def _patch_axes(mean: np.ndarray, second: np.ndarray) -> tuple[Array, Array]:
    """``(origin [d], axes [d, j])``: the mean patch, and the principal axes scaled to unit variance."""
    covariance = np.cov(mean.T, bias=True).reshape(second.shape[1:]) + second.mean(0)
    values, vectors = np.linalg.eigh(covariance.astype(np.float64))
    keep = values > 1e-6 * values[-1]  # the rest is rounding, such as colour in grey images
    axes = vectors[:, keep] / np.sqrt(values[keep] + 1e-3 * values.mean())
    return jnp.asarray(mean.mean(0)), jnp.asarray(axes, jnp.float32)


def blocks(function: Callable[[Array], Any], images: Images, rows: int = 1024) -> Iterator[Any]:
    """``function`` of blocks of images, compiled once."""
    compiled = jax.jit(function)
    for where, block in row_blocks(images, rows):
        count = where.stop - where.start
        yield jax.tree.map(lambda part, count=count: np.asarray(part)[:count], compiled(jnp.asarray(block)))


FEATURES: Registry[Features] = Registry(
    "features",
    {
        "pixels": lambda: pixels,
        "pca": pca,
        "kernel": lambda: kernel_map(fc_ntk()),
        "texture": texture,
        "network": "rdd_jax.grouping.learned:network",
    },
)
