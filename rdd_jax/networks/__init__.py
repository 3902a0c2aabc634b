"""Finite networks: ``Network(init, features, apply)`` around Flax."""

from typing import Any

from rdd_jax.networks.base import Network, centred, check_apart, check_batch, check_images, from_flax
from rdd_jax.networks.classics import alexnet, lenet, resnet18, vgg11
from rdd_jax.networks.convnet import convnet
from rdd_jax.networks.ensemble import ensemble
from rdd_jax.networks.mlp import mlp
from rdd_jax.networks.vit import vit
from rdd_jax.registry import Registry

NETWORKS: Registry[Network] = Registry(
    "network",
    {
        "convnet": convnet,
        "mlp": mlp,
        "lenet": lenet,
        "alexnet": alexnet,
        "vgg11": vgg11,
        "resnet18": resnet18,
        "vit": vit,
    },
)


def network_by_name(name: str, classes: int, **options: Any) -> Network:
    """A network of `NETWORKS`, with those of ``options`` (``depth``, ``width``, ``growth``, ``norm``) that it takes.

    Raises:
      InputError: an unknown name, or a value that the network cannot have.
    """
    return NETWORKS.make(name, classes=classes, **options)


__all__ = [
    "NETWORKS",
    "Network",
    "alexnet",
    "centred",
    "check_apart",
    "check_batch",
    "check_images",
    "convnet",
    "ensemble",
    "from_flax",
    "lenet",
    "mlp",
    "network_by_name",
    "resnet18",
    "vgg11",
    "vit",
]
