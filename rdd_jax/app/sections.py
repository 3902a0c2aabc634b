"""The sections of a configuration, one a concern; each is handed to the room that it is about, and to no other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rdd_jax.app.optimisers import OPTIMIZERS, SCHEDULES
from rdd_jax.app.options import Option, count, flag, number, one_of, seed_number, some_of, text
from rdd_jax.augment import NAMED, augment_by_name
from rdd_jax.datasets.corruptions import CORRUPTIONS
from rdd_jax.datasets.images import MODES
from rdd_jax.datasets.preprocess import PREPROCESSINGS
from rdd_jax.datasets.shifts import SHIFTS
from rdd_jax.devices import AUTO, check_mesh_name
from rdd_jax.errors import InputError
from rdd_jax.evaluation import LEARNERS
from rdd_jax.grouping import FEATURES, GROUPINGS, from_file, is_file, split_names, view_of
from rdd_jax.kernels import KERNELS
from rdd_jax.networks import NETWORKS
from rdd_jax.networks.convnet import GROWTHS, fitting_depth
from rdd_jax.networks.layers import NORMS
from rdd_jax.networks.precision import PRECISIONS
from rdd_jax.networks.recipe_files import recipe_of
from rdd_jax.networks.recipes import RECIPES, Recipe, network_by_recipe
from rdd_jax.risk import MEASURES
from rdd_jax.sampling import LOSSES, SAMPLERS

__all__ = [
    "DATA_ON",
    "MESH",
    "RECIPE",
    "BatchOptions",
    "DataOptions",
    "EvaluationOptions",
    "GroupOptions",
    "KernelOptions",
    "MethodGroupOptions",
    "OptimiserOptions",
    "PrecisionOptions",
    "RegressionOptions",
    "RiskOptions",
    "ShiftOptions",
    "SizeOptions",
    "SourceOptions",
    "SpaceOptions",
    "SplitsOptions",
    "grouping_names",
]


def _check_mesh(name: str, value: str) -> None:
    check_mesh_name(value)


MESH = Option("devices: auto (all, along data), or data=N,net=N", "AXES", _check_mesh)

PLACES = (AUTO, "device", "host", "disk")
DATA_ON = one_of(PLACES, "where training images stay, auto by size")

# --- data --------------------------------------------------------------------------------------------


SOURCE = text("digits, a prepared TFDS set, an .npz file, or a folder of images by class")


@dataclass(frozen=True)
class SourceOptions:
    """Where real data comes from."""

    data: Annotated[str, SOURCE] = "digits"


@dataclass(frozen=True)
class ShiftOptions:
    """The groups that real data is given."""

    shift: Annotated[str, some_of(SHIFTS, "give the data groups", "+")] = "none"
    bias: Annotated[float, number("of colours, grey: share of a class with the class's own", least=0, most=1)] = 0.9
    share: Annotated[float, number("of rare-*, hidden-strata, long-tail: share of the rare part", most=1)] = 0.05


@dataclass(frozen=True)
class SplitsOptions(ShiftOptions):
    """How real data is read, and the groups that it is given."""

    resize: Annotated[int | None, count("images cut square and scaled to this side; unset: as they are")] = None
    mode: Annotated[str | None, one_of(MODES, "channels of the images; unset: as they are")] = None
    groups_from: Annotated[str | None, text("of a TFDS set: the feature that says the group", "FEATURE")] = None


@dataclass(frozen=True)
class SpaceOptions:
    """The space that everything happens in."""

    preprocess: Annotated[str, one_of(PREPROCESSINGS, "fitted on train")] = "standardise"
    zca_reg: Annotated[float, number("of zca: regularisation, as a fraction of the mean eigenvalue")] = 0.1


@dataclass(frozen=True)
class DataOptions(SpaceOptions, SplitsOptions, SourceOptions):
    """The real data, and the space that everything happens in."""

    mirror: Annotated[bool | None, flag("mirrored images are still of their class; unset: as the data says")] = None


# --- groups and risk ---------------------------------------------------------------------------------


GROUPING_NAMES = ("none", *GROUPINGS, ".npz")


def _check_grouping(name: str, value: str) -> None:
    parts = split_names(value)
    files = [part for part in parts if is_file(part)]
    if rest := [part for part in parts if part not in files]:
        some_of(GROUPING_NAMES, "", "+").check(name, "+".join(part.partition(":")[0] for part in rest))
        for part in rest:
            if part != "none":
                view_of(part)
    for file in files:
        if files.count(file) > 1:
            raise InputError(f"{name} is {value!r}: say {file!r} once")
        from_file(Path(file))


def grouping_names(help: str) -> Option:
    """Names of groupings, ``name:view`` too, and files of codes, joined by ``+``; the help lists them."""
    return Option(f"{help}: {', '.join(GROUPING_NAMES)}", "NAME+...", _check_grouping)


@dataclass(frozen=True)
class GroupOptions:
    """How the groups of every class are found."""

    grouping: Annotated[str | None, grouping_names("unset: see --robust")] = None
    features: Annotated[str, one_of(FEATURES, "view of groupings that name none (fine:network)")] = "texture"
    groups_per_class: Annotated[int | None, count("of kmeans (unset: found) and clusters (unset: 10)")] = None
    soft_groups: Annotated[float, number("of kmeans: temperature; above 0 groups are drawn anew", least=0)] = 0.0
    min_group: Annotated[float, number("found groups below this share of a class merge", least=0, most=0.999)] = 0.005


@dataclass(frozen=True)
class MethodGroupOptions(GroupOptions):
    """The groups of a method, which may move with the set."""

    robust: Annotated[bool, flag("protect subgroups that nobody named: sets what is unset, as said above")] = False
    refit_every: Annotated[int, count("steps between fits of groupings that move: nearest, soft kmeans")] = 100


@dataclass(frozen=True)
class RiskOptions:
    """From losses to the number that is minimised."""

    within: Annotated[str, some_of(MEASURES, "risk within a group", "+")] = "mean"
    across: Annotated[str | None, some_of(MEASURES, "risk across groups", "+")] = "mean"
    tau: Annotated[float, number("of cvar: tail mass; 1 is the mean", most=1)] = 0.2
    sharpness: Annotated[float, number("of entropic: temperature in 1 / loss; large is nearly max")] = 5.0


# --- batches and steps -------------------------------------------------------------------------------


def _check_augment(name: str, value: str) -> None:
    augment_by_name(value)


AUGMENT = Option(f"of the real images: {', '.join(('none', 'shiftN', *NAMED))}", "NAME+...", _check_augment)


@dataclass(frozen=True)
class BatchOptions:
    """Which real examples a step sees."""

    batch: Annotated[int, count("real examples a step")] = 5000
    sampler: Annotated[str | None, one_of(SAMPLERS, "how they are drawn")] = "uniform"
    importance: Annotated[str, one_of(LOSSES, "what importance is in proportion to")] = "residual"
    mix: Annotated[float, number("of importance: share of uniform draws", most=1)] = 0.1
    unbiased: Annotated[bool, flag("of importance: weigh draws back; else hard examples count for more")] = True
    pool: Annotated[int, count("of importance: examples whose losses are looked at in one go")] = 50_000
    refresh_every: Annotated[int, count("of importance: steps between looks")] = 20
    augment: Annotated[str, AUGMENT] = "none"


@dataclass(frozen=True)
class OptimiserOptions:
    """The optimiser of the synthetic set."""

    steps: Annotated[int, count("steps of the optimiser")] = 300
    optimizer: Annotated[str, one_of(OPTIMIZERS, "sgd has momentum 0.5")] = "adam"
    lr: Annotated[float, number("learning rate, in units of model space")] = 0.04
    schedule: Annotated[str, one_of(SCHEDULES, "of the rate over time; cosine goes to zero")] = "constant"
    checkpoint_every: Annotated[int, count("steps between checkpoints and validations")] = 100
    keep: Annotated[str, one_of(("last", "best"), "the set of the last step, or of the best on validation")] = "last"


# --- kernels and networks ----------------------------------------------------------------------------


@dataclass(frozen=True)
class KernelOptions:
    """The kernel."""

    kernel: Annotated[str, one_of(KERNELS, "of infinitely wide networks, or of random ones: network-*")] = "fc-ntk"
    depth: Annotated[int, count("its hidden layers; of conv-* and convnet: blocks", most=100)] = 1
    kernel_network: Annotated[str, one_of(NETWORKS, "of network-*; convnet has no norm here")] = "convnet"
    kernel_width: Annotated[int, count("of network-*: of convnet and mlp")] = 128
    kernel_count: Annotated[int, count("of network-*: networks whose kernels are averaged")] = 1
    kernel_seed: Annotated[int, seed_number("of network-*: of their weights")] = 0
    kernel_memory: Annotated[int, count("of network-* and conv-*: MiB that they may hold at a time")] = 256


@dataclass(frozen=True)
class RegressionOptions(KernelOptions):
    """Kernel ridge regression."""

    reg: Annotated[float, number("ridge, as a fraction of the mean of the Gram matrix's diagonal")] = 1e-6


@dataclass(frozen=True)
class PrecisionOptions:
    """How networks multiply."""

    precision: Annotated[str, one_of(PRECISIONS, "of networks' products, whose sums stay float32")] = "float32"


@dataclass(frozen=True)
class SizeOptions:
    """The size of the network that is matched at."""

    net_depth: Annotated[int | Literal["auto"], count("of convnet: blocks; auto: by the images' side", most=100)] = (
        "auto"
    )
    net_width: Annotated[int, count("of convnet and mlp")] = 128
    net_growth: Annotated[str, one_of(GROWTHS, "of convnet: its width from block to block")] = "constant"
    norm: Annotated[str, one_of(NORMS, "of convnet")] = "instance"

    def recipe(self, network: str, shape: Sequence[int]) -> Recipe:
        """The network of that name in this size, for images of ``shape = (h, w, c)``; its training is DC's."""
        depth = self.net_depth if isinstance(self.net_depth, int) else fitting_depth(shape)
        return Recipe(network, depth, self.net_width, self.net_growth, self.norm)


def _check_recipe(name: str, value: str) -> None:
    # Of a set that is trained on for long; what does not go with a smaller one is seen when the data are.
    network_by_recipe(recipe_of(value, images=10**6, classes=1), 2)


RECIPE = Option(
    f"how networks are trained: {', '.join(RECIPES)}, or a .json or .toml file, and what is changed "
    "(dsa,epochs=1500,width=64); unset: as published for the set",
    "NAME,...",
    _check_recipe,
)


@dataclass(frozen=True)
class EvaluationOptions:
    """What the report measures."""

    learners: Annotated[str | None, some_of(LEARNERS, "trained on the set alone; unset: the recipe's network", ",")] = (
        "krr"
    )
    seeds: Annotated[int, count("of networks, and of the baselines' draws")] = 5
    recipe: Annotated[str | None, RECIPE] = None
    find_rates: Annotated[bool, flag("find rates of other networks on validation, and keep them")] = False
    baselines: Annotated[bool, flag("measure random, k-means and herding subsets too")] = True
    corruptions: Annotated[str, some_of(CORRUPTIONS, "on test", ",", least=0)] = ""
