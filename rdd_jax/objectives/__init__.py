"""Objectives ``objective(key, synthetic, batch) -> Losses``."""

from rdd_jax.objectives.base import Objective
from rdd_jax.objectives.kip import kip, kip_solved

__all__ = ["Objective", "kip", "kip_solved"]
