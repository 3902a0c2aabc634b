"""The values that travel through the library, in the order in which they do.

`Data` lives on the host in pixel space; `Examples` on the device in model space (after preprocessing); a sampler draws
a `Batch` from them; an objective returns `Losses`; what is learned is a `Synthetic` set.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from rdd_jax.checks import check_codes, check_images, check_names
from rdd_jax.counted import Counted, pytree
from rdd_jax.pixels import Images, PixelMap, Pixels, as_pixels, rows_of

__all__ = [
    "Batch",
    "Data",
    "Examples",
    "Groups",
    "Info",
    "Losses",
    "Numbers",
    "PRNGKey",
    "Splits",
    "State",
    "Subject",
    "Synthetic",
    "Training",
    "centred_one_hot",
]


@pytree
@dataclass(frozen=True, eq=False)
class Examples(Counted):
    """Real examples on the device; ``group_count`` says in how many groups."""

    CODES = "groups"
    images: Num[Array, "N h w c"]
    """In model space, or as they came where there is a ``space``; `look` takes them from there. Those beyond ``n`` are
    none: devices hold as many each."""
    labels: Float[Array, "n k"]
    """Centred one-hot: ``onehot - 1/k``."""
    groups: Int[Array, " n"]
    """A group ``0..group_count-1`` per example; all zero where none were given."""
    loss: Float[Array, " n"] | None = None
    """The loss of every example when it was last looked at, not negative."""
    weight: Float[Array, " n"] | None = None
    """How much every example counts; None: all the same."""
    space: PixelMap | None = None
    """What maps images to model space when they are looked at; None: they are there."""
    held: Int[Array, " N"] | None = None
    """Which examples the ``images`` are, in rising order, where a step is given only those that it looks at (see
    `rdd_jax.streaming`); None: all."""
    tables: dict[str, Any] | None = None
    """What samplers look up, see `sampling.ready`."""

    def replace(self, **changes: Any) -> "Examples":
        """The same with other values in some fields; without tables, which need no longer be true."""
        return super().replace(**{"tables": None, **changes})

    def look(self, index: Int[Array | np.ndarray, "*b"] | slice) -> Float[Array, "*b h w c"]:
        """The images at ``index``, which are there, in model space."""
        place = index if self.held is None else jnp.searchsorted(self.held, jnp.asarray(index))
        found = self.images.at[place].get(mode="promise_in_bounds")
        return found if self.space is None else self.space(found)


@pytree
@dataclass(frozen=True, eq=False)
class Batch(Counted):
    """What a sampler drew, with weights: 1 where the draw was uniform and all count the same."""

    CODES = "group"
    images: Float[Array, "b h w c"]
    labels: Float[Array, "b k"]
    group: Int[Array, " b"]
    weight: Float[Array, " b"]

    def losses(self, value: Float[Array, " b"]) -> "Losses":
        """One loss an example, with its group and weight."""
        return Losses(value, self.group, self.weight, group_count=self.group_count)


class Synthetic(NamedTuple):
    """A distilled set in model space, or any small set that stands in for a large one."""

    images: Float[Array, "m h w c"]
    labels: Float[Array, "m k"]
    weight: Float[Array, " m"] | None = None
    """How many real examples each stands for; None: all the same."""
    classes: Int[Array, " m"] | None = None
    """The class that each is an image of, which stays when its label is trained; None: its label's largest entry."""

    @property
    def of_class(self) -> Int[Array, " m"]:
        """The class of every image."""
        return jnp.argmax(self.labels, 1) if self.classes is None else self.classes


@pytree
@dataclass(frozen=True, eq=False)
class Losses(Counted):
    """Losses that a risk turns into one number: one an example, or one a group of ``group_count``."""

    CODES = "group"
    value: Float[Array, " l"]
    group: Int[Array, " l"]
    weight: Float[Array, " l"]


PRNGKey = Key[Array, ""]


def centred_one_hot(labels: np.ndarray | Array, classes: int) -> Float[Array, "n k"]:
    """``onehot(labels) - 1/classes``, float32: the labels that ridge regression fits."""
    return jax.nn.one_hot(jnp.asarray(labels), classes, dtype=jnp.float32) - 1.0 / classes


