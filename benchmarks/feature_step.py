"""A step of FRePo beside PyTorch's, in one run.

    python -m benchmarks.feature_step [--torch PYTHON --rounds 3 --ipc 10 --batch 1024]

Seconds of the first call, compilation included; of a step, the least of three in a round; GFLOP/s, PyTorch's time and
the ratio of the same round. ``PYTHON`` is an interpreter that has PyTorch; without it ours is timed alone. Run it on an
otherwise idle machine.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import tyro

from benchmarks.beside_torch import CLASSES, Torch, forward_flops, noise, tell, timed
from rdd_jax.distill import compose
from rdd_jax.networks import convnet
from rdd_jax.objectives import feature_regression, on_features
from rdd_jax.sampling import uniform
from rdd_jax.trajectory import on_synthetic, trained
from rdd_jax.types import Examples

THEIRS = Path(__file__).with_name("torch_feature_step.py")


@dataclass(frozen=True)
class Step(Torch):
    """What to time."""

    rounds: int = 3
    ipc: int = 10
    batch: int = 1024
    """Real images."""


def main(options: Step) -> None:
    """One step, all of it: the draw, the regression with mirror images, the update, the network's lesson."""
    network, adam = convnet(CLASSES), optax.adam(3e-4)
    real = noise(5 * options.batch)
    data = Examples(real.images, real.labels, jnp.argmax(real.labels, 1).astype(jnp.int32), group_count=CLASSES)
    distiller = compose(
        feature_regression(on_features(network), mirror=True),
        uniform(options.batch),
        optimizer=adam,
        trajectory=trained(
            network, on_synthetic(network, adam, epochs=1, batch=1000, error="squared"), adam, period=100
        ),
    )
    state = distiller.init(noise(CLASSES * options.ipc))
    print(f"first call, compilation included: {timed(lambda: distiller.step(jax.random.key(0), state, data)):.1f} s")
    # A network that has begun: its first turn has no lesson.
    state, _ = distiller.step(jax.random.key(0), state, data)
    ours, theirs = [], []
    for number in range(options.rounds):
        key = jax.random.key(number)
        ours.append(min(timed(lambda key=key: distiller.step(key, state, data)) for _ in range(3)))
        found = options.run(str(THEIRS), "--ipc", str(options.ipc), "--batch", str(options.batch))
        theirs += [found["min_s"]] if found else []
    # Real images forward; the set and its mirror images forward and backward; in the lesson to the weights too.
    flops = forward_flops() * (options.batch + CLASSES * options.ipc * (2 * 2 + 3))
    tell(f"FRePo step, {options.ipc} images a class", ours, theirs, flops)


if __name__ == "__main__":
    main(tyro.cli(Step))
