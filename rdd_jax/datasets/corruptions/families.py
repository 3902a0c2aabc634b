"""The families of CIFAR-10-C: ``family(rng, pixels, level) -> pixels``."""

import io

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image
from scipy import ndimage

from rdd_jax.datasets.corruptions.base import Pixels, Rng, clip, codes, planes
from rdd_jax.pixels import as_pixels

__all__ = [
    "brightness",
    "contrast",
    "defocus_blur",
    "elastic",
    "fog",
    "gaussian_blur",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "jpeg",
    "pixelate",
    "plasma",
    "saturate",
    "shot_noise",
    "speckle_noise",
    "zoom_blur",
]

# --- noise -------------------------------------------------------------------------------------------


def gaussian_noise(rng: Rng, pixels: Pixels, scale: float) -> Pixels:
    """Adds noise of standard deviation ``scale``."""
    return clip(pixels + np.float32(scale) * rng.standard_normal(pixels.shape, np.float32))


def shot_noise(rng: Rng, pixels: Pixels, photons: float) -> Pixels:
    """Poisson noise where white is ``photons`` on average."""
    return clip(rng.poisson(pixels * photons) / photons)


def impulse_noise(rng: Rng, pixels: Pixels, share: float) -> Pixels:
    """A ``share`` of the values, channel by channel, becomes 0 or 1 with equal chance."""
    draw = rng.random(pixels.shape, np.float32)
    return np.where(draw < share, (draw < share / 2).astype(np.float32), pixels)


def speckle_noise(rng: Rng, pixels: Pixels, scale: float) -> Pixels:
    """Noise of standard deviation ``scale * x``."""
    return clip(pixels + pixels * np.float32(scale) * rng.standard_normal(pixels.shape, np.float32))


# --- blur --------------------------------------------------------------------------------------------


def gaussian_blur(rng: Rng, pixels: Pixels, sigma: float) -> Pixels:
    """A Gaussian of ``sigma`` pixels, edges repeated."""
    return clip(ndimage.gaussian_filter(pixels, (0, sigma, sigma, 0), mode="nearest"))


def defocus_blur(rng: Rng, pixels: Pixels, level: tuple[float, float]) -> Pixels:
    """A disc of radius ``level[0]``, its edge softened by a 3x3 Gaussian of ``level[1]``; edges mirrored."""
    radius, soften = level
    reach = np.arange(-int(radius) - 1, int(radius) + 2)
    disc = (reach[:, None] ** 2 + reach**2 <= radius**2).astype(np.float32)
    # As wide as the three taps reach: truncate * sigma rounds to one pixel.
    kernel = ndimage.gaussian_filter(disc / disc.sum(), soften, mode="constant", truncate=1 / soften)
    return clip(ndimage.correlate(pixels, kernel[None, :, :, None], mode="mirror"))


def glass_blur(rng: Rng, pixels: Pixels, level: tuple[float, int]) -> Pixels:
    """Pixels moved by up to one down and right, ``level[1]`` times, between two `gaussian_blur` of ``level[0]``.

    The published recipe swaps neighbours, but of two NumPy views, so that its images hold copies, as ours do.
    """
    sigma, rounds = level
    result = gaussian_blur(rng, pixels, sigma)
    image, row, column = np.ogrid[tuple(map(slice, pixels.shape[:3]))]
    for _ in range(rounds):
        up, left = rng.integers(0, 2, (2, *pixels.shape[:3]))
        result = result[image, np.maximum(row - up, 0), np.maximum(column - left, 0)]
    return gaussian_blur(rng, result, sigma)


def zoom_blur(rng: Rng, pixels: Pixels, steps: int) -> Pixels:
    """The mean of the image and of its zooms by 1, 1.01, .. (``steps`` of them) about the centre."""
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 1))
    total = planes.copy()
    for factor in 1 + 0.01 * np.arange(steps):
        rows, columns = (_zoom_matrix(side, float(factor)) for side in pixels.shape[1:3])
        total += rows @ planes @ columns.T
    return clip(np.moveaxis(total, 1, -1) / (steps + 1))


def _zoom_matrix(side: int, factor: float) -> Float32[np.ndarray, "side side"]:
    """The linear map that crops the middle ``side / factor`` of a line and stretches it to ``side``."""
    crop = int(np.ceil(side / factor))
    top = (side - crop) // 2
    zoomed = ndimage.zoom(np.eye(side, dtype=np.float32)[top : top + crop], (factor, 1), order=1)
    trim = (len(zoomed) - side) // 2
    return zoomed[trim : trim + side]


# --- weather and light -------------------------------------------------------------------------------


def fog(rng: Rng, pixels: Pixels, level: tuple[float, float]) -> Pixels:
    """Adds ``level[0]`` times a plasma in [0, 1] and scales back to the brightest pixel; `plasma` for ``level[1]``."""
    strength, decay = level
    height, width = pixels.shape[1:3]
    cloud = plasma(rng, len(pixels), max(height, width), decay)[:, :height, :width, None]
    brightest = pixels.max((1, 2, 3), keepdims=True)
    return clip((pixels + np.float32(strength) * cloud) * brightest / (brightest + np.float32(strength)))


