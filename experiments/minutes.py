"""Accuracy for networks against wall time: all methods by networks, one machine.

    python -m experiments.minutes run --minutes 5                 # every way
    python -m experiments.minutes run --minutes 5 15 --ways dm "dm, by kip"
    python -m experiments.minutes rates --steps 4000 --ways dm --rates 0.1 0.3 1
    python -m experiments.minutes run --steps 4000 --ways dm --lr 1
    python -m experiments.minutes table
    python -m experiments.minutes figure                          # experiments/figures/minutes.png

CIFAR-10 after ZCA, 10 images a class (``--ipc``), ConvNet-3-128 with instance norm. A cell ``IPC/WAY/MINUTES/SEED`` is
a run folder under ``runs/minutes``, kept when it ends; the script can be stopped and started again at any time. A way
takes as many steps as fit into its minutes, by the pace of 30 steps after the first ten, timed once; or ``--steps``.
Snapshots are of trainings on the real data by DSA's augmentation (`TRAININGS`), whose time is told apart; every set is
scored under DSA's recipe, whatever its method's own. Rates are those of `experiments.for_networks`, found on
validation, or else the method's, or ``--lr``. The accuracy of one network on validation stands in the table to choose
one by, and ``rates`` measures that alone, in run folders ``rates/IPC/WAY/STEPS/RATE`` of which no network sees the test
images.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import tyro

from experiments.tables import spread
from rdd_jax.app.commands import RealRecipeOptions, Train
from rdd_jax.app.methods import Method, configured
from rdd_jax.app.run_folder import Run
from rdd_jax.app.sections import DataOptions
from rdd_jax.errors import choose
from rdd_jax.files import read_values, write_json

FOLDER = Path("runs/minutes")
FIGURE = Path("experiments/figures/minutes.png")

TRACED = "dsa,learning_rate=0.04,momentum=0,weight_decay=0,schedule=constant"
TRAININGS = {
    "old": RealRecipeOptions(recipe="dsa,epochs=20"),
    "young": RealRecipeOptions(recipe="dsa,epochs=4"),
    "traced": RealRecipeOptions(recipe=f"{TRACED},epochs=2", networks=6),
    "traced longer": RealRecipeOptions(recipe=f"{TRACED},epochs=4", networks=6, precision="bfloat16"),
    "traced, narrow": RealRecipeOptions(recipe=f"{TRACED},epochs=2,width=64", networks=3, precision="bfloat16"),
}
"""Of networks on the real data."""

REAL: dict[str, Any] = {"data": "cifar10", "preprocess": "zca"}
DM = {"method": "dm", "lr": 5.0, "schedule": "cosine", "batch": 128}
FREPO = {"method": "frepo", "net_width": 64, "batch": 256, "lr": 0.01, "net_pool": 4}
PLAIN_RDD = {
    "method": "rdd",
    "within": "mean",
    "across": "mean",
    "net_groups": "data",
    "net_period": 50,
    "net_steps": 1,
    "net_width": 64,
    "batch": 64,
    "lr": 1.0,
    "schedule": "cosine",
}
MTT = {"method": "mtt", "net_batch": 100, "net_lr": 0.06, "trained": "traced"}
LONGER = {**MTT, "trained": "traced longer", "precision": "bfloat16"}
NARROW = {**MTT, "trained": "traced, narrow", "net_width": 64, "precision": "bfloat16"}
FOUR = {"parameterisation": "multi-formation"}
WAYS: dict[str, dict[str, Any]] = {
    "dsa": {"method": "dsa"},
    "gradients at real training": PLAIN_RDD,
    "dm": DM,
    "dm, constant rate": {**DM, "schedule": "constant"},
    "dm, narrow": {**DM, "net_width": 64},
    "dm, by kip": {**DM, "init": "kip"},
    "dm, four in a slot": {**DM, **FOUR},
    "dm, characteristic": {**DM, "distance": "characteristic"},
    "dm at snapshots": {**DM, "trained": "old"},
    "dm at young snapshots": {**DM, "trained": "young"},
    "dm at old snapshots": {**DM, "trained": "old", "snapshots_from": 10},
    "dm at snapshots, taught": {**DM, "trained": "old", "taught": 1.0},
    "dm at snapshots, taught, four": {**DM, **FOUR, "trained": "old", "taught": 1.0},
    "dm at snapshots, characteristic": {**DM, "distance": "characteristic", "trained": "old"},
    "mtt": MTT,
    "mtt, unrolled": {**MTT, "net_asked": 0},
    "mtt, missed": {**MTT, "distance": "missed"},
    "mtt, four in a slot": {**MTT, **FOUR},
    "mtt, longer": LONGER,
    "mtt, longer, four in a slot": {**LONGER, **FOUR},
    "mtt, narrow": NARROW,
    "mtt, narrow, four in a slot": {**NARROW, **FOUR},
    "mtt, from dm": {**MTT, "start": ("dm", 500)},
    "frepo": FREPO,
    "rfad": {"method": "rfad", "net_width": 64, "batch": 256},
    "rcig": {"method": "rcig", "net_width": 64, "norm": "none", "batch": 256, "net_pool": 4},
}
"""One change at a time from ``dm``; ``trained``: at snapshots of one of the `TRAININGS`; ``start``: the set that
another way has after so many steps, whose time is told apart."""

WARM, TIMED = 10, 30
"""Steps before the pace is taken, the compiling ones among them, and steps that it is taken of."""


def snapshots(training: str, seed: int) -> Path:
    """The networks of one of the `TRAININGS`, trained where they are not there; what it took is in their report."""
    from rdd_jax.app.training import train

    out = FOLDER / "snapshots" / training / str(seed)
    train(Train(seed, out, DataOptions(**REAL), TRAININGS[training]))
    return out


def config_of(way: str, ipc: int, seed: int, steps: int, networks: int, lr: float | None = None) -> Method:
    options = {key: value for key, value in WAYS[way].items() if key != "method"}
    options |= {} if lr is None else {"lr": lr}
    if "start" in options:
        other, after = options.pop("start")
        run([other], ipc, (), after, None, seed + 1, networks)
        options["init"] = str(folder_of(other, ipc, f"{after}-steps", seed))
    if "trained" in options:
        options["snapshots"] = str(snapshots(options.pop("trained"), seed))
    return configured(
        WAYS[way]["method"],
        **REAL,
        ipc=ipc,
        seed=seed,
        steps=steps,
        checkpoint_every=steps,
        recipe="dsa",
        seeds=networks,
        baselines=False,
        **options,
    )


def pace(way: str, ipc: int) -> float:
    """Seconds a step; taken once."""
    from rdd_jax.app.distilling import distill

    kept = FOLDER / str(ipc) / way / "pace.json"
    if not kept.exists():
        trial = kept.with_name(f"trial-{time.time_ns()}")
        config = configured(
            config_of(way, ipc, 0, WARM + TIMED, 1), learners="krr", recipe="dsa,epochs=1", init="random"
        )
        seconds = [row["seconds"] for row in distill(config, trial).run.metrics() if "loss" in row]
        write_json(kept, {"seconds_a_step": (seconds[-1] - seconds[WARM - 1]) / TIMED})
    return float(json.loads(kept.read_text())["seconds_a_step"])


def cells(
    ways: Sequence[str], ipc: int, minutes: Sequence[float], steps: int | None, lr: float | None, seeds: int
) -> Iterator[tuple[str, int, int, Path]]:
    """``(way, steps, seed, folder)``."""
    for way in ways or WAYS:
        choose("way", way, WAYS)
        lengths = {f"{budget:g}": budget for budget in minutes} if steps is None else {f"{steps}-steps": None}
        rate = "" if lr is None else f"-lr{lr:g}"
        for name, budget in lengths.items():
            taken = steps if budget is None else max(1, round(60 * budget / pace(way, ipc)))
            assert taken is not None
            for seed in range(seeds):
                yield way, taken, seed, folder_of(way, ipc, f"{name}{rate}", seed)


def folder_of(way: str, ipc: int, length: str, seed: int) -> Path:
    """Of a cell; ``length`` names its minutes or steps, and a rate that is not the way's."""
    return FOLDER / str(ipc) / way / length / str(seed)


