"""What provable selection buys KIP: every start, with uniform and with importance batches.

    python -m experiments.provable_selection run --only start        # cells whose name starts so; all by default
    python -m experiments.provable_selection table
    python -m experiments.provable_selection figure                  # experiments/figures/provable_selection.png

A cell is ``start/DATA-IPC/START/SEED``, the test accuracy before the first step, or
``train/DATA-IPC/START/BATCHES/SEED``, the test accuracy of one run of KIP every ten steps, and the worst group where
there are groups. Each is a JSON file under ``runs/provable_selection``; the script can be stopped and started again at
any time. Everything but start and batches is the same in all cells: FC NTK of depth 1, fixed labels, Adam 0.04, batches
of 5,000, 300 steps (the KIP notebook's recipe), 1,000 where it says so. Cells of a seed share splits, colours and the
keys of the draws, so that differences are paired. Losses, mix and refresh were chosen on validation, seed 0.
"""

import json
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from statistics import mean, stdev
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from scipy.stats import t as student

from experiments.tables import spread
from rdd_jax.datasets import load
from rdd_jax.datasets.preprocess import Prepared, prepare
from rdd_jax.datasets.shifts import shift_by_name
from rdd_jax.distill import compose
from rdd_jax.evaluation import metrics
from rdd_jax.kernels import fc_ntk, krr
from rdd_jax.objectives import kip
from rdd_jax.pixels import Images
from rdd_jax.sampling import LOSSES, Sampler, importance, uniform
from rdd_jax.selection import Pool, strata_of
from rdd_jax.selection.initialise import initialise
from rdd_jax.types import Synthetic, centred_one_hot

FOLDER = Path("runs/provable_selection")
FIGURE = Path("experiments/figures/provable_selection.png")
SEEDS = range(5)
KERNEL = fc_ntk()
BATCH, RATE, EVERY, REFRESH = 5000, 0.04, 10, 20
MARKS = (0, 20, 100, 300, 1000)

DATA = {"mnist": ("mnist", "none"), "cifar10": ("cifar10", "none"), "cmnist": ("mnist", "colour-foreground")}
STARTS = (
    "random",
    "kernel-herding",
    "krr-sensitivity",
    "krr-sensitivity-top",
    "kmeans-sensitivity",
    "lightweight",
    "relative-loss",
    "pivoted-cholesky",
    "rp-cholesky",
    "herding",
    "kmeans",
    "kmeans-centres",
)
BY_GROUP = ("random-by-group", "kernel-herding-by-group", "krr-sensitivity-by-group")
"""The same, evenly over the (class, colour) groups; the training that follows is plain."""


class Batches(NamedTuple):
    sampler: Sampler
    loss: str | None


BATCHES = {
    "uniform": Batches(uniform(BATCH), None),
    "importance": Batches(importance(BATCH), "residual"),
    "hard": Batches(importance(BATCH, unbiased=False), "squared-error"),
}


class Cell(NamedTuple):
    """``batches`` is None for the start alone."""

    data: str
    ipc: int
    start: str
    batches: str | None
    seed: int
    steps: int = 300

    @property
    def name(self) -> str:
        parts = ["start" if self.batches is None else "train" if self.steps == 300 else "long"]
        parts += [f"{self.data}-{self.ipc}", self.start, *([self.batches] if self.batches else []), str(self.seed)]
        return "/".join(parts)

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.name}.json"


def cells() -> Iterator[Cell]:
    """Every cell, the telling ones first."""
    starts = [(data, start) for data in DATA for start in (*STARTS, *(BY_GROUP if data == "cmnist" else ()))]
    telling = ("random", "kernel-herding")

    def untrained(ipc: int) -> Iterator[Cell]:
        return (Cell(data, ipc, start, None, seed) for seed in SEEDS for data, start in starts)

    def trained(ipc: int, steps: int = 300) -> Iterator[Cell]:
        for seed in SEEDS:
            for data in DATA:
                for batches in BATCHES:
                    yield from (Cell(data, ipc, start, batches, seed, steps) for start in telling)

    yield from untrained(10)
    yield from trained(10)
    yield from untrained(1)
    yield from trained(10, 1000)
    yield from untrained(50)
    for ipc in (1, 50):
        yield from trained(ipc)
    for ipc in (10, 1, 50):
        for seed in SEEDS:
            for data, start in starts:
                for batches in ("uniform", "importance"):
                    if start not in telling:
                        yield Cell(data, ipc, start, batches, seed)


