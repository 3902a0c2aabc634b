"""What transfers to what: KIP sets of two kernels, and subsets of real images, under other kernels and networks.

    python -m experiments.transfer run --only cifar10         # data whose name starts so; both by default
    python -m experiments.transfer run --widths 128 1024      # of the networks
    python -m experiments.transfer table

Sets of 10 images a class, standardised, seed 0. A cell, a set under a learner, is a file under ``runs/transfer``, kept
when it ends; the script can be stopped and started again at any time. Nothing here is chosen: regressions have the
ridge of `rdd distill kip`, networks are DC's ConvNet-3 by DC's recipe, under cross-entropy (learned labels are cut to
their largest entry) or squared error on the labels as they are, at a tenth of the rate. *NTK*: by the sum of the
outputs, of a ConvNet-3-32 without norm, at random or after two epochs on the real training images.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Literal

import jax.numpy as jnp
import numpy as np
import tyro

from experiments.tables import spread
from rdd_jax.app.methods import Method, configured
from rdd_jax.app.reading import splits_of
from rdd_jax.contracts import Kernel
from rdd_jax.datasets import Prepared, prepare
from rdd_jax.evaluation import baselines, evaluate, krr_learner, prepare_test, recipe_learner
from rdd_jax.evaluation.learners import Learner
from rdd_jax.files import write_json
from rdd_jax.kernels import fc_ntk, network_features, network_ntk_sum
from rdd_jax.networks import Network, convnet
from rdd_jax.networks.recipes import Recipe
from rdd_jax.networks.training import train
from rdd_jax.saving import load_set
from rdd_jax.types import Synthetic, centred_one_hot

FOLDER = Path("runs/transfer")
DATA = ("mnist", "cifar10")
IPC = 10
SEEDS = range(3)
"""Draws of the baselines, and networks on every set."""

KIP = configured("kip", ipc=IPC, labels="learned", lr=0.1, schedule="cosine", learners="krr", baselines=False)
KERNELS = {
    "KIP, FC NTK": {"kernel": "fc-ntk", "depth": 3, "steps": 1000, "batch": 2000},
    "KIP, conv features": {"kernel": "network-features", "depth": 3, "kernel_width": 64, "steps": 300, "batch": 500},
}
LOSSES = {"cross-entropy": 0.01, "squared": 0.001}
"""Rates: DC's, and a tenth of it, since under squared error networks diverge at the whole."""


def distilled(data: str) -> Iterator[tuple[str, Path, Method]]:
    """``(set, run folder, configuration)``."""
    for name, options in KERNELS.items():
        yield name, FOLDER / data / name, configured(KIP, data=data, **options)


def run(only: str, widths: list[int]) -> None:
    """Distils what is not there and scores every cell that is not; interrupted runs are resumed."""
    from rdd_jax.app.distilling import distill

    for data in DATA:
        if not data.startswith(only):
            continue
        for _, folder, config in distilled(data):
            if not (folder / "report.json").exists():
                distill(config, folder, resume=(folder / "config.json").exists())
        config = configured(KIP, data=data)
        prepared = prepare(splits_of(config.data.data, config.data, config.seed), config.data.preprocess)
        test, sets = prepare_test(prepared), _sets(data, prepared)
        for learner_name, learner in learners(prepared, widths):
            for name, members in sets.items():
                file = _cell(data, name, learner_name)
                if not file.exists():
                    [accuracy, *_] = evaluate(name, members, learner_name, learner, test).evaluations
                    write_json(file, {"accuracy": accuracy.values})
                    print(file, spread(100 * value for value in accuracy.values), flush=True)


def _cell(data: str, name: str, learner: str) -> Path:
    return FOLDER / data / "cells" / f"{name}, by {learner}.json"


def _sets(data: str, prepared: Prepared) -> dict[str, dict[int, Synthetic]]:
    """The sets of every seed, by name."""
    train = prepared.splits.train
    found = {
        name: dict.fromkeys(SEEDS, load_set(folder / "synthetic.npz").synthetic) for name, folder, _ in distilled(data)
    }
    return found | baselines(prepared.train, train.labels, train.classes, IPC, SEEDS)


def learners(prepared: Prepared, widths: list[int]) -> Iterator[tuple[str, Learner]]:
    """By name; the first regression is by the kernel of the first sets, the second by that of the others."""
    classes = prepared.splits.train.classes
    bare = partial(convnet, classes, depth=3, norm="none")
    trained = cache(lambda: _of_trained(prepared, bare(width=32)))
    yield "krr, FC NTK", krr_learner(fc_ntk(3))
    yield "krr, conv features of the set", krr_learner(network_features(bare(width=64)))
    yield "krr, other conv features", krr_learner(network_features(bare(width=64), count=4, seed=1))
    yield "krr, NTK at random", krr_learner(network_ntk_sum(bare(width=32), seed=1))
    yield "krr, NTK, trained", lambda synthetic, seeds: krr_learner(trained())(synthetic, seeds)
    for width in widths:
        for loss, rate in LOSSES.items():
            recipe = replace(Recipe(), width=width, loss=loss, learning_rate=rate)
            yield f"ConvNet-3-{width}, {loss}", recipe_learner(recipe, classes)


def _of_trained(prepared: Prepared, network: Network) -> Kernel:
    """The NTK of the network after two epochs on the real training images."""
    own = prepared.splits.train
    taught = Synthetic(jnp.asarray(prepared.train), centred_one_hot(own.labels, own.classes))
    recipe = replace(Recipe(), width=32, norm="none", epochs=2)
    [variables] = train(network, taught, [0], recipe)
    return network_ntk_sum(network._replace(init=lambda key, images: variables))


def table() -> None:
    """Prints the Markdown tables of ``experiments/README.md``: %, mean ± sample deviation over draws and networks."""
    for data in DATA:
        found: dict[str, dict[str, list[float]]] = {}
        for file in sorted((FOLDER / data / "cells").glob("*.json"), key=lambda file: file.stat().st_mtime):
            name, _, learner = file.stem.partition(", by ")
            found.setdefault(learner, {})[name] = [100 * value for value in json.loads(file.read_text())["accuracy"]]
        names = list(dict.fromkeys(name for row in found.values() for name in row))
        print(f"\n| {data}: learner | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
        for learner, row in found.items():
            print(f"| {learner} | " + " | ".join(_shown(row.get(name, [])) for name in names) + " |")


def _shown(values: list[float]) -> str:
    """One figure where there is no randomness."""
    return f"{mean(values):.1f}" if values and np.ptp(values) == 0 else spread(values)


def main(what: tyro.conf.Positional[Literal["run", "table"]], only: str = "", widths: tuple[int, ...] = (128,)) -> None:
    """Runs what is not there, of data whose name starts with ``only`` and networks of ``widths``, or shows what is."""
    {"run": lambda: run(only, list(widths)), "table": table}[what]()


if __name__ == "__main__":
    tyro.cli(main)
