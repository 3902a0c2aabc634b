"""Corruptions: what each does to pixels, how strongly, and under which name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy import ndimage

from rdd_jax.datasets.corruptions import CORRUPTIONS, RDD, base, corrupt, corruption_by_name, families
from rdd_jax.errors import InputError

RANDOM = {"noise", "gaussian-noise", "shot-noise", "impulse-noise", "speckle-noise", "glass-blur", "fog", "elastic"}
SHAPES = ((3, 8, 8, 1), (3, 8, 8, 3), (2, 13, 9, 3), (2, 28, 28, 1))
CASES = [(name, shape) for name in CORRUPTIONS for shape in SHAPES if name != "saturate" or shape[-1] == 3]
ZOOM_ENDS = (1.06, 1.11, 1.16, 1.21, 1.26)
# Not of glass-blur, elastic and saturate, whose severities trade one change for another, nor of RDD's, which
# have one strength.
STRONGER = sorted(CORRUPTIONS.keys() - {*RDD, "glass-blur", "elastic", "saturate"})


def rng(seed=0):
    return np.random.default_rng(seed)


def smooth(n=6, height=32, width=32, channels=3, seed=0):
    """Images with edges and gradients that fill [0, 1]: noise alone would look the same blurred by anything."""
    images = rng(seed).standard_normal((n, height, width, channels))
    images = ndimage.gaussian_filter(images, (0, 1.5, 1.5, 0.5))
    images -= images.min((1, 2, 3), keepdims=True)
    return (images / images.max((1, 2, 3), keepdims=True)).astype(np.float32)


def constant(value, shape=(4, 32, 32, 3)):
    return np.full(shape, value, np.float32)


def apply(name, pixels, severity=3, seed=0):
    return corruption_by_name(name, severity)(rng(seed), pixels)


# --- the contract ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("name, shape", CASES)
def test_every_corruption_keeps_its_contract(name, shape, severity):
    pixels = smooth(*shape)
    before = pixels.copy()
    out = apply(name, pixels, severity)
    assert out.shape == shape
    assert out.dtype == np.float32
    assert out.min() >= 0
    assert out.max() <= 1
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(out, apply(name, pixels, severity))
    assert not np.array_equal(out, pixels)
    assert np.array_equal(out, apply(name, pixels, severity, seed=1)) == (name not in RANDOM)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_do_not_depend_on_their_neighbours_but_for_the_draw(name):
    pixels = smooth(3)
    if name in RANDOM:
        out = apply(name, np.concatenate([pixels[:1]] * 2))
        assert not np.array_equal(out[0], out[1])  # each image has a draw of its own
    else:
        np.testing.assert_allclose(apply(name, pixels)[1:2], apply(name, pixels[1:2]), atol=1e-6)


@pytest.mark.parametrize("name", STRONGER)
def test_severity_moves_images_further(name):
    pixels = smooth()
    distance = [np.mean((apply(name, pixels, severity) - pixels) ** 2) for severity in range(1, 6)]
    assert (np.diff(distance) > 0).all()


@pytest.mark.parametrize("name", RDD)
def test_rdds_three_have_one_strength(name):
    np.testing.assert_array_equal(apply(name, smooth(), 1), apply(name, smooth(), 5))


@pytest.mark.parametrize("name", ["fog", "elastic", "blur", "impulse-noise"])
def test_many_images_are_worked_on_in_blocks(name, monkeypatch):
    monkeypatch.setattr(base, "BLOCK", 4)
    pixels = smooth(10)
    generator = rng()
    parts = [corruption_by_name(name)(generator, pixels[start : start + 4]) for start in (0, 4, 8)]
    np.testing.assert_array_equal(apply(name, pixels), np.concatenate(parts))


def test_corrupt_keeps_uint8_and_rounds_to_it():
    codes = np.rint(smooth() * 255).astype(np.uint8)
    out = corrupt("contrast", 0, codes, severity=2)
    assert out.dtype == np.uint8
    pixels = codes / 255
    expected = 255 * (0.5 * pixels + 0.5 * pixels.mean((1, 2), keepdims=True))
    assert np.abs(out - expected).max() <= 0.5 + 1e-3
    for name in RANDOM:
        np.testing.assert_array_equal(corrupt(name, 3, codes), corrupt(name, 3, codes))
        assert not np.array_equal(corrupt(name, 3, codes), corrupt(name, 4, codes))


def test_corrupt_gives_float32_for_floating_point():
    out = corrupt("invert", 0, smooth().astype(np.float64))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, 1 - smooth())


# --- RDD's three -------------------------------------------------------------------------------------


def test_noise_has_variance_0_005_and_no_mean():
    # Seven standard deviations from either end, so nothing is clipped.
    difference = apply("noise", constant(0.5, (20, 32, 32, 3))) - 0.5
    assert difference.var() == pytest.approx(0.005, rel=0.03)
    assert difference.mean() == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
def test_blur_is_pillows(channels, mode):
    codes = np.rint(smooth(3, channels=channels) * 255).astype(np.uint8)
    for before, after in zip(codes, corrupt("blur", 0, codes), strict=True):
        image = Image.fromarray(before.squeeze()).filter(ImageFilter.GaussianBlur(2))
        assert image.mode == mode
        np.testing.assert_array_equal(after.squeeze(), np.asarray(image))


def test_invert_is_the_negative_and_twice_the_identity():
    codes = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    negative = corrupt("invert", 0, codes)
    np.testing.assert_array_equal(negative, 255 - codes)
    np.testing.assert_array_equal(corrupt("invert", 0, negative), codes)


# --- noise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severity, scale", [*enumerate((0.04, 0.06, 0.08, 0.09, 0.10), 1)])
def test_gaussian_noise_has_the_published_scale(severity, scale):
    assert apply("gaussian-noise", constant(0.5), severity).std() == pytest.approx(scale, rel=0.04)


@pytest.mark.parametrize("severity, photons", [*enumerate((500, 250, 100, 75, 50), 1)])
def test_shot_noise_counts_photons(severity, photons):
    out = apply("shot-noise", constant(0.25), severity)
    counts = out * photons
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)
    assert out.mean() == pytest.approx(0.25, rel=0.02)
    assert out.var() == pytest.approx(0.25 / photons, rel=0.06)


@pytest.mark.parametrize("severity, share", [*enumerate((0.01, 0.02, 0.03, 0.05, 0.07), 1)])
def test_impulse_noise_is_salt_and_pepper_in_equal_parts(severity, share):
    out = apply("impulse-noise", constant(0.5, (20, 32, 32, 3)), severity)
    assert {*np.unique(out)} == {0, 0.5, 1}
    for value in (0, 1):
        assert np.mean(out == value) == pytest.approx(share / 2, rel=0.2)


@pytest.mark.parametrize("severity, scale", [*enumerate((0.06, 0.1, 0.12, 0.16, 0.2), 1)])
def test_speckle_noise_grows_with_the_pixel(severity, scale):
    for value in (0.0, 0.2, 0.4):
        assert apply("speckle-noise", constant(value), severity).std() == pytest.approx(scale * value, rel=0.04)


# --- blur --------------------------------------------------------------------------------------------


def impulse(size=17):
    pixels = np.zeros((1, size, size, 1), np.float32)
    pixels[0, size // 2, size // 2] = 1
    return pixels


@pytest.mark.parametrize("severity, sigma", [*enumerate((0.4, 0.6, 0.7, 0.8, 1.0), 1)])
def test_gaussian_blur_is_a_gaussian(severity, sigma):
    line = np.exp(-0.5 * (np.arange(-8, 9) / sigma) ** 2)
    line /= line.sum()
    out = apply("gaussian-blur", impulse(), severity)[0, :, :, 0]
    np.testing.assert_allclose(out, np.outer(line, line), atol=2e-4)  # SciPy cuts the tails at 4 sigma


@pytest.mark.parametrize("severity, soften", [*enumerate((0.4, 0.5, 0.6), 1)])
def test_weak_defocus_is_the_softening_of_one_pixel(severity, soften):
    line = np.exp(-0.5 * (np.array([-1, 0, 1]) / soften) ** 2)
    line /= line.sum()
    expected = np.zeros((17, 17))
    expected[7:10, 7:10] = np.outer(line, line)
    np.testing.assert_allclose(apply("defocus-blur", impulse(), severity)[0, :, :, 0], expected, atol=1e-6)


def test_strong_defocus_is_a_disc():
    # Softening of 0.2 and 0.1 spreads less than 1e-5.
    cross, block = (apply("defocus-blur", impulse(), severity)[0, 6:11, 6:11, 0] for severity in (4, 5))
    np.testing.assert_allclose(cross, np.pad(ndimage.generate_binary_structure(2, 1) / 5, 1), atol=1e-5)
    np.testing.assert_allclose(block, np.pad(np.full((3, 3), 1 / 9), 1), atol=1e-5)


BLURS = ("gaussian-blur", "defocus-blur", "glass-blur", "zoom-blur")


@pytest.mark.parametrize("name", [*BLURS, "blur", "elastic", "pixelate", "contrast"])
@pytest.mark.parametrize("severity", [1, 5])
def test_a_flat_image_stays_flat(name, severity):
    np.testing.assert_allclose(apply(name, constant(0.4), severity), 0.4, atol=1e-6)


def test_glass_blur_takes_pixels_from_near_above_and_left():
    # The least sigma blurs nothing, and every pixel has a value of its own.
    pixels = (np.arange(400, dtype=np.float32) / 400).reshape(1, 20, 20, 1)
    places = np.rint(apply("glass-blur", pixels, 1) * 400).astype(int).reshape(20, 20)
    down, right = np.arange(20)[:, None] - places // 20, np.arange(20) - places % 20
    assert {*np.unique(down)} == {*np.unique(right)} == {0, 1}
    assert 0.4 < down.mean() < 0.6


def test_glass_blur_moves_further_in_two_rounds():
    pixels = smooth()
    distance = [np.mean((apply("glass-blur", pixels, severity) - pixels) ** 2) for severity in range(1, 6)]
    assert distance[3] > 1.5 * distance[1]
    assert distance[4] > 1.5 * distance[2]


def test_zoom_blur_keeps_the_middle_and_draws_the_rest_outward():
    pixels = np.zeros((1, 33, 33, 1), np.float32)
    pixels[0, 15:18] = 1  # a bar through the centre
    out = apply("zoom-blur", pixels, 5)[0, :, :, 0]
    assert out[16, 16] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(out, out[:, :1].repeat(33, 1), atol=1e-5)  # along the bar nothing changes
    assert out[18, 0] > 0.05
    assert out[20, 0] == 0


@pytest.mark.parametrize("factor", [1.0, 1.05, 1.13, 1.25])
def test_zoom_is_scipys(factor):
    """The matrices against SciPy's zoom of the cropped image itself."""
    pixels = smooth(1, 32, 32, 1)[0, :, :, 0]
    crop = int(np.ceil(32 / factor))
    top = (32 - crop) // 2
    zoomed = ndimage.zoom(pixels[top : top + crop, top : top + crop], factor, order=1)
    trim = (len(zoomed) - 32) // 2
    matrix = families._zoom_matrix(32, factor)
    np.testing.assert_allclose(matrix @ pixels @ matrix.T, zoomed[trim : trim + 32, trim : trim + 32], atol=1e-5)


