"""Optimisers of the synthetic set, and what its rate does over time, by name."""

import optax

from rdd_jax.registry import Registry

__all__ = ["OPTIMIZERS", "SCHEDULES"]

SCHEDULES: Registry[optax.ScalarOrSchedule] = Registry(
    "schedule",
    {
        "constant": lambda lr: lr,
        "cosine": lambda lr, steps: optax.cosine_decay_schedule(lr, steps),
    },
)

OPTIMIZERS: Registry[optax.GradientTransformation] = Registry(
    "optimizer",
    {
        "adam": lambda rate: optax.adam(rate),
        "sgd": lambda rate: optax.sgd(rate, 0.5),
        "lamb": lambda rate: optax.lamb(rate),
        "adabelief": lambda rate: optax.adabelief(rate),
    },
)
