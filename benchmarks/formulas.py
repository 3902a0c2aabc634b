"""What a step of every method costs, in formulas: operations, and bytes that are held and sent.

Operations are multiplications and additions of products, ``2 n m k`` of ``[n, m] @ [m, k]``, zeros of padding included.
What goes over numbers one by one (norms, activations, pooling, draws, distances of gradients, augmentations, the
optimiser) is left out but for the entries of the NTK, of which there are many beside few products.

Of a network's ``F`` operations an image, ``F1`` are in the first convolution. The derivative for images costs ``F``,
that for weights ``2 F - F1``, since nothing before the first layer asks for one. A gradient of weights is ``3 F - F1``
with its forward pass; its derivative for images is ``4 F - F1``: that of the forward pass, that of the pass back, and
both factors of every product that is a gradient of weights.

`benchmarks.counted` holds them beside XLA's own count, `benchmarks.costs` makes tables of both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

NUMBER, REAL_BYTES = 4, 1
"""Bytes of a number: of a float32, and of a real image, which stays as it came."""
BLOCK, TURN = 256, 2**30
"""Real images, and bytes of the set in a matching step, at a time (`rdd_jax.kernels.blocks`); a class is the least."""
ENTRY = 200
"""Operations of an entry of the NTK, a layer and its derivatives: two polynomials, roots and quotients. XLA's count is
180 to 270, since it has some values computed again where they are needed."""

FORWARD, FEATURES, GRADIENT, GRADIENT_OF_SET, TANGENT, TANGENT_OF_SET = 1.6, 2.6, 2.7, 6.4, 4.8, 13.0
"""How many times the outputs of all convolutions of an image are held: of a real one in a forward pass; of one of the
set for its derivative; of a real one for the gradient of weights; of one of the set for the derivative of that; of both
in a regression on tangents. Found as the bytes that XLA's ``memory_analysis`` grows by with another image
(ConvNet-2-32, instance norm, 16x16x3, XLA's own convolution on a CPU); other shapes and devices differ."""
CROSS, GRAM, GRADIENTS = 9, 12, 3
"""How often the kernel ``[m, b]``, the set's ``[m, m]`` and the gradients of all cells are held; found as well."""


@dataclass(frozen=True)
class ConvNet:
    """A ConvNet of ``depth`` blocks of one width: 3x3 convolution, norm, activation, 2x2 pooling; a linear layer."""

    classes: int
    depth: int = 3
    width: int = 128
    side: int = 32
    channels: int = 3

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The side and the channels that every convolution sees; images are padded to what pooling halves."""
        side = -(-self.side // 2**self.depth) * 2**self.depth
        return [(side // 2**i, self.width if i else self.channels) for i in range(self.depth)]

    @property
    def pixels(self) -> int:
        """Numbers of an image: ``side^2 channels``."""
        return self.side**2 * self.channels

    @property
    def convolutions(self) -> list[float]:
        """Operations of each on an image, ``2 side^2 9 channels width``; the first is ``F1``."""
        return [2.0 * side**2 * 9 * channels * self.width for side, channels in self.blocks]

    @property
    def features(self) -> int:
        """``D``: numbers under the linear layer."""
        return (self.blocks[-1][0] // 2) ** 2 * self.width

    @property
    def forward(self) -> float:
        """``F``: operations of an image's outputs, those of the convolutions and ``2 D classes``."""
        return sum(self.convolutions) + 2.0 * self.features * self.classes

    @property
    def weights(self) -> int:
        """``P``: numbers of the matrices; biases and norms are few."""
        return sum(9 * channels * self.width for _, channels in self.blocks) + self.features * self.classes

    @property
    def activations(self) -> int:
        """``A``: numbers that the convolutions of an image put out."""
        return sum(side**2 * self.width for side, _ in self.blocks)


@dataclass(frozen=True)
class Size:
    """A step.

    Attributes:
      network: whose classes, and images' size, are also those of a method without networks.
      real: ``b``, real images of a step, of all classes together; ``images``: ``m``, of the set.
      devices: ``N``, along which real images are laid; all else is on every one.
      networks: of RFAD; ``layers``: of the NTK.
      jacobian: bytes of the largest that RCIG holds; ``iterations``: the most of its conjugate gradients.
      steps: ``t``, of the training on the set that MTT matches, each on ``together`` images at most; ``asked`` of them.
      once: whether bodies of loops count once, as XLA counts them.
    """

    network: ConvNet
    real: int
    images: int
    devices: int = 1
    networks: int = 1
    layers: int = 1
    jacobian: int = 2**29
    iterations: int = 100
    steps: int = 10
    asked: int = 3
    together: int = 256
    once: bool = False

    def rounds(self, count: int) -> int:
        """Of a loop, as they are to be counted."""
        return 1 if self.once else count

    def ring(self, size: float) -> float:
        """Bytes that a device sends when ``size`` are gathered on all, or dealt out anew; sums of all take twice."""
        return size * (self.devices - 1) / self.devices

    @property
    def read(self) -> int:
        """Bytes of real images that a step reads, on all devices together: ``b p``, eight bits a number."""
        return REAL_BYTES * self.real * self.network.pixels

    @property
    def drawn(self) -> float:
        """Bytes that a device sends to draw a batch: every one comes to have all of it, as a sum over devices."""
        return 2 * self.ring(self.read)


class Part(NamedTuple):
    """Some of the operations of a step.

    Attributes:
      flops: of all devices together, what each of them does over again counted once.
      shared: whether the devices divide them; otherwise each does them all.
      exact: whether in full single precision, whatever the device makes of single precision else.
      looks: images times forward passes that cost as much, from which the bytes follow that activations move.
      counted: whether XLA counts it: LAPACK's factorisations and solves, of a CPU, it does not.
    """

    flops: float
    shared: bool = False
    exact: bool = False
    looks: float = 0
    counted: bool = True


class Cost(NamedTuple):
    """Of a step: its parts; bytes that a device holds beside data and batch; bytes that it sends beside the draw."""

    parts: dict[str, Part]
    held: float
    sent: float

    @property
    def flops(self) -> float:
        """Operations, what every device does counted once."""
        return sum(part.flops for part in self.parts.values())


def _looks(size: Size, forwards: float, firsts: float, images: float, head: bool = True, **how: bool) -> Part:
    """``(forwards F - firsts F1) images``; without the ``head``, of features alone."""
    network = size.network
    of_one = network.forward if head else sum(network.convolutions)
    return Part((forwards * of_one - firsts * network.convolutions[0]) * images, looks=forwards * images, **how)


def _in_turns(size: Size, times: float) -> float:
    """Numbers that are held of the set: of all, or of the classes that go at a time, which are looked at once more."""
    of_class = times * size.network.activations * size.images / size.network.classes
    return min(of_class * size.network.classes, max(of_class, TURN / NUMBER))


def _sum(size: Size, numbers: float) -> float:
    """Bytes that a device sends for a sum over all of so many numbers each: a ring's ``2 (N - 1) / N`` of them."""
    return 2 * size.ring(NUMBER * numbers)


def _solved(m: float, classes: int) -> dict[str, Part]:
    """``(K + ridge)^-1 Y`` and its derivative: what are products, and what is LAPACK's on a CPU.

    ``2 m^3 + 4 m^2 k`` in products (Cholesky's derivative; outer products of two solves), ``m^3 / 3`` to factor,
    ``2 m^3`` in solves of its derivative, ``4 m^2 k`` in those of the labels, forward and back (``jax.lax.linalg``).
    """
    products = Part(2.0 * m**3 + 4.0 * m**2 * classes, exact=True)
    return {"solve": products, "factor": Part(7 / 3 * m**3 + 4.0 * m**2 * classes, exact=True, counted=False)}


def kernel(size: Size) -> Cost:
    """KIP with the NTK of a fully connected network, `rdd_jax.objectives.kip`.

    ``4 m b d`` of the kernel of the set with the batch and its derivative for the set, ``6 m^2 d`` of the set's own,
    ``6 m b k`` of the predictions, `ENTRY` an entry and layer, ``3 b d`` of the norms of real images, and the solve.
    Sent: the sums of the gradients of the set, ``m d``, and of the regression's weights, ``m k``.
    """
    m, b, d, classes = size.images, size.real, size.network.pixels, size.network.classes
    cross = 4.0 * m * b * d + 6.0 * m * b * classes + ENTRY * size.layers * m * b + 3.0 * b * d
    parts = {
        "real": Part(cross, shared=True, exact=True),
        "set": Part(6.0 * m**2 * d + ENTRY * size.layers * m**2, exact=True),
    }
    held = NUMBER * (CROSS * m * b / size.devices + GRAM * m**2)
    return Cost(parts | _solved(m, classes), held, _sum(size, m * d + m * classes))


def regression(size: Size) -> Cost:
    """FRePo, and with several networks RFAD, `rdd_jax.objectives.on_features`; ``m`` with mirror images.

    A forward pass of every real image, two of the set for features and their derivative, a network; ``4 m b D`` and
    ``6 m^2 D`` of the linear kernel, predictions and solve as in KIP. Sent: the sums of the gradients of the set's
    features, ``m D``, and of the regression's weights. Networks go one after another; residuals of all are held.
    """
    m, b, network = size.images, size.real, size.network
    wide, rounds = network.features * size.networks, size.rounds(size.networks)
    products = 4.0 * m * b * wide + 6.0 * m * b * network.classes
    parts = {
        "real": _looks(size, rounds, 0, b, head=False, shared=True),
        "set": _looks(size, 2 * rounds, 0, m, head=False),
        "kernel": Part(products, shared=True, exact=True),
        "gram": Part(6.0 * m**2 * wide, exact=True),
    }
    block = min(BLOCK, b) / size.devices
    held = (FORWARD * block + FEATURES * m * size.networks) * network.activations
    held += (CROSS * m + wide) * b / size.devices + GRAM * m**2
    return Cost(parts | _solved(m, network.classes), NUMBER * held, _sum(size, m * wide + m * network.classes))


def embeddings(size: Size) -> Cost:
    """DM, `rdd_jax.objectives.distribution_matching`: ``(b + 2 m) F``, of features.

    A forward pass of real images, class after class; the set's forward and its derivative. Sent: the real images in
    single precision and their features, both dealt out anew, since a class has to lie over all devices; the sum of the
    gradients of the set's features.
    """
    m, b, network = size.images, size.real, size.network
    real = _looks(size, 1, 0, b / (network.classes if size.once else 1), head=False, shared=True)
    parts = {"real": real, "set": _looks(size, 2, 0, m, head=False)}
    block = min(BLOCK, b / network.classes) / size.devices
    held = FORWARD * block * network.activations + _in_turns(size, FEATURES) + network.features * b / size.devices
    dealt = size.ring(NUMBER * b * (network.pixels + network.features) / size.devices)
    return Cost(parts, NUMBER * held, dealt + _sum(size, m * network.features))


def gradients(size: Size) -> Cost:
    """DC, DSA and RDD, `rdd_jax.objectives.gradient_matching`: ``(3 F - F1) b + (7 F - 2 F1) m``.

    The gradient on real images, cell after cell, a cell a class; that on the set and its derivative. Sent: the real
    images in single precision, dealt out anew; the sum of every cell's gradient, twice.
    """
    m, b, network, cells = size.images, size.real, size.network, size.network.classes
    real = _looks(size, 3, 1, b / (cells if size.once else 1), shared=True)
    parts = {"real": real, "set": _looks(size, 7, 2, m)}
    held = GRADIENT * b / cells / size.devices * network.activations + _in_turns(size, GRADIENT_OF_SET)
    held += GRADIENTS * network.weights * cells
    dealt = size.ring(NUMBER * b * network.pixels / size.devices)
    return Cost(parts, NUMBER * held, dealt + _sum(size, network.weights * (size.rounds(cells) + cells)))


def trajectories(size: Size) -> Cost:
    """MTT, `rdd_jax.objectives.trajectory_matching`: ``(t (3 F - F1) + a (6 F - 2 F1)) m'``, ``a`` asked.

    ``m'`` images of the set are in each of ``t`` steps, and none are real. Every step takes a gradient of the weights;
    on the way back an asked one takes its derivative for images, for which the passes are made once more, without the
    gradient of the weights. The weights of every step are held.
    """
    together, network = min(size.together, size.images), size.network
    parts = {
        "trained": _looks(size, 3 * size.steps, size.steps, together),
        "asked": _looks(size, 6 * size.asked, 2 * size.asked, together),
    }
    held = GRADIENT_OF_SET * together * network.activations + (size.steps + 4) * network.weights
    return Cost(parts, NUMBER * held, 0)


def tangents(size: Size) -> Cost:
    """RCIG, `rdd_jax.objectives.on_tangents`: ``(6 F - 2 F1) b`` for real images; ``m`` with mirror images.

    Those are a tangent's forward pass and, the images looked at again, its transpose. Of the set, as its products stand
    in the compiled program: ``(18 F - 6 F1) m`` where the Jacobian is held (``12 F - 3 F1`` without norms), with
    ``F + k (2 F - F1)`` an image for it, ``2 (m k)^2 P`` for the kernel, and factor and solves; ``(24 F - 9 F1) m`` by
    conjugate gradients, with ``4 F - 2 F1`` an image in each iteration of the two solves. Sent: the sum of the gradient
    of all weights.
    """
    m, network = size.images, size.network
    outputs = m * network.classes
    parts = {"real": _looks(size, 6, 2, size.real, shared=True, exact=True)}
    block = min(BLOCK, size.real) / size.devices
    held = (TANGENT * block + TANGENT_OF_SET * m) * network.activations
    if NUMBER * outputs * network.weights <= size.jacobian:
        each = _looks(size, 1 + 2 * network.classes, network.classes, size.rounds(m), exact=True)
        parts |= {"set": _looks(size, 18, 6, m, exact=True), "jacobian": each}
        parts["kernel"] = Part(2.0 * outputs**2 * network.weights, exact=True)
        parts["factor"] = Part(outputs**3 / 3 + 4.0 * outputs**2, exact=True, counted=False)
        held += outputs * network.weights + 2 * outputs**2
    else:
        iterations = 2 * size.rounds(size.iterations)
        parts |= {"set": _looks(size, 24, 9, m, exact=True)}
        parts["iterations"] = _looks(size, 4 * iterations, 2 * iterations, m, exact=True)
        parts["factor"] = Part(2.0 * m**2 * network.classes * iterations + m**3 / 3, exact=True, counted=False)
        held += 10 * network.weights + GRAM * m**2
    return Cost(parts, NUMBER * held, _sum(size, network.weights))


def lesson(size: Size) -> Cost:
    """An epoch over the set, or a step on so many real images, of a network in training: ``(3 F - F1) m``.

    FRePo and RCIG add such epochs between steps, DC and DSA too, RDD steps on real images (`rdd_jax.trajectory`).
    """
    held = GRADIENT * min(size.images, 1000) * size.network.activations + 4 * size.network.weights
    return Cost({"set": _looks(size, 3, 1, size.images)}, NUMBER * held, 0)


METHODS: dict[str, Callable[[Size], Cost]] = {
    "kip": kernel,
    "frepo": regression,
    "rfad": regression,
    "rcig": tangents,
    "dm": embeddings,
    "dc, dsa, rdd": gradients,
    "mtt": trajectories,
    "a lesson": lesson,
}