# --- weather and light -------------------------------------------------------------------------------


@pytest.mark.parametrize("side, expected", [(8, 8), (9, 16), (28, 32), (32, 32)])
def test_plasma_fills_the_unit_interval(side, expected):
    clouds = families.plasma(rng(), 5, side, 2.0)
    assert clouds.shape == (5, expected, expected)
    np.testing.assert_array_equal(clouds.min((1, 2)), 0)
    np.testing.assert_array_equal(clouds.max((1, 2)), 1)


def test_plasma_is_rougher_with_less_decay_and_meets_at_its_edges():
    def steps(clouds, axis):
        return np.abs(clouds - np.roll(clouds, 1, axis)).mean()

    rough, gentle = (families.plasma(rng(), 50, 32, decay) for decay in (1.5, 3.0))
    assert steps(rough, 1) > 1.5 * steps(gentle, 1)
    for axis in (1, 2):  # the step from the last row to the first is as small as any
        seam = np.abs(gentle.take(0, axis) - gentle.take(-1, axis)).mean()
        assert seam == pytest.approx(steps(gentle, axis), rel=0.5)


def test_plasma_shrinks_its_noise_by_the_square_of_decay():
    """Midpoints less the mean of their corners are the noise of that octave, all in one unit an image."""
    clouds = families.plasma(rng(), 4000, 4, 1.5)
    corners = clouds[:, ::2, ::2]
    mean = sum(np.roll(corners, (-i, -j), (1, 2)) for i in (0, 1) for j in (0, 1)) / 4
    first, second = corners[:, 1, 1] - corners[:, 0, 0], clouds[:, 1::2, 1::2] - mean
    assert first.std() / second.std() == pytest.approx(1.5**2, rel=0.1)


