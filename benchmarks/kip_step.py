"""Our KIP step against the same step written plainly on a stax kernel, and in PyTorch, in one run.

    python -m benchmarks.kip_step [--batch 5000 --ipc 10 --side 32 --channels 3 --depth 1 --rounds 15 --torch PYTHON]

Prints milliseconds a step, GFLOP/s of the two large products that a step cannot do without (``4 * batch * m * d``
floating-point operations), and their share of this machine's own square sgemm, measured between the rounds. Random
pixels: only the time counts. *Of 8 bits*: real images are held as they came, as a run of ``rdd`` has them. The rounds
alternate between all, so that the ratio holds where the machine's speed drifts. Run it on an otherwise idle machine.
``PYTHON`` is an interpreter that has PyTorch: the loss and gradient of one batch are compared first, then it is timed
too, without it it is left out. The products of the kernels are full float32 ones in all.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
import tyro
from rich.table import Table

from benchmarks.beside_torch import Torch
from rdd_jax.distill import DISPATCH, compose, one_blas_thread
from rdd_jax.kernels import fc_ntk
from rdd_jax.kernels.stax import load
from rdd_jax.objectives import kip
from rdd_jax.pixels import PixelMap
from rdd_jax.sampling import uniform
from rdd_jax.types import Batch, Examples, Synthetic, centred_one_hot

THEIRS = "torch_kip_step.py"


@dataclass(frozen=True)
class Size(Torch):
    """What to time."""

    scripts: Path = Path(__file__).parent
    """The folder of torch_kip_step.py."""
    examples: int = 50_000
    batch: int = 5000
    ipc: int = 10
    side: int = 32
    channels: int = 3
    depth: int = 1
    rounds: int = 15
    sgemm: int = 2048

    @property
    def flop(self) -> float:
        return 4.0 * self.batch * 10 * self.ipc * self.side**2 * self.channels


def problem(size: Size) -> tuple[Examples, Synthetic]:
    data_key, set_key = jax.random.split(jax.random.key(0))
    shape = (size.side, size.side, size.channels)
    labels = centred_one_hot(jnp.arange(size.examples) % 10, 10)
    data = Examples(jax.random.normal(data_key, (size.examples, *shape)), labels, jnp.zeros(size.examples, jnp.int32))
    images = jax.random.normal(set_key, (10 * size.ipc, *shape))
    return data, Synthetic(images, centred_one_hot(jnp.repeat(jnp.arange(10), size.ipc), 10))


def as_bytes(data: Examples) -> Examples:
    """Images of eight bits, as real ones are held, with the map that standardises them."""
    images = jnp.clip(jnp.round(data.images * 40 + 128), 0, 255).astype(jnp.uint8)
    channels = (1, 1, images.shape[-1])
    return data.replace(images=images, space=PixelMap(jnp.full(channels, 0.5), jnp.full(channels, 6.4)))


def plain_stax(size: Size, data: Examples, synthetic: Synthetic) -> Callable[[], None]:
    """One step a call, as the KIP notebook has it: kernel, solve, gradient, Adam."""
    stax = load()
    layers = [stax.Flatten()]
    for _ in range(size.depth):
        layers += [stax.Dense(1, 2**0.5, 0.1), stax.Relu()]
    _, _, kernel = stax.serial(*layers, stax.Dense(1, 2**0.5, 0.1))
    optimizer = optax.adam(4e-2)

    def loss(images, x, y):
        gram = kernel(images, images, "ntk")
        ridge = 1e-6 * jnp.trace(gram) / len(gram) * jnp.eye(len(gram))
        prediction = kernel(x, images, "ntk") @ jax.scipy.linalg.solve(gram + ridge, synthetic.labels, assume_a="pos")
        return 0.5 * jnp.mean(jnp.sum((prediction - y) ** 2, 1))

    @jax.jit
    def step(images, state, key, data):
        index = jax.random.randint(key, (size.batch,), 0, size.examples)
        gradient = jax.grad(loss)(images, data.images[index], data.labels[index])
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(images, updates), state

    carry = (synthetic.images, optimizer.init(synthetic.images))
    keys = iter(jax.random.split(jax.random.key(1), DISPATCH * (size.rounds + 2)))

    def call() -> None:
        nonlocal carry
        for _ in range(DISPATCH):
            carry = jax.block_until_ready(step(*carry, next(keys), data))

    return call


def ours(size: Size, data: Examples, synthetic: Synthetic) -> Callable[[], None]:
    """One dispatch of the distiller a call."""
    distiller = compose(kip(fc_ntk(size.depth)), sampler=uniform(size.batch), optimizer=optax.adam(4e-2))
    state = distiller.init(synthetic)

    def call() -> None:
        nonlocal state
        with one_blas_thread():
            state, _ = jax.block_until_ready(distiller.advance(jax.random.key(1), state, data, jnp.asarray(DISPATCH)))

    return call


def sgemm(size: Size) -> Callable[[], None]:
    matrix = jax.random.normal(jax.random.key(2), (size.sgemm, size.sgemm))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))

    def call() -> None:
        for _ in range(DISPATCH):
            jax.block_until_ready(product(matrix))

    return call


def compare(size: Size, data: Examples, synthetic: Synthetic) -> None:
    """Prints loss and gradient of one batch, ours and PyTorch's; nothing without that."""
    x, y, count = data.images[: size.batch], data.labels[: size.batch], min(size.batch, size.examples)
    batch = Batch(x, y, jnp.zeros(count, jnp.int32), jnp.ones(count))

    def loss(images):
        losses = kip(fc_ntk(size.depth))(jax.random.key(0), None, synthetic._replace(images=images), batch)
        return jnp.mean(losses.value)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "batch.npz")
        images = synthetic.images.reshape(len(synthetic.images), -1)
        np.savez(file, images=images, labels=synthetic.labels, x=x.reshape(count, -1), y=y)
        if theirs := size.run(THEIRS, "--check", str(file), "--depth", str(size.depth)):
            value, gradient = jax.jit(jax.value_and_grad(loss))(synthetic.images)
            pairs = ("loss", value, theirs["loss"]), ("gradient", jnp.linalg.norm(gradient), theirs["gradient_norm"])
            for name, ours, other in pairs:
                print(f"{name}: ours {ours:.7g}, PyTorch's {other:.7g}")


