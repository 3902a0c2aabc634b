"""Augmentations: what moves, by how much, and how it is named."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax import augment
from rdd_jax.errors import InputError

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).standard_normal((40, 5, 6, 2)).astype(np.float32)


def shifted(image, down, right):
    """The image moved, edges repeated: row i shows row i + down of the one that is clamped at its borders."""
    rows = np.clip(np.arange(image.shape[0]) + down, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) + right, 0, image.shape[1] - 1)
    return image[rows][:, columns]


def offsets(before, after, pixels):
    """Every offset within ``pixels`` that makes ``after`` of ``before``."""
    steps = itertools.product(range(-pixels, pixels + 1), repeat=2)
    return [(down, right) for down, right in steps if np.array_equal(shifted(before, down, right), after)]


def test_flip_mirrors_some_images_and_leaves_the_others():
    out = np.asarray(augment.flip(KEY, jnp.asarray(IMAGES)))
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(out, IMAGES, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(out, IMAGES, strict=True)]
    np.testing.assert_array_equal(np.add(mirrored, same, dtype=int), 1)
    # 40 fair coins: 8 to 32 heads but once in 20,000 keys, and the key is fixed.
    assert 8 <= sum(mirrored) <= 32


@pytest.mark.parametrize("pixels", [1, 2])
def test_shift_moves_each_image_within_range_and_repeats_edges(pixels):
    out = np.asarray(augment.shift(pixels)(KEY, jnp.asarray(IMAGES)))
    found = [offsets(before, after, pixels) for before, after in zip(IMAGES, out, strict=True)]
    assert all(len(ways) == 1 for ways in found)
    # Each image has an offset of its own, and both axes reach both ends.
    down, right = np.array([ways[0] for ways in found]).T
    assert {*down} == {*right} == {*range(-pixels, pixels + 1)}


def test_chain_applies_every_part_in_order():
    double = lambda key, images: 2 * images  # noqa: E731
    increase = lambda key, images: images + 1  # noqa: E731
    np.testing.assert_array_equal(augment.chain(double, increase)(KEY, jnp.asarray(IMAGES)), 2 * IMAGES + 1)


def test_chain_gives_every_part_its_own_key():
    noise = lambda key, images: images + jax.random.normal(key, images.shape)  # noqa: E731
    out = augment.chain(noise, noise)(KEY, jnp.zeros((1, 1, 1, 500)))
    # Independent parts add in variance: the same key twice would give a standard deviation of 2.
    np.testing.assert_allclose(out.std(), np.sqrt(2), rtol=0.1)


@pytest.mark.parametrize("name", [*augment.AUGMENTATIONS, "flip+shift2", "shift3", "none+flip"])
def test_augmentations_keep_the_shape_and_repeat_with_the_key(name):
    apply = jax.jit(augment.augment_by_name(name))
    out = apply(KEY, jnp.asarray(IMAGES))
    assert out.shape == IMAGES.shape
    assert out.dtype == IMAGES.dtype
    np.testing.assert_array_equal(out, apply(KEY, jnp.asarray(IMAGES)))
    if name == "none":
        np.testing.assert_array_equal(out, IMAGES)
    else:
        assert (out != apply(jax.random.key(1), jnp.asarray(IMAGES))).any()


def test_names_are_taken_apart():
    images = jnp.asarray(IMAGES)
    assert augment.augment_by_name("none") is augment.none
    assert augment.augment_by_name("none+none") is augment.none
    assert augment.augment_by_name("flip") is augment.flip
    assert augment.augment_by_name("none+flip") is augment.flip
    for name, plain in (
        ("shift2", augment.shift(2)),
        ("flip+shift1", augment.chain(augment.flip, augment.shift(1))),
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
