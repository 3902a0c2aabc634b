"""What every finite network is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.errors import InputError
from rdd_jax.types import PRNGKey

__all__ = ["Centred", "Classifier", "Network", "centred", "check_apart", "check_batch", "check_images", "from_flax"]


class Network(NamedTuple):
    """A network as pure functions; ``variables`` is any pytree.

    Attributes:
      init: ``init(key, images) -> variables``.
      features: ``features(variables, images [n, h, w, c]) -> [n, d]``, the embedding under the last linear layer.
      apply: ``apply(variables, images [n, h, w, c]) -> logits [n, k]``.
      smallest: the smallest image side that it can take.
      settle: ``settle(variables, batches [k, b, h, w, c]) -> variables`` whose output for an image no longer depends on
        those beside it: layers normalise by the statistics of these batches. None where it never does.
    """

    init: Callable[[PRNGKey, Float[Array, "n h w c"]], Any]
    features: Callable[[Any, Float[Array, "n h w c"]], Float[Array, "n d"]]
    apply: Callable[[Any, Float[Array, "n h w c"]], Float[Array, "n k"]]
    smallest: int = 1
    settle: Callable[[Any, Float[Array, "k b h w c"]], Any] | None = None


class Centred(NamedTuple):
    """The variables of a `centred` network: as they are, and as they were at initialisation."""

    now: Any
    start: Any


@cache
def centred(network: Network) -> Network:
    """The network less what it gave at initialisation, a constant of the gradient; its variables are `Centred`.

    The same one for equal networks, so that what is compiled with it is compiled once.
    """

    def init(key: PRNGKey, images: Float[Array, "n h w c"]) -> Centred:
        variables = network.init(key, images)
        return Centred(variables, variables)

    def apply(variables: Centred, images: Float[Array, "n h w c"]) -> Float[Array, "n k"]:
        start = jax.lax.stop_gradient(variables.start)
        return network.apply(variables.now, images) - network.apply(start, images)

    def settle(variables: Centred, batches: Float[Array, "k b h w c"]) -> Centred:
        assert network.settle is not None
        return Centred(*(network.settle(one, batches) for one in variables))

    features = lambda variables, images: network.features(variables.now, images)  # noqa: E731
    return Network(init, features, apply, network.smallest, None if network.settle is None else settle)


class Classifier(nn.Module):
    """A body that maps images to an embedding, and a linear layer."""

    body: nn.Module
    head: nn.Module

    def __call__(self, x):
        return self.head(self.body(x))

    def features(self, x):
        return self.body(x)


@dataclass(frozen=True)
class _Init:
    """A module's ``init`` as a function, equal for equal modules: one compilation serves them all."""

    module: nn.Module

    def __call__(self, key: PRNGKey, images: Float[Array, "n h w c"]) -> Any:
        variables = self.module.init(key, images)
        if kept := sorted(set(variables) - {"params"}):
            raise InputError(
                f"{type(self.module).__name__} keeps {', '.join(kept)} beside its parameters: use layers without "
                "state, for batch norm `networks.layers.Norm('batch')`"
            )
        return variables


@dataclass(frozen=True)
class _Method:
    """A method of a module as a function, equal for equal modules too."""

    module: nn.Module
    name: str

    def __call__(self, variables: Any, images: Float[Array, "n h w c"]) -> Float[Array, "n d"]:
        return cast(Array, self.module.apply(variables, images, method=self.name))


@dataclass(frozen=True)
class _Settle:
    """The variables of a module with the mean statistics of batches."""

    module: nn.Module

    def __call__(self, variables: Any, batches: Float[Array, "k b h w c"]) -> Any:
        seen = lambda images: self.module.apply(variables, images, mutable=["statistics"])[1]["statistics"]  # noqa: E731
        statistics = jax.tree.map(lambda leaf: jnp.mean(leaf, 0), jax.lax.map(seen, batches))
        return {**variables, "statistics": statistics}


def from_flax(
    module: nn.Module, features: str = "__call__", smallest: int = 1, batch_statistics: bool = False
) -> Network:
    """Any Flax (linen) module that maps images ``[n, h, w, c]`` to logits and keeps no state but parameters.

    Args:
      features: the method of the module that gives the embedding; without one, the logits stand in.
      batch_statistics: whether it has `layers.Norm` of kind ``batch``, and so has to be settled.

    Raises:
      InputError: no linen module; in ``init``, one that keeps state.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"{type(module).__name__} is no flax.linen.Module: write the network as one, not with nnx")
    embed, classify = _Method(module, features), _Method(module, "__call__")
    return Network(_Init(module), embed, classify, smallest, _Settle(module) if batch_statistics else None)


def check_batch(network: Network, size: int) -> None:
    """Raises `InputError` where a batch of ``size`` images is too small for statistics over it."""
    if network.settle is not None and size < 2:
        raise InputError(
            "norm 'batch' takes statistics over a batch, but a batch would hold a single image: use norm 'instance' or "
            "more images"
        )


def check_apart(network: Network) -> None:
    """Raises `InputError` where the output for an image depends on those beside it."""
    if network.settle is not None:
        raise InputError(
            "norm 'batch' couples the images of a batch, but here every image is looked at by itself: use norm "
            "'instance' or 'none'"
        )


def check_images(network: Network, shape: tuple[int, ...], name: str = "this network") -> None:
    """Raises `InputError` where images of ``shape = (h, w, c)`` are too small for the network."""
    if min(shape[:2]) < network.smallest:
        raise InputError(
            f"images of {shape[0]} x {shape[1]} are too small for {name}, which needs {network.smallest} x "
            f"{network.smallest} or more: choose a shallower network, or larger images"
        )
