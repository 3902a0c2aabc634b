"""Groups that nobody named, over all shifts: what every view sees, what is chosen, and what protecting it is worth.

    python -m experiments.discovery run --seeds 3       # finds groups and distils; what is there already is kept
    python -m experiments.discovery networks --seeds 1  # the same groups through a ConvNet, by DM
    python -m experiments.discovery table               # prints the tables from what is there

For every data set and seed the groups are found once, as ``--robust`` finds them, and kept with their weights; every
set is then learned with ``--grouping FILE``, which gives the set of ``--robust`` itself. Ways: ``plain``, ``robust``,
``true`` (the given groups under the entropic risk), and with seed 0 each view alone, as if it were the only one that
`discovered` had: what the choice is measured against in hindsight. The settings are those of `experiments.robust_kip`.
Test sets are balanced over the groups; nothing here looks at them but the report. A find takes one to three minutes on
two cores, a set a quarter of one.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

import numpy as np
import tyro

from experiments.robust_kip import BASE, TRUE
from experiments.tables import spread
from rdd_jax.app.grouped import Grouped
from rdd_jax.app.methods import Method, configured
from rdd_jax.app.reading import splits_of
from rdd_jax.app.sections import GroupOptions
from rdd_jax.arrays import write_npz
from rdd_jax.datasets import prepare
from rdd_jax.evaluation.metrics import group_match
from rdd_jax.files import write_json
from rdd_jax.grouping import Grouping, Groups, Subject, discovered, views

FOLDER = Path("runs/discovery")

FOREGROUND, BACKGROUND = {"shift": "colour-foreground"}, {"shift": "colour-background"}
MNIST, CIFAR = {"data": "mnist"}, {"data": "cifar10"}
DATA: dict[str, dict[str, Any]] = {
    "C-MNIST FG, .9": {**MNIST, **FOREGROUND},
    "C-MNIST FG, .95": {**MNIST, **FOREGROUND, "bias": 0.95},
    "C-MNIST FG, .98": {**MNIST, **FOREGROUND, "bias": 0.98},
    "C-MNIST BG, .9": {**MNIST, **BACKGROUND},
    "C-MNIST BG, .98": {**MNIST, **BACKGROUND, "bias": 0.98},
    "MNIST, two colours": {**MNIST, "shift": "two-colours"},
    "CIFAR10-S": {**CIFAR, "shift": "grey"},
    "MNIST, inverted": {**MNIST, "shift": "rare-invert"},
    "MNIST, turned": {**MNIST, "shift": "rare-rotate"},
    "MNIST, blurred": {**MNIST, "shift": "rare-blur"},
    "MNIST, noisy": {**MNIST, "shift": "rare-noise"},
    "MNIST, hidden nines": {**MNIST, "shift": "hidden-strata"},
    "CIFAR-10, inverted": {**CIFAR, "shift": "rare-invert"},
    "CIFAR-10, blurred": {**CIFAR, "shift": "rare-blur"},
    "tiny_strata": {"data": "tiny_strata", "groups_from": "leaf"},
    "MNIST, turned and coloured": {**MNIST, "shift": "rare-rotate+colour-foreground", "bias": 0.95},
    "CIFAR10-S, long tail": {**CIFAR, "shift": "long-tail+grey", "share": 0.1},
    "MNIST": MNIST,
    "CIFAR-10": CIFAR,
}
CHOICE = "discovered"

BY_DM = configured(
    "dm",
    network="convnet",
    net_width=64,
    steps=300,
    batch=64,
    lr=5.0,
    siamese="none",
    recipe="dc,width=64",
    seeds=5,
    baselines=False,
    checkpoint_every=100,
)
"""Far from the published schedule, and the same for every way; the recipe is DC's, for networks of half its width."""
THROUGH_NETWORKS = ("MNIST, turned", "tiny_strata", "C-MNIST FG, .95", "CIFAR10-S")


def _method(data: Mapping[str, Any], seed: int, way: Mapping[str, Any]) -> Method:
    return configured(BASE, seed=seed, **data, **way)


# --- finding -----------------------------------------------------------------------------------------