@dataclass(frozen=True)
class Data:
    """One split of a labelled image data set, in pixel space, on the host.

    Attributes:
      images: ``[n, H, W, C]``, ``uint8`` in 0..255 or floating point in [0, 1]; ``C`` is 1 (grey) or 3 (RGB). In
        memory, or in a file (`rdd_jax.arrays.Stored`).
      labels: ``[n]`` int32 in ``0..len(class_names)-1``.
      class_names: one a class, all different, of characters that can be shown.
      groups: ``[n]`` int32 or None; ``group_names`` names them.
      mirror: whether a mirrored image is still one of its class: true of most photographs, not of digits or letters.

    Raises:
      InputError: shapes, ranges or types that do not fit, naming the value.
    """

    images: Pixels
    labels: np.ndarray
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    mirror: bool = True

    def __post_init__(self):
        check_images(self.images)
        check_names("class_names", self.class_names)
        check_names("group_names", self.group_names)
        n = len(self.images)
        check_codes("labels", self.labels, n, len(self.class_names))
        if self.groups is not None:
            check_codes("groups", self.groups, n, len(self.group_names))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def cell_shape(self) -> tuple[int, int]:
        """``(classes, groups)`` of a table of cells."""
        return self.classes, max(1, len(self.group_names))

    @property
    def cell_counts(self) -> Int[np.ndarray, "c g"]:
        """How many examples each (class, group) has; all in one group where there are none."""
        groups = np.zeros_like(self.labels) if self.groups is None else self.groups
        count = np.zeros(self.cell_shape, int)
        np.add.at(count, (self.labels, groups), 1)
        return count

    @property
    def pixels(self) -> Float[np.ndarray, "n h w c"]:
        """The images as float32 in [0, 1]."""
        return as_pixels(self.loaded)

    @property
    def loaded(self) -> np.ndarray:
        """The images in memory; those in a file are read."""
        return np.asarray(self.images)

    def take(self, index: np.ndarray) -> "Data":
        """The examples at ``index``, in its order."""
        groups = None if self.groups is None else self.groups[index]
        return replace(self, images=rows_of(self.images, index), labels=self.labels[index], groups=groups)


class Splits(NamedTuple):
    """The three splits of a data set and its name. Selection never sees ``test``."""

    train: Data
    validation: Data
    test: Data
    name: str


# --- what steps, groupings, selections and trainings keep ----------------------------------------------
Numbers = Array | np.ndarray


class State(NamedTuple):
    """All that a run is: one pytree, to be saved and taken up again; ``networks`` is what the trajectory keeps."""

    params: Any
    fixed: Any
    optimizer: Any
    step: Int[Array, "*s"]
    networks: Any = None


class Info(NamedTuple):
    """What a step tells; never fed back. From `Distiller.run` NumPy arrays with a leading axis of steps."""

    loss: Float[Numbers, "*s"]
    """The risk, which is what is minimised."""
    gradient_norm: Float[Numbers, "*s"]
    """The Euclidean norm of its gradient with respect to all parameters."""
    by_group: Float[Numbers, "*s g"]
    """The mean loss of every group; NaN where the batch had none of it."""
    finite: Bool[Numbers, "*s"]
    """False where loss or gradient was not finite: the step then left the state as it was."""


@dataclass(frozen=True)
class Subject:
    """What a grouping may look at.

    Attributes:
      images: ``[n, h, w, c]`` in model space; ``labels``: ``[n]`` integers in ``0..classes-1``.
      given: ``[n]`` integers, the groups that came with the data, or None.
      synthetic: the set as it is now; None where there is none yet.
    """

    images: Images
    labels: np.ndarray
    classes: int
    given: np.ndarray | None = None
    synthetic: Synthetic | None = None
    _described: dict[Callable, np.ndarray] = field(default_factory=dict, repr=False)

    def described(self, features: Callable[["Subject"], np.ndarray]) -> np.ndarray:
        """``features(subject)``, computed once however many groupings ask, also beside another synthetic set."""
        if features not in self._described:
            self._described[features] = features(self)
        return self._described[features]


class Groups(NamedTuple):
    """A group ``0..size-1`` within its class for every example.

    Attributes:
      pieces: what joined groups were joined from; ``weight``: how much every example counts, where that protects.
      evidence: what the grouping looked at before it chose these, a named tuple a candidate.
    """

    code: Int[np.ndarray, " n"]
    size: int
    pieces: Int[np.ndarray, " n"] | None = None
    weight: Float[np.ndarray, " n"] | None = None
    evidence: tuple[Any, ...] = ()


class Training(NamedTuple):
    """A network in training. ``average`` follows ``variables`` exponentially."""

    variables: Any
    optimizer: Any
    average: Any = None
