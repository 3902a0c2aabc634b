"""What a draw of a batch costs as the data grow: milliseconds, the least of several rounds, by sampler.

    python -m benchmarks.draws [--sizes 10000 100000 1000000 --batch 5000]

Batches by index alone, from data in ten classes and twenty groups, with losses; tables are made before
(`sampling.ready`), as `Distiller.run` does. Run it on an otherwise idle machine.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import rich
import tyro
from rich.table import Table

from rdd_jax.sampling import SAMPLERS, ready
from rdd_jax.types import Examples, centred_one_hot

ROUNDS = 15


def drawn(n: int) -> Examples:
    """``n`` examples whose images are a pixel."""
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 10, n), rng.integers(0, 20, n)
    loss = jnp.asarray(rng.exponential(size=n), jnp.float32)
    images = jnp.zeros((n, 1, 1, 1), jnp.uint8)
    return Examples(images, centred_one_hot(labels, 10), jnp.asarray(groups), loss=loss, group_count=20)


def milliseconds(name: str, data: Examples, batch: int) -> float:
    sampler = SAMPLERS.make(name, batch=batch, mix=0.1, unbiased=True)
    tabled, draw = jax.block_until_ready(ready(sampler, data)), jax.jit(sampler)
    found = []
    for i in range(ROUNDS + 1):  # the first compiles
        start = time.perf_counter()
        jax.block_until_ready(draw(jax.random.key(i), tabled))
        found.append(1000 * (time.perf_counter() - start))
    return min(found[1:])


def main(sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000), batch: int = 5000) -> None:
    """Prints the table."""
    table = Table("examples", *SAMPLERS)
    for n in sizes:
        data = drawn(n)
        table.add_row(f"{n:,}", *(f"{milliseconds(name, data, batch):.2f}" for name in SAMPLERS))
    rich.print(table)


if __name__ == "__main__":
    tyro.cli(main)
