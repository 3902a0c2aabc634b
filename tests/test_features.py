"""Features: every member's contract; texture against loops over patches, and what it does and does not see."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax.datasets import load
from rdd_jax.datasets.corruptions import blur
from rdd_jax.datasets.shifts import LUMA
from rdd_jax.errors import InputError
from rdd_jax.grouping import features
from rdd_jax.grouping.features import FEATURES, embedding, kernel_map, texture
from rdd_jax.kernels.fully_connected import fc_ntk
from rdd_jax.kernels.gram import row_blocks
from rdd_jax.types import Subject

every_member = pytest.mark.parametrize("name", FEATURES)
pytestmark = pytest.mark.usefixtures("quick_discovery")


def subject_of(images):
    """Images of two classes in turn."""
    return Subject(images, np.arange(len(images), dtype=np.int32) % 2, 2)


def random_images(n=12, height=8, width=8, channels=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, height, width, channels)).astype(np.float32)


def smooth_images(n=12, height=8, width=8, channels=3, seed=0):
    """Neighbouring pixels and channels go together, so that the principal axes of patches are well apart."""
    images = random_images(n, height + 3, width + 3, channels, seed)
    images = sum(images[:, i : i + height, j : j + width] * (1 + i + 2 * j) for i in range(3) for j in range(4))
    mix = np.random.default_rng(1).standard_normal((channels, channels)).astype(np.float32)
    return images @ mix / 20


# --- every member ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("side, channels", [(8, 1), (12, 3)])
@every_member
def test_one_finite_float32_row_an_image_repeatably(name, side, channels):
    images = random_images(12, side, side, channels)
    found = FEATURES.make(name)(subject_of(images))
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    assert found.ndim == 2
    assert len(found) == 12
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, FEATURES.make(name)(subject_of(images.copy())))


@pytest.mark.slow
@every_member
def test_blocks_do_not_show(name, monkeypatch):
    images = smooth_images(50)
    whole = FEATURES.make(name)(subject_of(images))
    monkeypatch.setattr(features, "row_blocks", lambda images, rows: row_blocks(images, 7))
    # The mean patch and the covariance are sums over blocks, which round differently.
    np.testing.assert_allclose(FEATURES.make(name)(subject_of(images)), whole, rtol=1e-3, atol=1e-3)


def test_the_last_block_is_cut_to_its_images():
    images = random_images(1025, 2, 2, 1)
    parts = list(features.blocks(lambda x: (x.sum((1, 2, 3)), x[..., 0]), images))
    assert [len(total) for total, _ in parts] == [1024, 1]
    totals, copies = (np.concatenate(part) for part in zip(*parts, strict=True))
    np.testing.assert_allclose(totals, images.sum((1, 2, 3)), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(copies, images[..., 0])


def test_texture_of_more_images_than_a_block_has_rows():
    images = smooth_images(1025, 4, 4, 1)
    found = texture()(subject_of(images))
    assert found.shape == (1025, 18)
    # The last image, alone in its block, is described as its copy among the first is.
    images[0] = images[-1]
    found = texture()(subject_of(images))
    np.testing.assert_allclose(found[0], found[-1], rtol=1e-4, atol=1e-4)


def test_unknown_features_suggest_the_nearest():
    with pytest.raises(InputError, match="unknown features 'textur': did you mean texture"):
        FEATURES.make("textur")


def test_pixels_are_the_flat_images():
    images = random_images()
    np.testing.assert_array_equal(FEATURES.make("pixels")(subject_of(images)), images.reshape(12, -1))


def test_principal_components_are_64_at_most():
    assert FEATURES.make("pca")(subject_of(random_images(80))).shape == (80, 64)


def test_embeddings_are_what_the_network_returns_flattened():
    images = random_images(513, 4, 4, 1)  # one more than a block

    def embed(x):
        return jnp.tanh(x[:, ::2])

    found = embedding(embed)(subject_of(images))
    assert found.shape == (513, 8)
    np.testing.assert_allclose(found, np.asarray(embed(images)).reshape(513, -1), rtol=1e-6)


# --- the kernel's map --------------------------------------------------------------------------------


@functools.cache
def kernel_error(landmarks, seed=0):
    """What inner products of the map lack of the kernel, of 60 images."""
    images = smooth_images(60, channels=1)
    mapped = kernel_map(fc_ntk(), landmarks, seed)(subject_of(images))
    assert mapped.shape == (60, min(landmarks, 60))
    real = jnp.asarray(images)
    return np.asarray(fc_ntk()(real, real)) - mapped @ mapped.T


@pytest.mark.slow
@pytest.mark.parametrize("landmarks", [60, 500])
def test_with_every_image_a_landmark_inner_products_are_the_kernel(landmarks):
    np.testing.assert_allclose(kernel_error(landmarks), 0, atol=1e-3)


@pytest.mark.slow
def test_inner_products_with_landmarks_are_the_kernel_and_others_nearly_so():
    error = kernel_error(20)
    landmarks = np.diag(error) < 1e-3
    assert landmarks.sum() == 20
    np.testing.assert_allclose(error[landmarks], 0, atol=1e-3)
    # The rest is a Schur complement: positive semi-definite, so that no image is longer than the kernel says.
    assert np.linalg.eigvalsh((error + error.T) / 2).min() > -1e-3
    assert np.linalg.norm(kernel_error(40)) < np.linalg.norm(error) / 1.5


@pytest.mark.slow
def test_the_seed_chooses_the_landmarks():
    chosen = [set(np.flatnonzero(np.diag(kernel_error(20, seed)) < 1e-3)) for seed in (0, 1)]
    assert chosen[0] != chosen[1]


# --- texture: the formula ----------------------------------------------------------------------------


def texture_loop(images, size=3, floor=1e-2):
    """The docstring's formula in float64: ``(means [n, j], log variances [n, j])``, standardised."""
    height, width = images.shape[1:3]
    stride = -(-max(height, width) // 16)
    patches = []
    for image in images.astype(np.float64):
        own = []
        for top in range(0, height - min(size, height) + 1, stride):
            for left in range(0, width - min(size, width) + 1, stride):
                own.append(image[top : top + size, left : left + size].ravel())
        patches.append(np.array(own))
    every = np.concatenate(patches)
    values, vectors = np.linalg.eigh(np.cov(every.T, bias=True))
    keep = values > 1e-6 * values[-1]
    axes = vectors[:, keep] / np.sqrt(values[keep] + 1e-3 * values.mean())
    found = []
    for own in patches:
        means, spreads = [], []
        for axis in axes.T:
            along = [axis @ patch for patch in own]
            means.append(np.mean(along))
            spreads.append(np.log(np.var(along) + floor))
        found.append(means + spreads)
    found = np.array(found)
    return np.hsplit((found - found.mean(0)) / found.std(0), 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape, size",
    [
        ((6, 8, 8, 1), 3),
        ((6, 8, 8, 3), 3),
        ((4, 17, 9, 1), 3),
        ((5, 28, 28, 1), 3),
        ((6, 2, 9, 1), 3),
        ((6, 8, 8, 1), 2),
    ],
    ids=str,
)
def test_texture_is_the_formula_in_loops(shape, size):
    images = smooth_images(*shape)
    found = np.hsplit(texture(size)(subject_of(images)), 2)
    means, spreads = texture_loop(images, size)
    signs = np.sign((means * found[0]).sum(0))  # an axis may point either way
    np.testing.assert_allclose(found[0] * signs, means, atol=0.02)
    np.testing.assert_allclose(found[1], spreads, atol=0.02)


@pytest.mark.parametrize("channels, side", [(1, 8), (3, 8), (3, 28)])
def test_texture_is_standardised(channels, side):
    found = texture()(subject_of(random_images(40, side, side, channels)))
    assert found.shape == (40, 2 * 9 * channels)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(0), 1, rtol=1e-4)


