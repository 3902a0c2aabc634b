"""Data set distillation in JAX: tiny synthetic sets that hold up on rare subgroups.

Rooms and names are imported when they are first used, so that ``import rdd_jax`` costs nothing.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdd_jax import (
        augment,
        contracts,
        datasets,
        distill,
        errors,
        evaluation,
        files,
        grouping,
        kernels,
        kmeans,
        networks,
        objectives,
        parameterise,
        plots,
        registry,
        risk,
        sampling,
        saving,
        selection,
        trajectory,
        types,
    )
    from rdd_jax.datasets import load, prepare
    from rdd_jax.distill import Distiller, compose
    from rdd_jax.errors import InputError
    from rdd_jax.saving import SavedSet, load_set, load_state, save_set, save_state
    from rdd_jax.types import Data, Examples, Splits, Synthetic

_NAMES = {
    "load": "datasets",
    "prepare": "datasets",
    "Distiller": "distill",
    "compose": "distill",
    "InputError": "errors",
    "SavedSet": "saving",
    "load_set": "saving",
    "load_state": "saving",
    "save_set": "saving",
    "save_state": "saving",
    "Data": "types",
    "Examples": "types",
    "Splits": "types",
    "Synthetic": "types",
}
"""Names that are reached from here, and their rooms."""

__all__ = [
    "Data",
    "Distiller",
    "Examples",
    "InputError",
    "SavedSet",
    "Splits",
    "Synthetic",
    "augment",
    "compose",
    "contracts",
    "datasets",
    "distill",
    "errors",
    "evaluation",
    "files",
    "grouping",
    "kernels",
    "kmeans",
    "load",
    "load_set",
    "load_state",
    "networks",
    "objectives",
    "parameterise",
    "plots",
    "prepare",
    "registry",
    "risk",
    "sampling",
    "save_set",
    "save_state",
    "saving",
    "selection",
    "trajectory",
    "types",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("rdd_jax")
    if name in _NAMES:
        return getattr(importlib.import_module(f"rdd_jax.{_NAMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"rdd_jax.{name}")
    raise AttributeError(f"module 'rdd_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
