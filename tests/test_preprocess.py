"""Preprocessings: exact inverses, the statistics they promise, and a travelling form."""

import numpy as np
import pytest

from rdd_jax.datasets import preprocess
from rdd_jax.errors import InputError
from rdd_jax.types import Data, Splits


def pixels(n=200, shape=(4, 5, 3)):
    """Smooth, so that the spectrum of the covariance is far from flat, with channels of different scale."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((n, *shape)).cumsum(1).cumsum(2) * np.array([1, 0.5, 2])[: shape[-1]]
    return ((noise - noise.min()) / (noise.max() - noise.min())).astype(np.float32)


PIXELS = pixels()


@pytest.mark.parametrize("kind", preprocess.PREPROCESSINGS)
def test_invert_undoes_apply(kind):
    fitted = preprocess.fit(kind, PIXELS)
    images = fitted.apply(PIXELS)
    assert images.dtype == np.float32
    assert images.shape == PIXELS.shape
    np.testing.assert_allclose(fitted.invert(images), PIXELS, atol=1e-4)
    # The other way round too: learned images need not come from pixels.
    learned = np.random.default_rng(1).standard_normal((3, *PIXELS.shape[1:])).astype(np.float32)
    np.testing.assert_allclose(fitted.apply(fitted.invert(learned)), learned, atol=1e-3)


@pytest.mark.parametrize("kind", preprocess.PREPROCESSINGS)
def test_arrays_restore_the_same_map(kind, tmp_path):
    fitted = preprocess.fit(kind, PIXELS)
    np.savez(tmp_path / "arrays.npz", **fitted.to_arrays())
    with np.load(tmp_path / "arrays.npz") as arrays:
        restored = preprocess.Preprocess.from_arrays(dict(arrays))
    assert restored.kind == kind
    np.testing.assert_array_equal(restored.apply(PIXELS), fitted.apply(PIXELS))
    np.testing.assert_array_equal(restored.invert(PIXELS), fitted.invert(PIXELS))


def test_none_leaves_pixels_alone():
    np.testing.assert_array_equal(preprocess.fit("none", PIXELS).apply(PIXELS), PIXELS)


def test_standardise_gives_every_channel_mean_zero_and_deviation_one():
    images = preprocess.fit("standardise", PIXELS).apply(PIXELS).astype(np.float64)
    np.testing.assert_allclose(images.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(images.std((0, 1, 2)), 1, rtol=1e-5)


def test_standardise_keeps_a_constant_channel_finite():
    constant = PIXELS.copy()
    constant[..., 1] = 0.25
    images = preprocess.fit("standardise", constant).apply(constant)
    np.testing.assert_allclose(images[..., 1], 0, atol=1e-6)
    np.testing.assert_allclose(images[..., 0].std(), 1, rtol=1e-4)


def zca_matrix(regularisation):
    """``A`` in float64, from the covariance itself."""
    flat = PIXELS.reshape(len(PIXELS), -1).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(flat.T, bias=True))
    scale = 1 / np.sqrt(values + regularisation * values.mean())
    return (vectors * scale / np.sqrt(np.mean(values * scale**2))) @ vectors.T


@pytest.mark.parametrize("regularisation", [0.01, 0.1, 1.0])
def test_zca_whitens_as_documented(regularisation):
    fitted = preprocess.fit("zca", PIXELS, regularisation)
    flat = PIXELS.reshape(len(PIXELS), -1).astype(np.float64)
    matrix = zca_matrix(regularisation)
    images = fitted.apply(PIXELS).reshape(flat.shape).astype(np.float64)
    np.testing.assert_allclose(images, (flat - flat.mean(0)) @ matrix, atol=1e-3)
    np.testing.assert_allclose(np.mean(images**2), 1, rtol=1e-4)
    # V diag(v) V^T becomes V diag(s^2 v / (v + r mean(v))) V^T.
    np.testing.assert_allclose(np.cov(images.T, bias=True), matrix @ np.cov(flat.T, bias=True) @ matrix, atol=1e-3)


def test_zca_is_symmetric_so_that_images_stay_images():
    fitted = preprocess.fit("zca", PIXELS)
    units = np.eye(60, dtype=np.float32).reshape(60, *PIXELS.shape[1:])
    matrix = (fitted.apply(units) - fitted.apply(0 * units)).reshape(60, 60)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-4)
    np.testing.assert_allclose(matrix, zca_matrix(0.1), atol=1e-3)


def test_zca_of_more_images_than_a_block_is_the_same():
    fitted = preprocess.fit("zca", PIXELS)
    many = np.tile(PIXELS, (21, 1, 1, 1))
    np.testing.assert_allclose(fitted.apply(many)[-200:], fitted.apply(PIXELS), atol=1e-5)
    np.testing.assert_allclose(preprocess.fit("zca", many).apply(PIXELS), fitted.apply(PIXELS), atol=2e-3)


def test_zca_of_fewer_images_than_pixels_is_invertible():
    few = PIXELS[:10]
    fitted = preprocess.fit("zca", few)
    np.testing.assert_allclose(fitted.invert(fitted.apply(PIXELS)), PIXELS, atol=1e-3)


def test_unknown_kind_suggests_the_nearest():
    with pytest.raises(InputError, match="'standardize': did you mean standardise"):
        preprocess.fit("standardize", PIXELS)


@pytest.mark.parametrize("kind", ["standardise", "zca"])
def test_data_that_do_not_vary_raise(kind):
    with pytest.raises(InputError, match="no pixel of the training images varies"):
        preprocess.fit(kind, np.full_like(PIXELS, 0.5))


@pytest.mark.parametrize(
    "kind, fitted_on, shape",
    [
        ("standardise", (4, 5, 3), (4, 5, 1)),
        ("standardise", (4, 5, 3), (4, 5)),
        ("zca", (4, 5, 3), (5, 4, 3)),
        ("zca", (4, 5, 3), (4, 5, 1)),
        ("zca", (4, 5, 1), (4, 5, 3)),
    ],
)
def test_images_of_another_shape_raise(kind, fitted_on, shape):
    fitted = preprocess.fit(kind, pixels(shape=fitted_on))
    for use in (fitted.apply, fitted.invert):
        with pytest.raises(InputError, match=f"the {kind} was fitted on"):
            use(np.zeros((2, *shape), np.float32))


def test_standardise_takes_images_of_another_size():
    fitted = preprocess.fit("standardise", PIXELS)
    assert fitted.apply(pixels(shape=(7, 6, 3))).shape == (200, 7, 6, 3)


def splits(groups=None):
    names = () if groups is None else ("a", "b")
    parts = [Data(PIXELS[at : at + 40], np.arange(40) % 3, ("x", "y", "z"), groups, names) for at in (0, 40, 80)]
    return Splits(*parts, "toy")


def test_prepared_data_are_fitted_on_train_alone():
    parts = splits()
    prepared = preprocess.prepare(parts, "zca", 0.5)
    fitted = preprocess.fit("zca", parts.train.images, 0.5)
    np.testing.assert_array_equal(prepared.train, fitted.apply(parts.train.images))
    np.testing.assert_array_equal(prepared.model_space(parts.test), fitted.apply(parts.test.images))
    # What was fitted elsewhere is used as it is.
    np.testing.assert_array_equal(preprocess.prepare(parts, "none", fitted=fitted).train, prepared.train)


@pytest.mark.parametrize("groups", [None, np.arange(40, dtype=np.int32) % 2])
def test_prepared_examples_carry_labels_and_groups(groups):
    parts = splits(groups)
    examples = preprocess.prepare(parts, "none").examples()
    np.testing.assert_array_equal(examples.images, parts.train.images)
    np.testing.assert_array_equal(examples.labels.argmax(1), parts.train.labels)
    np.testing.assert_allclose(examples.labels.sum(1), 0, atol=1e-6)
    np.testing.assert_array_equal(examples.groups, np.zeros(40) if groups is None else groups)
