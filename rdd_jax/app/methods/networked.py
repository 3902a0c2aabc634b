"""What the methods that learn from networks share: those that match, and those that regress on their features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from rdd_jax.app import pieces
from rdd_jax.app.methods.base import Method, Stepped, filled
from rdd_jax.app.options import count, number, one_of
from rdd_jax.app.sections import RiskOptions, SizeOptions
from rdd_jax.augment import SHARED
from rdd_jax.contracts import Kernel, Learner, Objective, Risk
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.distill import Distiller, compose
from rdd_jax.evaluation import held_out, recipe_learner
from rdd_jax.networks import NETWORKS, Network, check_images
from rdd_jax.trajectory import Trajectory
from rdd_jax.types import Data, Synthetic

__all__ = ["ByNetworks", "NetworkOptions", "TrainingOptions", "dsa_parts"]


@dataclass(frozen=True)
class NetworkOptions(SizeOptions):
    """The network of the steps."""

    network: Annotated[str, one_of(NETWORKS, "what the set is made by")] = "convnet"


@dataclass(frozen=True)
class TrainingOptions:
    """The training of the network between steps."""

    net_period: Annotated[int | None, count("steps for which a network is kept; unset: as published for --ipc")] = None
    net_batch: Annotated[int, count("examples a training step")] = 256
    net_lr: Annotated[float, number("its learning rate (SGD)")] = 0.01
    net_pool: Annotated[int, count("networks that take turns, their ages evenly apart")] = 1


def dsa_parts(train: Data) -> dict[str, Any]:
    """The augmentations of DSA as published, in matching and in the networks' training; digits are not mirrored."""
    parts = [name for name in SHARED if train.mirror or name != "flip"]
    return {"siamese": "+".join(parts), "recipe": "dsa" if train.mirror else "dsa,augment=dsa-no-flip"}


@dataclass(frozen=True)
class ByNetworks(Stepped):
    """A method whose steps look from finite networks, and whose set is for such."""

    if TYPE_CHECKING:
        risk: RiskOptions = RiskOptions()
        network: NetworkOptions = NetworkOptions()

    def published(self, train: Data) -> dict[str, Any]:
        """Published settings that depend on the data or on the size of the set."""
        return {}

    def resolved(self, train: Data) -> Method:
        own = self.ROBUST if self.groups.robust else self.PLAIN
        return filled(super().resolved(train), **{"siamese": "none", **self.published(train), **own})

    def published_recipe(self, train: Data) -> str:
        published, at = self.published(train).get("recipe", "dc"), self.network
        sizes = f"depth={at.net_depth},width={at.net_width},growth={at.net_growth},norm={at.norm}"
        return f"{published},network={at.network},{sizes}"

    def check(self) -> None:
        super().check()
        pieces.network_of(self.network, self.network.network, 2)

    def check_images(self, shape: Sequence[int]) -> None:
        super().check_images(shape)
        name = self.network.network
        check_images(pieces.network_of(self.network, name, 2), tuple(shape), f"network {name!r}")

    def validator(self, kernel: Kernel, prepared: Prepared) -> Learner:
        classes = len(prepared.class_names)
        return recipe_learner(self.recipe(classes), classes, held_out(prepared))

    def check_start(self, kernel: Kernel, synthetic: Synthetic) -> None:
        """Networks take any set."""

    def objective(self, network: Network) -> Objective:
        """The objective."""
        raise NotImplementedError

    def trajectory(self, network: Network) -> Trajectory:
        """The networks of the steps."""
        raise NotImplementedError

    def across(self) -> Risk:
        """The risk over the losses, or over the distances of the groups."""
        return pieces.risk_of(self.risk)

    def distiller(self, kernel: Kernel, classes: int) -> Distiller:
        network = pieces.network_of(self.network, self.network.network, classes)
        return compose(
            self.objective(network),
            risk=self.across(),
            trajectory=self.trajectory(network),
            parameterisation=pieces.parameterisation_of(self.set, self.label_kind),
            **pieces.steps_of(self.drawn(classes), self.optimiser),
        )
