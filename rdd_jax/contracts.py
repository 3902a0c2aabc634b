"""The contracts of the library: what a piece is called with and what it gives, one protocol a family.

A piece is any callable of its family's form: one of this library's, a function of your own, a ``jit``-ted one.
Arguments are positional. The values that travel between pieces are in `rdd_jax.types`; the few pieces that are more
than one function are named tuples beside their members: `rdd_jax.networks.Network`,
`rdd_jax.parameterise.Parameterisation`, `rdd_jax.trajectory.Trajectory`, `rdd_jax.grouping.Grouping` and
`rdd_jax.distill.Distiller`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int

from rdd_jax.choices import Selection, Strata
from rdd_jax.pixels import Images
from rdd_jax.types import (
    Batch,
    Data,
    Examples,
    Groups,
    Info,
    Losses,
    PRNGKey,
    Splits,
    State,
    Subject,
    Synthetic,
    Training,
)

__all__ = [
    "Augment",
    "Callback",
    "Corruption",
    "Draw",
    "Features",
    "FitGroups",
    "Kernel",
    "Learner",
    "Lesson",
    "Measure",
    "Objective",
    "Predict",
    "Reader",
    "Risk",
    "Sampler",
    "Score",
    "Select",
    "Shift",
]


# --- pure functions of arrays, inside `jit` ----------------------------------------------------------


@runtime_checkable
class Kernel(Protocol):
    """A kernel of images. Members: `rdd_jax.kernels`; any ``neural_tangents.stax`` one will do."""

    def __call__(self, x1: Float[Array, "n1 h w c"], x2: Float[Array, "n2 h w c"], /) -> Float[Array, "n1 n2"]:
        """``k(x1[i], x2[j])`` for all pairs; positive semidefinite, differentiable in both."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Which real examples a step sees. Members: `rdd_jax.sampling`."""

    def __call__(self, key: PRNGKey, data: Examples, /) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
        """``(index, weight)``: rows of ``data``, and what each counts for: 1 unless the draw was not uniform."""
        ...


@runtime_checkable
class Augment(Protocol):
    """An augmentation, differentiable in the images. Members: `rdd_jax.augment`."""

    def __call__(self, key: PRNGKey, images: Float[Array, "b h w c"], /) -> Float[Array, "b h w c"]:
        """Images of the same shape, in model space; the same key gives the same transform."""
        ...


@runtime_checkable
class Objective(Protocol):
    """What is minimised, before the risk. Members: `rdd_jax.objectives`."""

    def __call__(self, key: PRNGKey, model: Any, synthetic: Synthetic, batch: Batch, /) -> Losses:
        """One loss an example (`Batch.losses`), or one a group of ``batch.group_count``.

        ``model`` are the variables of the network of this step (see `rdd_jax.trajectory`), None for kernels; the
        gradient is taken with respect to ``synthetic``.
        """
        ...


@runtime_checkable
class Measure(Protocol):
    """Turns the losses of every group into one number. Members: `rdd_jax.risk`."""

    def __call__(self, losses: Losses, /) -> Float[Array, " g"]:
        """One number for each of the ``losses.group_count`` groups; 0 for one without weight."""
        ...


@runtime_checkable
class Risk(Protocol):
    """Turns all losses into the number that is minimised: `rdd_jax.risk.overall` and `grouped` compose them."""

    def __call__(self, losses: Losses, /) -> Float[Array, ""]:
        """A scalar, convex in the losses."""
        ...


@runtime_checkable
class Lesson(Protocol):
    """Some steps of a network's training between two steps of the set. Members: `rdd_jax.trajectory`."""

    def __call__(self, key: PRNGKey, training: Training, synthetic: Synthetic, data: Examples, /) -> Training:
        """The network after the lesson, and its optimiser's state."""
        ...

    def looks(self, key: PRNGKey, data: Examples, /) -> Int[Array, " r"]:
        """The real examples that it looks at, none perhaps; known without their images."""
        ...


