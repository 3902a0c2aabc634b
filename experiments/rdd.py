"""Matching by networks, plain and robust: DC, DSA, DM and RDD on clean data and where groups are rare.

    python -m experiments.rdd run --only shift/mnist-fg-10/dm     # cells whose name starts so; all by default
    python -m experiments.rdd table
    python -m experiments.rdd figure

A cell ``TABLE/DATA-IPC/METHOD/WAY/SEED`` is one run folder under ``runs/rdd``, kept when it ends; the script can be
stopped and started again at any time. Tables: with the published ConvNet ``clean`` (MNIST and CIFAR-10) and ``shift``
(coloured MNIST and CIFAR10-S, test sets balanced over the groups); ``long``, a few of those with more steps, scored
on the validation split on their way, five networks at the end; ``mlp``, the same at 10 images a class through and for
an MLP, with which two cores get far; ``start``, what a KIP set is worth as the start of a short run (MLP). Ways:
plain; robust (groups found without labels, every group an equal say and share of the initial images); by-class
(robust, but for the initial images, which are any of the class); true (the same with the true groups); clusters
(robust, but for the groups: k-means clusters of pixels, which is what the metric Cluster-min has of the test images);
importance (plain, batches by loss); augmented (plain, under the augmentations that the method was published with; the
others are without any, but for dsa's own); taught (RDD whose networks are trained longer); dc-loops (as long as DC's,
so that data and risk of that training are all they differ by); found (robust and taught, the networks' risk over the
found groups as well); kip and random starts. Steps are the share of the published schedules that two cores allow in
minutes: `STEPS` of `PUBLISHED`. The recipe is the same for all ways of a method. One network a seed is trained on each
set; a seed is one of everything.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments.tables import spread
from rdd_jax.app.methods import Method, configured

FOLDER = Path("runs/rdd")
FIGURE = Path("experiments/figures/rdd.png")
SEEDS = range(5)

STEPS = {
    "convnet": {"dc": 100, "dsa": 100, "rdd": 100, "dm": 300},
    "mlp": {"dc": 1000, "rdd": 1000, "dm": 5000},
}
PUBLISHED = {"dc": (1000, 10_000), "dsa": (1000, 10_000), "rdd": (4000, 4000), "dm": (20_000, 20_000)}
"""Matching steps at 1 and 10 images a class."""

LEARNERS = {"convnet": "convnet,mlp,lenet", "mlp": "mlp"}
"""That which is matched through, and others that the set is to carry over to."""
BASE: dict[str, Any] = {"seeds": 1, "corruptions": "noise,blur,invert", "batch": 100, "checkpoint_every": 100_000}
SHORT: dict[str, dict[str, Any]] = {
    "convnet": {"dm": {"lr": 5.0}, "rdd": {"lr": 0.1, "net_steps": 2}},
    "mlp": {"dm": {"lr": 25.0}, "rdd": {"lr": 0.1, "net_steps": 2}},
}
"""Other than published. Rates by the validation split of MNIST: with DM's 1 a short schedule hardly moves, and RDD has
DC's. RDD's networks are hardly trained, so that a step takes the time of one of DC."""
DATA = {
    "mnist": {"data": "mnist"},
    "cifar10": {"data": "cifar10"},
    "mnist-fg": {"data": "mnist", "shift": "colour-foreground"},
    "cifar10s": {"data": "cifar10", "shift": "grey"},
}
TAUGHT = {"net_period": 10, "net_steps": 10}
DC_LOOPS = {"net_period": 10, "net_steps": 50}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "robust": {"robust": True},
    "by-class": {"robust": True, "init_strata": "class"},
    "true": {"grouping": "labels", "init_strata": "group"},
    "clusters": {"robust": True, "grouping": "clusters", "features": "pixels"},
    "augmented": {"siamese": None, "recipe": None},
    "importance": {"sampler": "stratified+importance"},
    "taught": TAUGHT,
    "dc-loops": DC_LOOPS,
    "published": {"net_steps": None, "siamese": None},
    "found": {"robust": True, "net_groups": "data", **TAUGHT},
}
LONG = {
    ("mnist", 1, "dc", "plain"): 1000,
    ("mnist-fg", 10, "dm", "robust"): 1000,
    ("mnist-fg", 10, "dm", "true"): 1000,
    ("mnist-fg", 10, "dm", "plain"): 1000,
    ("mnist", 10, "dm", "augmented"): 1000,
    ("mnist", 1, "dm", "augmented"): 1000,
}
"""Steps of the cells of ``long``."""
KIP = configured("kip", labels="fixed", seeds=1, baselines=False, steps=300)
"""The start of ``start/.../kip``, made in ``runs/rdd/kip``."""
START = 50
"""Steps from it."""


def cells(only: str = "", seeds: int = len(SEEDS)) -> Iterator[tuple[str, Method]]:
    """``(name, configuration)`` of the cells whose name starts with ``only``, the telling ones first."""
    for name, config in _all():
        if name.startswith(only) and config.seed < seeds:
            yield name, config


def _all() -> Iterator[tuple[str, Method]]:
    def cell(table: str, data: str, ipc: int, method: str, way: str, seed: int, **more: Any) -> tuple[str, Method]:
        network = "mlp" if table in ("mlp", "start") else "convnet"
        options: dict[str, Any] = {"network": network, "learners": LEARNERS[network], "steps": STEPS[network][method]}
        # The same for all; of dsa the published siamese augmentation.
        options |= {"siamese": None if method == "dsa" else "none", "recipe": f"dc,network={network}"}
        options |= {**DATA[data], **SHORT[network].get(method, {}), **WAYS.get(way, {}), **more}
        options["baselines"] = (table, method, way) == ("mlp", "dm", "plain")  # once for all: they are real images
        config = configured(method, **{**BASE, **options}, ipc=ipc, seed=seed)
        return f"{table}/{data}-{ipc}/{method}/{way}/{seed}", config

    for seed in SEEDS:
        for data in DATA:
            for method in ("dm", "dc", "rdd"):
                ways = ["plain", "robust", "clusters", "by-class", "importance"]
                ways += ["true"] * ("shift" in DATA[data]) + ["taught", "dc-loops", "found", "published"] * (
                    method == "rdd"
                )
                for way in ways:
                    yield cell("mlp", data, 10, method, way, seed)
        for way in ("plain", "robust", "true", "importance"):
            for method in ("dm", "dc", "rdd", "dsa"):
                for data in ("mnist-fg", "cifar10s"):
                    yield cell("shift", data, 10, method, way, seed)
        for ipc in (1, 10):
            for way in ("plain", "importance", "robust"):
                for method in ("dm", "dc", "rdd", "dsa"):
                    for data in ("mnist", "cifar10"):
                        yield cell("clean", data, ipc, method, way, seed)
        for (data, ipc, method, way), steps in LONG.items():
            more = {"learners": "convnet", "seeds": 5, "checkpoint_every": steps // 5}
            yield cell("long", data, ipc, method, way, seed, steps=steps, **more)
        for data in ("mnist", "cifar10"):
            for method in ("dm", "dc"):
                yield cell("start", data, 10, method, "random", seed, steps=START)
                kip = str(FOLDER / "kip" / data / str(seed))
                yield cell("start", data, 10, method, "kip", seed, steps=START, init=kip)


def run(only: str, seeds: int) -> None:
    """Distils every cell that is not finished; interrupted ones are resumed."""
    from rdd_jax.app.distilling import distill

    for name, config in cells(only, seeds):
        folder = FOLDER / name
        if (folder / "report.json").exists():
            continue
        start = Path(config.set.init)
        if start.is_relative_to(FOLDER) and not (start / "report.json").exists():
            kip = configured(KIP, data=config.data.data, seed=config.seed)
            distill(kip, start, resume=(start / "config.json").exists())
        outcome = distill(config, folder, resume=(folder / "config.json").exists())
        print(name, *(f"{m} {100 * v:.1f}" for m, v in _metrics(outcome.report, "synthetic").items()), flush=True)


SHOWN = (
    "accuracy",
    "worst_group",
    "deo_m",
    "deo_a",
    "cluster_min",
    "accuracy:noise",
    "accuracy:blur",
    "accuracy:invert",
)


def _metrics(report: dict, which: str) -> dict[str, float]:
    """`SHOWN` of the first learner on the set of that name, and the accuracy of the others."""
    of_set = [e for e in report["evaluations"] if e["set"] == which]
    first = of_set[0]["learner"]
    found = {e["metric"]: e["mean"] for e in of_set if e["learner"] == first}
    others = {e["learner"]: e["mean"] for e in of_set if e["metric"] == "accuracy" and e["learner"] != first}
    return {metric: found[metric] for metric in SHOWN if metric in found} | others


def table() -> None:
    """Prints the Markdown tables of ``experiments/README.md``: mean ± sample standard deviation over seeds, in %."""
    tables: dict[str, dict[tuple[str, ...], list[dict[str, float]]]] = {}
    for name, _ in cells():
        file = FOLDER / name / "report.json"
        if file.exists():
            report = json.loads(file.read_text())
            which, data, method, way, _ = name.split("/")
            share = report["steps"] / PUBLISHED[method][report["ipc"] > 1]
            for one in dict.fromkeys(e["set"] for e in report["evaluations"]):
                distilled = (method, way, str(report["steps"]), f"{100 * share:.1f} %")
                key = (data, *(distilled if one == "synthetic" else (one, "real images", "", "")))
                tables.setdefault(which, {}).setdefault(key, []).append(_metrics(report, one))
    for which, rows in tables.items():
        found = {metric for lines in rows.values() for metric in lines[0]}
        columns = [*(metric for metric in SHOWN if metric in found), *sorted(found - set(SHOWN))]
        heads = ["data", "method", "way", "steps", "of published", "seeds", *(m.replace("_", " ") for m in columns)]
        print(f"\n{which}\n\n| {' | '.join(heads)} |\n|" + "---|" * len(heads))
        for key, lines in rows.items():
            figures = [spread([100 * one[m] for one in lines]) if m in lines[0] else "" for m in columns]
            print(f"| {' | '.join([*key, str(len(lines)), *figures])} |")
    print("\nvalidation accuracy on the way, %\n")
    for name, _ in cells("long"):
        file = FOLDER / name / "metrics.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        scored = [
            f"{row['step']}: {100 * row['validation_accuracy']:.1f}" for row in rows if "validation_accuracy" in row
        ]
        if scored:
            print(f"- {name}: {', '.join(scored)}")


def figure() -> None:
    """Draws the cells of coloured MNIST, DM plain, robust and with the true groups, seed 0."""
    from rdd_jax.app.commands import Compare
    from rdd_jax.app.comparing import compare

    ways = ("plain", "robust", "true")
    compare(Compare(tuple(str(FOLDER / f"mlp/mnist-fg-10/dm/{way}/0") for way in ways), out=FIGURE))


def main(
    what: tyro.conf.Positional[Literal["run", "table", "figure"]], only: str = "", seeds: int = len(SEEDS)
) -> None:
    """Runs cells whose name starts with ``only``, of the first ``seeds`` seeds, or shows what is there."""
    {"run": lambda: run(only, seeds), "table": table, "figure": figure}[what]()


if __name__ == "__main__":
    tyro.cli(main)
