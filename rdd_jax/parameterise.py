"""Parameterisations: what the optimiser moves, and how it becomes a synthetic set.

``init(synthetic) -> (params, fixed)`` and ``decode(params, fixed) -> Synthetic``; ``params`` is
trained, ``fixed`` is not. ``init`` looks at values and runs outside ``jit``; ``decode`` is pure.

Every parameterisation stores its labels in one of three ways, which ``labels`` names:

* ``fixed``: those of the start.
* ``learned``: those of the start, trained as they are: the targets of a regression.
* ``soft``: a distribution over the classes, ``softmax(logits) - 1/k``; the logits are trained. They start
  at the labels of the start smoothed by `SMOOTHING`.

Where several images share a label (`multi_formation`), one is stored for all of them. The class of an image is that of
the start, whatever becomes of its label.
"""

from collections.abc import Callable
from math import gcd
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from rdd_jax.checks import are_distributions
from rdd_jax.errors import InputError, at_least, choose
from rdd_jax.registry import Registry
from rdd_jax.types import Synthetic

__all__ = [
    "LABELS",
    "PARAMETERISATIONS",
    "SMOOTHING",
    "Parameterisation",
    "check_factor",
    "decoded",
    "multi_formation",
    "parameterisation_by_name",
    "pixels",
]

Images = Float[Array, "m h w c"]
Stored = Float[Array, "s h w c"]
Parts = Float[Array, "m part_h part_w c"]
Labels = Float[Array, "m k"]

SMOOTHING = 0.1
"""Soft labels start at ``(1 - SMOOTHING) p + SMOOTHING / k`` for labels ``p`` of the start: logits are finite."""


class Parameterisation(NamedTuple):
    """What is stored of a set.

    Attributes:
      init: ``init(synthetic) -> (params, fixed)``, pytrees: what is trained, and what is not.
      decode: ``decode(params, fixed) -> Synthetic``, pure.
    """

    init: Callable[[Synthetic], tuple[PyTree, PyTree]]
    decode: Callable[[PyTree, PyTree], Synthetic]


class _Coding(NamedTuple):
    """How labels are stored, and whether what is stored is trained."""

    trained: bool
    encode: Callable[[Labels], Labels] = lambda labels: labels
    decode: Callable[[Labels], Labels] = lambda stored: stored


def _logits(labels: Labels) -> Labels:
    classes = labels.shape[1]
    if not are_distributions(labels):
        given = np.asarray(labels) + 1 / classes
        raise InputError(
            f"soft labels start from labels + 1/{classes} of {given.min():.3g} to {given.max():.3g}, which are no "
            "distributions over the classes: start from one-hot labels, or choose labels that are learned"
        )
    return jnp.log((1 - SMOOTHING) * (labels + 1 / classes) + SMOOTHING / classes)


_CODINGS = {
    "fixed": _Coding(trained=False),
    "learned": _Coding(trained=True),
    "soft": _Coding(trained=True, encode=_logits, decode=lambda logits: jax.nn.softmax(logits) - 1 / logits.shape[1]),
}
LABELS = tuple(_CODINGS)


def _parameterisation(
    encode: Callable[[Images], PyTree], decode: Callable[[Any], Images], labels: str, shared: int = 1
) -> Parameterisation:
    """Of images coded by ``encode`` and ``decode``, ``shared`` consecutive ones with one label."""
    coding = choose("labels", labels, _CODINGS)

    def init(synthetic: Synthetic) -> tuple[Any, Any]:
        params: dict[str, Any] = {"images": encode(synthetic.images)}
        fixed: dict[str, Any] = {"weight": synthetic.weight, "classes": synthetic.of_class}
        (params if coding.trained else fixed)["labels"] = coding.encode(synthetic.labels[::shared])
        return params, fixed

    def of(params: Any, fixed: Any) -> Synthetic:
        stored = params | fixed
        of_images = jnp.repeat(coding.decode(stored["labels"]), shared, axis=0)
        return Synthetic(decode(stored["images"]), of_images, stored["weight"], stored["classes"])

    return Parameterisation(init, of)


def pixels(labels: str = "fixed") -> Parameterisation:
    """The images themselves, in model space.

    Args:
      labels: ``fixed``, ``learned`` or ``soft``, see `rdd_jax.parameterise`.

    Raises:
      InputError: unknown ``labels``; in ``init``, soft ones from a start whose labels are no distributions.
    """
    return _parameterisation(lambda images: images, lambda images: images, labels)


