"""DC and DSA: gradients, matched at networks that are trained on the set as it grows.

Zhao, Mopuri & Bilen 2021, *Dataset Condensation with Gradient Matching*; Zhao & Bilen 2021, *Dataset Condensation with
Differentiable Siamese Augmentation*: SGD at 0.1 with momentum 0.5, networks at 0.01.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import optax

from rdd_jax.app import pieces
from rdd_jax.app.methods.matching import Matching, MatchingSetOptions, SiameseOptions, siamese_of
from rdd_jax.app.methods.networked import TrainingOptions, dsa_parts
from rdd_jax.app.options import count, one_of
from rdd_jax.contracts import Objective
from rdd_jax.networks import Network, check_batch
from rdd_jax.objectives import DISTANCES, gradient_matching
from rdd_jax.trajectory import Trajectory, on_synthetic, trained
from rdd_jax.types import Data

__all__ = ["DC", "DSA", "LOOPS", "GradientMatching", "GradientOptions", "SetTrainingOptions", "loops"]


@dataclass(frozen=True)
class GradientOptions(SiameseOptions):
    """How gradients are compared."""

    distance: Annotated[str, one_of(DISTANCES, "of gradients, a layer's outputs one by one or all")] = "cosine"


@dataclass(frozen=True)
class SetTrainingOptions(TrainingOptions):
    """The training of the network on the set."""

    net_epochs: Annotated[int | None, count("its epochs over the set between two steps; unset: as published")] = None


LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""By images a class: matching steps for which a network is kept, and its epochs over the set between two of them, as in
the code that was published."""


def loops(ipc: int) -> dict[str, int]:
    """The published loops of ``ipc`` images a class: those of the next size in the table, or of its last."""
    outer, inner = LOOPS[min((size for size in LOOPS if size >= ipc), default=max(LOOPS))]
    return {"net_period": outer, "net_epochs": inner}


@dataclass(frozen=True)
class GradientMatching(Matching):
    """What DC, DSA and RDD share: gradients are what is matched."""

    set: MatchingSetOptions = MatchingSetOptions()
    matching: GradientOptions = GradientOptions()

    def check(self) -> None:
        super().check()
        network = pieces.network_of(self.network, self.network.network, 2)
        check_batch(network, self.set.images)

    def objective(self, network: Network) -> Objective:
        return gradient_matching(network, DISTANCES[self.matching.distance], siamese_of(self.matching.siamese))


@dataclass(frozen=True)
class DC(GradientMatching):
    """Dataset condensation: match gradients, at networks that are trained on the set as it grows."""

    training: SetTrainingOptions = SetTrainingOptions()

    def published(self, train: Data) -> dict[str, Any]:
        # MNIST's published networks were trained under an augmentation, for as long as DSA's; others under none.
        named = self.data.data.partition(":")[0]
        return loops(self.set.ipc) | ({"recipe": "dsa,augment=dc"} if named == "mnist" else {})

    def trajectory(self, network: Network) -> Trajectory:
        own = self.training
        assert own.net_epochs is not None
        assert own.net_period is not None
        optimizer = optax.sgd(own.net_lr)
        augment = siamese_of(self.matching.siamese, shared=False)
        lesson = on_synthetic(network, optimizer, own.net_epochs, own.net_batch, augment)
        return trained(network, lesson, optimizer, own.net_period, pool=own.net_pool)


@dataclass(frozen=True)
class DSA(DC):
    """Gradient matching under one random augmentation of both sides of a class a step."""

    def published(self, train: Data) -> dict[str, Any]:
        return loops(self.set.ipc) | dsa_parts(train)
