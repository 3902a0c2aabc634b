"""Finite networks: ``Network(init, apply)`` around Flax."""

from rdd_jax.errors import choose
from rdd_jax.networks.base import Network, from_flax
from rdd_jax.networks.convnet import convnet
from rdd_jax.networks.mlp import mlp

NETWORKS = {"convnet": convnet, "mlp": mlp}


def network_by_name(name: str, classes: int) -> Network:
    """A network of `NETWORKS`; raises `InputError` on an unknown name."""
    return choose("network", name, NETWORKS)(classes)


__all__ = ["NETWORKS", "Network", "convnet", "from_flax", "mlp", "network_by_name"]
