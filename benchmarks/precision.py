"""Products in bfloat16 beside float32, in one run: a step of gradient matching, training on real data, an evaluation.

    python -m benchmarks.precision [--rounds 5 --ipc 10 --batch 256]

Medians of seconds, compilation excluded, and of the ratio of a round, in which the precisions take turns, with the
least and the most. Run it on an otherwise idle machine.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import tyro

from benchmarks.beside_torch import CLASSES, noise, timed
from benchmarks.matching_step import Step, matching
from rdd_jax.networks import convnet, training
from rdd_jax.networks.precision import PRECISIONS, at_precision
from rdd_jax.networks.recipes import Recipe


@dataclass(frozen=True)
class Precisions:
    """What to time."""

    rounds: int = 5
    ipc: int = 10
    batch: int = 256
    """Real images: of a class in a matching step, and of a step of training."""


def works(options: Precisions) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    network = convnet(CLASSES)
    distiller, state, data = matching(Step(ipc=options.ipc, batch=options.batch), network)
    real, synthetic, test = noise(4 * options.batch), noise(options.ipc * CLASSES), np.asarray(noise(2000).images)

    def evaluation() -> None:
        for variables in training.train(network, synthetic, [0, 1], Recipe(epochs=10)):
            training.logits(network, variables, test)

    return {
        "matching step": lambda: distiller.step(jax.random.key(0), state, data),
        "4 steps of training": lambda: training.train(network, real, [0], Recipe(epochs=1, batch=options.batch)),
        "evaluation of 2 networks, 10 epochs": evaluation,
    }


def main(options: Precisions) -> None:
    """Times it."""
    for name, work in works(options).items():
        seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        for _ in range(options.rounds + 1):
            for precision, found in seconds.items():
                with at_precision(precision):
                    found.append(timed(work))
        exact, rounded = (found[1:] for found in seconds.values())  # the first compiles
        ratios = [a / b for a, b in zip(exact, rounded, strict=True)]
        print(
            f"{name}: float32 {statistics.median(exact):.2f} s, bfloat16 {statistics.median(rounded):.2f} s, "
            f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Precisions))
