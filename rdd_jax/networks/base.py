"""What every finite network is, and the initialisation that the published recipes assume."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import flax.linen as nn
from jaxtyping import Array, Float

from rdd_jax.types import PRNGKey

torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform in +-1/sqrt(fan_in), the default of the framework in which the recipes were written."""


class Network(NamedTuple):
    """A network as pure functions.

    Attributes:
      init: ``init(key, images) -> variables``.
      apply: ``apply(variables, images [n, h, w, c]) -> logits [n, k]``.
      smallest: the smallest image side that its pooling leaves something of.
      convolutional: whether its time goes into convolutions, which XLA on a CPU runs on one thread
        inside a compiled loop and slowly under ``vmap`` of their weights.
    """

    init: Callable[[PRNGKey, Float[Array, "n h w c"]], Any]
    apply: Callable[[Any, Float[Array, "n h w c"]], Float[Array, "n k"]]
    smallest: int
    convolutional: bool


@dataclass(frozen=True)
class _Apply:
    """``module.apply`` that compares equal for equal modules, so that one compilation serves them all."""

    module: nn.Module

    def __call__(self, variables: Any, images: Float[Array, "n h w c"]) -> Float[Array, "n k"]:
        return cast(Array, self.module.apply(variables, images))


def from_flax(module: nn.Module, smallest: int = 1, convolutional: bool = True) -> Network:
    """Any Flax module that maps images to logits and keeps no state but parameters."""
    return Network(module.init, _Apply(module), smallest, convolutional)