def test_grey_images_of_three_channels_have_no_axes_of_colour():
    images = np.repeat(random_images(40, channels=1), 3, -1)
    assert texture()(subject_of(images)).shape == (40, 2 * 9)


def test_a_blank_image_is_described_too():
    images = random_images(20)
    images[3] = 0
    found = texture()(subject_of(images))
    assert np.isfinite(found).all()
    assert np.abs(found[3]).max() > 3  # far from all others


def test_a_higher_floor_hides_small_variances():
    images = smooth_images(20)
    images[:10] *= 0.01
    low, high = (np.hsplit(texture(floor=floor)(subject_of(images)), 2)[1] for floor in (1e-6, 1e2))
    assert np.abs(low[:10].mean(0) - low[10:].mean(0)).min() > 1.5
    assert np.abs(low - high).max() > 0.5


# --- texture: what it sees ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_texture_does_not_see_where_a_figure_is(channels):
    figures = np.zeros((20, 12, 12, channels), np.float32)
    figures[:, 3:7, 3:7] = random_images(20, 4, 4, channels)  # two blank pixels are left around wherever it goes
    moved = [np.roll(figures, by, (1, 2)) for by in [(-1, 0), (2, 3), (3, -1)]]
    found = np.split(texture()(subject_of(np.concatenate([figures, *moved, smooth_images(20, 12, 12, channels)]))), 5)
    for other in found[1:4]:
        np.testing.assert_allclose(other, found[0], atol=5e-3)
    assert np.abs(found[4] - found[0]).max() > 1


def test_texture_does_not_see_the_phase_of_a_pattern():
    tiles = random_images(20, 3, 3, 1)
    patterns = np.tile(tiles, (1, 3, 3, 1))[:, :8, :8]  # six positions each way: two periods
    moved = np.tile(np.roll(tiles, (1, 2), (1, 2)), (1, 3, 3, 1))[:, :8, :8]
    plain, rolled, other = np.split(
        texture()(subject_of(np.concatenate([patterns, moved, smooth_images(20, channels=1)]))), 3
    )
    np.testing.assert_allclose(plain, rolled, atol=5e-3)
    assert np.abs(plain - other).max() > 1


def digits(n=200):
    return load("digits").train.pixels[:n]


def blurred(images):
    return blur(np.random.default_rng(0), images)


def grey(images):
    return np.repeat((images @ LUMA)[..., None], 3, -1)


PAIRS = {
    "coloured and grey": (lambda: smooth_images(200), grey),
    "plain and inverted": (digits, lambda images: 1 - images),
    "plain and blurred": (digits, blurred),
}


def best_threshold(plain, changed):
    """The best accuracy of a threshold on one feature."""
    best = 0.0
    for a, b in zip(plain.T, changed.T, strict=True):
        for cut in (*a, *b):
            right = np.mean(a > cut) + np.mean(b <= cut)
            best = max(best, right / 2, 1 - right / 2)
    return best


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_texture_sees_a_change_of_style(pair):
    make, change = PAIRS[pair]
    images = make()
    found = texture()(subject_of(np.concatenate([images, change(images)])))
    assert best_threshold(*np.split(found, 2)) > 0.99
