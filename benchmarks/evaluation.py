"""An evaluation beside PyTorch's, in one run: networks trained on 100 images, and tested on 10,000.

    python -m benchmarks.evaluation [--torch PYTHON --scripts FOLDER --networks 5 --epochs 300 --precision bfloat16]

Seconds, compilation included; GFLOP/s, PyTorch's time and the ratio. ``PYTHON`` is an interpreter that has PyTorch;
without it ours is timed alone. Run it on an otherwise idle machine.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import tyro

from benchmarks.beside_torch import CLASSES, Torch, forward_flops, noise, tell, timed
from rdd_jax.networks import convnet, training
from rdd_jax.networks.precision import at_precision
from rdd_jax.networks.recipes import Recipe


@dataclass(frozen=True)
class Evaluation(Torch):
    """What to time."""

    networks: int = 5
    epochs: int = 300
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of our products."""


def main(options: Evaluation) -> None:
    """Times it."""
    synthetic, test = noise(10 * CLASSES), np.asarray(noise(10_000).images)
    network, recipe = convnet(CLASSES), Recipe(epochs=options.epochs)

    def work() -> None:
        for variables in training.train(network, synthetic, list(range(options.networks)), recipe):
            training.logits(network, variables, test)

    with at_precision(options.precision):
        seconds = timed(work)
    arguments = ("--networks", str(options.networks), "--epochs", str(options.epochs))
    found = options.run("torch_evaluation.py", *arguments)
    flops = options.networks * forward_flops() * (3 * options.epochs * 100 + 10_000)
    what = f"evaluation of {options.networks} networks, {options.epochs} epochs, compilation included"
    tell(what, [seconds], [found["seconds"]] if found else [], flops)


if __name__ == "__main__":
    main(tyro.cli(Evaluation))