@pytest.mark.parametrize(
    "severity, strength, decay", [(1, 0.2, 3.0), (2, 0.5, 3.0), (3, 0.75, 2.5), (4, 1.0, 2.0), (5, 1.5, 1.75)]
)
def test_fog_adds_a_plasma_and_scales_back(severity, strength, decay):
    pixels = 0.8 * smooth()
    cloud = families.plasma(rng(), len(pixels), 32, decay)[..., None]
    expected = (pixels + strength * cloud) * 0.8 / (0.8 + strength)
    np.testing.assert_allclose(apply("fog", pixels, severity), expected, atol=1e-6)


def test_fog_leaves_black_images_black():
    np.testing.assert_array_equal(apply("fog", constant(0)), 0)  # nothing to scale back to


def hsv(pixels):
    from matplotlib.colors import rgb_to_hsv

    return rgb_to_hsv(pixels)


@pytest.mark.parametrize("severity, more", [*enumerate((0.05, 0.1, 0.15, 0.2, 0.3), 1)])
def test_brightness_raises_the_value_alone(severity, more):
    pixels = 0.1 + 0.8 * smooth()
    before, after = hsv(pixels), hsv(apply("brightness", pixels, severity))
    np.testing.assert_allclose(after[..., 2], np.minimum(before[..., 2] + more, 1), atol=1e-5)
    np.testing.assert_allclose(after[..., :2], before[..., :2], atol=2e-4)