@lru_cache(maxsize=3)
def problem(data: str, seed: int) -> tuple[Prepared, Images]:
    """The data in model space, and the test images."""
    name, shift = DATA[data]
    prepared = prepare(shift_by_name(shift)(seed, load(name, seed)), "standardise")
    return prepared, prepared.model_space(prepared.splits.test)


@lru_cache(maxsize=64)
def start_of(data: str, start: str, ipc: int, seed: int) -> np.ndarray:
    prepared, _ = problem(data, seed)
    train = prepared.splits.train
    pool = Pool(prepared.train, train.labels, train.classes, train.groups, KERNEL)
    name, strata, draw = start, "class", "distinct"
    if start.endswith("-by-group"):
        name, strata = start.removesuffix("-by-group"), "group"
    if start.endswith("-top"):
        name, draw = start.removesuffix("-top"), "top"
    return initialise(name, seed, pool, strata_of(pool, strata, ipc), draw).images


def measure(cell: Cell) -> dict:
    """Trains the cell and measures it on the test set as it goes."""
    prepared, images = problem(cell.data, cell.seed)
    test, classes = prepared.splits.test, prepared.splits.train.classes
    codes = np.repeat(np.arange(classes), cell.ipc)
    began = time.perf_counter()
    synthetic = Synthetic(
        jnp.asarray(start_of(cell.data, cell.start, cell.ipc, cell.seed)), centred_one_hot(codes, classes)
    )
    found: dict = {"steps": [], "accuracy": [], "seconds": [round(time.perf_counter() - began, 2)]}

    def look(step: int, synthetic: Synthetic) -> None:
        right = metrics.correct(krr.fit(KERNEL, synthetic)(images), test.labels)
        found["steps"].append(step)
        found["accuracy"].append(float(right.mean()))
        if test.groups is not None:
            table = metrics.cells(right, test.labels, test.groups, *test.cell_counts.shape)
            found.setdefault("worst_group", []).append(metrics.worst(table))

    look(0, synthetic)
    if cell.batches is not None:
        batches, examples = BATCHES[cell.batches], prepared.examples()
        distiller = compose(kip(KERNEL), sampler=batches.sampler, optimizer=optax.adam(RATE))
        state, key = distiller.init(synthetic), jax.random.key(cell.seed)
        for step in range(0, cell.steps, EVERY):
            if batches.loss is not None and step % REFRESH == 0:
                outputs = krr.fit(KERNEL, distiller.decode(state))(prepared.train)
                loss = LOSSES[batches.loss](outputs, prepared.one_hot)
                examples = examples.replace(loss=jnp.asarray(loss))
            state, _ = distiller.run(key, state, examples, step + EVERY)
            look(step + EVERY, distiller.decode(state))
    found["seconds"].append(round(time.perf_counter() - began, 2))
    return found


def run(only: str, seeds: int) -> None:
    """Measures every cell that is not there yet."""
    for cell in cells():
        if cell.name.startswith(only) and cell.seed < seeds and not cell.file.exists():
            found = measure(cell)
            cell.file.parent.mkdir(parents=True, exist_ok=True)
            part = cell.file.with_suffix(".part")
            part.write_text(json.dumps(found))
            part.rename(cell.file)
            print(cell.name, f"{100 * found['accuracy'][0]:.1f} to {100 * found['accuracy'][-1]:.1f}", flush=True)


# --- tables ------------------------------------------------------------------------------------------


Runs = dict[tuple[str, int, str, str | None, int], dict[int, dict]]
"""``{(data, ipc, start, batches, steps): {seed: what was found}}``."""


def finished() -> Runs:
    runs: Runs = {}
    for cell in cells():
        if cell.file.exists():
            key = (cell.data, cell.ipc, cell.start, cell.batches, cell.steps)
            runs.setdefault(key, {})[cell.seed] = json.loads(cell.file.read_text())
    return runs


def paired(ours: dict[int, float], theirs: dict[int, float]) -> str:
    """Mean difference over the seeds that both have, with the half width of its 95 % interval."""
    differences = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    if len(differences) < 2:
        return f"{differences[0]:+.1f}" if differences else ""
    half = float(student.ppf(0.975, len(differences) - 1)) * stdev(differences) / len(differences) ** 0.5
    return f"{mean(differences):+.1f} ± {half:.1f}"


