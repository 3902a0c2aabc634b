"""What every objective is."""

from collections.abc import Callable

from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

Objective = Callable[[PRNGKey, Synthetic, Batch], Losses]
"""``objective(key, synthetic, batch) -> Losses``: one loss an example, or one a group."""