def test_brightness_of_black_and_of_one_channel():
    np.testing.assert_allclose(apply("brightness", constant(0), 2), 0.1, atol=1e-6)
    pixels = smooth(channels=1)
    np.testing.assert_allclose(apply("brightness", pixels, 4), np.minimum(pixels + 0.2, 1), atol=1e-6)


@pytest.mark.parametrize("severity, factor", [*enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1)])
def test_contrast_shrinks_towards_the_mean(severity, factor):
    pixels = smooth()
    mean = pixels.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(apply("contrast", pixels, severity), mean + factor * (pixels - mean), atol=1e-6)


@pytest.mark.parametrize("severity, factor, more", [(1, 0.3, 0), (2, 0.1, 0), (3, 1.5, 0), (4, 2, 0.1), (5, 2.5, 0.2)])
def test_saturate_changes_the_saturation_alone(severity, factor, more):
    pixels = 0.1 + 0.8 * smooth()
    before, after = hsv(pixels), hsv(apply("saturate", pixels, severity))
    np.testing.assert_allclose(after[..., 1], np.clip(factor * before[..., 1] + more, 0, 1), atol=1e-4)
    np.testing.assert_allclose(after[..., 2], before[..., 2], atol=1e-5)
    clear = before[..., 1] > 0.05  # hue is ill-conditioned near grey
    assert clear.mean() > 0.5
    np.testing.assert_allclose(after[clear][:, 0], before[clear][:, 0], atol=1e-3)


def test_saturate_takes_grey_for_red():
    np.testing.assert_array_equal(apply("saturate", constant(0.5), 1), 0.5)
    red = apply("saturate", constant(0.5), 4)
    np.testing.assert_allclose(red, np.broadcast_to([0.5, 0.45, 0.45], red.shape), atol=1e-6)


# --- geometry and storage ----------------------------------------------------------------------------


