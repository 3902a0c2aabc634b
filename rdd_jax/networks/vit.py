"""A vision transformer (Dosovitskiy et al. 2021) in the size that is used on CIFAR-10."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rdd_jax.errors import InputError, at_least
from rdd_jax.networks.base import Classifier, Network, from_flax
from rdd_jax.networks.layers import Linear, torch_uniform, whole
from rdd_jax.networks.precision import is_rounded, rounded_product

__all__ = ["Attention", "ViTBody", "vit"]


class ViTBody(nn.Module):
    """Patches, a class token, ``depth`` blocks of attention and MLP, normalised before each; no dropout."""

    patch: int
    width: int
    depth: int
    heads: int

    @nn.compact
    def __call__(self, x):
        x = whole(x, self.patch)
        n, h, w, c = x.shape
        down, across = h // self.patch, w // self.patch
        x = x.reshape(n, down, self.patch, across, self.patch, c).swapaxes(2, 3).reshape(n, down * across, -1)
        x = Linear(self.width)(x)
        normal = nn.initializers.normal(1.0)
        token = self.param("token", normal, (1, 1, self.width))
        place = self.param("position", normal, (1, down * across + 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(token, (n, 1, self.width)), x], 1)
        x = x + jnp.broadcast_to(place, x.shape)
        for _ in range(self.depth):
            x = x + Attention(self.width, self.heads)(nn.LayerNorm(epsilon=1e-5)(x))
            hidden = jax.nn.gelu(Linear(self.width)(nn.LayerNorm(epsilon=1e-5)(x)), approximate=False)
            x = x + Linear(self.width)(hidden)
        return nn.LayerNorm(epsilon=1e-5)(x[:, 0])


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values without bias. Their products are never rounded."""

    width: int
    heads: int

    @nn.compact
    def __call__(self, x):
        n, tokens, _ = x.shape
        shape = (n, tokens, self.heads, self.width // self.heads)
        how = {"use_bias": False, "kernel_init": torch_uniform, "dot_general": _rounded if is_rounded() else None}
        query, key, value = (
            nn.Dense(self.width, name=name, **how)(x).reshape(shape) for name in ("query", "key", "value")
        )
        mixed = jax.nn.dot_product_attention(query, key, value)
        return Linear(self.width)(mixed.reshape(n, tokens, self.width))


def _rounded(x, kernel, *_, **__):
    return rounded_product(x, kernel)


def vit(classes: int, patch: int = 4, width: int = 512, depth: int = 6, heads: int = 8) -> Network:
    """ViT with ``patch x patch`` patches; images are padded to a multiple of it.

    Raises:
      InputError: a parameter below 1, or a ``width`` that ``heads`` does not divide.
    """
    for name, value in (("patch", patch), ("width", width), ("depth", depth), ("heads", heads)):
        at_least(name, value, 1)
    if width % heads:
        raise InputError(f"width is {width}: give a multiple of heads, {heads}")
    return from_flax(Classifier(ViTBody(patch, width, depth, heads), Linear(classes)), "features")
