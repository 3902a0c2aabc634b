"""The layers that the networks share, with the initialisation that the published recipes assume."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from rdd_jax.errors import choose
from rdd_jax.networks.convolution import convolve
from rdd_jax.networks.precision import product

__all__ = [
    "ACTIVATIONS",
    "NORMS",
    "POOLS",
    "Conv",
    "Linear",
    "Norm",
    "activation_by_name",
    "average_pool",
    "bias_of",
    "flat",
    "max_pool",
    "pool_by_name",
    "whole",
]

torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform in +-1/sqrt(fan_in), the default of the framework in which the recipes were written."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "leaky-relu": jax.nn.leaky_relu,
    "sigmoid": jax.nn.sigmoid,
    "swish": jax.nn.swish,
}


def bias_of(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in +-1/sqrt(fan_in) too."""
    limit = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


class Linear(nn.Module):
    """A linear layer; see `precision.product`."""

    width: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", torch_uniform, (x.shape[-1], self.width))
        bias = self.param("bias", bias_of(x.shape[-1]), (self.width,))
        return product(x, kernel) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


class Conv(nn.Module):
    """A convolution with square filters; see `convolution.convolve`."""

    width: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    bias: bool = True

    @nn.compact
    def __call__(self, x):
        filters = self.param("kernel", torch_uniform, (self.size, self.size, x.shape[-1], self.width))
        y = convolve(x, filters, self.stride, self.padding)
        if self.bias:
            y = y + self.param("bias", bias_of(self.size**2 * x.shape[-1]), (self.width,))[None, None, None]
        return y


NORMS = ("none", "instance", "batch", "group", "layer")


class Norm(nn.Module):
    """Normalisation to mean 0 and variance 1, then a learned scale and shift.

    Over the pixels of every image and channel (``instance``), of every image and each of 4 groups of channels
    (``group``), of every image and all channels (``layer``: a scale and shift a pixel too), or of every channel and all
    images that are given together (``batch``), unless the variables have a collection ``statistics`` with the means and
    mean squares of others, as `Network.settle` makes it.

    Mean and variance come from one pass, and scale and shift are folded into one multiplication and addition: the
    gradient then takes two passes over the activations, not six.
    """

    kind: str

    @nn.compact
    def __call__(self, x):
        if self.kind == "none":
            return x
        n, h, w, c = x.shape
        affine = (h, w, c) if self.kind == "layer" else (c,)
        scale = self.param("scale", nn.initializers.ones, affine)
        shift = self.param("bias", nn.initializers.zeros, affine)
        axes = {"batch": (0, 1, 2), "instance": (1, 2), "group": (1, 2, 4), "layer": (1, 2, 3)}[self.kind]
        grouped = x.reshape(n, h, w, 4, c // 4) if self.kind == "group" else x
        mean, square = self._moments(grouped, axes)
        inverse = jax.lax.rsqrt(jnp.maximum(square - mean**2, 0) + 1e-5)
        if self.kind == "group":
            mean, inverse = (jnp.repeat(part.reshape(n, 1, 1, 4), c // 4, 3) for part in (mean, inverse))
        factor = inverse * scale.reshape(1, *((1, 1, c) if len(affine) == 1 else affine))
        return x * factor + (shift.reshape(1, *((1, 1, c) if len(affine) == 1 else affine)) - mean * factor)

    def _moments(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
        """The means of ``x`` and of its squares, with axes of length 1."""
        found = jnp.mean(x, axes, keepdims=True), jnp.mean(x**2, axes, keepdims=True)
        if self.kind != "batch" or self.is_initializing():
            return found
        if self.is_mutable_collection("statistics"):
            for name, value in zip(("mean", "square"), found, strict=True):
                self.put_variable("statistics", name, value)
        elif self.has_variable("statistics", "mean"):
            return self.get_variable("statistics", "mean"), self.get_variable("statistics", "square")
        return found


def average_pool(x: Array) -> Array:
    """Means of 2x2 pixels; a last odd row or column is left out. Slices, which are quicker than windows here."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def max_pool(x: Array) -> Array:
    """Largest of 2x2 pixels; a last odd row or column is left out."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    return jnp.maximum(jnp.maximum(x[:, ::2, ::2], x[:, 1::2, ::2]), jnp.maximum(x[:, ::2, 1::2], x[:, 1::2, 1::2]))


POOLS: dict[str, Callable[[Array], Array]] = {"average": average_pool, "max": max_pool, "none": lambda x: x}


def activation_by_name(name: str) -> Callable[[Array], Array]:
    """An activation of `ACTIVATIONS`; raises `InputError` on an unknown name."""
    return choose("activation", name, ACTIVATIONS)


def pool_by_name(name: str) -> Callable[[Array], Array]:
    """A pooling of `POOLS`; raises `InputError` on an unknown name."""
    return choose("pooling", name, POOLS)


def flat(x: Array) -> Array:
    """``[n, ...] -> [n, d]``."""
    return x.reshape(len(x), -1)


def whole(x: Array, multiple: int) -> Array:
    """Zero-padded evenly to sides that are multiples, so that pooling leaves no rest: 28x28 becomes 32x32."""
    missing = [-side % multiple for side in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)))
