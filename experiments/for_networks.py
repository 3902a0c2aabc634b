"""Sets that networks learn from: the same set under DSA's recipe and its own, at the time that two cores take.

    python -m experiments.for_networks run --only cifar10-10    # cells whose name starts so; all by default
    python -m experiments.for_networks table

A cell ``DATA-IPC/NAME/SEED`` is a run folder under ``runs/for-networks``, kept when it ends; the script can be stopped
and started again at any time. The set is scored by a ConvNet-3-128 with instance norm under DSA's recipe (1,000 epochs,
augmented), beside which DC's recipe stands, and by networks under the recipe that the set carries. Steps are what fits
into the minutes that a cell names, on two idle cores; rates and widths by the validation split of CIFAR-10, seed 0.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments.tables import spread
from rdd_jax.app.commands import Evaluate, RealRecipeOptions, Train
from rdd_jax.app.methods import Method, configured, name_of
from rdd_jax.app.sections import EvaluationOptions, GroupOptions, PrecisionOptions, RiskOptions
from rdd_jax.files import write_json

FOLDER = Path("runs/for-networks")

RECIPES = {"dm": ("augmented",), "mtt": ("augmented",), "frepo": ("augmented", "own")}
"""Of the sets of a method, each beside DC's, which `evaluate` adds."""

PHOTOGRAPHS = {"data": "cifar10", "preprocess": "zca"}
DM = {"method": "dm", "steps": 300, "lr": 5.0, "schedule": "cosine", "batch": 128, "checkpoint_every": 300}
FREPO = {"method": "frepo", "net_width": 64, "batch": 256, "lr": 0.01, "net_pool": 4, "checkpoint_every": 1000}
MTT = {"method": "mtt", "steps": 300, "net_batch": 100, "precision": "bfloat16", "checkpoint_every": 300}
EVEN = RealRecipeOptions(
    recipe="dsa,epochs=2,learning_rate=0.02,momentum=0,weight_decay=0,schedule=constant",
    networks=6,
    precision="bfloat16",
)
"""Of the networks that a robust set by trajectories follows: the mean over found groups beside the plain mean, so that
half of `experiments.minutes`' rate goes as far."""

CELLS: dict[str, dict[str, Any]] = {
    "cifar10-10/dm": {**PHOTOGRAPHS, **DM},
    "cifar10-10/frepo": {**PHOTOGRAPHS, **FREPO, "steps": 8000, "init": "cifar10-10/dm"},
    "mnist-1/frepo": {"data": "mnist", **FREPO, "steps": 1500},
    "mnist-10/frepo": {"data": "mnist", **FREPO, "steps": 1500},
    "cifar10-1/frepo": {**PHOTOGRAPHS, **FREPO, "steps": 1500},
    "cifar10s-10/dm, robust": {"data": "cifar10", "shift": "grey", **DM, "steps": 600, "robust": True},
    "cifar10s-10/mtt, robust": {"data": "cifar10", "shift": "grey", **MTT, "robust": True},
    "mnistbg-10/dm, robust": {"data": "mnist", "shift": "colour-background", **DM, "steps": 1000, "robust": True},
    "cifar10-50/dm": {**PHOTOGRAPHS, **DM},
}
"""``init`` names a cell whose set is the start."""


def cells(only: str, seeds: int) -> Iterator[tuple[str, Method]]:
    """``(name, configuration)`` of the cells whose name starts with ``only``, after the cell that it starts from."""
    for seed in range(seeds):
        for name, options in CELLS.items():
            if name.startswith(only):
                yield f"{name}/{seed}", _configured(name, options, seed)


def _configured(name: str, options: dict[str, Any], seed: int) -> Method:
    ipc = int(name.split("/")[0].split("-")[1])
    more = {key: value for key, value in options.items() if key not in ("method", "init")}
    if "init" in options:
        more["init"] = str(FOLDER / options["init"] / str(seed))
    # What networks make of the set is measured below, under every recipe.
    return configured(options["method"], ipc=ipc, seed=seed, learners="krr", baselines=False, **more)


def _even(config: Method, folder: Path) -> Method:
    """Follows networks trained on the same data evenly over the groups that are found in it, trained once."""
    from rdd_jax.app.training import train

    groups, risk = GroupOptions("discovered"), RiskOptions(within="mean", across="mean")
    train(Train(config.seed, folder, config.data, EVEN, groups, risk))
    return configured(config, snapshots=str(folder))


def run(only: str, seeds: int, networks: int) -> None:
    """Distils every cell that is not finished, then scores them; interrupted ones are resumed."""
    from rdd_jax.app.distilling import distill
    from rdd_jax.app.evaluating import evaluate

    for name, config in cells(only, seeds):
        folder = FOLDER / name
        if not (folder / "report.json").exists():
            if name_of(config) == "mtt":
                config = _even(config, FOLDER / "networks" / name)
            distill(config, folder, resume=(folder / "config.json").exists())
    for name, config in cells(only, seeds):
        folder = FOLDER / name
        for recipe in RECIPES[name_of(config)]:
            told = folder / f"{recipe}.json"
            if not told.exists():
                of = EvaluationOptions(learners=None, seeds=networks, recipe=_spelt(recipe, config), baselines=False)
                precision = PrecisionOptions(config.precision)
                write_json(told, evaluate(Evaluate(str(folder), data=config.data, evaluation=of, networks=precision)))
                print(name, recipe, {k: f"{100 * v:.1f}" for k, v in _accuracy(told).items()}, flush=True)


def _spelt(recipe: str, config: Method) -> str | None:
    """As `rdd evaluate` takes it; None: what the set carries."""
    if recipe == "own":
        return None
    return "dsa" if config.data.data == "cifar10" else "dsa,augment=dsa-no-flip"


def _accuracy(file: Path) -> dict[str, float]:
    """Of every learner of a report."""
    rows = json.loads(file.read_text())["evaluations"] if file.exists() else []
    return {row["learner"]: row["mean"] for row in rows if row["metric"] == "accuracy"}


def table(only: str) -> None:
    """Prints the Markdown table of ``experiments/README.md``: in %, mean ± sample deviation over networks."""
    print("| cell | steps | minutes | learner | accuracy | worst group | DEO_M |\n|" + "---|" * 7)
    for name, config in cells(only, 20):
        for file in (FOLDER / name / f"{recipe}.json" for recipe in RECIPES[name_of(config)]):
            rows = json.loads(file.read_text())["evaluations"] if file.exists() else []
            report = json.loads((FOLDER / name / "report.json").read_text()) if rows else {}
            for learner in dict.fromkeys(row["learner"] for row in rows):
                found = {row["metric"]: row["values"] for row in rows if row["learner"] == learner}
                figures = [
                    spread(100 * value for value in found.get(key, [])) for key in ("accuracy", "worst_group", "deo_m")
                ]
                took = report["seconds"]["distilling"] / 60
                print("| " + " | ".join([name, str(report["steps"]), f"{took:.0f}", learner, *figures]) + " |")


def main(
    what: tyro.conf.Positional[Literal["run", "table"]], only: str = "", seeds: int = 1, networks: int = 3
) -> None:
    """Runs cells whose name starts with ``only``, of the first ``seeds`` seeds, or shows what is there.

    Args:
      networks: trained on every set, under every recipe.
    """
    {"run": lambda: run(only, seeds, networks), "table": lambda: table(only)}[what]()


if __name__ == "__main__":
    tyro.cli(main)