@given(st.integers(8, 14), st.integers(8, 14), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_sampling_is_scipys(height, width, seed):
    pixels = smooth(2, height, width, 2, seed)
    at = rng(seed).uniform(-9, 23, (2, height, width, 2))
    out = families._bilinear(pixels, at)
    for i in range(2):
        for c in range(2):
            expected = ndimage.map_coordinates(pixels[i, :, :, c], np.moveaxis(at[i], -1, 0), order=1, mode="mirror")
            np.testing.assert_allclose(out[i, :, :, c], expected, atol=1e-5)


def test_weak_elastic_is_affine():
    # A plane stays one under an affine map; the middle, where nothing is mirrored.
    row, column = np.indices((32, 32), np.float32) / 32
    plane = (0.2 + 0.3 * row + 0.2 * column)[None, :, :, None]
    out = apply("elastic", plane.repeat(5, 0), 1)[:, 10:22, 10:22, 0]
    for axis in (1, 2):
        np.testing.assert_allclose(np.diff(out, 2, axis=axis), 0, atol=1e-5)
        assert np.abs(np.diff(out, axis=axis).mean((1, 2)) - (0.3 if axis == 1 else 0.2) / 32).max() > 1e-4


def test_strong_elastic_bends():
    row = (np.indices((32, 32), np.float32)[0] / 32)[None, :, :, None]
    out = apply("elastic", row, 5)[:, 8:24, 8:24, 0]
    assert np.abs(np.diff(out, 2, axis=1)).max() > 1e-3


@pytest.mark.parametrize("severity", range(1, 6))
def test_elastic_moves_by_little_and_to_all_sides(severity):
    at = np.indices((32, 32), np.float32) - 15.5
    blob = np.exp(-(at**2).sum(0) / 8)[None, :, :, None].repeat(200, 0)
    out = apply("elastic", blob, severity)[..., 0].astype(np.float64)
    centre = np.stack([(out * grid).sum((1, 2)) / out.sum((1, 2)) for grid in at], 1)
    # The centre lies midway between two of the three points that move by 0.08 sides; 1.5 pixels for bending.
    assert 0.5 < np.abs(centre).max() < 0.08 * 32 + 1.5
    np.testing.assert_allclose(centre.mean(0), 0, atol=0.3)


@pytest.mark.parametrize(
    "name, function, levels",
    [
        (
            "elastic",
            families.elastic,
            ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ),
        ("glass-blur", families.glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
        ("zoom-blur", families.zoom_blur, tuple(len(np.arange(1, end, 0.01)) for end in ZOOM_ENDS)),
    ],
)
def test_severities_have_the_published_constants(name, function, levels):
    """Where the output does not show them."""
    pixels = smooth()
    for severity, level in enumerate(levels, 1):
        np.testing.assert_array_equal(apply(name, pixels, severity), function(rng(), pixels, level))


@pytest.mark.parametrize("severity, size", [*enumerate((30, 28, 27, 24, 20), 1)])
def test_pixelate_leaves_fewer_pixels(severity, size):
    out = apply("pixelate", smooth(1), severity)[0]
    assert len(np.unique(out, axis=0)) == len(np.unique(out, axis=1)[0]) == size


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels, tmp_path):
    codes = np.rint(smooth(2, channels=channels) * 255).astype(np.uint8)
    out = corrupt("jpeg", 0, codes, severity=5)
    for i in range(2):
        Image.fromarray(codes[i].squeeze()).save(tmp_path / "a.jpg", quality=40)
        with Image.open(tmp_path / "a.jpg") as image:
            np.testing.assert_array_equal(out[i].squeeze(), np.asarray(image))


# --- names and errors --------------------------------------------------------------------------------


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(InputError, match=r"unknown corruption 'gausian-noise': did you mean gaussian-noise"):
        corruption_by_name("gausian-noise")


@pytest.mark.parametrize("severity", [0, 6, -1])
@pytest.mark.parametrize("name", ["noise", "fog"])
def test_severity_is_1_to_5(name, severity):
    with pytest.raises(InputError, match=f"severity is {severity}: give 1"):
        corruption_by_name(name, severity)


@pytest.mark.parametrize(
    "name, shape, message",
    [
        ("saturate", (2, 28, 28, 1), r"'saturate' on images of \(28, 28, 1\): it needs 3 channels"),
        ("brightness", (2, 8, 8, 2), r"'brightness' on images of \(8, 8, 2\): it needs 1 or 3 channels"),
        ("jpeg", (2, 8, 8, 4), r"'jpeg' on images of \(8, 8, 4\): it needs 1 or 3 channels"),
        ("elastic", (2, 7, 9, 3), r"'elastic' on images of \(7, 9, 3\): it needs 8x8"),
    ],
)
def test_images_that_do_not_fit_are_named(name, shape, message):
    with pytest.raises(InputError, match=message):
        apply(name, constant(0.5, shape))


def test_rdds_three_are_named_and_take_any_image():
    assert {*RDD} <= CORRUPTIONS.keys()
    for name in RDD:
        assert apply(name, smooth(2, 3, 5, 2)).shape == (2, 3, 5, 2)