def in_torch(size: Size) -> float | None:
    """PyTorch's seconds a step, the least of its repeats; None without it."""
    options = {"examples": size.examples, "batch": size.batch, "size": 10 * size.ipc, "depth": size.depth}
    options["pixels"] = size.side**2 * size.channels
    found = size.run(THEIRS, *(word for name, value in options.items() for word in (f"--{name}", str(value))))
    return None if found is None else found["min_s"]


def main(size: Size) -> None:
    data, synthetic = problem(size)
    compare(size, data, synthetic)
    calls = {
        "plain stax": plain_stax(size, data, synthetic),
        "ours": ours(size, data, synthetic),
        "ours, of 8 bits": ours(size, as_bytes(data), synthetic),
        "sgemm": sgemm(size),
    }
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(size.rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append((time.perf_counter() - start) / DISPATCH)
        if (theirs := in_torch(size)) is not None:
            seconds.setdefault("PyTorch", []).append(theirs)
    device = jax.devices()[0]
    title = f"KIP step: batch {size.batch}, m {10 * size.ipc}, d {size.side**2 * size.channels}, depth {size.depth}; "
    table = Table("", "ms, median (min to max)", "GFLOP/s", "of sgemm", title=f"{title}{device.device_kind}")
    flop = dict.fromkeys(seconds, size.flop) | {"sgemm": 2.0 * size.sgemm**3}
    rate = {name: flop[name] / statistics.median(times) / 1e9 for name, times in seconds.items()}
    for name, times in seconds.items():
        ms = [1e3 * t for t in (statistics.median(times), min(times), max(times))]
        share = f"{rate[name] / rate['sgemm']:.0%}"
        table.add_row(name, f"{ms[0]:.1f} ({ms[1]:.1f} to {ms[2]:.1f})", f"{rate[name]:.0f}", share)
    rich.print(table)
    for name in sorted(seconds.keys() - {"ours", "ours, of 8 bits", "sgemm"}, reverse=True):
        ratios = [a / b for a, b in zip(seconds[name], seconds["ours"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f} over rounds"
        print(f"ours is {statistics.median(ratios):.2f} times as fast as {name} ({spread})")


if __name__ == "__main__":
    main(tyro.cli(Size, description=__doc__))
