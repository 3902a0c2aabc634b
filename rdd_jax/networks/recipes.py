"""Recipes: how a network is trained on a small set, as one value of names and numbers that a set can carry.

Figures under different recipes do not compare, so that a set goes with the one that it was made for. What the fields
do is in `rdd_jax.networks.training`, how they are written in `rdd_jax.networks.recipe_files`.
"""

from dataclasses import dataclass, replace

from rdd_jax.augment import augment_by_name
from rdd_jax.errors import InputError, check_one_of
from rdd_jax.networks import NETWORKS, Network, network_by_name
from rdd_jax.networks.base import centred
from rdd_jax.networks.convnet import GROWTHS
from rdd_jax.networks.layers import NORMS
from rdd_jax.registry import Registry

__all__ = [
    "LOSSES",
    "NETWORK_FIELDS",
    "OPTIMIZERS",
    "RECIPES",
    "SCHEDULES",
    "SIZED",
    "Recipe",
    "dc",
    "dsa",
    "frepo",
    "network_by_recipe",
    "recipe_by_name",
    "rfad",
    "sizes_of",
]

Number = int | float

LOSSES = ("cross-entropy", "squared")
OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("drop", "cosine", "constant")
NAMES = {
    "network": NETWORKS,
    "growth": GROWTHS,
    "norm": NORMS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
MOST = 2**31 - 1
RANGES = {
    "depth": (1, 100),
    "width": (1, MOST),
    "label_scale": (1e-6, 1e6),
    "learning_rate": (1e-12, 1e6),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1e6),
    "warmup": (0, MOST),
    "epochs": (1, MOST),
    "steps": (1, MOST),
    "batch": (1, MOST),
    "average": (0, 0.9999),
    "stop": (0, MOST),
}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained on a small set; the defaults are DC's (Zhao et al. 2021).

    Attributes:
      network: by name, of `networks.NETWORKS`; ``depth``, ``width``, ``growth``, ``norm``: its sizes, where it has
        such (`SIZED`).
      centred: whether its output is counted from the one that it had at initialisation (`networks.centred`).
      loss: ``cross-entropy`` to distributions over the classes, which labels that are none are cut to (`targets`); or
        ``squared``: half the squared distance to the labels as they are, centred.
      label_scale: of ``squared``: labels are multiplied by it, and the loss divided by its square.
      optimizer: ``sgd`` with ``momentum``, or ``adam``; ``weight_decay`` joins the gradient.
      schedule: ``drop`` to a tenth past half, where the momentum of SGD begins anew; ``cosine`` to a hundredth, after
        ``warmup`` steps up from 0; ``constant``.
      epochs: over the set; or ``steps``: batches. One of the two is None.
      batch: images a step; all, where the set has no more.
      augment: of every batch, by name (`augment.augment_by_name`).
      average: decay of an exponential average of the weights, which is then what is tested; 0: the last weights.
      stop: looks at real images that are held out, of which there are twenty spread evenly over the training, without a
        better accuracy, after which it ends; what is then tested is the network of the best look. 0: nothing is looked
        at, and the training goes to its end.
      rates: learning rates of other networks by this recipe, such as ``"mlp:0.03 lenet:0.1"``; a network that is not
        there has ``learning_rate``. `rdd_jax.evaluation.with_rates` finds them.

    Raises:
      InputError: a value that a field cannot have.
    """

    network: str = "convnet"
    depth: int = 3
    width: int = 128
    growth: str = "constant"
    norm: str = "instance"
    centred: bool = False
    loss: str = "cross-entropy"
    label_scale: Number = 1.0
    optimizer: str = "sgd"
    learning_rate: Number = 0.01
    momentum: Number = 0.9
    weight_decay: Number = 5e-4
    schedule: str = "drop"
    warmup: int = 0
    epochs: int | None = 301
    steps: int | None = None
    batch: int = 256
    augment: str = "none"
    average: Number = 0.0
    stop: int = 0
    rates: str = ""

    def __post_init__(self):
        for name, names in NAMES.items():
            check_one_of(name, getattr(self, name), names)
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InputError(f"{name} is {value}: it must be at least {least}, at most {most}")
        augment_by_name(self.augment)
        if (self.epochs is None) == (self.steps is None):
            raise InputError(f"epochs is {self.epochs} and steps is {self.steps}: give one of the two")
        if self.label_scale != 1 and self.loss != "squared":
            raise InputError(f"label_scale is {self.label_scale}, but the loss is {self.loss}: it is of squared")
        if self.warmup and self.schedule != "cosine":
            raise InputError(f"warmup is {self.warmup}, but the schedule is {self.schedule}: it is of cosine")
        if self.steps is not None and self.warmup >= self.steps:
            raise InputError(f"warmup is {self.warmup} of {self.steps} steps: leave some for the cosine")
        _rates(self.rates)

    def of(self, network: str) -> "Recipe":
        """The same for another network, with the rate that is known for it."""
        rate = _rates(self.rates).get(network, self.learning_rate)
        return replace(self, network=network, learning_rate=rate, rates="")

    def length(self, images: int) -> tuple[int, int]:
        """Of the training on a set of so many images: ``(whole epochs, steps after them)``."""
        if self.steps is None:
            return self.epochs or 0, 0
        return divmod(self.steps, -(-images // self.batch))


def _rates(words: str) -> dict[str, float]:
    """The rates by network; raises `InputError` where there is no such network or rate."""
    found = {}
    for word in words.split():
        name, _, text = word.partition(":")
        check_one_of("network of rates", name, NETWORKS)
        if name in found:
            raise InputError(f"rates hold {name} twice: give it one rate")
        try:
            found[name] = float(text)
        except ValueError as error:
            raise InputError(f"rates hold {word!r}: give NAME:RATE, such as mlp:0.03") from error
        least, most = RANGES["learning_rate"]
        if not least <= found[name] <= most:
            raise InputError(f"rates hold {word!r}: a rate must be at least {least}, at most {most}")
    return found


SIZED = {"convnet": ("depth", "width", "growth", "norm"), "mlp": ("width",)}
"""The sizes of networks that have any; others are as they were published."""

NETWORK_FIELDS = ("network", *SIZED["convnet"])
"""Those that say which network, and not how it is trained."""


# --- those that were published -----------------------------------------------------------------------


def dc() -> Recipe:
    """SGD and one drop of the rate, no augmentation (Zhao et al. 2021): ConvNet-3-128 in the tables of the field.

    The code of those tables, in its loop over what it calls 300 epochs, takes 301, and makes its optimiser again, at a
    tenth of the rate, after 152 of them.
    """
    return Recipe()


def dsa() -> Recipe:
    """The same for 1,001 epochs, under DSA's augmentation (Zhao & Bilen 2021); of digits ``augment=dsa-no-flip``."""
    return Recipe(epochs=1001, augment="dsa")