def multi_formation(factor: int = 2, labels: str = "fixed") -> Parameterisation:
    """``factor**2`` images in the storage of one: its ``factor x factor`` parts, each enlarged to a whole image.

    A start of ``m`` images ``[h, w, c]`` is stored as ``m / factor**2`` images ``[h, w, c]``, each with one
    label: ``init`` shrinks the images (antialiased) and lays ``factor**2`` consecutive ones into one, row by
    row; ``decode`` enlarges the parts bilinearly, in the order of the start. The start is ordered class by
    class, as selections are, with a multiple of ``factor**2`` images in every class. Factor 1 is `pixels`.

    The multi-formation of IDC (Kim et al. 2022, "Dataset Condensation via Efficient Synthetic-Data
    Parameterization", ICML). Theirs pads images whose sides the factor does not divide; ours refuses them.

    Args:
      factor: parts along either side; it divides both.
      labels: ``fixed``, ``learned`` or ``soft``, see `rdd_jax.parameterise`; one a stored image.

    Raises:
      InputError: ``factor < 1``, unknown ``labels``; in ``init``, a factor that does not divide the sides
        (see `check_factor`), a start not of ``factor**2`` images of one label after another, or as in `pixels`.
    """
    at_least("factor", factor, 1)
    parts = factor**2

    def shrink(images: Images) -> Stored:
        m, h, w, c = images.shape
        return _join(jax.image.resize(images, (m, h // factor, w // factor, c), "bilinear"), factor)

    def enlarge(stored: Stored) -> Images:
        s, h, w, c = stored.shape
        return jax.image.resize(_cut(stored, factor), (s * parts, h, w, c), "bilinear")

    coded = _parameterisation(shrink, enlarge, labels, shared=parts)

    def init(synthetic: Synthetic) -> tuple[Any, Any]:
        m, k = synthetic.labels.shape
        check_factor(factor, synthetic.images.shape[1:])
        remedy = f"multi-formation with factor {factor} takes the images class by class, a multiple of {parts} a class"
        if m % parts:
            raise InputError(f"a start of {m} images: {remedy}")
        of_stored = np.asarray(synthetic.labels).reshape(-1, parts, k)
        if (mixed := (of_stored != of_stored[:, :1]).any((1, 2))).any():
            at = parts * int(np.argmax(mixed))
            raise InputError(f"images {at} to {at + parts - 1} of the start differ in their labels: {remedy}")
        return coded.init(synthetic)

    return Parameterisation(init, coded.decode)


def check_factor(factor: int, image_shape: tuple[int, ...]) -> None:
    """Raises `InputError` where ``factor`` does not divide both sides of images ``[h, w, c]``."""
    at_least("factor", factor, 1)
    h, w = image_shape[:2]
    if h % factor or w % factor:
        divisors = [str(d) for d in range(1, gcd(h, w) + 1) if gcd(h, w) % d == 0]
        raise InputError(f"factor {factor} does not divide images of {h} x {w}: choose {', '.join(divisors)}")


def _cut(stored: Stored, factor: int) -> Parts:
    """The ``factor x factor`` parts of every image, row by row."""
    s, h, w, c = stored.shape
    grid = stored.reshape(s, factor, h // factor, factor, w // factor, c)
    return grid.swapaxes(2, 3).reshape(s * factor**2, h // factor, w // factor, c)


def _join(parts: Parts, factor: int) -> Stored:
    """The images whose ``factor x factor`` parts these are."""
    m, h, w, c = parts.shape
    grid = parts.reshape(m // factor**2, factor, factor, h, w, c)
    return grid.swapaxes(2, 3).reshape(m // factor**2, factor * h, factor * w, c)


def decoded(
    decode_images: Callable[[Any], Images], encode_images: Callable[[Images], PyTree], labels: str = "fixed"
) -> Parameterisation:
    """The latent of any differentiable decoder: a generator, a basis, a compression.

    Args:
      decode_images: ``decode_images(latent) -> images [m, h, w, c]``, inside ``jit`` and ``grad``. What it
        holds beside the latent is not trained.
      encode_images: ``encode_images(images) -> latent``, a pytree of floating-point arrays: the start.
      labels: ``fixed``, ``learned`` or ``soft``, see `rdd_jax.parameterise`.

    Raises:
      InputError: unknown ``labels``; in ``init``, before anything is compiled, a latent that cannot be trained
        or a decoder whose images differ from the start's in shape or dtype; or as in `pixels`.
    """

    def encode(images: Images) -> PyTree:
        latent = jax.tree.map(jnp.asarray, encode_images(images))
        for path, leaf in jax.tree.leaves_with_path(latent):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                where = jax.tree_util.keystr(path)
                raise InputError(f"the encoder gives a latent{where} of {leaf.dtype}: give floating-point arrays")
        found, wanted = _described(jax.eval_shape(decode_images, latent)), _described(images)
        if found != wanted:
            raise InputError(
                f"the decoder gives {found} for a start of {wanted}: make the decoder give images of that shape "
                "and dtype from what the encoder gives"
            )
        return latent

    return _parameterisation(encode, decode_images, labels)


def _described(tree: Any) -> Any:
    """``float32[8,28,28,1]`` for every array of a tree."""
    return jax.tree.map(lambda leaf: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]", tree)


PARAMETERISATIONS: Registry[Parameterisation] = Registry(
    "parameterisation", {"pixels": pixels, "multi-formation": multi_formation}
)


def parameterisation_by_name(name: str, labels: str = "fixed", factor: int = 2) -> Parameterisation:
    """One of `PARAMETERISATIONS` with one of `LABELS`; ``factor`` is that of ``multi-formation``; else `InputError`."""
    return PARAMETERISATIONS.make(name, labels=labels, factor=factor)
