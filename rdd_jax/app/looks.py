"""In words, how the images of one group look beside the others of their class."""

import numpy as np
from jaxtyping import Bool, Float

from rdd_jax.pixels import as_pixels

__all__ = ["LARGE", "TRAITS", "set_apart", "traits"]

TRAITS = (
    ("darker", "brighter"),
    ("flatter", "more contrast"),
    ("smoother", "sharper"),
    ("darker edge", "brighter edge"),
    ("greyer", "more colourful"),
    ("less red", "redder"),
    ("less green", "greener"),
    ("less blue", "bluer"),
)
"""What little and what much of a trait is called."""

LARGE = 0.8
"""Standard deviations from which a difference counts: Cohen's large one."""

BLOCK = 2048


def traits(images: np.ndarray) -> Float[np.ndarray, "n t"]:
    """The `TRAITS` of every image ``[n, h, w, c]`` in pixel space; those of colour are 0 where there is none."""
    blocks = (as_pixels(images[start : start + BLOCK]) for start in range(0, len(images), BLOCK))
    return np.concatenate([_traits(block) for block in blocks])


def _traits(pixels: np.ndarray) -> np.ndarray:
    grey = pixels.mean(3)
    light, spread = grey.mean((1, 2)), grey.std((1, 2))
    steps = np.abs(np.diff(grey, axis=1)).mean((1, 2)) + np.abs(np.diff(grey, axis=2)).mean((1, 2))
    edge = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], 1).mean(1)
    colour = np.zeros((len(pixels), 4), np.float32)
    if pixels.shape[3] == 3:
        colour[:, 0] = (pixels.max(3) - pixels.min(3)).mean((1, 2))
        colour[:, 1:] = pixels.mean((1, 2)) - light[:, None]
    # What is sharp is not what has much contrast: steps are measured by the spread.
    return np.column_stack([light, spread, steps / (spread + 0.02), edge, colour]).astype(np.float32)


def set_apart(
    found: Float[np.ndarray, "m t"], inside: Bool[np.ndarray, " m"], most: int = 2
) -> list[tuple[str, float]]:
    """``(word, standard deviations)`` of the traits in which the ``inside`` of a class lie farthest from its rest.

    The deviation is Cohen's *d*: the difference of the means over the standard deviation within the two. At most
    ``most`` of those from `LARGE` on, the farthest first; none where there is no rest.
    """
    if inside.all() or not inside.any():
        return []
    here, rest = found[inside].astype(np.float64), found[~inside].astype(np.float64)
    within = np.sqrt((here.var(0) * len(here) + rest.var(0) * len(rest)) / len(found))
    # Where nothing varies but for rounding nothing is said.
    distance = (here.mean(0) - rest.mean(0)) / np.maximum(within, 1e-4)
    order = np.argsort(-np.abs(distance), kind="stable")[:most]
    return [(TRAITS[t][int(distance[t] > 0)], abs(float(distance[t]))) for t in order if abs(distance[t]) >= LARGE]