def find(name: str, seed: int) -> None:
    """The groups of one data set: ``found.json``, and an ``.npz`` for what is chosen of all views and of each alone."""
    folder = FOLDER / name / str(seed)
    if (folder / "found.json").exists():
        return
    config = _method(DATA[name], seed, {})
    prepared = prepare(splits_of(config.data.data, config.data, seed), "standardise")
    train = prepared.splits.train
    seen: dict[str, Groups] = {}
    kept = {view: _kept(grouping, view, seen) for view, grouping in views().items()}
    sets = {CHOICE: kept, **({view: {view: grouping} for view, grouping in kept.items()} if seed == 0 else {})}
    rows: dict[str, Any] = {}
    for which, offered in sets.items():
        grouped = Grouped(GroupOptions(CHOICE), seed, prepared)
        grouped.grouping = discovered(offered)
        grouped.fit(0)
        folder.mkdir(parents=True, exist_ok=True)
        codes = grouped.groups % (grouped.count // train.classes)
        assert grouped.weight is not None
        write_npz(folder / f"{which}.npz", codes=codes, weights=grouped.weight, labels=train.labels)
        rows[which] = grouped.described()
    if train.groups is not None:
        for view, saw in seen.items():
            pieces = saw.code if saw.pieces is None else saw.pieces
            rows.setdefault(view, {})["pieces"] = group_match(pieces, train.labels, train.groups)
    write_json(folder / "found.json", {"found": rows})


def _kept(grouping: Grouping, name: str, seen: dict[str, Groups]) -> Grouping:
    """The grouping, fitted once: ``seen`` has what it found."""

    def fit(seed: int, subject: Subject) -> Groups:
        if name not in seen:
            seen[name] = grouping.fit(seed, subject)
        return seen[name]

    return grouping._replace(fit=fit)


# --- sets --------------------------------------------------------------------------------------------


def ways(name: str, seed: int) -> Iterator[tuple[str, Method]]:
    """``(way, configuration)``; the groups have to be found."""
    data = DATA[name]
    yield "plain", _method(data, seed, {})
    if "shift" in data or "groups_from" in data:
        yield "true", _method(data, seed, TRUE)
    for which in [CHOICE, *(views() if seed == 0 else ())]:
        yield which, _method(data, seed, _protecting(name, seed, which))


def ways_of_networks(name: str, seed: int) -> Iterator[tuple[str, Method]]:
    """The same for DM: plain, by the groups that were found, by the true ones."""
    found = _protecting(name, seed, CHOICE)
    for way, options in {"plain": {}, CHOICE: found, "true": {"robust": True, "grouping": "labels"}}.items():
        yield f"dm {way}", configured(BY_DM, seed=seed, **DATA[name], **options)


def _protecting(name: str, seed: int, which: str) -> dict[str, Any]:
    """The options that protect what was found."""
    return {"robust": True, "grouping": str((FOLDER / name / str(seed) / f"{which}.npz").absolute())}


def run(names: Iterable[str], seeds: int, listed: Callable[[str, int], Iterator[tuple[str, Method]]]) -> None:
    """Finds and distils what is not there, one seed after the other; interrupted runs are resumed."""
    from rdd_jax.app.distilling import distill

    for seed, name in product(range(seeds), names):
        find(name, seed)
        for way, config in listed(name, seed):
            folder = FOLDER / name / str(seed) / way
            if not (folder / "report.json").exists():
                report = distill(config, folder, resume=(folder / "config.json").exists()).report
                told = {key: round(value, 1) for key, value in _measured(report).items()}
                print(f"{name} | {seed} | {way} | {told}", flush=True)


# --- tables ------------------------------------------------------------------------------------------


def _measured(report: dict) -> dict[str, float]:
    """Accuracy, worst group, the mean of the rare groups and the least cluster, in %."""
    found = {e["metric"]: 100 * e["mean"] for e in report["evaluations"]}
    told = {key: found[key] for key in ("accuracy", "worst_group", "cluster_min") if key in found}
    if (groups := report.get("subgroups")) is not None:
        (table,) = (sets["synthetic"] for sets in groups["predictions"].values())
        count = np.array(groups["train_count"])
        present = (count > 0).sum(1, keepdims=True)
        # As `rdd_jax.evaluation.metrics.minority`; and cells that train lacks.
        rare = (2 * count * present < count.sum(1, keepdims=True)) & (np.array(table["count"]) > 0)
        if rare.any():
            told["rare"] = 100 * float(np.mean(np.array(table["correct"])[rare] / np.array(table["count"])[rare]))
    return told


def _read(name: str, seed: int, way: str) -> dict[str, float] | None:
    file = FOLDER / name / str(seed) / way / "report.json"
    return _measured(json.loads(file.read_text())) if file.exists() else None


def _found(name: str, seed: int) -> dict | None:
    file = FOLDER / name / str(seed) / "found.json"
    return json.loads(file.read_text()) if file.exists() else None


def _chosen(found: dict) -> str:
    """What was chosen, in words."""
    chosen = [row for row in found["evidence"] if row["chosen"]]
    return f"{chosen[0]['groups']}, {chosen[0]['sharpness']:g}" if chosen else "nothing"


def _seeds(name: str, method: str = "") -> list[int]:
    """Seeds of which the plain and the robust set are there."""
    return [seed for seed in range(20) if all(_read(name, seed, method + way) for way in ("plain", CHOICE))]


def table() -> None:
    """Prints the Markdown tables of ``experiments/README.md``, in %, mean ± sample standard deviation over seeds."""
    names = [name for name in DATA if _seeds(name)]
    _worth(names)
    if through := [name for name in names if _seeds(name, "dm ")]:
        _worth(through, "dm ")
    _sight(names)
    _regret(names)


def _worth(names: list[str], method: str = "") -> None:
    print("\n| data | seeds | plain: accuracy, worst, rare | robust | true groups | way | chosen, sharpness (seeds) |")
    print("|" + "---|" * 7)
    for name in names:
        seeds = _seeds(name, method)
        worst: dict[str, list[float]] = {}
        row = []
        for way in ("plain", CHOICE, "true"):
            told = [one for seed in seeds if (one := _read(name, seed, method + way))]
            columns = [[one[key] for one in told if key in one] for key in ("accuracy", "worst_group", "rare")]
            if told and "worst_group" not in told[0]:
                columns = [columns[0], [one["cluster_min"] for one in told]]
            worst[way] = columns[1]
            row.append(", ".join(filter(None, map(spread, columns))))
        way = ""
        if len(worst["true"]) == len(seeds):
            low, high = mean(worst["plain"]), mean(worst["true"])
            way = f"{100 * (mean(worst[CHOICE]) - low) / (high - low):.0f} %" if high > low else "true is no better"
        chosen = [_chosen(found["found"][CHOICE]) for seed in seeds if (found := _found(name, seed))]
        told = "; ".join(f"{what} ({chosen.count(what)})" for what in sorted(set(chosen)))
        print(f"| {name} | {len(seeds)} | {' | '.join(row)} | {way} | {told} |")


MATCH = ("minority_recall", "minority_precision")
AMI = "adjusted_mutual_information_within_class"


def _sight(names: list[str]) -> None:
    """Recall / precision of the minority / AMI within the class: of the pieces of each view, and of what is shown."""
    listed = [*views(), CHOICE]
    print(f"\n| data | {' | '.join(listed)} |\n|" + "---|" * (len(listed) + 1))
    for name in names:
        found = [one for seed in _seeds(name) if (one := _found(name, seed))]
        told = []
        for which in listed:
            rows = [one["found"].get(which, {}) for one in found]
            match = [row.get("pieces", row.get("match", {})) for row in rows]
            parts = [spread([100 * one[key] for one in match if np.isfinite(one.get(key, np.nan))]) for key in MATCH]
            parts.append(spread([one[AMI] for one in match if AMI in one], 2))
            told.append(" / ".join(part or "-" for part in parts))
        print(f"| {name} | {' | '.join(told)} |")


def _regret(names: list[str]) -> None:
    """Of the choice, against the best of the plain set and each view alone; seed 0."""
    listed = ["plain", *views(), CHOICE]
    print(f"\n| data | {' | '.join(listed)} | regret |\n|" + "---|" * (len(listed) + 2))
    regrets = []
    for name in names:
        told = {way: one for way in listed if (one := _read(name, 0, way))}
        worst = {way: one.get("worst_group", one["accuracy"]) for way, one in told.items()}
        if len(worst) < len(listed):
            continue
        regrets.append(max(worst.values()) - worst[CHOICE])
        row = " | ".join(f"{worst[way]:.1f}" for way in listed)
        print(f"| {name} | {row} | {regrets[-1]:.1f} |")
    if regrets:
        print(f"\nmedian regret {median(regrets):.1f}")


@dataclass(frozen=True)
class Command:
    """What to do."""

    what: tyro.conf.Positional[Literal["run", "networks", "table"]]
    only: str = ""
    """Data sets whose name has this."""
    seeds: int = 3
    """The first so many."""


def main(command: Command) -> None:
    if command.what == "table":
        table()
        return
    names, listed = (DATA, ways) if command.what == "run" else (THROUGH_NETWORKS, ways_of_networks)
    run([name for name in names if command.only in name], command.seeds, listed)


if __name__ == "__main__":
    main(tyro.cli(Command, description=__doc__))
