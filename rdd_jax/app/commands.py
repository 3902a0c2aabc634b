"""What the commands beside ``rdd distill`` are asked to do."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from rdd_jax.app.forms import FORMS
from rdd_jax.app.options import count, number, one_of, seed_number, text
from rdd_jax.app.sections import (
    RECIPE,
    SOURCE,
    DataOptions,
    EvaluationOptions,
    GroupOptions,
    KernelOptions,
    PrecisionOptions,
    RegressionOptions,
    RiskOptions,
    SpaceOptions,
    SplitsOptions,
)
from rdd_jax.app.set_options import SelectionOptions
from rdd_jax.selection import DRAWS, SELECTIONS, STRATA

__all__ = [
    "COMMANDS",
    "ChoiceOptions",
    "Compare",
    "Evaluate",
    "Export",
    "Find",
    "RealRecipeOptions",
    "Select",
    "Show",
    "Train",
]


REAL_RECIPE = (
    "the network and its training: dc, dsa, or a .json or .toml file, and what is changed (dsa,epochs=60,width=64); "
    "unset: dsa,epochs=20"
)


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a run folder, or a set made elsewhere, beside the baselines. What is not given is the run's own."""

    source: Annotated[
        str,
        text(
            "a run folder, or an .npz with `images` (NHWC or NCHW) and `labels` (numbers, one-hot, soft)",
            positional=True,
        ),
    ]
    space: Annotated[str, one_of(("pixel", "model"), "of an .npz: its images are pixels, or preprocessed")] = "pixel"
    seed: Annotated[int, seed_number("of splits that have to be drawn")] = 0
    out: Annotated[Path | None, text("a JSON file for the report; must not exist", "FILE")] = None
    data: DataOptions = DataOptions()
    kernel: RegressionOptions = RegressionOptions()
    evaluation: EvaluationOptions = EvaluationOptions(learners=None)
    networks: PrecisionOptions = PrecisionOptions()


@dataclass(frozen=True)
class ChoiceOptions(SelectionOptions):
    """What is chosen, and how."""

    method: Annotated[str, one_of(SELECTIONS, "how images are chosen")] = "krr-sensitivity"
    ipc: Annotated[int, count("images a class (on average, with --strata all)")] = 10
    draw: Annotated[str, one_of(DRAWS, "by a score; the theorem covers independent")] = "distinct"
    strata: Annotated[str, one_of(STRATA, "as many of every class, evenly by group, or from all together")] = "class"
    eps: Annotated[float, number("relative error of the regression's cost that the certificate asks for")] = 0.5
    delta: Annotated[float, number("chance of missing it", most=0.999)] = 0.1


@dataclass(frozen=True)
class Select:
    """Select a weighted subset of the real images, with a certificate of what it is good for."""

    seed: Annotated[int, seed_number("of splits, shift and draws")] = 0
    out: Annotated[Path | None, text("the .npz to make; must not exist; unset: DATA-METHOD.npz", "FILE")] = None
    data: DataOptions = DataOptions()
    choice: ChoiceOptions = ChoiceOptions()
    groups: GroupOptions = GroupOptions("labels")
    kernel: KernelOptions = KernelOptions()


@dataclass(frozen=True)
class Show:
    """Show what is in a data set: shapes, classes, counts, groups, and a picture."""

    name: Annotated[str, replace(SOURCE, positional=True)]
    seed: Annotated[int, seed_number("of splits and shift")] = 0
    out: Annotated[Path | None, text("where the picture goes; unset: data-NAME.png here", "FILE")] = None
    data: SplitsOptions = SplitsOptions()


@dataclass(frozen=True)
class Find:
    """Find the groups that a data set hides, without group labels: a folder with the groups and a report."""

    name: Annotated[str, replace(SOURCE, positional=True)]
    seed: Annotated[int, seed_number("of splits, shift, grouping and reference")] = 0
    out: Annotated[Path | None, text("the folder to make; must not exist; unset: groups-NAME here", "FOLDER")] = None
    data: SplitsOptions = SplitsOptions()
    space: SpaceOptions = SpaceOptions()
    groups: GroupOptions = GroupOptions("discovered")


@dataclass(frozen=True)
class RealRecipeOptions(PrecisionOptions):
    """How networks are trained."""

    recipe: Annotated[str | None, replace(RECIPE, help=REAL_RECIPE)] = None
    networks: Annotated[int, count("of them, each with weights and batches of its own")] = 1


@dataclass(frozen=True)
class Train:
    """Train networks on the real data and keep them after every epoch, for `rdd distill METHOD --snapshots FOLDER`.

    With a --grouping under RDD's risk over the groups (--within, --across), beside the plain mean. What is there is
    not trained again, and a training that was broken off goes on, by the same command.
    """

    seed: Annotated[int, seed_number("of everything: splits, groups, weights, batches, augmentation")] = 0
    out: Annotated[Path | None, text("the folder; unset: snapshots/DATA-NETWORK-DIGEST here", "FOLDER")] = None
    data: DataOptions = DataOptions()
    training: RealRecipeOptions = RealRecipeOptions()
    groups: GroupOptions = GroupOptions("none")
    risk: RiskOptions = RiskOptions(within="cvar", across="mean+max", tau=0.8)


@dataclass(frozen=True)
class Compare:
    """Compare finished runs side by side, group by group: a table, and a picture of every (class, group) cell."""

    runs: tuple[str, ...]
    out: Path = Path("compare.png")


@dataclass(frozen=True)
class Export:
    """Take the set of a run elsewhere: a folder with the set, its preprocessing, and how to load it."""

    run: Annotated[str, text("a run folder", positional=True)]
    to: Annotated[str, one_of(FORMS, "the form")] = "npz"
    out: Annotated[Path | None, text("the folder to make; must not exist; unset: RUN/export-FORM", "FOLDER")] = None


COMMANDS = {
    "evaluate": Evaluate(""),
    "select": Select(),
    "data": Show(""),
    "groups": Find(""),
    "train": Train(),
    "export": Export(""),
}
"""What the commands beside ``rdd distill`` are asked, with the defaults."""
