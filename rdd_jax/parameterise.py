"""Parameterisations: what the optimiser moves, and how it becomes a synthetic set.

``init(synthetic) -> (params, fixed)`` and ``decode(params, fixed) -> Synthetic``; ``params`` is
trained, ``fixed`` is not.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import PyTree

from rdd_jax.types import Synthetic


class Parameterisation(NamedTuple):
    init: Callable[[Synthetic], tuple[PyTree, PyTree]]
    decode: Callable[[PyTree, PyTree], Synthetic]


def pixels(learn_labels: bool = False) -> Parameterisation:
    """The images themselves, in model space; labels fixed, or learned beside them."""

    def init(synthetic: Synthetic) -> tuple[Any, Any]:
        fields = synthetic._asdict()
        trained = ("images", "labels") if learn_labels else ("images",)
        return {k: fields[k] for k in trained}, {k: v for k, v in fields.items() if k not in trained}

    def decode(params: Any, fixed: Any) -> Synthetic:
        return Synthetic(**params, **fixed)

    return Parameterisation(init, decode)
