"""One thing changed, everything else and the seed the same: does it help?

    python -m experiments.paired run starts          # --init random, herding, kip; DM, FRePo, DSA
    python -m experiments.paired run risks           # DM at networks trained plainly, under RDD's risk, evenly
    python -m experiments.paired run trajectories    # MTT by networks trained plainly, or evenly over the groups
    python -m experiments.paired run precision       # DM and its scoring in float32, in bfloat16
    python -m experiments.paired table starts

A cell ``COMPARISON/CASE/CHOICE/SEED`` is a run folder under ``runs/paired``, kept when it ends; the script can be
stopped and started again at any time. Differences are taken seed by seed from the first choice of a case. Sets are
scored by ConvNet-3-128 under DC's recipe (`precision`: ConvNet-3-64), one network a set: the spread is over seeds of
everything.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments.tables import spread
from rdd_jax.app.commands import RealRecipeOptions, Train
from rdd_jax.app.methods import Method, configured
from rdd_jax.app.run_folder import Run
from rdd_jax.app.sections import DataOptions, GroupOptions, RiskOptions
from rdd_jax.errors import check_one_of
from rdd_jax.files import read_values

FOLDER = Path("runs/paired")

PHOTOGRAPHS = {"data": "cifar10", "preprocess": "zca"}
STARTS: dict[str, dict[str, Any]] = {
    "dm": {"method": "dm", "steps": 300, "lr": 5.0, "batch": 128},
    "frepo": {"method": "frepo", "steps": 400, "lr": 0.01, "batch": 256, "net_width": 64, "net_pool": 4},
    "dsa": {"method": "dsa", "steps": 30},
}
INITS = ("random", "herding", "kip")
ROUNDED: dict[str, dict[str, Any]] = {
    "dm": {"method": "dm", "steps": 150, "lr": 5.0, "batch": 64, "net_width": 64, "recipe": "dc,width=64"}
}

COLOURS: dict[str, dict[str, Any]] = {
    "coloured MNIST": {"data": "mnist", "shift": "colour-foreground"},
    "CIFAR10-S": {"data": "cifar10", "shift": "grey"},
}
GROUPED: dict[str, dict[str, Any]] = {**COLOURS, "CIFAR-10": PHOTOGRAPHS}
GROUPINGS = {"coloured MNIST": "labels", "CIFAR10-S": "labels", "CIFAR-10": "discovered"}
"""The true groups, or where there are none those that are found without labels."""

RISKS: dict[str, tuple[RiskOptions, dict[str, float]]] = {
    "plain": (Train().risk, {"risks": 0.01, "trajectories": 0.04}),
    "RDD's": (RiskOptions(within="cvar", across="mean+max", tau=0.8), {"risks": 0.003}),
    "even": (RiskOptions(within="mean", across="mean"), {"risks": 0.01, "trajectories": 0.02}),
}
"""The risk over groups, which is added to the plain mean, and the rate of the training. At DC's rate RDD's risk over
100 cells diverges; the even mean is halved with the plain one, so that trajectories of both go equally far."""

BY_NETWORKS: dict[str, dict[str, Any]] = {
    "risks": {"method": "dm", "steps": 300, "lr": 5.0, "batch": 200, "siamese": "none"},
    "trajectories": {"method": "mtt", "steps": 200, "lr": 0.03, "net_lr": 0.02, "siamese": "none"},
}

WIDTH = 32
TRAININGS = {
    "risks": (f"dc,epochs=5,width={WIDTH}", 1),
    "trajectories": (f"dc,epochs=2,width={WIDTH},momentum=0,weight_decay=0,schedule=constant", 3),
}
"""Of networks on the real data: the recipe but for its rate, and how many of them."""

COMPARISONS = {
    "starts": (STARTS, INITS),
    "precision": (ROUNDED, ("float32", "bfloat16")),
    "risks": (COLOURS, tuple(RISKS)),
    "trajectories": (GROUPED, ("plain", "even")),
}


def networks(comparison: str, case: str, risk: str, seed: int) -> Path:
    """The networks trained on the data of the case under that risk, trained where they are not there."""
    from rdd_jax.app.training import train

    out = FOLDER / "networks" / comparison / case / risk / str(seed)
    over, rates = RISKS[risk]
    recipe, count = TRAININGS[comparison]
    training = RealRecipeOptions(recipe=f"{recipe},learning_rate={rates[comparison]}", networks=count)
    groups = GroupOptions("none" if risk == "plain" else GROUPINGS[case])
    train(Train(seed, out, DataOptions(**GROUPED[case]), training, groups, over))
    return out


def config_of(comparison: str, case: str, choice: str, seed: int) -> Method:
    if comparison == "starts":
        options = {**STARTS[case], **PHOTOGRAPHS, "init": choice}
    elif comparison == "precision":
        options = {**ROUNDED[case], **PHOTOGRAPHS, "precision": choice}
    else:
        options = {**BY_NETWORKS[comparison], **GROUPED[case], "net_width": WIDTH}
        if GROUPINGS[case] == "labels":
            options |= {"grouping": "labels", "init_strata": "group"}  # of the start, and of what DM matches
        options["snapshots"] = str(networks(comparison, case, choice, seed))
    method, steps = options.pop("method"), options["steps"]
    options = {"recipe": "dc", **options}
    return configured(method, ipc=10, seed=seed, checkpoint_every=steps, seeds=1, baselines=False, **options)


def cells(comparison: str, seeds: range, only: Sequence[str]) -> Iterator[tuple[str, str, int, Path]]:
    """``(case, choice, seed, folder)``, ``only`` of these cases, seed by seed: what has ended can be compared."""
    cases, choices = COMPARISONS[comparison]
    for case in only:
        check_one_of("case", case, cases)
    for seed in seeds:
        for case in only or cases:
            for choice in choices:
                yield case, choice, seed, FOLDER / comparison / case / choice / str(seed)


def run(comparison: str, seeds: range, only: Sequence[str]) -> None:
    """Every cell that is not finished; interrupted ones are resumed."""
    from rdd_jax.app.distilling import distill

    for case, choice, seed, folder in cells(comparison, seeds, only):
        if not Run(folder).finished:
            resume = (folder / "config.json").exists()
            config = Run(folder).config() if resume else config_of(comparison, case, choice, seed)
            print(case, choice, seed, _figures(distill(config, folder, resume=resume).report), flush=True)


def _figures(report: dict[str, Any]) -> dict[str, float]:
    """In %, by metric; ``rare`` is the worst true group or, where there are none, the worst cluster of a class."""
    found = {row["metric"]: 100 * row["mean"] for row in report["evaluations"] if row["set"] == "synthetic"}
    return found | {"rare": found.get("worst_group", found["cluster_min"])}


def table(comparison: str, seeds: range, only: Sequence[str]) -> None:
    """Prints the Markdown table of ``experiments/README.md``: in %, mean ± sample deviation over seeds."""
    metrics = {"accuracy": "accuracy", "rare": "worst group or Cluster-min", "deo_m": "DEO_M"}
    titles = [title for metric in metrics.values() for title in (metric, "difference")]
    print(f"| | choice | seeds | {' | '.join(titles)} |\n|" + "---|" * (3 + len(titles)))
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for case, choice, seed, folder in cells(comparison, seeds, only):
        if Run(folder).finished:
            found.setdefault((case, choice), {})[seed] = _figures(read_values(folder / "report.json", ""))
    first = COMPARISONS[comparison][1][0]
    for (case, choice), rows in found.items():
        row = [case, choice, str(len(rows))]
        for metric in metrics:
            against = found[case, first]
            values = {seed: rows[seed][metric] for seed in rows if metric in rows[seed]}
            differences = [value - against[seed][metric] for seed, value in values.items() if seed in against]
            row += [spread(values.values()), spread(differences) if choice != first else ""]
        print("| " + " | ".join(row) + " |")


def main(
    what: tyro.conf.Positional[Literal["run", "table"]],
    comparison: tyro.conf.Positional[Literal["starts", "risks", "trajectories", "precision"]],
    seeds: int = 3,
    first: int = 0,
    cases: tuple[str, ...] = (),
) -> None:
    """Runs the cells of a comparison, or shows what is there.

    Args:
      seeds: how many, of everything: splits, starts, batches, networks.
      first: of the seeds, so that two machines can share them.
      cases: only these, in this order.
    """
    {"run": run, "table": table}[what](comparison, range(first, first + seeds), cases)


if __name__ == "__main__":
    tyro.cli(main)