FREPO_STEPS = {10: 1000, 100: 2000, 500: 5000}
"""By images of the set."""


def frepo(images: int) -> Recipe:
    """FRePo's (Zhou et al. 2022): squared error on the labels as they are, Adam and a cosine, heavy augmentation.

    A ConvNet whose width doubles, without norm. Between the published sizes the set is trained on for as long as the
    next larger one, beyond the largest as long as that. Of digits ``augment=frepo-no-flip``.
    """
    steps = FREPO_STEPS[min((size for size in FREPO_STEPS if size >= images), default=max(FREPO_STEPS))]
    return Recipe(
        growth="double",
        norm="none",
        loss="squared",
        optimizer="adam",
        learning_rate=3e-4,
        weight_decay=0.0,
        schedule="cosine",
        warmup=500,
        epochs=None,
        steps=steps,
        batch=500,
        augment="frepo",
    )


def rfad(images: int, classes: int) -> Recipe:
    """RFAD's (Loo et al. 2022): a centred ConvNet of width 1,024, squared error on scaled labels, momentum, full batch.

    Published as up to 20,000 steps that are stopped early by the accuracy on real training images. How often those are
    looked at, five looks without a better accuracy, and the rate, which was tuned there, are of this library.
    """
    return Recipe(
        width=1024,
        norm="none",
        centred=True,
        loss="squared",
        label_scale=8.0 if images <= classes else 2.0,
        weight_decay=0.0,
        schedule="constant",
        epochs=None,
        steps=20_000,
        batch=min(images, MOST),
        stop=5,
    )


RECIPES: Registry[Recipe] = Registry("recipe", {"dc": dc, "dsa": dsa, "frepo": frepo, "rfad": rfad})


def recipe_by_name(name: str, images: int, classes: int) -> Recipe:
    """A recipe of `RECIPES` for a set of so many images, of all classes together; else `InputError`."""
    return RECIPES.make(name, images=images, classes=classes)


def sizes_of(recipe: Recipe) -> dict[str, int | str]:
    """The sizes of a recipe's network, by name; none where it has none."""
    return {name: getattr(recipe, name) for name in SIZED.get(recipe.network, ())}


def network_by_recipe(recipe: Recipe, classes: int) -> Network:
    """The network of a recipe.

    Raises:
      InputError: one that it cannot have, such as group norm of an odd width.
    """
    network = network_by_name(recipe.network, classes, **sizes_of(recipe))
    return centred(network) if recipe.centred else network
