"""Finite networks: ``Network(init, features, apply)`` around Flax."""

from rdd_jax.errors import choose
from rdd_jax.networks.base import Network, check_batch, check_images, from_flax
from rdd_jax.networks.classics import alexnet, lenet, resnet18, vgg11
from rdd_jax.networks.convnet import convnet
from rdd_jax.networks.mlp import mlp
from rdd_jax.networks.vit import vit

NETWORKS = {
    "convnet": convnet,
    "mlp": mlp,
    "lenet": lenet,
    "alexnet": alexnet,
    "vgg11": vgg11,
    "resnet18": resnet18,
    "vit": vit,
}


def network_by_name(name: str, classes: int) -> Network:
    """A network of `NETWORKS`; raises `InputError` on an unknown name."""
    return choose("network", name, NETWORKS)(classes)


__all__ = [
    "NETWORKS",
    "Network",
    "alexnet",
    "check_batch",
    "check_images",
    "convnet",
    "from_flax",
    "lenet",
    "mlp",
    "network_by_name",
    "resnet18",
    "vgg11",
    "vit",
]
