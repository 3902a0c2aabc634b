"""Matching networks beside PyTorch, in one run: a step of gradient matching, an evaluation, a robust inner epoch.

    python -m benchmarks.matching step [--torch PYTHON --scripts FOLDER --rounds 3 --ipc 10 --batch 256]
    python -m benchmarks.matching evaluation [--torch PYTHON --scripts FOLDER --networks 5 --epochs 300]
    python -m benchmarks.matching inner [--rounds 5]

ConvNet-3-128 with instance norm, ten classes of 32 x 32 x 3 images of noise: only the time counts. ``PYTHON`` is an
interpreter that has PyTorch, ``FOLDER`` holds the PyTorch scripts ``torch_matching_step.py`` and
``torch_evaluation.py``, which take turns with ours; without them ours are timed alone. GFLOP/s count the
multiplications and additions of direct convolutions, although Winograd's do with fewer. Run it on an otherwise idle
machine.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from rdd_jax import risk, training, trajectory
from rdd_jax.distill import make_distiller
from rdd_jax.environment import peak_memory
from rdd_jax.networks import Network, convnet
from rdd_jax.objectives import gradient_matching
from rdd_jax.sampling import stratified, uniform
from rdd_jax.types import Examples, Synthetic, centred_one_hot

CLASSES, SIDE, WIDTH = 10, 32, 128


@dataclass(frozen=True)
class Options:
    """What to time."""

    what: tyro.conf.Positional[Literal["step", "evaluation", "inner"]]
    torch: str | None = None
    """An interpreter that has PyTorch."""
    scripts: Path = Path("../shared/bench")
    rounds: int = 3
    ipc: int = 10
    batch: int = 256
    """Real images a class, of step."""
    networks: int = 5
    epochs: int = 300


def noise(n: int) -> Synthetic:
    """``n`` images, class by class in turn."""
    images = np.random.default_rng(0).standard_normal((n, SIDE, SIDE, 3), np.float32)
    return Synthetic(jnp.asarray(images), centred_one_hot(np.arange(n) % CLASSES, CLASSES))


def forward_flops() -> float:
    """Of one image: three convolutions and the linear layer."""
    sides, channels = (SIDE, SIDE // 2, SIDE // 4), (3, WIDTH, WIDTH)
    convolutions = sum(2 * side**2 * 9 * c * WIDTH for side, c in zip(sides, channels, strict=True))
    return convolutions + 2 * (SIDE // 8) ** 2 * WIDTH * CLASSES


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def torch_seconds(options: Options, script: str, *arguments: str) -> dict | None:
    """What the PyTorch script prints; None without one."""
    if options.torch is None:
        return None
    command = [options.torch, str((options.scripts / script).resolve()), *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def tell(what: str, ours: list[float], theirs: list[float], flops: float) -> None:
    middle = statistics.median(ours)
    spread = f"{min(ours):.2f} to {max(ours):.2f}"
    print(f"{what}: {middle:.2f} s ({spread}; {len(ours)} rounds), {flops / middle / 1e9:.0f} GFLOP/s", end="")
    if theirs:
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"; PyTorch {statistics.median(theirs):.2f} s ({min(theirs):.2f} to {max(theirs):.2f}): "
            f"{statistics.median(ratios):.2f} of its time ({min(ratios):.2f} to {max(ratios):.2f})",
            end="",
        )
    print(f"; peak memory {peak_memory() / 2**30:.1f} GiB", flush=True)


def step(options: Options, network: Network) -> None:
    """One step of DC, all of it: draws, a fresh network, gradients of every class, the update."""
    real = noise(2 * CLASSES * options.batch)
    data = Examples(real.images, real.labels, jnp.argmax(real.labels, 1).astype(jnp.int32))
    distiller = make_distiller(
        gradient_matching(network, CLASSES),
        stratified(CLASSES * options.batch, CLASSES),
        risk.grouped(risk.mean, risk.mean, CLASSES),
        optax.sgd(0.1, 0.5),
        trajectory=trajectory.fresh(network),
    )
    state = distiller.init(noise(CLASSES * options.ipc))
    print(f"first call, compilation included: {timed(lambda: distiller.step(jax.random.key(0), state, data)):.1f} s")
    ours, theirs = [], []
    for number in range(options.rounds):
        key = jax.random.key(number)
        ours.append(min(timed(lambda key=key: distiller.step(key, state, data)) for _ in range(3)))
        found = torch_seconds(
            options, "torch_matching_step.py", "--ipc", str(options.ipc), "--batch", str(options.batch)
        )
        theirs += [found["min_s"]] if found else []
    # Forward, and backward to weights and activations, twice as much; of synthetic images, the same again.
    flops = 3 * forward_flops() * CLASSES * (options.batch + 3 * options.ipc)
    tell(f"matching step, {options.ipc} images a class", ours, theirs, flops)


def evaluation(options: Options, network: Network) -> None:
    """Networks trained on 100 images, and tested on 10,000."""
    synthetic, test = noise(10 * CLASSES), np.asarray(noise(10_000).images)
    recipe = training.Recipe(epochs=options.epochs)

    def work() -> None:
        for variables in training.train(network, synthetic, list(range(options.networks)), recipe):
            training.logits(network, variables, test)

    seconds = timed(work)
    arguments = ("--networks", str(options.networks), "--epochs", str(options.epochs))
    found = torch_seconds(options, "torch_evaluation.py", *arguments)
    flops = options.networks * forward_flops() * (3 * options.epochs * 100 + 10_000)
    what = f"evaluation of {options.networks} networks, {options.epochs} epochs, compilation included"
    tell(what, [seconds], [found["seconds"]] if found else [], flops)


def inner(options: Options, network: Network) -> None:
    """Ten steps of 256 real images: under RDD's risk over the nearest synthetic images, and plain."""
    real, synthetic = noise(5120), noise(CLASSES * options.ipc)
    data = Examples(real.images, real.labels, jnp.argmax(real.labels, 1).astype(jnp.int32))
    optimizer = optax.sgd(0.01)
    robust = risk.grouped(risk.cvar(0.8), risk.plus(risk.mean, risk.worst), len(synthetic.images))
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


def main(options: Options) -> None:
    """Times what was asked for."""
    if options.torch is not None and not options.scripts.is_dir():
        sys.exit(f"no folder {options.scripts}: say where the PyTorch scripts are, --scripts FOLDER")
    {"step": step, "evaluation": evaluation, "inner": inner}[options.what](options, convnet(CLASSES))


if __name__ == "__main__":
    main(tyro.cli(Options))
