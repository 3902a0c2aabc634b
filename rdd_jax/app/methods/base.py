"""What every method of distilling is: its options, its published settings, and the distiller that they make."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from rdd_jax.app import options, pieces
from rdd_jax.app.sections import (
    DATA_ON,
    MESH,
    BatchOptions,
    DataOptions,
    EvaluationOptions,
    GroupOptions,
    MethodGroupOptions,
    OptimiserOptions,
    RegressionOptions,
)
from rdd_jax.app.set_options import LearnedSetOptions, SetOptions
from rdd_jax.contracts import Kernel, Learner
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.devices import AUTO
from rdd_jax.distill import Distiller
from rdd_jax.errors import InputError
from rdd_jax.evaluation import Evaluation, krr_learner
from rdd_jax.grouping import split_names
from rdd_jax.kernels import krr
from rdd_jax.networks.convnet import fitting_depth
from rdd_jax.networks.recipe_files import recipe_of, spelt
from rdd_jax.networks.recipes import Recipe
from rdd_jax.types import Data, Splits, Synthetic

__all__ = ["Method", "Stepped", "filled"]


@dataclass(frozen=True)
class Method:
    """The configuration of a run by one method: all that decides its result.

    A method is one file with a subclass of this, and one line in `rdd_jax.app.methods`. Its sections are fields, its
    defaults those that were published.
    """

    if TYPE_CHECKING:  # the sections that every method has, each in its own order and with its own defaults
        data: DataOptions = DataOptions()
        set: SetOptions = SetOptions()
        groups: GroupOptions = GroupOptions()
        kernel: RegressionOptions = RegressionOptions()
        evaluation: EvaluationOptions = EvaluationOptions()
    seed: Annotated[int, options.seed_number("of everything: splits, start, batches, augmentation")] = 0
    mesh: Annotated[str, MESH] = AUTO
    data_on: Annotated[str, DATA_ON] = AUTO

    PLAIN: ClassVar[dict[str, Any]] = {"grouping": "none"}
    """What stands for options that are unset."""
    ROBUST: ClassVar[dict[str, Any]] = {}
    """The same under ``--robust``."""
    steps: ClassVar[int] = 0
    robust: ClassVar[bool] = False
    label_kind: ClassVar[str] = "fixed"
    precision: ClassVar[str] = "float32"

    @property
    def images(self) -> int:
        """Images a class of the set as it is decoded."""
        return self.set.ipc

    @classmethod
    def description(cls) -> str:
        """What the method does, in a line or two."""
        return inspect.getdoc(cls) or ""

    def resolved(self, train: Data) -> "Method":
        """With everything that is unset spelt out, for these training data."""
        found = filled(self, mirror=train.mirror, recipe=self.published_recipe(train))
        recipe = found.recipe(train.classes)
        # In words that hold anywhere, whatever file it stood in.
        words = spelt(recipe, self.images * train.classes, train.classes)
        return filled(options.updated(found, {"recipe": words}), learners=recipe.network)

    def published_recipe(self, train: Data) -> str:
        """The recipe that stands where none is given, in words."""
        return f"dc,depth={fitting_depth(train.images.shape[1:])}"

    def recipe(self, classes: int) -> Recipe:
        """How networks are to learn from the set."""
        assert self.evaluation.recipe is not None, "resolved first"
        return recipe_of(self.evaluation.recipe, self.images * classes, classes)

    def recipes(self, classes: int) -> list[Recipe]:
        """The same for each of the networks of its evaluation."""
        return pieces.recipes_of(self.evaluation, self.recipe(classes))

    def check(self) -> None:
        """Raises `InputError` where an option cannot be, as far as can be seen without the data."""
        options.check(self)

    def check_images(self, shape: Sequence[int]) -> None:
        """Raises `InputError` where images of ``shape = (h, w, c)`` cannot be learned by these options."""

    def check_data(self, splits: Splits) -> None:
        """Raises `InputError` where options do not go with these real data."""

    def all_data(self) -> list[Evaluation]:
        """What the real data themselves reached, where a network was trained on them."""
        return []

    def started(self, start: Synthetic) -> Synthetic:
        """The start in the form that the method learns from."""
        return start

    def check_start(self, kernel: Kernel, synthetic: Synthetic) -> None:
        """Raises `InputError` where kernel ridge regression on the set cannot be solved."""
        krr.check_positive_definite(kernel, synthetic.images, self.kernel.reg)


@dataclass(frozen=True)
class Stepped(Method):
    """A method that learns images by steps of an optimiser."""

    if TYPE_CHECKING:
        set: LearnedSetOptions = LearnedSetOptions()
        groups: MethodGroupOptions = MethodGroupOptions()
        batch: BatchOptions = BatchOptions()
        optimiser: OptimiserOptions = OptimiserOptions()

    networks_of_step: ClassVar[int | None] = None
    """Networks that a step looks at side by side; None: what it looks at is divided in no such way."""

    @property
    def steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps of the optimiser."""
        return self.optimiser.steps

    @property
    def robust(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether subgroups are protected without group labels."""
        return self.groups.robust

    @property
    def label_kind(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What becomes of the labels: ``fixed``, ``soft``, ``learned`` or ``solved``."""
        return getattr(self.set, "labels", "fixed")

    @property
    def images(self) -> int:
        return self.set.images

    @classmethod
    def description(cls) -> str:
        meant = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in cls.ROBUST.items())
        return f"{super().description()} --robust: {meant}."

    @property
    def grouping(self) -> str:
        """The grouping that is meant, said or not."""
        return self.groups.grouping or (self.ROBUST if self.groups.robust else self.PLAIN)["grouping"]

    def check(self) -> None:
        super().check()
        parts = split_names(self.grouping)
        if "none" in parts and len(parts) > 1:
            raise InputError(f"grouping is {self.grouping!r}: 'none' stands alone")
        if self.set.init_strata == "group" and self.grouping == "none":
            raise InputError("init_strata is 'group', but grouping is 'none': choose a grouping (discovered)")

    def check_images(self, shape: Sequence[int]) -> None:
        pieces.check_stored(self.set, shape)

    def drawn(self, classes: int) -> BatchOptions:
        """The batches of a step, of all classes together."""
        return self.batch

    def distiller(self, kernel: Kernel, train: Data) -> Distiller:
        """The distiller for images and classes such as those of ``train``, in any number of groups."""
        raise NotImplementedError

    def validator(self, kernel: Kernel, prepared: Prepared) -> Learner:
        """What the set is validated by on its way."""
        return krr_learner(kernel, self.kernel.reg)


def filled(config: Any, **values: Any) -> Any:
    """The configuration with ``values`` where it is unset."""
    changes: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            changes[field.name] = filled(value, **values)
        elif value is None and field.name in values:
            changes[field.name] = values[field.name]
    return replace(config, **changes)
