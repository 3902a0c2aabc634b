"""The operations that XLA counts in a compiled step of every method, and the bytes that its devices send.

Steps are whole ones of `rdd_jax.distill`, small, with the network given: drawing the weights of one, and teaching it,
are no part of them. Convolutions are the direct ones of accelerators; on a CPU Winograd's would need fewer operations.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NamedTuple
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from benchmarks.formulas import METHODS, NUMBER, ConvNet, Size
from rdd_jax.devices import mesh_by_name, placed, within
from rdd_jax.distill import compose
from rdd_jax.kernels import fc_ntk
from rdd_jax.networks import Network, convnet, convolution, ensemble, layers
from rdd_jax.networks.training import Training, mean_loss, squared_error, update
from rdd_jax.objectives import (
    Objective,
    distribution_matching,
    feature_regression,
    gradient_matching,
    kip,
    on_features,
    on_tangents,
    trajectory_matching,
)
from rdd_jax.pixels import PixelMap
from rdd_jax.sampling import stratified, uniform
from rdd_jax.snapshots import at_snapshots, between_snapshots
from rdd_jax.trajectory import kernel_only
from rdd_jax.types import Examples, Synthetic, centred_one_hot

SMALL = ConvNet(2, depth=2, width=32, side=16)
ONE_CLASS = replace(SMALL, classes=1)
SIZES = {
    "kip": Size(SMALL, real=200, images=20),
    "frepo": Size(SMALL, real=64, images=8),
    "rfad": Size(SMALL, real=64, images=8, networks=2, once=True),
    "rcig": Size(SMALL, real=32, images=4, once=True),
    "rcig, iterations": Size(SMALL, real=32, images=4, once=True, jacobian=0),
    "dm": Size(ONE_CLASS, real=64, images=8),
    "dc, dsa, rdd": Size(ONE_CLASS, real=64, images=8),
    "mtt": Size(SMALL, real=1, images=16, steps=1, asked=1),
    "a lesson": Size(SMALL, real=0, images=16),
}
"""Small steps whose operations are mostly products. XLA counts the body of a loop once, whatever it is told of its
rounds: hence one class where classes go one after another, at most one block of real images (`formulas.BLOCK`), and
elsewhere formulas that count so too (``once``: networks of RFAD, images of RCIG's Jacobian, its iterations)."""


class Counted(NamedTuple):
    """Of the program of one device: its operations, and the bytes that it sends."""

    flops: float
    sent: float


@cache
def counted(method: str, size: Size) -> Counted:
    """XLA's count for a step; ``cost_analysis`` of the compiled program, nothing is run.

    Args:
      method: of `SIZES`; size: with as many devices as there are at the most.
    """
    # Direct convolutions, by products.
    with patch.object(convolution, "LEAST_CHANNELS", 2**30):
        program = _program(method, size)
    flops = (program.cost_analysis() or {})["flops"]
    return Counted(flops, sent(program.as_text() or "", size.devices))


def held(method: str, size: Size) -> int:
    """Bytes that a compiled step holds beside its arguments and results; ``memory_analysis``.

    Convolutions are those of XLA, as on other devices: products hold patches of the images too.
    """

    def convolve(images: Array, filters: Array, stride: int, padding: int) -> Array:
        numbers, sides = ("NHWC", "HWIO", "NHWC"), [(padding, padding)] * 2
        return jax.lax.conv_general_dilated(images, filters, (stride, stride), sides, dimension_numbers=numbers)

    with patch.object(layers, "convolve", convolve):
        found = _program(method, size).memory_analysis()
    assert found is not None, "every backend that is used here has it"
    return found.temp_size_in_bytes


def expected(method: str, size: Size) -> Counted:
    """What the formulas say of the same: the operations of one device, and what it sends, the draw included."""
    cost = METHODS[method.partition(", iter")[0]](size)
    parts = [part for part in cost.parts.values() if part.counted]
    flops = sum(part.flops / size.devices if part.shared else part.flops for part in parts)
    return Counted(flops, cost.sent + size.drawn)


# --- programs ----------------------------------------------------------------------------------------


def _program(method: str, size: Size) -> jax.stages.Compiled:
    with within(mesh_by_name(f"data={size.devices}", size.real or None)):
        return _lesson(size) if method == "a lesson" else _step(method, size)


def _objective(method: str, network: Network, size: Size) -> Objective:
    makers: dict[str, Callable[[], Objective]] = {
        "kip": lambda: kip(fc_ntk(size.layers)),
        "frepo": lambda: feature_regression(on_features(network)),
        "rfad": lambda: feature_regression(on_features(network), "cross-entropy"),
        "rcig": lambda: feature_regression(on_tangents(network), "cross-entropy"),
        "rcig, iterations": lambda: feature_regression(on_tangents(network, jacobian=0), "cross-entropy"),
        "dm": lambda: distribution_matching(network),
        "dc, dsa, rdd": lambda: gradient_matching(network),
        "mtt": lambda: trajectory_matching(network, size.steps, 0.1, size.together, asked=size.asked),
    }
    return makers[method]()


def _problem(size: Size) -> tuple[Examples, Synthetic]:
    """Twice the real images of a step, eight bits a number, and a set; class by class in turn."""
    at = size.network
    shape, space = (at.side, at.side, at.channels), PixelMap(jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1)))
    labels, codes = np.arange(2 * size.real) % at.classes, np.arange(size.images) % at.classes
    data = Examples(
        placed(np.zeros((len(labels), *shape), np.uint8)),
        centred_one_hot(labels, at.classes),
        jnp.asarray(labels, jnp.int32),
        space=space,
        group_count=at.classes,
    )
    return data, Synthetic(jnp.zeros((size.images, *shape)), centred_one_hot(codes, at.classes))


