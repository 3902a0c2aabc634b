"""What the methods that learn from networks share: those that match, and those that regress on their features."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from rdd_jax.app import pieces
from rdd_jax.app.digests import fingerprint
from rdd_jax.app.methods.base import Method, Stepped, filled
from rdd_jax.app.options import Option, count, number, one_of
from rdd_jax.app.sections import PrecisionOptions, RiskOptions, SizeOptions
from rdd_jax.app.set_options import NetworkSetOptions
from rdd_jax.app.snapshot_folder import SnapshotFolder
from rdd_jax.augment import SHARED, none
from rdd_jax.checks import are_distributions
from rdd_jax.contracts import Augment, Kernel, Learner, Objective, Risk
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.distill import Distiller, compose
from rdd_jax.errors import InputError
from rdd_jax.evaluation import Evaluation, held_out, recipe_learner
from rdd_jax.networks import NETWORKS, Network, check_images
from rdd_jax.networks.recipes import NETWORK_FIELDS, network_by_recipe, sizes_of
from rdd_jax.objectives import taught
from rdd_jax.snapshots import at_snapshots
from rdd_jax.trajectory import Trajectory
from rdd_jax.types import Data, Splits, Synthetic, centred_one_hot

__all__ = [
    "ByNetworks",
    "NetworkOptions",
    "SnapshotOptions",
    "Taught",
    "TaughtOptions",
    "TrainingOptions",
    "as_distributions",
    "dsa_parts",
]


def _check_snapshots(name: str, value: str) -> None:
    SnapshotFolder(Path(value)).report()


SNAPSHOTS = Option(
    "networks of a folder of `rdd train`, one at random a step; unset: the method's", "FOLDER", _check_snapshots
)


@dataclass(frozen=True)
class SnapshotOptions:
    """Networks that are there already."""

    snapshots: Annotated[str | None, SNAPSHOTS] = None
    snapshots_from: Annotated[int, count("the first epoch of --snapshots; 0: random weights", least=0)] = 1


@dataclass(frozen=True)
class NetworkOptions(SnapshotOptions, PrecisionOptions, SizeOptions):
    """The network of the steps."""

    network: Annotated[str, one_of(NETWORKS, "what the set is made by")] = "convnet"


@dataclass(frozen=True)
class TaughtOptions(NetworkOptions):
    """The network of the steps, and a later one that teaches."""

    taught: Annotated[float, number("weight of the set's cross-entropy under the last of --snapshots", least=0)] = 0.0


@dataclass(frozen=True)
class TrainingOptions:
    """The training of the network between steps."""

    net_period: Annotated[int | None, count("steps for which a network is kept; unset: as published for --ipc")] = None
    net_batch: Annotated[int, count("examples a training step")] = 256
    net_lr: Annotated[float, number("its learning rate (SGD)")] = 0.01
    net_pool: Annotated[int, count("networks that take turns, their ages evenly apart")] = 1


def as_distributions(start: Synthetic) -> Synthetic:
    """With labels that networks can be taught; a set from kernel regression may have learned others."""
    if are_distributions(start.labels):
        return start
    return start._replace(labels=centred_one_hot(start.of_class, start.labels.shape[1]))


def dsa_parts(train: Data) -> dict[str, Any]:
    """The augmentations of DSA as published, in matching and in the networks' training; digits are not mirrored."""
    parts = [name for name in SHARED if train.mirror or name != "flip"]
    return {"siamese": "+".join(parts), "recipe": "dsa" if train.mirror else "dsa,augment=dsa-no-flip"}