def at(found: dict[int, dict], step: int, metric: str = "accuracy") -> dict[int, float]:
    return {
        seed: 100 * one[metric][one["steps"].index(step)]
        for seed, one in found.items()
        if metric in one and step in one["steps"]
    }


def end(one: dict, last: int = 5) -> float:
    """The mean of the last looks: Adam at a constant rate wobbles."""
    return mean(one["accuracy"][-last:])


def reached(one: dict, level: float, width: int = 5) -> int | None:
    """The first step from which the mean of ``width`` looks, itself and those before it, is at least ``level``."""
    smooth = np.convolve(one["accuracy"], np.ones(width) / width, "valid")
    hits = np.flatnonzero(smooth >= level)
    return one["steps"][hits[0] + width - 1] if len(hits) else None


def table() -> None:
    """Prints the Markdown tables of ``experiments/README.md``."""
    runs = finished()
    print("\nstart\n\n| data | ipc | start | seeds | accuracy | against random | worst group |\n|" + "---|" * 7)
    for (data, ipc, start, batches, _), found in runs.items():
        if batches is None:
            plain = runs.get((data, ipc, "random", None, 300), {})
            against = "" if start == "random" else paired(at(found, 0), at(plain, 0))
            row = [
                data,
                ipc,
                start,
                len(found),
                spread(at(found, 0).values()),
                against,
                spread(at(found, 0, "worst_group").values()),
            ]
            print(f"| {' | '.join(map(str, row))} |")
    for steps in (300, 1000):
        marks = [mark for mark in MARKS if mark <= steps]
        heads = ["data", "ipc", "start", "batches", "seeds", *map(str, marks), "end", "against plain", "steps to it"]
        heads += ["worst group"]
        print(f"\n{steps} steps\n\n| {' | '.join(heads)} |\n|" + "---|" * len(heads))
        for (data, ipc, start, batches, length), found in runs.items():
            if batches is None or length != steps:
                continue
            plain = runs.get((data, ipc, "random", "uniform", steps), {})
            ends, theirs = ({seed: 100 * end(one) for seed, one in part.items()} for part in (found, plain))
            took = [reached(one, end(plain[seed])) for seed, one in found.items() if seed in plain]
            share = [100 * step / steps for step in took if step is not None]
            to_it = f"{mean(share):.0f} % ({len(share)} of {len(took)})" if share else "not reached" if took else ""
            row = [data, ipc, start, batches, len(found), *(spread(at(found, mark).values()) for mark in marks)]
            row.append(spread(ends.values()))
            row += [
                "" if found is plain else paired(ends, theirs),
                to_it,
                spread(at(found, steps, "worst_group").values()),
            ]
            print(f"| {' | '.join(map(str, row))} |")


def figure() -> None:
    """Accuracy over steps at 10 images a class, mean over seeds."""
    from matplotlib.figure import Figure

    runs = finished()
    drawing = Figure((13, 4), dpi=110, layout="constrained")
    for axes, data in zip(drawing.subplots(1, len(DATA)), DATA, strict=True):
        for start, dash in (("random", "--"), ("kernel-herding", "-")):
            for i, batches in enumerate(BATCHES):
                found = runs.get((data, 10, start, batches, 300), {})
                if found:
                    curve = 100 * np.mean([one["accuracy"] for one in found.values()], 0)
                    steps = next(iter(found.values()))["steps"]
                    axes.plot(steps[1:], curve[1:], dash, color=f"C{i}", lw=1.2, label=f"{start}, {batches}")
        axes.set(title=f"{data}, 10 images a class", xlabel="step", ylabel="test accuracy, %", xscale="log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    FIGURE.parent.mkdir(exist_ok=True)
    drawing.savefig(FIGURE)


def main(what: tyro.conf.Positional[Literal["run", "table", "figure"]], only: str = "", seeds: int = 5) -> None:
    """Runs cells whose name starts with ``only``, of the first ``seeds`` seeds, or shows what is there."""
    if what == "run":
        run(only, seeds)
    elif what == "table":
        table()
    else:
        figure()


if __name__ == "__main__":
    tyro.cli(main)