def plasma(rng: Rng, n: int, side: int, decay: float) -> Float32[np.ndarray, "n s s"]:
    """Diamond-square heights on a torus, scaled to [0, 1]; ``s`` is the power of two from ``side`` up.

    Uniform noise is added at every midpoint; each octave has ``decay**2`` times less of it than the last.
    """
    height = np.zeros((n, 1, 1))
    spread = 1.0
    while height.shape[1] < side:
        size = height.shape[1]
        wobble = rng.uniform(-spread, spread, (3, n, size, size))
        across, down = (np.roll(height, -1, axis) for axis in (2, 1))
        centre = (height + across + down + np.roll(down, -1, 2)) / 4 + wobble[0]
        finer = np.empty((n, 2 * size, 2 * size))
        finer[:, ::2, ::2] = height
        finer[:, 1::2, 1::2] = centre
        finer[:, ::2, 1::2] = (height + across + centre + np.roll(centre, 1, 1)) / 4 + wobble[1]
        finer[:, 1::2, ::2] = (height + down + centre + np.roll(centre, 1, 2)) / 4 + wobble[2]
        height, spread = finer, spread / decay**2
    height -= height.min((1, 2), keepdims=True)
    return (height / height.max((1, 2), keepdims=True)).astype(np.float32)


def brightness(rng: Rng, pixels: Pixels, more: float) -> Pixels:
    """``more`` added to the value of hue, saturation, value; with one channel, to the pixel."""
    value = pixels.max(-1, keepdims=True)
    brighter = np.minimum(value + np.float32(more), 1)
    # The same hue and saturation is the same ratio to the value; black has neither, and turns grey.
    ratio = np.divide(pixels, value, out=np.ones_like(pixels), where=value > 0)
    return clip(ratio * brighter)


def contrast(rng: Rng, pixels: Pixels, factor: float) -> Pixels:
    """The distance to the mean of each image and channel, times ``factor``."""
    mean = pixels.mean((1, 2), keepdims=True, dtype=np.float64)
    return clip(pixels * np.float32(factor) + ((1 - factor) * mean).astype(np.float32))


def saturate(rng: Rng, pixels: Pixels, level: tuple[float, float]) -> Pixels:
    """Saturation times ``level[0]`` plus ``level[1]``, at the same hue and value; grey counts as red, hue 0."""
    value, low = pixels.max(-1, keepdims=True), pixels.min(-1, keepdims=True)
    saturation = np.divide(value - low, value, out=np.zeros_like(value), where=value > 0)
    red = np.broadcast_to(np.array([0, 1, 1], np.float32), pixels.shape)
    lack = np.divide(value - pixels, value - low, out=red.copy(), where=value > low)
    return clip(value * (1 - lack * np.clip(saturation * np.float32(level[0]) + np.float32(level[1]), 0, 1)))


# --- geometry and storage ----------------------------------------------------------------------------


def elastic(rng: Rng, pixels: Pixels, level: tuple[float, float, float]) -> Pixels:
    """A random affine map and a smooth random displacement, in one bilinear sampling; edges mirrored.

    In units of the shorter side, ``level`` holds the displacement's amplitude and smoothness and by how much
    the three points that fix the affine map move.
    """
    n, height, width, _ = pixels.shape
    side = min(height, width)
    amplitude, sigma, jitter = (side * unit for unit in level)
    middle, arm = np.array([height // 2, width // 2]), side // 3
    corners = middle + arm * np.array([[1, 1], [-1, 1], [-1, -1]])
    moved = corners + rng.uniform(-jitter, jitter, (n, 3, 2))
    # The pixel at `moved` comes from `corners`: [moved, 1] @ inverse = corners.
    inverse = np.linalg.solve(_homogeneous(moved), np.broadcast_to(corners, moved.shape).astype(np.float64))
    at = np.broadcast_to(np.moveaxis(np.indices((height, width), np.float64), 0, -1), (n, height, width, 2))
    if amplitude > 0:
        wander = rng.uniform(-1, 1, at.shape)
        at = at + amplitude * ndimage.gaussian_filter(wander, (0, sigma, sigma, 0), mode="reflect", truncate=3)
    source = _homogeneous(at).reshape(n, -1, 3) @ inverse
    return clip(_bilinear(pixels, source.reshape(at.shape)))


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones_like(points[..., :1])], -1)


def _bilinear(pixels: Pixels, at: Float[np.ndarray, "n h w 2"]) -> Float[np.ndarray, "n h w c"]:
    """Each image at the points ``(row, column)``, mirrored at the outermost pixels."""
    last = np.array(pixels.shape[1:3]) - 1
    at = last - np.abs(last - np.abs(at) % (2 * last))
    corner = np.minimum(at.astype(int), last - 1)
    part = (at - corner)[..., None]
    image = np.arange(len(pixels))[:, None, None]
    row, column = corner[..., 0], corner[..., 1]
    total = np.zeros(pixels.shape)
    for i in (0, 1):
        for j in (0, 1):
            share = np.abs(1 - i - part[..., 0, :]) * np.abs(1 - j - part[..., 1, :])
            total += share * pixels[image, row + i, column + j]
    return total


def pixelate(rng: Rng, pixels: Pixels, share: float) -> Pixels:
    """Shrunk to ``share`` of the sides and back, with boxes, in 8 bits."""

    def coarse(image: Image.Image) -> Image.Image:
        small = image.resize((int(image.width * share), int(image.height * share)), Image.Resampling.BOX)
        return small.resize(image.size, Image.Resampling.BOX)

    return planes(pixels, coarse)


def jpeg(rng: Rng, pixels: Pixels, quality: int) -> Pixels:
    """Written as JPEG and read again."""
    stored = codes(pixels)
    result = np.empty_like(stored)
    for i, image in enumerate(stored):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "JPEG", quality=quality)
        result[i] = np.asarray(Image.open(file)).reshape(image.shape)
    return as_pixels(result)