@dataclass(frozen=True)
class ByNetworks(Stepped):
    """A method whose steps look from finite networks, and whose set is for such."""

    if TYPE_CHECKING:
        set: NetworkSetOptions = NetworkSetOptions()
        risk: RiskOptions = RiskOptions()
        network: NetworkOptions = NetworkOptions()

    taught: ClassVar[float] = 0.0
    """Weight of the set's cross-entropy under the last snapshot of a network."""

    @property
    def precision(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the products of all networks of a run, its evaluation's too."""
        return self.network.precision

    def published(self, train: Data) -> dict[str, Any]:
        """Published settings that depend on the data or on the size of the set."""
        return {}

    def resolved(self, train: Data) -> Method:
        own = self.ROBUST if self.groups.robust else self.PLAIN
        return filled(super().resolved(train), **{"siamese": "none", **self.published(train), **own})

    def published_recipe(self, train: Data) -> str:
        at = self.network.recipe(self.network.network, train.images.shape[1:])
        words = (f"{name}={getattr(at, name)}" for name in NETWORK_FIELDS)
        return ",".join((self.published(train).get("recipe", "dc"), *words))

    def check(self) -> None:
        super().check()
        pieces.network_of(self.network, self.network.network, 2)
        if self.taught and self.network.snapshots is None:
            raise InputError(f"taught is {self.taught:g}, but there is no network that could teach: give --snapshots")

    def check_images(self, shape: Sequence[int]) -> None:
        super().check_images(shape)
        recipe = self.network.recipe(self.network.network, shape)
        check_images(network_by_recipe(recipe, 2), tuple(shape), f"network {pieces.named(recipe)}")

    def check_data(self, splits: Splits) -> None:
        super().check_data(splits)
        if self.network.snapshots is not None:
            kept = SnapshotFolder(Path(self.network.snapshots))
            recipe = self.network.recipe(self.network.network, splits.train.images.shape[1:])
            asked = {"network": recipe.network, **sizes_of(recipe)}
            kept.check_network(asked, self.network.snapshots_from)
            kept.check_data(self.data.preprocess, self.data.zca_reg, fingerprint(splits))
            kept.load(self.network.snapshots_from)  # a damaged one is told now

    def from_snapshots(self, snapshots: Sequence[Any]) -> Trajectory:
        """The networks of the steps, where these are given; see `snapshots.at_snapshots`."""
        return at_snapshots(snapshots, with_last=self.taught > 0)

    def all_data(self) -> list[Evaluation]:
        if self.network.snapshots is None:
            return []
        rows = SnapshotFolder(Path(self.network.snapshots)).report()["evaluations"]
        known = [field.name for field in fields(Evaluation)]
        return [Evaluation(**{key: value for key, value in row.items() if key in known}) for row in rows]

    def validator(self, kernel: Kernel, prepared: Prepared) -> Learner:
        classes = len(prepared.class_names)
        return recipe_learner(self.recipe(classes), classes, held_out(prepared))

    def check_start(self, kernel: Kernel, synthetic: Synthetic) -> None:
        """Networks take any set."""

    def objective(self, network: Network) -> Objective:
        """The objective."""
        raise NotImplementedError

    def trajectory(self, network: Network) -> Trajectory:
        """The networks of the steps, where no snapshots are given."""
        raise NotImplementedError

    def own_augment(self) -> Augment:
        """What the set's images are looked at under, each by itself."""
        return none

    def across(self) -> Risk:
        """The risk over the losses, or over the distances of the groups."""
        return pieces.risk_of(self.risk)

    def distiller(self, kernel: Kernel, train: Data) -> Distiller:
        at, shape = self.network, train.images.shape[1:]
        network = pieces.network_of(at, at.network, train.classes, shape)
        objective, trajectory = self.objective(network), self.trajectory
        if at.snapshots is not None:
            kept = SnapshotFolder(Path(at.snapshots)).load(at.snapshots_from)
            trajectory = lambda _: self.from_snapshots(kept)  # noqa: E731
        if self.taught:
            objective = taught(objective, network, self.taught, self.own_augment())
        return compose(
            objective,
            risk=self.across(),
            trajectory=trajectory(network),
            parameterisation=pieces.parameterisation_of(self.set, self.label_kind),
            **pieces.steps_of(self.drawn(train.classes), self.optimiser),
        )


@dataclass(frozen=True)
class Taught(ByNetworks):
    """A method by networks whose set may also be taught by the last of the snapshots."""

    if TYPE_CHECKING:
        network: TaughtOptions = TaughtOptions()  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def taught(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.network.taught