def _network(size: Size) -> Network:
    one = convnet(size.network.classes, size.network.depth, size.network.width)
    return ensemble(one, size.networks) if size.networks > 1 else one


def _step(method: str, size: Size) -> jax.stages.Compiled:
    data, synthetic = _problem(size)
    network, sampler = _network(size), stratified if method.startswith("d") else uniform
    # KIP has no network; others look from one that is there already, or from it to a later one.
    given = jax.tree.map(lambda leaf: leaf[None], network.init(jax.random.key(0), synthetic.images[:1]))
    looks = {"kip": kernel_only, "mtt": between_snapshots([given, given])}
    distiller = compose(
        _objective(method, network, size),
        sampler(size.real),
        optimizer=optax.sgd(0.1),
        trajectory=looks.get(method, at_snapshots([given])),
    )
    return jax.jit(distiller.step).lower(jax.random.key(0), distiller.init(synthetic), data).compile()


def _lesson(size: Size) -> jax.stages.Compiled:
    """One update of a network by the whole set."""
    _, synthetic = _problem(size)
    network, optimizer = _network(size), optax.sgd(0.1)
    variables = network.init(jax.random.key(0), synthetic.images[:1])
    one = jax.jit(
        lambda state, images, labels: update(mean_loss(network, squared_error), optimizer, state, images, labels)
    )
    return one.lower(Training(variables, optimizer.init(variables)), *synthetic[:2]).compile()


# --- what is sent ------------------------------------------------------------------------------------

BYTES = {"u8": 1, "s32": 4, "u32": 4, "f32": 4}
FACTORS = {"all-reduce": 2, "all-gather": 1, "all-to-all": 1, "reduce-scatter": 1, "collective-permute": 1}


def sent(program: str, devices: int) -> float:
    """Bytes that a device sends in the collective operations of a program's text, on a ring of all of them.

    Sums over all take ``2 (N - 1) / N`` of their size, what is gathered or dealt out ``(N - 1) / N`` of it.
    """
    total = 0.0
    for shapes, name in re.findall(rf"= (.*?) ({'|'.join(FACTORS)})(?:-start)?\(", program):
        size = sum(
            BYTES.get(kind, NUMBER) * _numbers(shape) for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        )
        total += FACTORS[name] * size * (devices - 1) / devices
    return total


def _numbers(shape: str) -> int:
    return int(np.prod([int(side) for side in shape.split(",") if side]))
