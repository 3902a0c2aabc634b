"""KIP and label solving: distillation through kernel ridge regression.

Nguyen, Chen & Lee 2021, *Dataset Meta-Learning from Kernel Ridge-Regression*: Adam at 0.04, batches of 5,000, a ridge
of 1e-6 of the mean of the Gram matrix's diagonal.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from rdd_jax.app import pieces
from rdd_jax.app.methods.base import Method, Stepped, filled
from rdd_jax.app.options import number, one_of
from rdd_jax.app.sections import (
    BatchOptions,
    DataOptions,
    EvaluationOptions,
    GroupOptions,
    MethodGroupOptions,
    OptimiserOptions,
    RegressionOptions,
    RiskOptions,
)
from rdd_jax.app.set_options import LearnedSetOptions, SetOptions
from rdd_jax.contracts import Kernel
from rdd_jax.distill import Distiller, compose
from rdd_jax.errors import InputError
from rdd_jax.objectives import kip, kip_solved
from rdd_jax.sampling import SAMPLERS
from rdd_jax.types import Data

__all__ = ["Kip", "KipBatchOptions", "KipSetOptions", "LabelSolve", "SolvedOptions"]

KERNEL_SAMPLERS = tuple(name for name in SAMPLERS if not name.startswith("stratified"))
KIP_LABELS = ("fixed", "learned", "solved")
LABEL_REG = number("ridge of label solving, on the same scale")


@dataclass(frozen=True)
class KipSetOptions(LearnedSetOptions):
    """The set of KIP."""

    labels: Annotated[str, one_of(KIP_LABELS, "one-hot, by the optimiser, or in closed form")] = "fixed"


@dataclass(frozen=True)
class KipBatchOptions(BatchOptions):
    """The batches of KIP."""

    sampler: Annotated[str | None, one_of(KERNEL_SAMPLERS, "how they are drawn; unset: see --robust")] = None


@dataclass(frozen=True)
class SolvedOptions(RegressionOptions):
    """Regression whose labels may be solved."""

    label_reg: Annotated[float, LABEL_REG] = 1e-8


@dataclass(frozen=True)
class Kip(Stepped):
    """Kernel inducing points by kernel ridge regression."""

    data: DataOptions = DataOptions()
    set: KipSetOptions = KipSetOptions()
    groups: MethodGroupOptions = MethodGroupOptions()
    risk: RiskOptions = RiskOptions(across=None)
    batch: KipBatchOptions = KipBatchOptions()
    optimiser: OptimiserOptions = OptimiserOptions()
    kernel: SolvedOptions = SolvedOptions()
    evaluation: EvaluationOptions = EvaluationOptions()

    PLAIN: ClassVar[dict[str, Any]] = {"grouping": "none", "across": "mean", "sampler": "uniform"}
    ROBUST: ClassVar[dict[str, Any]] = {"grouping": "discovered", "across": "entropic", "sampler": "group"}

    def resolved(self, train: Data) -> Method:
        own = self.ROBUST if self.groups.robust else self.PLAIN
        return filled(super().resolved(train), **own, init_strata="class")

    def check(self) -> None:
        super().check()
        if self.set.labels == "solved" and self.grouping != "none":
            raise InputError(
                f"grouping is {self.grouping!r}, but solved labels are those of the mean over all examples: use fixed "
                "or learned labels"
            )

    def distiller(self, kernel: Kernel, train: Data) -> Distiller:
        solved = self.set.labels == "solved"
        reg, label_reg = self.kernel.reg, self.kernel.label_reg
        return compose(
            kip_solved(kernel, reg, label_reg) if solved else kip(kernel, reg),
            risk=pieces.risk_of(self.risk),
            parameterisation=pieces.parameterisation_of(self.set, "fixed" if solved else self.set.labels),
            **pieces.steps_of(self.batch, self.optimiser),
        )


@dataclass(frozen=True)
class LabelSolve(Method):
    """Keep real images and solve their labels in closed form, over all data."""

    data: DataOptions = DataOptions()
    set: SetOptions = SetOptions()
    kernel: SolvedOptions = SolvedOptions()
    evaluation: EvaluationOptions = EvaluationOptions()

    label_kind: ClassVar[str] = "solved"

    @property
    def groups(self) -> GroupOptions:  # pyright: ignore[reportIncompatibleVariableOverride]
        """None: all examples count the same."""
        return GroupOptions("none")
