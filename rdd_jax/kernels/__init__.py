"""Kernels ``kernel(x1, x2) -> [n1, n2]``. Any callable of that form will do wherever one is asked for."""

from typing import Any

from rdd_jax.contracts import Kernel
from rdd_jax.kernels.features import feature_kernel, linear, streamed
from rdd_jax.kernels.finite import network_features, network_ntk, network_ntk_sum
from rdd_jax.kernels.fully_connected import fc_nngp, fc_ntk
from rdd_jax.kernels.gram import predict, tiled
from rdd_jax.kernels.stax import conv_nngp, conv_ntk, stax_kernel
from rdd_jax.registry import Registry

KERNELS: Registry[Kernel] = Registry(
    "kernel",
    {
        "fc-ntk": fc_ntk,
        "fc-nngp": fc_nngp,
        "conv-ntk": conv_ntk,
        "conv-nngp": conv_nngp,
        "network-features": network_features,
        "network-ntk": network_ntk,
        "network-ntk-sum": network_ntk_sum,
    },
)


def kernel_by_name(name: str, **options: Any) -> Kernel:
    """A kernel of `KERNELS`, with those of ``options`` that it takes; the same object for the same ones.

    Args:
      options: ``depth`` of infinitely wide networks; ``network`` (a `rdd_jax.networks.Network`), ``count`` and ``seed``
        of finite ones, which cannot do without ``network``; ``budget`` in bytes of all but the fully connected.

    Raises:
      InputError: an unknown name, or a value that the kernel cannot have.
    """
    return KERNELS.make(name, **options)


__all__ = [
    "KERNELS",
    "Kernel",
    "conv_nngp",
    "conv_ntk",
    "fc_nngp",
    "fc_ntk",
    "feature_kernel",
    "kernel_by_name",
    "linear",
    "network_features",
    "network_ntk",
    "network_ntk_sum",
    "predict",
    "stax_kernel",
    "streamed",
    "tiled",
]
