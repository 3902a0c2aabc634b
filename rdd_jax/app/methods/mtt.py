"""MTT: a training on the set is to take a network where a training on the real data took it.

Cazenavette, Wang, Torralba, Efros & Zhu 2022, *Dataset Distillation by Matching Training Trajectories*. Published are
5,000 steps, a hundred trainings on the real data, a rate of the training on the set that is learned, the distance
``missed``, and a gradient that goes through the weights of all steps; here the rate is given, the direction alone is
matched, and the gradient is of some steps, each by itself. The trainings are those of `rdd train`, made once. Where
they are under a robust risk over groups, the set leads networks where that risk leads them, though no real image is
looked at; that use is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rdd_jax.app import pieces
from rdd_jax.app.methods.matching import MatchingSetOptions, SiameseOptions, siamese_of
from rdd_jax.app.methods.networked import ByNetworks, NetworkOptions, as_distributions, dsa_parts
from rdd_jax.app.options import count, number, one_of
from rdd_jax.app.sections import (
    BatchOptions,
    DataOptions,
    EvaluationOptions,
    MethodGroupOptions,
    OptimiserOptions,
    RegressionOptions,
    RiskOptions,
)
from rdd_jax.app.snapshot_folder import SnapshotFolder
from rdd_jax.contracts import Objective, Risk
from rdd_jax.errors import InputError
from rdd_jax.networks import Network, check_batch
from rdd_jax.objectives import ENDS, trajectory_matching
from rdd_jax.risk import mean, overall
from rdd_jax.snapshots import between_snapshots
from rdd_jax.trajectory import Trajectory
from rdd_jax.types import Data, Splits, Synthetic

__all__ = ["MTT", "EndsOptions", "TracedOptions"]


@dataclass(frozen=True)
class TracedOptions(NetworkOptions):
    """The network of the trainings."""

    snapshots_from: Annotated[int, count("the first epoch at which stretches begin; 0: random weights", least=0)] = 0
    snapshots_to: Annotated[int | None, count("the last epoch at which they end; unset: the training's")] = None


@dataclass(frozen=True)
class EndsOptions(SiameseOptions):
    """The training on the set, and the stretch of the real one whose end it is to reach."""

    distance: Annotated[str, one_of(ENDS, "of where they end: that of MTT, or of the direction alone")] = "angle"
    span: Annotated[int, count("epochs of the training on the real data that are to be matched")] = 1
    net_steps: Annotated[int, count("steps of the training on the set that are to match them")] = 10
    net_batch: Annotated[int, count("synthetic images a training step")] = 256
    net_lr: Annotated[float, number("its learning rate (SGD)")] = 0.06
    net_asked: Annotated[int, count("steps, drawn anew each time, that are asked by themselves; 0: unrolled", 0)] = 3
    net_stretches: Annotated[int, count("stretches a step, side by side on several devices")] = 1


@dataclass(frozen=True)
class MTT(ByNetworks):
    """Trajectory matching: networks trained on the set are to go where `rdd train` took those of --snapshots."""

    data: DataOptions = DataOptions()
    set: MatchingSetOptions = MatchingSetOptions()
    groups: MethodGroupOptions = MethodGroupOptions()
    optimiser: OptimiserOptions = OptimiserOptions(lr=0.1, schedule="cosine")
    network: TracedOptions = TracedOptions()
    matching: EndsOptions = EndsOptions()
    kernel: RegressionOptions = RegressionOptions()
    evaluation: EvaluationOptions = EvaluationOptions(learners=None)

    # No options of this method, for it looks at no real images.
    batch: ClassVar[BatchOptions] = BatchOptions(batch=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    risk: ClassVar[RiskOptions] = RiskOptions()  # pyright: ignore[reportIncompatibleVariableOverride]
    PLAIN: ClassVar[dict[str, Any]] = {"grouping": "none", "init_strata": "class"}
    ROBUST: ClassVar[dict[str, Any]] = {"grouping": "discovered", "init_strata": "group"}

    @property
    def networks_of_step(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.matching.net_stretches

    def published(self, train: Data) -> dict[str, Any]:
        return dsa_parts(train)

    def check(self) -> None:
        super().check()
        check_batch(pieces.network_of(self.network, self.network.network, 2), self.matching.net_batch)

    def check_data(self, splits: Splits) -> None:
        if self.network.snapshots is None:
            raise InputError("mtt matches trainings on the real data: make some with `rdd train`, and give --snapshots")
        super().check_data(splits)
        at, kept = self.network, SnapshotFolder(Path(self.network.snapshots))
        epochs = kept.epochs
        last = epochs if at.snapshots_to is None else at.snapshots_to
        if last > epochs:
            raise InputError(f"snapshots_to is {last}, but {str(kept.folder)!r} has {epochs} epochs: lower it")
        if at.snapshots_from + self.matching.span > last:
            raise InputError(
                f"span is {self.matching.span} from epoch {at.snapshots_from} on, but epoch {last} of "
                f"{str(kept.folder)!r} is the last: lower span"
            )
        if self.groups.robust and not kept.robust:
            raise InputError(
                f"robust is on, but the networks in {str(kept.folder)!r} were trained without groups: train others "
                "with `rdd train --grouping discovered`"
            )

    def started(self, start: Synthetic) -> Synthetic:
        return as_distributions(start)

    def objective(self, network: Network) -> Objective:
        at = self.matching
        augment = siamese_of(at.siamese, shared=False)
        ends, asked = ENDS[at.distance], min(at.net_asked, at.net_steps) or None
        return trajectory_matching(network, at.net_steps, at.net_lr, at.net_batch, augment, ends, asked)

    def across(self) -> Risk:
        return overall(mean)

    def from_snapshots(self, snapshots: Sequence[Any]) -> Trajectory:
        at = self.network
        last = None if at.snapshots_to is None else at.snapshots_to - at.snapshots_from + 1
        return between_snapshots(snapshots[:last], self.matching.span, self.matching.net_stretches)
