"""What a configuration asks of memory and disk, at the least: enough to refuse what is beyond all reason."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from pathlib import Path

from rdd_jax.app import options
from rdd_jax.app.environment import check_memory
from rdd_jax.app.methods import Method, Stepped
from rdd_jax.app.methods.networked import ByNetworks
from rdd_jax.errors import InputError
from rdd_jax.files import room_for
from rdd_jax.networks.recipes import Recipe
from rdd_jax.types import Data

__all__ = ["check_recipes", "check_room", "check_sizes"]

NUMBER = 4
"""Bytes of a float32."""


def check_sizes(config: Method, train: Data) -> None:
    """Raises `InputError` where the images of a batch, the weights of a network or the Gram matrix do not fit."""
    shape = train.images.shape[1:]
    pixels, synthetic = prod(shape), config.images * train.classes
    needs = {"ipc": (config.set.ipc, NUMBER * synthetic * (pixels + synthetic))}
    if isinstance(config, Stepped):
        examples = config.drawn(train.classes).batch
        needs["batch"] = config.batch.batch, NUMBER * examples * (pixels + synthetic)
    values = {field.name: field.default for field in options.options(config)}
    if "net_batch" in values:
        needs["net_batch"] = values["net_batch"], NUMBER * values["net_batch"] * pixels
    if isinstance(config, ByNetworks):
        weights = _weights(config.network.recipe(config.network.network, shape), shape)
        needs["net_width"] = values["net_width"], NUMBER * weights
        for many in {"net_pool", "net_count"} & set(values):
            needs[many] = values[many], NUMBER * weights * values[many]
    check_memory(needs)
    check_recipes(config.recipes(train.classes), shape)


KEPT = 6
"""Copies of the images of a set that a run folder holds at the least: two checkpoints with two moments of each."""


def check_room(config: Method, train: Data, out: Path) -> None:
    """Raises `InputError` where the disk has no room for the checkpoints of a run in ``out``."""
    if not isinstance(config, Stepped):
        return
    least = NUMBER * KEPT * config.set.ipc * train.classes * prod(train.images.shape[1:])
    if (free := room_for(out)) < least:
        raise InputError(
            f"{str(out)!r} needs {least / 2**30:.1f} GiB or more for checkpoints, and there is room for "
            f"{free / 2**30:.1f}: give another --out, or a smaller --ipc"
        )


def check_recipes(recipes: Sequence[Recipe], shape: Sequence[int]) -> None:
    """Raises `InputError` where the weights of a network of recipes do not fit."""
    for recipe in recipes:
        check_memory({"width": (recipe.width, NUMBER * _weights(recipe, shape))})


def _weights(recipe: Recipe, shape: Sequence[int]) -> int:
    """Of a network of a recipe, at the least; those of other networks than these two are few."""
    if recipe.network == "mlp":
        return recipe.width * (prod(shape) + recipe.width)
    if recipe.network != "convnet":
        return 0
    widths = [recipe.width * (2**block if recipe.growth == "double" else 1) for block in range(recipe.depth)]
    return sum(before * after for before, after in pairwise([shape[-1], *widths]))