@runtime_checkable
class Callback(Protocol):
    """Called by `Distiller.run` after every dispatch; what it raises ends the run."""

    def __call__(self, state: State, info: Info, /) -> object:
        """``state`` after the dispatch, and the ``info`` of its steps, NumPy arrays with a leading axis of steps.

        The next dispatch writes over the state: copy what is to be kept, as by ``jax.tree.map(jnp.copy, state)``.
        """
        ...


# --- on the host -------------------------------------------------------------------------------------


@runtime_checkable
class Reader(Protocol):
    """Reads data sets of one kind. Members: `rdd_jax.datasets.READERS`."""

    def __call__(self, name: str, /) -> dict[str, Data] | None:
        """The splits that the source has, of ``train``, ``validation`` and ``test``; None: not of this kind.

        They are given away: other splits are drawn by moving images within the array. Make arrays anew at every call,
        or keep what you hold by making it read-only; it is copied then. A reader with the parameters ``resize``,
        ``mode`` and ``leave`` is given what `rdd_jax.datasets.load` is; what others read is brought into that form
        afterwards.

        Raises `InputError` where it is of this kind and cannot be read.
        """
        ...


@runtime_checkable
class Shift(Protocol):
    """Gives a data set groups. Members: `rdd_jax.datasets.shifts`."""

    def __call__(self, seed: int, splits: Splits, /) -> Splits:
        """The splits with groups: train and validation skewed alike, test even over the groups."""
        ...


@runtime_checkable
class Corruption(Protocol):
    """Spoils images. Members: `rdd_jax.datasets.corruptions`."""

    def __call__(self, rng: np.random.Generator, pixels: Float[np.ndarray, "n h w c"], /) -> np.ndarray:
        """Pixels of the same shape, in [0, 1]."""
        ...


@runtime_checkable
class Features(Protocol):
    """What a grouping looks at: a view of the examples. Members: `rdd_jax.grouping.features`."""

    def __call__(self, subject: Subject, /) -> Float[np.ndarray, "n d"]:
        """A float32 vector of every example; deterministic. Given groups are not looked at."""
        ...


@runtime_checkable
class FitGroups(Protocol):
    """The function of a `rdd_jax.grouping.Grouping`."""

    def __call__(self, seed: int, subject: Subject, /) -> Groups:
        """A group within its class for every example."""
        ...


@runtime_checkable
class Score(Protocol):
    """How much each example matters. Members: `rdd_jax.selection.SCORES`."""

    def __call__(self, seed: int, pool: Any, m: int, /) -> Float[np.ndarray, " n"]:
        """Not negative; ``m`` examples are to be taken from ``pool``, a `rdd_jax.selection.Pool`."""
        ...


@runtime_checkable
class Draw(Protocol):
    """Takes examples by score within one stratum. Members: `rdd_jax.selection.DRAWS`."""

    def __call__(
        self, rng: np.random.Generator, score: np.ndarray, m: int, /
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(member [m], weight [m], probability [i])``; weights make sums over the chosen unbiased."""
        ...


@runtime_checkable
class Select(Protocol):
    """Chooses real examples. Members: `rdd_jax.selection.SELECTIONS`."""

    def __call__(self, seed: int, pool: Any, strata: Strata, /) -> Selection:
        """``strata.take[s]`` examples of every stratum of ``pool``, a `rdd_jax.selection.Pool`."""
        ...


@runtime_checkable
class Predict(Protocol):
    """A fitted learner."""

    def __call__(self, images: Images, /) -> Float[np.ndarray, "n k"]:
        """Outputs for any number of images ``[n, h, w, c]`` in model space; the largest is the class."""
        ...


@runtime_checkable
class Learner(Protocol):
    """Learns from a small set alone. Members: `rdd_jax.evaluation.LEARNERS`."""

    def __call__(self, synthetic: Synthetic, seeds: Sequence[int], /) -> Iterator[Predict]:
        """A predictor for every seed."""
        ...
