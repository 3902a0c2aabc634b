"""What a configuration asks of memory, roughly and at the least: enough to refuse what is beyond all reason."""

from math import prod

from rdd_jax.app import options, pieces
from rdd_jax.app.environment import check_memory
from rdd_jax.app.methods import Method, Stepped
from rdd_jax.types import Data

__all__ = ["check_sizes"]

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
    names = {values.get("network"), *pieces.listed(config.evaluation.learners)}
    if sized := names & {"convnet", "mlp"}:  # the others have sizes of their own
        width, depth = config.network.net_width, config.network.net_depth
        weights = width * ((pixels if sized == {"mlp"} else shape[-1]) + width * (depth - 1))
        needs["net_width"] = width, NUMBER * weights
        for many in {"net_pool", "net_count"} & set(values):
            needs[many] = values[many], NUMBER * weights * values[many]
    check_memory(needs)