def run(
    ways: Sequence[str],
    ipc: int,
    minutes: Sequence[float],
    steps: int | None,
    lr: float | None,
    seeds: int,
    networks: int,
) -> None:
    """Every cell that is not finished; interrupted ones are resumed."""
    for way, taken, seed, folder in cells(ways, ipc, minutes, steps, lr, seeds):
        if not Run(folder).finished:
            report = _distilled(folder, partial(config_of, way, ipc, seed, taken, networks, lr))
            print(way, seed, report["steps"], "steps", _row(report), flush=True)


def _distilled(folder: Path, make: Callable[[], Method]) -> dict[str, Any]:
    """The report of a run that is not finished; one that has begun is resumed as it was."""
    from rdd_jax.app.distilling import distill

    resume = (folder / "config.json").exists()
    return distill(Run(folder).config() if resume else make(), folder, resume=resume).report


def try_rates(ways: Sequence[str], ipc: int, steps: int, rates: Sequence[float]) -> None:
    """Prints the accuracy of one network on validation, in %, for every rate; seed 0."""
    print("| way | images a class | steps | rate | validation |\n|" + "---|" * 5)
    for way in ways or WAYS:
        choose("way", way, WAYS)
        for rate in rates:
            folder = FOLDER / "rates" / str(ipc) / way / str(steps) / f"{rate:g}"
            if not Run(folder).finished:
                # Regression in the place of the networks, by the recipe of which the set is validated all the same.
                config = config_of(way, ipc, 0, steps, 1, rate)
                _distilled(folder, partial(configured, config, learners="krr"))
            print(f"| {way} | {ipc} | {steps} | {rate:g} | {100 * _validated(folder):.1f} |", flush=True)


