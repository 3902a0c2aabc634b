"""What robustness costs: the group-robust KIP step beside the plain one, in one run.

    python -m benchmarks.robust_step [--rounds 11 --ipc 10 --settings 3 2000 1 5000]

- plain: ``overall(mean)``, uniform batches;
- robust: ``grouped(mean, entropic(5))``, batches ``by_group``;
- RDD's risk: ``grouped(cvar(0.2), plus(mean, worst))``, batches ``by_group``;
- either sampler alone, in a compiled loop of as many draws.

Coloured MNIST (54,001 training images of 28 x 28 x 3 in 100 groups; noise of that shape where ``TFDS_DATA_DIR`` has no
MNIST, as only the time counts), learned labels, the FC NTK; by default depth 3 with batches of 2,000, and depth 1 with
batches of 5,000. Prints milliseconds a step, run as a real run does, `DISPATCH` steps a dispatch, and each one's ratio
to the plain step of the same round. The variants take turns, so that the ratios hold where the machine's speed drifts.
Run it on an otherwise idle machine.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
import tyro
from rich.table import Table

from rdd_jax import datasets, risk, selection
from rdd_jax.datasets import shifts
from rdd_jax.datasets.preprocess import prepare
from rdd_jax.distill import DISPATCH, compose, one_blas_thread
from rdd_jax.errors import InputError
from rdd_jax.grouping import Groups, cells
from rdd_jax.kernels import fc_ntk
from rdd_jax.objectives import kip
from rdd_jax.parameterise import pixels
from rdd_jax.sampling import Sampler, by_group, uniform
from rdd_jax.types import Data, Examples, Splits, Synthetic


@dataclass(frozen=True)
class Options:
    """What to time."""

    rounds: int = 11
    ipc: int = 10
    settings: tuple[tuple[int, int], ...] = ((3, 2000), (1, 5000))
    """Depth and batch of each table."""


def grey_images() -> Splits:
    """MNIST, or noise of its shape."""
    try:
        return datasets.load("mnist")
    except InputError:
        rng = np.random.default_rng(0)
        names = tuple(map(str, range(10)))
        train, validation, test = (
            Data(rng.integers(0, 256, (n, 28, 28, 1), np.uint8), np.arange(n, dtype=np.int32) % 10, names)
            for n in (54_000, 100, 100)
        )
        return Splits(train, validation, test, "random pixels")


def problem(ipc: int) -> tuple[str, Examples, Synthetic]:
    """``(name, examples, start)``: the data with its (class, colour) cells as groups."""
    splits = shifts.colour("foreground", bias=0.9)(0, grey_images())
    train, prepared = splits.train, prepare(splits, "standardise")
    assert train.groups is not None
    colours = Groups(train.groups, len(train.group_names))
    codes, count = cells(colours, train.labels, train.classes)
    examples = prepared.examples().replace(groups=jnp.asarray(codes), group_count=count)
    pool = selection.Pool(prepared.train, train.labels, train.classes)
    index = selection.subset("random", pool, ipc).index
    start = Synthetic(examples.look(index), examples.labels[index])
    return splits.name, examples, start


def steps(sampler: Sampler, of: risk.Risk, depth: int, examples: Examples, start: Synthetic) -> Callable[[], None]:
    """One dispatch of a distiller a call."""
    distiller = compose(
        kip(fc_ntk(depth)),
        sampler=sampler,
        risk=of,
        optimizer=optax.adam(4e-2),
        parameterisation=pixels("learned"),
    )
    state = distiller.init(start)

    def call() -> None:
        nonlocal state
        with one_blas_thread():
            key, count = jax.random.key(1), jnp.asarray(DISPATCH)
            state, _ = jax.block_until_ready(distiller.advance(key, state, examples, count))

    return call


def draws(sampler: Sampler, examples: Examples) -> Callable[[], None]:
    """As many draws a call as a dispatch makes, in a loop as it has."""

    @jax.jit
    def loop(key, examples, count):
        def body(i, total):
            index, weight = sampler(jax.random.fold_in(key, i), examples)
            return total + jnp.sum(weight * index)

        return jax.lax.fori_loop(0, count, body, jnp.zeros(()))

    return lambda: jax.block_until_ready(loop(jax.random.key(1), examples, jnp.asarray(DISPATCH)))


def milliseconds(calls: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Of a step, for each of the calls in turn, after one that compiles."""
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            taken[name].append(1e3 * (time.perf_counter() - begin) / DISPATCH)
    return taken


def main(options: Options) -> None:
    name, examples, start = problem(options.ipc)
    m, (n, *shape) = len(start.images), examples.images.shape
    groups, device = examples.group_count, jax.devices()[0].device_kind
    print(f"{name}: {n:,} images of {' x '.join(map(str, shape))}, {groups} groups; {device}")
    entropic = risk.grouped(risk.mean, risk.entropic(5.0))
    rdd = risk.grouped(risk.cvar(0.2), risk.plus(risk.mean, risk.worst))
    for depth, batch in options.settings:
        plain, even = uniform(batch), by_group(batch)
        calls = {
            "plain": steps(plain, risk.overall(risk.mean), depth, examples, start),
            "robust": steps(even, entropic, depth, examples, start),
            "RDD's risk": steps(even, rdd, depth, examples, start),
            "uniform alone": draws(plain, examples),
            "by_group alone": draws(even, examples),
        }
        taken = milliseconds(calls, options.rounds)
        title = f"KIP step: depth {depth}, batch {batch}, m {m}"
        table = Table("", "ms, median (min to max)", "of plain", title=title)
        for variant, times in taken.items():
            ratios = [a / b for a, b in zip(times, taken["plain"], strict=True)]
            table.add_row(variant, spread(times, 2), spread(ratios, 3))
        rich.print(table)


def spread(values: list[float], digits: int) -> str:
    middle, low, high = (f"{v:.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
