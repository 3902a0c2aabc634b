"""KIP that keeps the worst group: plain, robust without group labels, robust with the true groups.

    python -m experiments.robust_kip run --only main         # cells whose name starts so; all by default
    python -m experiments.robust_kip table                   # prints the tables from what is there
    python -m experiments.robust_kip figure                  # experiments/figures/robust_kip.png

Tables: ``main`` and ``more`` (shifts at 10 images a class), ``grouping`` and ``risk`` (what the default is made of) and
``ipc`` (1 and 50 images a class). A cell is one run folder under ``runs/robust_kip``, kept when it ends; the script can
be stopped and started again at any time. All cells have the same settings, whatever their data: `BASE`. The test set is
balanced over the groups; the validation split has the training skew, and only it was looked at when settings were
chosen. About half a minute a cell on two cores, two minutes at 50 images a class.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from experiments.tables import spread
from rdd_jax.app.methods import Kip, Method, configured

FOLDER = Path("runs/robust_kip")
FIGURE = Path("experiments/figures/robust_kip.png")
SEEDS = range(5)

BASE = configured(
    "kip", labels="learned", depth=3, schedule="cosine", lr=0.1, batch=2000, steps=500, seeds=1, baselines=False
)
SHIFTS = {
    "mnist-fg": {"data": "mnist", "shift": "colour-foreground"},
    "mnist-bg": {"data": "mnist", "shift": "colour-background"},
    "cifar10s": {"data": "cifar10", "shift": "grey"},
    "mnist-invert": {"data": "mnist", "shift": "rare-invert"},
    "mnist": {"data": "mnist"},
    "cifar10": {"data": "cifar10"},
}
CLUSTERS = {"grouping": "clusters", "features": "pca", "across": "entropic", "sampler": "group"}
MORE = {
    "mnist-fg95": {"data": "mnist", "shift": "colour-foreground", "bias": 0.95},
    "mnist-fg98": {"data": "mnist", "shift": "colour-foreground", "bias": 0.98},
    "mnist-rotate": {"data": "mnist", "shift": "rare-rotate"},
    "tiny": {"data": "tiny_strata", "groups_from": "leaf"},
    "cifar10-blur": {"data": "cifar10", "shift": "rare-blur"},
    "mnist-strata": {"data": "mnist", "shift": "hidden-strata"},
    "cifar10-tail": {"data": "cifar10", "shift": "long-tail"},
}
TRUE = {**Kip.ROBUST, "grouping": "labels"}
EQUAL = {"across": "mean", "sampler": "group"}
WAYS = {"plain": {}, "robust": {"robust": True}, "true": TRUE}
GROUPINGS = {
    "kmeans-pixels-10": {"grouping": "kmeans", "features": "pca", "groups_per_class": 10},
    "kmeans-texture-10": {"grouping": "kmeans", "groups_per_class": 10},
    "kmeans-texture": {"grouping": "kmeans"},
    "nearest": {"grouping": "nearest"},
    "errors": {"grouping": "errors"},
    "predicted-kernel": {"grouping": "predicted", "features": "kernel"},
    "predicted-texture": {"grouping": "predicted"},
    "spurious": {"grouping": "spurious"},
    "spurious+kmeans": {"grouping": "spurious+kmeans"},
    "discovered": {"grouping": "discovered"},
    "labels": {"grouping": "labels"},
}
RISKS = {
    "mean": {},
    "mean+max": {"across": "mean+max"},
    "rdd": {"within": "cvar", "across": "mean+max"},
    "cvar": {"across": "cvar", "tau": 0.5},
    "entropic-5": {"across": "entropic"},
    "entropic-10": {"across": "entropic", "sharpness": 10.0},
}


def cells(only: str = "", seeds: int = len(SEEDS)) -> Iterator[tuple[str, Method]]:
    """``(name, configuration)`` of the cells whose name, ``TABLE/SHIFT/WAY/SEED``, starts with ``only``."""
    for name, config in _all():
        if name.startswith(only) and config.seed < seeds:
            yield name, config


def _all() -> Iterator[tuple[str, Method]]:
    for table, shifts in (("main", SHIFTS), ("more", MORE)):
        for seed in SEEDS:
            for shift, data in shifts.items():
                for way, options in WAYS.items():
                    if way != "true" or _has_groups(data):
                        yield f"{table}/{shift}/{way}/{seed}", configured(BASE, seed=seed, **data, **options)
    for seed in SEEDS:
        yield f"more/cifar10/clusters/{seed}", configured(BASE, seed=seed, data="cifar10", **CLUSTERS)
    for seed in SEEDS:
        for shift in ("mnist-fg", "cifar10s"):
            for way, options in GROUPINGS.items():
                yield f"grouping/{shift}/{way}/{seed}", configured(BASE, seed=seed, **SHIFTS[shift], **EQUAL, **options)
            for way, options in RISKS.items():
                risk = {**Kip.ROBUST, **EQUAL, **options}
                yield f"risk/{shift}/{way}/{seed}", configured(BASE, seed=seed, **SHIFTS[shift], **risk)
    for ipc in (1, 50):
        for seed in SEEDS:
            for shift in ("mnist-fg", "cifar10s"):
                for way, options in WAYS.items():
                    config = configured(BASE, seed=seed, ipc=ipc, **SHIFTS[shift], **options)
                    yield f"ipc/{shift}-{ipc}/{way}/{seed}", config


def _has_groups(data: dict) -> bool:
    return "groups_from" in data or data.get("shift") not in (None, "long-tail")


def run(only: str, seeds: int) -> None:
    """Distils every cell that is not finished; interrupted ones are resumed."""
    from rdd_jax.app.distilling import distill

    for name, config in cells(only, seeds):
        folder = FOLDER / name
        if not (folder / "report.json").exists():
            outcome = distill(config, folder, resume=(folder / "config.json").exists())
            print(name, *(f"{m} {100 * v:.1f}" for m, v in _metrics(outcome.report).items()), flush=True)


SHOWN = ("accuracy", "worst_group", "deo_m", "deo_a", "adjusted", "cluster_min", "cluster_mean")


def table() -> None:
    """Prints the Markdown tables of ``experiments/README.md``: mean ± sample standard deviation over seeds, in %."""
    rows: dict[str, dict[str, list[dict]]] = {}
    for name, _ in cells():
        file = FOLDER / name / "report.json"
        if file.exists():
            which, shift, way, _ = name.split("/")
            rows.setdefault(which, {}).setdefault(f"{shift} | {way}", []).append(json.loads(file.read_text()))
    for which, lines in rows.items():
        recall = which in ("main", "more", "grouping")
        names = ["data", "way", "seeds", *(m.replace("_", " ") for m in SHOWN), *(["recall", "AMI"] if recall else [])]
        print(f"\n{which}\n\n| {' | '.join(names)} |\n|" + "---|" * len(names))
        for name, reports in lines.items():
            found = [_metrics(report) for report in reports]
            figures = [spread([100 * one[m] for one in found]) if m in found[0] else "" for m in SHOWN]
            if recall:
                match = [report.get("found_groups", {}).get("match", {}) for report in reports]
                figures += [
                    spread([scale * one[key] for one in match], digits) if key in match[0] else ""
                    for scale, digits, key in (
                        (100, 1, "minority_recall"),
                        (1, 2, "adjusted_mutual_information_within_class"),
                    )
                ]
            print(f"| {name} | {len(reports)} | " + " | ".join(figures) + " |")
        for name in (name for name in lines if name.startswith("mnist-invert")):
            print(f"\naccuracy on the inverted half, {name}: {spread([_inverted(r) for r in lines[name]])}")


def figure() -> None:
    """Draws the cells of coloured MNIST, plain, robust and with the true groups, seed 0."""
    from rdd_jax.app.commands import Compare
    from rdd_jax.app.comparing import compare

    compare(Compare(tuple(str(FOLDER / "main" / "mnist-fg" / way / "0") for way in WAYS), out=FIGURE))


def _metrics(report: dict) -> dict[str, float]:
    return {e["metric"]: e["mean"] for e in report["evaluations"] if e["metric"] in SHOWN}


def _inverted(report: dict) -> float:
    """Accuracy on the transformed half of a rare mixture's test set, in %."""
    table = report["subgroups"]["predictions"]["krr"]["synthetic"]
    correct, count = (sum(row[1] for row in table[key]) for key in ("correct", "count"))
    return 100 * correct / count


@dataclass(frozen=True)
class Command:
    """What to do."""

    what: tyro.conf.Positional[Literal["run", "table", "figure"]]
    only: str = ""
    """Cells whose name, TABLE/SHIFT/WAY/SEED, starts with this."""
    seeds: int = len(SEEDS)
    """Only the first so many seeds."""


def main(command: Command) -> None:
    if command.what == "run":
        run(command.only, command.seeds)
    elif command.what == "table":
        table()
    else:
        figure()


if __name__ == "__main__":
    main(tyro.cli(Command, description=__doc__))