def _validated(folder: Path) -> float:
    """The accuracy on validation at the end of a run."""
    return [row["validation_accuracy"] for row in Run(folder).metrics() if "validation_accuracy" in row][-1]


def _row(report: dict[str, Any]) -> dict[str, str]:
    rows = [row for row in report["evaluations"] if row["set"] == "synthetic"]
    return {row["metric"]: spread(100 * value for value in row["values"]) for row in rows}


def found() -> list[tuple[str, str, dict[str, Any]]]:
    """``(ipc, way, report)`` of all that has ended; in the report the ``rate``, and the accuracy on ``validation``."""
    reports = []
    for file in sorted(FOLDER.glob("*/*/*/*/report.json")):
        ipc, way = file.relative_to(FOLDER).parts[:2]
        rate = read_values(file.parent / "config.json", "")["optimiser"]["lr"]
        reports.append((ipc, way, read_values(file, "") | {"validation": _validated(file.parent), "rate": rate}))
    return sorted(reports, key=lambda row: (int(row[0]), list(WAYS).index(row[1]), row[2]["steps"]))


def table() -> None:
    """Prints the Markdown table of ``experiments/README.md``: in %, mean ± sample deviation over networks."""
    print("| images a class | way | rate | minutes | steps | validation | accuracy | Cluster-min |\n|" + "---|" * 8)
    for ipc, way, report in found():
        row, took = _row(report), report["seconds"]["distilling"] / 60
        rate, validation = report["rate"], 100 * report["validation"]
        cells = [ipc, way, f"{rate:g}", f"{took:.1f}", str(report["steps"]), f"{validation:.1f}"]
        cells += [row["accuracy"], row["cluster_min"]]
        print("| " + " | ".join(cells) + " |")
    for file in sorted(FOLDER.glob("snapshots/*/*/report.json")):
        values = read_values(file, "")
        row = {e["metric"]: spread(100 * value for value in e["values"]) for e in values["evaluations"]}
        took = values["seconds"]["whole"] / 60
        print(f"| | all data, {file.parts[-3]} | | {took:.1f} | | | {row['accuracy']} | {row['cluster_min']} |")


def figure() -> None:
    """Draws accuracy against minutes, a line a way."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for ipc, way, report in found():
        [accuracy] = [e["mean"] for e in report["evaluations"] if e["metric"] == "accuracy" and e["set"] == "synthetic"]
        lines.setdefault(f"{way}, {ipc} a class", []).append((report["seconds"]["distilling"] / 60, 100 * accuracy))
    drawn, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    colours = plt.get_cmap("tab20")
    for number, (name, points) in enumerate(lines.items()):
        axes.plot(*zip(*sorted(points), strict=True), marker="o", color=colours(number % 20), label=name)
    axes.set(xscale="log", xlabel="minutes of distilling", ylabel="accuracy of a ConvNet-3-128, %")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    FIGURE.parent.mkdir(exist_ok=True)
    drawn.savefig(FIGURE, dpi=120)


def main(
    what: tyro.conf.Positional[Literal["run", "rates", "table", "figure"]],
    ways: tuple[str, ...] = (),
    ipc: int = 10,
    minutes: tuple[float, ...] = (5.0,),
    steps: int | None = None,
    lr: float | None = None,
    seeds: int = 1,
    networks: int = 3,
    rates: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0),
) -> None:
    """Runs ways, all by default, or tries rates for them, or shows what is there.

    Args:
      minutes: of distilling, each a cell of its own.
      steps: in the place of minutes; of rates, 4,000 by default.
      lr: in the place of the way's own rate.
      networks: trained on every set.
      rates: to be tried.
    """
    if what == "run":
        run(ways, ipc, minutes, steps, lr, seeds, networks)
    elif what == "rates":
        try_rates(ways, ipc, steps or 4000, rates)
    else:
        {"table": table, "figure": figure}[what]()


if __name__ == "__main__":
    tyro.cli(main)
