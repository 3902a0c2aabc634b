"""The ConvNet of dataset distillation (Gidaris & Komodakis 2018; Zhao et al. 2021)."""

import flax.linen as nn

from rdd_jax.networks.base import Network, from_flax, torch_uniform


class ConvNetModule(nn.Module):
    """``depth`` times (3x3 convolution, instance norm, ReLU, 2x2 average pooling), then a linear layer."""

    classes: int
    depth: int = 3
    width: int = 128

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = nn.Conv(self.width, (3, 3), kernel_init=torch_uniform)(x)
            x = nn.InstanceNorm(epsilon=1e-5)(x)
            x = nn.avg_pool(nn.relu(x), (2, 2), (2, 2))
        return nn.Dense(self.classes, kernel_init=torch_uniform)(x.reshape(len(x), -1))


def convnet(classes: int, depth: int = 3, width: int = 128) -> Network:
    """ConvNet-``depth``-``width`` with instance norm; images need a side of at least ``2**depth``.

    >>> import jax, jax.numpy as jnp
    >>> variables = convnet(10).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    >>> sum(leaf.size for leaf in jax.tree.leaves(variables))
    320010
    """
    return from_flax(ConvNetModule(classes, depth, width), smallest=2**depth)
