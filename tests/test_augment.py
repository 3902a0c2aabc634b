"""Augmentations: what moves, by how much, and how it is named."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from rdd_jax import augment
from rdd_jax.errors import InputError

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).standard_normal((40, 5, 6, 2)).astype(np.float32)
KEYS = jax.random.split(KEY, 400)
SHARED = {**augment.SHARED, "dsa": augment.dsa()}


def over_keys(part, images):
    """[k, b, h, w, c]: what the augmentation makes of the images with each of `KEYS`."""
    return np.asarray(jax.jit(jax.vmap(part, (0, None)))(KEYS, jnp.asarray(images)))


def shifted(image, down, right):
    """The image moved, edges repeated: row i shows row i + down of the one that is clamped at its borders."""
    rows = np.clip(np.arange(image.shape[0]) + down, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) + right, 0, image.shape[1] - 1)
    return image[rows][:, columns]


def window(image, down, right):
    """The image moved, zeros coming in: row i shows row i + down where there is one."""
    out = np.zeros_like(image)
    for row, column in np.ndindex(image.shape[:2]):
        if 0 <= row + down < image.shape[0] and 0 <= column + right < image.shape[1]:
            out[row, column] = image[row + down, column + right]
    return out


def offsets(before, after, reach, move):
    """Every offset within ``reach`` (down, right) by which ``move`` makes ``after`` of ``before``."""
    steps = itertools.product(*(range(-pixels, pixels + 1) for pixels in reach))
    return [step for step in steps if np.array_equal(move(before, *step), after)]


def test_flip_mirrors_some_images_and_leaves_the_others():
    out = np.asarray(augment.flip(KEY, jnp.asarray(IMAGES)))
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(out, IMAGES, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(out, IMAGES, strict=True)]
    np.testing.assert_array_equal(np.add(mirrored, same, dtype=int), 1)
    # 40 fair coins: 8 to 32 heads but once in 20,000 keys, and the key is fixed.
    assert 8 <= sum(mirrored) <= 32


def test_shared_flip_mirrors_all_images_or_none():
    out = over_keys(augment.flip_shared, IMAGES)
    mirrored = [np.array_equal(a, IMAGES[:, :, ::-1]) for a in out]
    same = [np.array_equal(a, IMAGES) for a in out]
    np.testing.assert_array_equal(np.add(mirrored, same, dtype=int), 1)
    assert 160 <= sum(mirrored) <= 240


@pytest.mark.parametrize("pixels", [1, 2])
def test_shift_moves_each_image_within_range_and_repeats_edges(pixels):
    out = np.asarray(augment.shift(pixels)(KEY, jnp.asarray(IMAGES)))
    found = [offsets(before, after, (pixels, pixels), shifted) for before, after in zip(IMAGES, out, strict=True)]
    assert all(len(ways) == 1 for ways in found)
    # Each image has an offset of its own, and both axes reach both ends.
    down, right = np.array([ways[0] for ways in found]).T
    assert {*down} == {*right} == {*range(-pixels, pixels + 1)}


def test_colour_is_brightness_then_saturation_then_contrast_as_published(x64):
    image = np.random.default_rng(1).standard_normal((4, 5, 3))
    drawn = []
    for out in over_keys(augment.colour(shared=True), image[None])[:, 0]:
        # Grey, and its mean, tell the three apart.
        grey, grey_out = image.mean(-1, keepdims=True), out.mean(-1, keepdims=True)
        brightness = out.mean() - image.mean()
        contrast = np.vdot(grey_out - out.mean(), grey - image.mean()) / np.sum((grey - image.mean()) ** 2)
        saturation = np.vdot(out - grey_out, image - grey) / np.sum((image - grey) ** 2) / contrast
        expected = image + brightness
        mean = expected.mean(-1, keepdims=True)
        expected = (expected - mean) * saturation + mean
        mean = expected.mean()
        np.testing.assert_allclose(out, (expected - mean) * contrast + mean, atol=1e-12)
        drawn.append((brightness, saturation, contrast))
    low, high = np.array([-0.5, 0, 0.5]), np.array([0.5, 2, 1.5])
    assert (np.min(drawn, 0) >= low).all()
    assert (np.max(drawn, 0) <= high).all()
    # 400 draws come within 5 % of either end but once in 10^8 keys, and are unrelated.
    assert (np.min(drawn, 0) < low + 0.05 * (high - low)).all()
    assert (np.max(drawn, 0) > high - 0.05 * (high - low)).all()
    assert np.abs(np.corrcoef(np.transpose(drawn)) - np.eye(3)).max() < 0.2


def test_saturation_leaves_one_channel_alone():
    one_channel = jnp.asarray(IMAGES[..., :1])
    out = [jax.jit(augment.colour(saturation=saturation))(KEY, one_channel) for saturation in (0.0, 2.0)]
    np.testing.assert_array_equal(*out)


def test_crop_moves_within_its_share_and_zeros_come_in():
    # A quarter of 4 and of 9 pixels: 1, and 2.25 rounded.
    image = np.random.default_rng(1).standard_normal((4, 9, 2)).astype(np.float32)
    out = over_keys(augment.crop(0.25, shared=True), image[None])[:, 0]
    found = [offsets(image, after, (1, 2), window) for after in out]
    assert all(len(ways) == 1 for ways in found)
    assert {ways[0] for ways in found} == {*itertools.product(range(-1, 2), range(-2, 3))}


@pytest.mark.parametrize("side, pixels", [(3, 0), (4, 1), (28, 4)])
def test_crop_is_by_an_eighth_rounded_half_up(side, pixels):
    # Each row shows its number, from 1: zeros are not among them.
    rows = np.broadcast_to(np.arange(1, side + 1, dtype=np.float32)[:, None, None], (side, side, 1))
    out = over_keys(augment.crop(shared=True), rows[None])[:, 0].max((2, 3))
    first, last = out[:, 0], out[:, -1]
    assert first.max() == 1 + pixels
    assert last[last > 0].min() == side - pixels


def spreads(images):
    """Mean, spread of the grey images, and of the channels around them."""
    grey = images.mean(-1, keepdims=True)
    return images.mean((-1, -2, -3)), grey.std((-1, -2, -3)), (images - grey).std((-1, -2, -3))


def test_jitter_moves_the_mean_and_multiplies_contrast_and_saturation():
    image = np.random.default_rng(1).standard_normal((1, 4, 5, 3)).astype(np.float32)
    mean, grey, channels = spreads(over_keys(augment.jitter(0.25), image)[:, 0])
    was = spreads(image[0])
    contrast = grey / was[1]
    for found, middle in ((mean - was[0], 0), (contrast, 1), (channels / was[2] / contrast, 1)):
        assert middle - 0.2501 < found.min() < middle - 0.24
        assert middle + 0.24 < found.max() < middle + 0.2501


def test_cutout_zeroes_a_rectangle_anywhere_clipped_at_the_edges():
    image = np.random.default_rng(1).standard_normal((4, 5, 2)).astype(np.float32)
    # Half of 4 pixels is 2, half of 5 is 3: the places they take, by the edge or not.
    rows = [{0}, {0, 1}, {1, 2}, {2, 3}, {3}]
    columns = [{0, 1}, {0, 1, 2}, {1, 2, 3}, {2, 3, 4}, {3, 4}]
    seen = set()
    for out in over_keys(augment.cutout(shared=True), image[None])[:, 0]:
        gone = (out == 0).all(-1)
        at = (rows.index({*np.flatnonzero(gone.any(1))}), columns.index({*np.flatnonzero(gone.any(0))}))
        assert gone.sum() == len(rows[at[0]]) * len(columns[at[1]])
        np.testing.assert_array_equal(out[~gone], image[~gone])
        seen.add(at)
    assert seen == {*itertools.product(range(5), range(5))}


def matrices(part):
    """[k, 2, 2]: where the pixels come from, seen from the centre; every image is checked against SciPy."""
    shape = (9, 8)
    middle = np.array([4, 3.5])[:, None, None]
    places = np.indices(shape) - middle
    # The first image shows its own coordinates. Around the centre, linear interpolation keeps them as they are.
    rest = np.random.default_rng(1).standard_normal((2, *shape, 2))
    out = over_keys(part, np.concatenate([places.transpose(1, 2, 0)[None], rest]))
    near = (np.abs(places) < 2).all(0)
    found = []
    for after in out:
        matrix = np.linalg.lstsq(places[:, near].T, after[0][near], rcond=None)[0].T
        at = np.einsum("ij,jhw->ihw", matrix, places) + middle
        for image, channel in np.ndindex(2, 2):
            # SciPy's "constant" ends at the outermost pixels; "grid-constant" goes on to the zeros around them.
            expected = ndimage.map_coordinates(rest[image, ..., channel], at, order=1, mode="grid-constant")
            np.testing.assert_allclose(after[1 + image, ..., channel], expected, atol=1e-12)
        found.append(matrix)
    return np.array(found)


def test_scale_is_of_each_axis_about_the_centre(x64):
    found = matrices(augment.scale(shared=True))
    np.testing.assert_allclose(found[:, [0, 1], [1, 0]], 0, atol=1e-12)
    factors = found[:, [0, 1], [0, 1]]
    assert (factors >= 1 / 1.2).all()
    assert (factors <= 1.2).all()
    assert (factors.min(0) < 0.85).all()
    assert (factors.max(0) > 1.18).all()
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.2


def test_rotate_is_about_the_centre(x64):
    found = matrices(augment.rotate(shared=True))
    np.testing.assert_allclose(found @ found.transpose(0, 2, 1), np.broadcast_to(np.eye(2), found.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(found), 1)
    degrees = np.rad2deg(np.arctan2(found[:, 1, 0], found[:, 0, 0]))
    assert -15 <= degrees.min() < -14
    assert 14 < degrees.max() <= 15


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_a_shared_draw_is_the_same_for_all_images_and_any_number_of_them(name):
    part = jax.jit(SHARED[name])
    images = jnp.asarray(IMAGES)
    for key in KEYS[:8]:
        out = part(key, images)
        np.testing.assert_allclose(part(key, images[:3]), out[:3], atol=1e-6)
        # An image's place in the batch does not matter.
        np.testing.assert_allclose(part(key, images[::-1])[::-1], out, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", augment.PER_IMAGE)
def test_without_sharing_every_image_has_its_own_draw(name):
    same = jnp.broadcast_to(jnp.asarray(IMAGES[0]), IMAGES.shape)
    out = np.asarray(jax.jit(augment.PER_IMAGE[name])(KEY, same))
    # A flip has two outcomes, a crop of 5 x 6 pixels nine.
    assert len(np.unique(out, axis=0)) >= {"flip": 2, "crop": 7, "cutout": 12}.get(name, 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SHARED, "picked per image"])
def test_derivatives_agree_with_finite_differences(name, x64):
    part = SHARED.get(name, augment.dsa("colour+cutout", shared=False))
    loss = lambda images, key: jnp.sum(jnp.sin(part(key, images)))  # noqa: E731

    @jax.jit
    def derivatives(key, images, along):
        gradient = jax.value_and_grad(lambda images: loss(images, key))
        return jax.jvp(gradient, (images,), (along,))

    images = jnp.asarray(IMAGES[:2], jnp.float64)
    along = jax.random.normal(KEY, images.shape)
    for key in KEYS[:6]:
        (_, gradient), (slope, curvature) = derivatives(key, images, along)
        (above, gradient_above), _ = derivatives(key, images + 1e-5 * along, along)
        (below, gradient_below), _ = derivatives(key, images - 1e-5 * along, along)
        np.testing.assert_allclose(slope, (above - below) / 2e-5, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(jnp.vdot(gradient, along), slope, rtol=1e-10)
        np.testing.assert_allclose(curvature, (gradient_above - gradient_below) / 2e-5, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_dsa_picks_each_part_equally_often_and_one_for_all_images_of_a_call(shared, monkeypatch):
    parts = augment.SHARED if shared else augment.PER_IMAGE
    for number, name in enumerate(augment.SHARED):
        monkeypatch.setitem(parts, name, lambda key, images, number=number: images + number)
    picks = over_keys(augment.dsa(shared=shared), np.zeros((2, 1, 1, 1), np.float32)).reshape(400, 2)
    # 67 of 400 each, give or take 7.5.
    assert all(37 <= np.sum(picks[:, 0] == number) <= 97 for number in range(6))
    np.testing.assert_array_equal(picks[:, 0], picks[:, 1])


@pytest.mark.slow
def test_dsa_transforms_images_alike_in_matching_and_each_by_its_own_draw_in_training():
    same = np.repeat(IMAGES[:1], 8, 0)
    alike = lambda out: np.mean([np.allclose(one, one[:1], atol=1e-5) for one in out])  # noqa: E731
    assert alike(over_keys(augment.dsa("colour+crop+rotate"), same)) == 1
    assert alike(over_keys(augment.dsa("colour+crop+rotate", shared=False), same)) < 0.05


@pytest.mark.slow
def test_dsa_draws_from_the_named_parts_only():
    out = over_keys(augment.dsa("flip+cutout"), np.ones((1, 4, 4, 1), np.float32))
    # Of ones a flip makes ones, and a cutout ones and zeros.
    assert {*np.unique(out)} == {0, 1}
    assert 140 <= np.sum(out.all((1, 2, 3, 4))) <= 260


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, mirrors", [("dsa", True), ("dsa-no-flip", False), ("dc", False), ("frepo", True), ("frepo-no-flip", False)]
)
def test_what_trains_on_digits_does_not_mirror(name, mirrors):
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[:, 2:6, 5:] = 1
    out = over_keys(augment.NAMED[name], image)[:, 0, ..., 0]
    sides = [half.mean((1, 2)) for half in (out[:, :, :4], out[:, :, 4:])]
    assert (sides[0] > sides[1] + 1e-5).any() == mirrors


@pytest.mark.slow
def test_dc_moves_scales_and_turns():
    image = np.zeros((1, 28, 28, 1), np.float32)
    image[:, 4:24, 12:16] = 1
    out = over_keys(augment.NAMED["dc"], image)[:, 0, ..., 0]
    y, x = np.meshgrid(np.arange(28) - 13.5, np.arange(28) - 13.5, indexing="ij")
    mass = out.sum((1, 2))
    middle = np.stack([(out * axis).sum((1, 2)) / mass for axis in (y, x)], 1)
    tilt = np.rad2deg(0.5 * np.arctan2(2 * (out * x * y).sum((1, 2)), (out * (y**2 - x**2)).sum((1, 2))))
    moved = np.abs(middle).max(1) > 0.4
    turned = ~moved & (np.abs(tilt) > 1)
    # A third each, give or take nine of four hundred; a move of 0 and a turn of under a degree are few.
    assert all(95 <= np.sum(kind) <= 165 for kind in (moved, turned, ~moved & ~turned))
    assert np.abs(tilt[turned]).max() <= 46
    assert np.abs(tilt[turned]).max() > 40
    assert np.abs(middle[moved]).max() <= 4.01
    # Both sides by up to 1.2.
    assert 0.69 < mass.min() / 80 < 0.8
    assert 1.2 < mass.max() / 80 < 1.45


@pytest.mark.parametrize("shared", [True, False])
def test_a_pick_computes_its_own_part_only(shared):
    assert "cond[" in str(jax.make_jaxpr(augment.dsa(shared=shared))(KEY, IMAGES))


@pytest.mark.parametrize("names", ["colour+shift1", "color", "", "flip+", "dsa"])
def test_unknown_parts_of_dsa_raise(names):
    with pytest.raises(InputError, match="unknown part of dsa"):
        augment.dsa(names)


def test_chain_applies_every_part_in_order():
    double = lambda key, images: 2 * images  # noqa: E731
    increase = lambda key, images: images + 1  # noqa: E731
    np.testing.assert_array_equal(augment.chain(double, increase)(KEY, jnp.asarray(IMAGES)), 2 * IMAGES + 1)


def test_chain_gives_every_part_its_own_key():
    noise = lambda key, images: images + jax.random.normal(key, images.shape)  # noqa: E731
    out = augment.chain(noise, noise)(KEY, jnp.zeros((1, 1, 1, 500)))
    # Independent parts add in variance: the same key twice would give a standard deviation of 2.
    np.testing.assert_allclose(out.std(), np.sqrt(2), rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*augment.AUGMENTATIONS, "flip+shift2", "shift3", "none+flip", "crop+flip"])
def test_augmentations_keep_the_shape_and_repeat_with_the_key(name):
    apply = jax.jit(augment.augment_by_name(name))
    out = apply(KEY, jnp.asarray(IMAGES))
    assert out.shape == IMAGES.shape
    assert out.dtype == IMAGES.dtype
    assert jnp.isfinite(out).all()
    np.testing.assert_array_equal(out, apply(KEY, jnp.asarray(IMAGES)))
    if name == "none":
        np.testing.assert_array_equal(out, IMAGES)
    else:
        assert (out != apply(jax.random.key(1), jnp.asarray(IMAGES))).any()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("part", [*map(augment.augment_by_name, augment.AUGMENTATIONS), *SHARED.values()])
def test_every_augmentation_keeps_shape_and_dtype(part, dtype, x64):
    out = jax.eval_shape(part, KEY, jnp.asarray(IMAGES, dtype))
    assert out.shape == IMAGES.shape
    assert out.dtype == dtype


def test_one_pixel_will_do():
    assert jnp.isfinite(jax.jit(augment.dsa(shared=False))(KEY, jnp.ones((2, 1, 1, 1)))).all()


def test_names_are_taken_apart():
    images = jnp.asarray(IMAGES)
    assert augment.augment_by_name("none") is augment.none
    assert augment.augment_by_name("none+none") is augment.none
    assert augment.augment_by_name("flip") is augment.flip
    assert augment.augment_by_name("none+flip") is augment.flip
    assert augment.augment_by_name("dsa") is augment.NAMED["dsa"]
    # What is compiled with a function is compiled again for another.
    assert augment.augment_by_name("crop+flip") is augment.augment_by_name("crop+flip")
    for name, plain in (
        ("shift2", augment.shift(2)),
        ("flip+shift1", augment.chain(augment.flip, augment.shift(1))),
        ("colour+flip", augment.chain(augment.colour(), augment.flip)),
        ("shift1+flip", augment.chain(augment.shift(1), augment.flip)),
    ):
        np.testing.assert_array_equal(augment.augment_by_name(name)(KEY, images), plain(KEY, images))


@pytest.mark.parametrize("name", ["flipp", "shift", "shift0", "shift-1", "flip+", "flip shift1", ""])
def test_unknown_names_raise(name):
    with pytest.raises(InputError, match="unknown augmentation"):
        augment.augment_by_name(name)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="'flop': did you mean flip"):
        augment.augment_by_name("shift1+flop")


def test_shifts_must_be_smaller_than_the_image():
    augment.check_augment("flip+shift4", (5, 6, 1))
    for shape in ((5, 6, 1), (6, 5, 1)):
        with pytest.raises(InputError, match="'shift5' on images"):
            augment.check_augment("flip+shift5", shape)
