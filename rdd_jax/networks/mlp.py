"""The multilayer perceptron of dataset distillation."""

import flax.linen as nn

from rdd_jax.networks.base import Network, from_flax, torch_uniform


class MLPModule(nn.Module):
    """Two hidden ReLU layers."""

    classes: int
    width: int = 128

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width, kernel_init=torch_uniform)(x))
        return nn.Dense(self.classes, kernel_init=torch_uniform)(x)


def mlp(classes: int, width: int = 128) -> Network:
    """An MLP with two hidden layers of ``width``."""
    return from_flax(MLPModule(classes, width), convolutional=False)
