"""Objectives ``objective(key, model, synthetic, batch) -> Losses``."""

from rdd_jax.objectives.base import Objective
from rdd_jax.objectives.kip import kip, kip_solved
from rdd_jax.objectives.matching import DISTANCES, cosine, distribution_matching, gradient_matching, squared

__all__ = [
    "DISTANCES",
    "Objective",
    "cosine",
    "distribution_matching",
    "gradient_matching",
    "kip",
    "kip_solved",
    "squared",
]
