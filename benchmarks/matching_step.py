"""A step of gradient matching beside PyTorch's, in one run; or RDD's inner training, robust beside plain.

    python -m benchmarks.matching_step [--torch PYTHON --scripts FOLDER --rounds 3 --ipc 10 --batch 256 --precision P]
    python -m benchmarks.matching_step inner [--rounds 5 --precision bfloat16]

Seconds of the first call, compilation included; of a step, the least of three in a round; GFLOP/s, PyTorch's time and
the ratio of the same round. ``PYTHON`` is an interpreter that has PyTorch; without it ours is timed alone. Run it on an
otherwise idle machine.
"""

import statistics
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
import tyro

from benchmarks.beside_torch import CLASSES, Torch, forward_flops, noise, tell, timed
from rdd_jax import risk, trajectory
from rdd_jax.distill import Distiller, State, compose
from rdd_jax.networks import Network, convnet, training
from rdd_jax.networks.precision import at_precision
from rdd_jax.objectives import gradient_matching
from rdd_jax.sampling import stratified, uniform
from rdd_jax.types import Examples


@dataclass(frozen=True)
class Step(Torch):
    """What to time."""

    what: tyro.conf.Positional[Literal["step", "inner"]] = "step"
    rounds: int = 3
    ipc: int = 10
    batch: int = 256
    """Real images a class."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of our products."""


def matching(options: Step, network: Network) -> tuple[Distiller, State, Examples]:
    """DC, where it starts, and its data."""
    real = noise(2 * CLASSES * options.batch)
    data = Examples(real.images, real.labels, jnp.argmax(real.labels, 1).astype(jnp.int32), group_count=CLASSES)
    distiller = compose(
        gradient_matching(network),
        stratified(CLASSES * options.batch),
        risk.grouped(risk.mean, risk.mean),
        optax.sgd(0.1, 0.5),
        trajectory=trajectory.fresh(network),
    )
    return distiller, distiller.init(noise(CLASSES * options.ipc)), data


def step(options: Step, network: Network) -> None:
    """One step of DC, all of it: draws, a fresh network, gradients of every class, the update."""
    distiller, state, data = matching(options, network)
    print(f"first call, compilation included: {timed(lambda: distiller.step(jax.random.key(0), state, data)):.1f} s")
    ours, theirs = [], []
    for number in range(options.rounds):
        key = jax.random.key(number)
        ours.append(min(timed(lambda key=key: distiller.step(key, state, data)) for _ in range(3)))
        found = options.run("torch_matching_step.py", "--ipc", str(options.ipc), "--batch", str(options.batch))
        theirs += [found["min_s"]] if found else []
    # Forward, and backward to weights and activations, twice as much; of synthetic images, the same again.
    flops = 3 * forward_flops() * CLASSES * (options.batch + 3 * options.ipc)
    tell(f"matching step, {options.ipc} images a class", ours, theirs, flops)


def inner(options: Step, network: Network) -> None:
    """Ten steps of 256 real images: under RDD's risk over the nearest synthetic images, and plain."""
    real, synthetic = noise(5120), noise(CLASSES * options.ipc)
    data = Examples(real.images, real.labels, jnp.argmax(real.labels, 1).astype(jnp.int32), group_count=CLASSES)
    optimizer = optax.sgd(0.01)
    robust = risk.grouped(risk.cvar(0.8), risk.plus(risk.mean, risk.worst))
    variables = network.init(jax.random.key(0), synthetic.images[:1])
    start = training.Training(variables, optimizer.init(variables))
    lessons = [jax.jit(trajectory.on_real(network, optimizer, uniform(256), 10, which)) for which in (None, robust)]
    seconds: list[list[float]] = [[], []]
    for number in range(options.rounds + 1):
        for lesson, found in zip(lessons, seconds, strict=True):
            found.append(timed(lambda lesson=lesson, n=number: lesson(jax.random.key(n), start, synthetic, data)))
    plain, ours = (found[1:] for found in seconds)  # the first compiles
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    print(
        f"robust inner training: {statistics.median(ours):.2f} s, plain {statistics.median(plain):.2f} s, "
        f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f}; {len(ratios)} rounds)"
    )


def main(options: Step) -> None:
    """Times what was asked for."""
    with at_precision(options.precision):
        {"step": step, "inner": inner}[options.what](options, convnet(CLASSES))


if __name__ == "__main__":
    main(tyro.cli(Step))
