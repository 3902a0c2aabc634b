"""Data set distillation in JAX: tiny synthetic sets that hold up on rare subgroups.

Submodules are imported when they are first used, so that ``import rdd_jax`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdd_jax import (
        augment,
        build,
        coreset,
        corruptions,
        data,
        distill,
        evaluate,
        features,
        grouping,
        initialise,
        job,
        kernels,
        kmeans,
        krr,
        metrics,
        networks,
        objectives,
        optimise,
        parameterise,
        plots,
        preprocess,
        risk,
        runs,
        sampling,
        selection,
        shifts,
        training,
        trajectory,
        types,
    )


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"rdd_jax.{name}")
    raise AttributeError(f"module 'rdd_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]


__all__ = [
    "augment",
    "build",
    "coreset",
    "corruptions",
    "data",
    "distill",
    "evaluate",
    "features",
    "grouping",
    "initialise",
    "job",
    "kernels",
    "kmeans",
    "krr",
    "metrics",
    "networks",
    "objectives",
    "optimise",
    "parameterise",
    "plots",
    "preprocess",
    "risk",
    "runs",
    "sampling",
    "selection",
    "shifts",
    "training",
    "trajectory",
    "types",
]
