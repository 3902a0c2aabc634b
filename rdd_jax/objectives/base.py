"""What every objective is."""

from collections.abc import Callable
from typing import Any

from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

Objective = Callable[[PRNGKey, Any, Synthetic, Batch], Losses]
"""``objective(key, model, synthetic, batch) -> Losses``: one loss an example, or one a group.

``model`` are the variables of the network that the objective looks from (see `rdd_jax.trajectory`); None for kernels.
"""
