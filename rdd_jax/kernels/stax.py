"""`neural_tangents.stax`, where the package itself no longer imports.

neural-tangents 0.6.5 is its last release; its ``__init__`` fails on today's JAX, but its infinite
kernels work. `load` imports them without executing that ``__init__``. Install it once with::

    pip install --no-deps neural-tangents==0.6.5 && pip install frozendict
"""

import importlib
import importlib.util
import math
import sys
from functools import cache
from types import ModuleType

import jax
from jaxtyping import Array

from rdd_jax.contracts import Kernel
from rdd_jax.errors import InputError, at_least
from rdd_jax.kernels.gram import BUDGET, TEMPORARIES, tiled
from rdd_jax.networks import check_images, convnet
from rdd_jax.networks.layers import whole

__all__ = ["INSTALL", "conv_nngp", "conv_ntk", "load", "stax_kernel"]

INSTALL = "pip install --no-deps neural-tangents==0.6.5 && pip install frozendict"


def load() -> ModuleType:
    """The module ``neural_tangents.stax``.

    Where ``neural_tangents`` was not imported before, a bare package of that name is left in
    ``sys.modules``, so that only its submodules can be reached.

    Raises:
      InputError: neural-tangents or frozendict is not installed; says how to install them.
    """
    if "neural_tangents" not in sys.modules:
        spec = importlib.util.find_spec("neural_tangents")
        if spec is None or importlib.util.find_spec("frozendict") is None:
            raise InputError(f"stax kernels need neural-tangents 0.6.5 without its dependencies: {INSTALL}")
        package = ModuleType("neural_tangents")
        package.__path__ = list(spec.submodule_search_locations or [])
        sys.modules["neural_tangents"] = package
    return importlib.import_module("neural_tangents.stax")


def stax_kernel(kernel_fn, get: str = "ntk") -> Kernel:
    """A ``stax`` kernel function as this library's ``kernel(x1, x2)``.

    Args:
      kernel_fn: the third value of a ``stax`` layer. Give it a ``Flatten`` first where it is fully connected.
      get: ``"ntk"`` or ``"nngp"``.
    """
    return lambda x1, x2: kernel_fn(x1, x2, get)


@cache  # as `fc_ntk`
def conv_ntk(depth: int = 1, budget: int = BUDGET) -> Kernel:
    """The NTK of an infinitely wide `networks.convnet` of ``depth`` blocks without norm, with weights as in `fc_ntk`.

    Images are padded as there. Pooling makes a kernel of two images one of all pairs of their pixels: ``P**2`` numbers,
    for ``P`` pixels. Pairs of images are looked at in tiles.

    Args:
      budget: bytes that a tile may take; a gradient takes a few times as many.

    Raises:
      InputError: ``depth < 1``; neural-tangents is not installed; when called or traced, images that are too small for
        the depth, or a pair that does not fit the budget.
    """
    return _of_convolutions(depth, budget, "ntk")


@cache
def conv_nngp(depth: int = 1, budget: int = BUDGET) -> Kernel:
    """The NNGP kernel of the same network as `conv_ntk`; same arguments."""
    return _of_convolutions(depth, budget, "nngp")


def _of_convolutions(depth: int, budget: int, get: str) -> Kernel:
    at_least("depth", depth, 1)
    stax, stds = load(), {"W_std": math.sqrt(2), "b_std": 0.1}
    block = stax.Conv(1, (3, 3), padding="SAME", **stds), stax.Relu(), stax.AvgPool((2, 2), (2, 2))
    pair = stax_kernel(stax.serial(*block * depth, stax.Flatten(), stax.Dense(1, **stds))[2], get)

    def kernel(x1: Array, x2: Array) -> Array:
        check_images(convnet(1, depth), x1.shape[1:], f"a convolutional kernel of depth {depth}")
        x1, x2 = (whole(x, 2**depth) for x in (x1, x2))
        side = _side(x1, budget)
        # "highest": as in `fc_ntk`.
        with jax.default_matmul_precision("highest"):
            return tiled(pair, side, side)(x1, x2)

    return kernel


def _side(images: Array, budget: int) -> int:
    """How many images against as many others fit, with what each of them takes by itself."""
    _, height, width, _ = images.shape
    one = TEMPORARIES * (height * width) ** 2 * images.dtype.itemsize
    side = math.isqrt(budget // one + 1) - 1  # side ** 2 + 2 * side of them
    if side < 1:
        raise InputError(
            f"a pair of images of {height} x {width} takes {3 * one / 2**20:,.1f} MiB in this kernel, which may hold "
            f"{budget / 2**20:g}: raise kernel_memory, or take smaller images"
        )
    return side
