"""Gram matrices in tiles and predictions in blocks: the same numbers within a budget."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdd_jax.errors import InputError
from rdd_jax.kernels import fc_ntk, gram, predict, tiled
from rdd_jax.kernels.gram import TEMPORARIES, block_rows, row_blocks


def KERNEL(x1, x2):
    """Compiled fast."""
    return jnp.exp(x1.reshape(len(x1), -1) @ x2.reshape(len(x2), -1).T / 9)


def images(seed, n):
    return np.random.default_rng(seed).standard_normal((n, 3, 3, 1)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("rows, columns", [(5, 6), (2, 3), (3, 4), (1, 1), (50, 60)])
def test_tiled_kernel_is_the_kernel_with_its_gradients(rows, columns):
    x1, x2 = jnp.asarray(images(0, 5)), jnp.asarray(images(1, 6))
    cotangent = jnp.asarray(np.random.default_rng(2).standard_normal((5, 6)), jnp.float32)
    value, pullback = jax.vjp(KERNEL, x1, x2)
    tiled_value, tiled_pullback = jax.vjp(tiled(KERNEL, rows, columns), x1, x2)
    np.testing.assert_allclose(tiled_value, value, rtol=1e-5)
    for ours, plain in zip(tiled_pullback(cotangent), pullback(cotangent), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)


def test_tiled_never_asks_for_more_than_one_tile():
    shapes = []

    def watched(a, b):
        shapes.append((len(a), len(b)))
        return KERNEL(a, b)

    tiled(watched, 2, 4)(jnp.asarray(images(3, 5)), jnp.asarray(images(4, 6)))
    assert set(shapes) == {(2, 3)}  # as even as can be


@pytest.mark.parametrize(
    "use",
    [
        lambda kernel: kernel,
        lambda kernel: jax.grad(lambda x1, x2: kernel(x1, x2).sum()),
        lambda kernel: lambda x1, x2: gram.compile_kernel(kernel).diagonal(x1),
    ],
    ids=["value", "gradient", "diagonal"],
)
def test_every_use_of_a_tiled_kernel_needs_the_memory_of_one_tile(use):
    def dear(a, b):
        """A hundred thousand numbers a pair."""
        pairs = a.reshape(len(a), 1, -1, 1) * b.reshape(1, len(b), 1, -1)
        return jnp.sin(jnp.tile(pairs, (1, 1, 40, 30))).sum((2, 3))

    run = use(tiled(dear, 2, 2))
    few, many = (
        jax.jit(run).lower(*[jax.ShapeDtypeStruct((n, 3, 3, 1), "float32")] * 2).compile().memory_analysis()
        for n in (4, 32)
    )
    assert many.temp_size_in_bytes < 1.5 * few.temp_size_in_bytes


@pytest.mark.parametrize("rows, columns", [(0, 1), (1, 0)])
def test_empty_tiles_raise(rows, columns):
    with pytest.raises(InputError, match="at least 1"):
        tiled(KERNEL, rows, columns)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [0, 1, 3, 5, 11, 10**6])
def test_predictions_do_not_depend_on_the_budget(rows):
    x, support = images(5, 11), jnp.asarray(images(6, 4))
    alpha = jnp.asarray(np.random.default_rng(7).standard_normal((4, 2)), jnp.float32)
    budget = rows * 4 * (9 + TEMPORARIES * 4)
    outputs = predict(KERNEL, x, support, alpha, budget)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, np.asarray(KERNEL(jnp.asarray(x), support) @ alpha), rtol=2e-5, atol=1e-6)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(features=st.integers(1, 10**5), columns=st.integers(1, 10**5), budget=st.integers(0, 2**34))
def test_blocks_fill_the_budget_and_stay_within(features, columns, budget):
    rows = block_rows(features, columns, budget)
    a_row = 4 * (3 * features + 8 * columns)
    assert rows >= 1
    assert rows == 1 or rows * a_row <= budget
    assert (rows + 1) * a_row > budget


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(n=st.integers(1, 40), rows=st.integers(1, 50))
def test_row_blocks_hold_every_row_once_and_have_one_shape(n, rows):
    x = np.arange(n)
    blocks = list(row_blocks(x, rows))
    assert {len(block) for _, block in blocks} == {min(rows, n)}
    held = [block[: where.stop - where.start] for where, block in blocks]
    np.testing.assert_array_equal(np.concatenate(held), x)
    np.testing.assert_array_equal(np.concatenate([x[where] for where, _ in blocks]), x)


def test_predicting_any_number_of_images_needs_less_than_a_gigabyte():
    # One block of CIFAR-10 images against 500 synthetic ones, as XLA has planned it; blocks follow one another.
    rows = block_rows(32 * 32 * 3, 500)
    shapes = ((rows, 32, 32, 3), (500, 32, 32, 3), (500, 10))
    predictor = gram.compile_kernel(fc_ntk(depth=3)).predict
    plan = predictor.lower(*(jax.ShapeDtypeStruct(s, "float32") for s in shapes)).compile().memory_analysis()
    assert plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes < 2**30
    assert rows > 1000
