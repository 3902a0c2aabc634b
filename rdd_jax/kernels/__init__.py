"""Kernels ``kernel(x1, x2) -> [n1, n2]``. Any callable of that form will do wherever one is asked for."""

from rdd_jax.contracts import Kernel
from rdd_jax.kernels.features import feature_kernel, linear
from rdd_jax.kernels.fully_connected import fc_nngp, fc_ntk
from rdd_jax.kernels.gram import predict, tiled
from rdd_jax.kernels.stax import stax_kernel
from rdd_jax.registry import Registry

KERNELS: Registry[Kernel] = Registry("kernel", {"fc-ntk": fc_ntk, "fc-nngp": fc_nngp})


def kernel_by_name(name: str, depth: int = 1) -> Kernel:
    """A kernel of `KERNELS` with ``depth`` hidden layers; raises `InputError` on an unknown name."""
    return KERNELS.make(name, depth=depth)


__all__ = [
    "KERNELS",
    "Kernel",
    "fc_nngp",
    "fc_ntk",
    "feature_kernel",
    "kernel_by_name",
    "linear",
    "predict",
    "stax_kernel",
    "tiled",
]
