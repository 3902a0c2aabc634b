"""The memory of the gradient of a matching objective with respect to the set, by XLA's analysis: nothing is computed.

    python -m benchmarks.matching_memory [dm] [--classes 20 40 200 --ipc 10 --batch 10 --side 64 --width 32]

Told beside it are the bytes of the images themselves, real and synthetic.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import tyro

from rdd_jax.networks import convnet
from rdd_jax.networks.convnet import fitting_depth
from rdd_jax.objectives import distribution_matching, gradient_matching
from rdd_jax.types import Batch, Synthetic


@dataclass(frozen=True)
class Options:
    """The problem."""

    what: tyro.conf.Positional[Literal["gradients", "dm"]] = "gradients"
    classes: tuple[int, ...] = (20, 40)
    ipc: int = 10
    batch: int = 10
    """Real images a class."""
    side: int = 64
    width: int = 32


def temporary(options: Options, classes: int) -> int:
    """Bytes that XLA sets aside, beside the arguments, for a gradient with so many classes."""
    shape = (options.side, options.side, 3)
    network = convnet(classes, fitting_depth(shape), options.width)
    objective = {"gradients": gradient_matching, "dm": distribution_matching}[options.what](network)

    def made():
        index = jnp.arange(classes)
        own, real = jnp.repeat(index, options.ipc), jnp.repeat(index, options.batch)
        images = [jnp.zeros((len(of), *shape)) for of in (own, real)]
        labels = [jax.nn.one_hot(of, classes) for of in (own, real)]
        synthetic = Synthetic(images[0], labels[0], classes=own)
        batch = Batch(images[1], labels[1], real, jnp.ones(len(real)), group_count=classes)
        return network.init(jax.random.key(0), images[0][:1]), synthetic, batch

    def gradient(key, variables, synthetic, batch):
        total = lambda images: jnp.sum(objective(key, variables, synthetic._replace(images=images), batch).value)  # noqa: E731
        return jax.grad(total)(synthetic.images)

    lowered = jax.jit(gradient).lower(jax.random.key(0), *jax.eval_shape(made))
    found = lowered.compile().memory_analysis()
    assert found is not None, "not every backend tells"
    return found.temp_size_in_bytes


def main(options: Options) -> None:
    """Tells the memory for every number of classes."""
    for classes in options.classes:
        images = 4 * classes * (options.ipc + options.batch) * options.side**2 * 3
        print(f"{classes} classes: {temporary(options, classes) / 2**20:,.0f} MiB; the images {images / 2**20:,.0f}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
