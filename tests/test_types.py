"""The values that travel, and the errors that name what is wrong with them."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from rdd_jax import augment
from rdd_jax.errors import InputError, at_least, choose, unknown
from rdd_jax.pixels import as_pixels
from rdd_jax.types import Batch, Data, Examples, Losses, centred_one_hot

NAMES = ("cat", "dog")


def data(**changes):
    fields = {
        "images": np.arange(24, dtype=np.uint8).reshape(4, 2, 3, 1),
        "labels": np.array([0, 1, 1, 0], np.int32),
        "class_names": NAMES,
        "groups": np.array([2, 0, 1, 2], np.int32),
        "group_names": ("a", "b", "c"),
    }
    return Data(**{**fields, **changes})


def broken(value):
    images = np.full((4, 2, 3, 1), 0.5, np.float32)
    images[1, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"images": np.zeros((4, 2, 3), np.uint8)}, "images have shape (4, 2, 3): expected [n, height, width"),
        ({"images": np.zeros((4, 0, 3, 1), np.uint8)}, "images have shape (4, 0, 3, 1)"),
        ({"images": np.zeros((0, 2, 3, 1), np.uint8)}, "images have shape (0, 2, 3, 1)"),
        ({"images": np.zeros((4, 2, 3, 1), np.int64)}, "images are int64: give uint8"),
        ({"images": broken(np.nan)}, "images hold 1 NaN or infinite pixels"),
        ({"images": broken(np.inf)}, "images hold 1 NaN or infinite pixels"),
        ({"images": broken(255)}, "images hold pixels 0.5 to 255: give [0, 1]"),
        ({"images": broken(-1)}, "images hold pixels -1 to 0.5: give [0, 1]"),
        ({"labels": np.array([0, 1], np.int32)}, "labels have shape (2,) for 4 images: expected (4,)"),
        ({"labels": np.zeros((4, 2), np.int32)}, "labels have shape (4, 2) for 4 images"),
        ({"labels": np.zeros(4)}, "labels are float64: give integers 0..1"),
        ({"labels": np.array([0, 1, 2, 0])}, "labels hold 2: they must lie in 0..1 (2 names)"),
        ({"labels": np.array([0, -1, 1, 0])}, "labels hold -1"),
        ({"groups": np.array([0, 3, 0, 0])}, "groups hold 3: they must lie in 0..2 (3 names)"),
        ({"groups": np.zeros(3, int)}, "groups have shape (3,)"),
    ],
)
def test_data_that_do_not_fit_are_named(changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        data(**changes)


def test_data_know_their_size():
    assert len(data()) == 4
    assert data().classes == 2
    assert data(groups=None, group_names=()).groups is None


def test_take_keeps_examples_together_in_the_order_of_the_index():
    part = data().take(np.array([3, 1, 1]))
    np.testing.assert_array_equal(part.images, data().images[[3, 1, 1]])
    np.testing.assert_array_equal(part.labels, [0, 1, 1])
    np.testing.assert_array_equal(part.groups, [2, 0, 0])
    assert part.class_names == NAMES
    assert part.group_names == ("a", "b", "c")
    assert data(groups=None).take(np.array([0])).groups is None


def test_pixels_are_float32_between_zero_and_one():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = Data(every, np.zeros(1, np.int32), NAMES).pixels
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, every / 255, rtol=1e-6)
    assert found.max() <= 1
    half = np.full((1, 2, 2, 1), 0.5, np.float64)
    assert as_pixels(half).dtype == np.float32
    np.testing.assert_array_equal(as_pixels(half), half)


def test_centred_one_hot_sums_to_zero():
    labels = centred_one_hot(np.array([2, 0]), 4)
    np.testing.assert_array_equal(labels, [[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]])
    assert labels.dtype == np.float32


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_choose_looks_a_name_up_or_suggests_the_nearest():
    assert choose("colour", "red", {"red": 1, "green": 2}) == 1
    with pytest.raises(InputError, match="unknown colour 'gren': did you mean green"):
        choose("colour", "gren", {"red": 1, "green": 2})


def test_unknown_lists_every_option_and_hints_only_at_near_ones():
    far = str(unknown("colour", "zzz", ["red", "green"]))
    assert far == "unknown colour 'zzz': choose from red, green"


@pytest.mark.parametrize("value", [0.5, -math.inf, math.nan])
def test_at_least_refuses_what_is_lower_or_no_number(value):
    with pytest.raises(InputError, match=f"lr is {value}: it must be at least 1"):
        at_least("lr", value, 1)


def test_at_least_takes_the_bound_itself():
    at_least("lr", 1, 1)
    at_least("lr", math.inf, 1)


# --- how many groups there are -----------------------------------------------------------------------

CODES = [0, 2, 1, 2]


def in_groups(kind, codes=CODES, **count):
    images, labels = jnp.zeros((4, 2, 2, 1)), jnp.zeros((4, 3))
    return {
        Examples: lambda groups: Examples(images, labels, groups, **count),
        Batch: lambda group: Batch(images, labels, group, jnp.ones(4), **count),
        Losses: lambda group: Losses(jnp.zeros(4), group, jnp.ones(4), **count),
    }[kind](jnp.asarray(codes))


kinds = pytest.mark.parametrize("kind", [Examples, Batch, Losses])


@kinds
def test_the_number_of_groups_is_given_or_found_and_stays(kind):
    assert in_groups(kind).group_count == 3
    value = in_groups(kind, group_count=5)
    assert jax.tree.map(lambda leaf: leaf[:2], value).group_count == 5
    assert value.replace(**{kind.CODES: jnp.zeros(4, int)}).group_count == 5
    # No array: known where a program is traced, and another number is another program.
    assert jax.eval_shape(lambda value: jnp.zeros(value.group_count), value).shape == (5,)
    assert len(jax.tree.leaves(value)) == len(jax.tree.leaves(in_groups(kind)))
    assert jax.tree.structure(value) != jax.tree.structure(in_groups(kind))


@kinds
@pytest.mark.parametrize(
    "codes, count, message",
    [
        (CODES, 2, "hold 0 to 2: they must lie in 0..1, for group_count is 2"),
        ([-1, 0, 0, 0], 3, "hold -1 to 0: they must lie in 0..2"),
        ([-1, 0, 0, 1], 0, "hold -1 to 1: they must lie in 0..1"),
        (CODES, -1, "group_count is -1: it must be at least 0"),
    ],
)
def test_codes_beyond_the_number_of_groups_are_refused(kind, codes, count, message):
    with pytest.raises(InputError, match=re.escape(message)):
        in_groups(kind, codes, group_count=count)
    if count > 0:
        with pytest.raises(InputError, match=re.escape(message)):
            in_groups(kind, [0] * 4, group_count=count).replace(**{kind.CODES: jnp.asarray(codes)})


@kinds
def test_values_in_groups_are_made_while_a_program_is_traced(kind):
    codes = jnp.asarray(CODES)
    made = jax.jit(lambda codes: in_groups(kind, codes, group_count=3))(codes)
    assert made.group_count == 3
    np.testing.assert_array_equal(getattr(made, kind.CODES), CODES)
    with pytest.raises(InputError, match="being traced and their number cannot be seen: give group_count"):
        jax.eval_shape(lambda codes: in_groups(kind, codes), codes)


def test_losses_of_a_batch_have_its_groups_and_weights():
    batch = in_groups(Batch, group_count=4).replace(weight=jnp.arange(4.0))
    losses = batch.losses(jnp.ones(4))
    np.testing.assert_array_equal(losses.group, batch.group)
    np.testing.assert_array_equal(losses.weight, batch.weight)
    assert losses.group_count == 4


def test_while_tests_run_shapes_are_checked_in_inner_functions_too():
    with pytest.raises(TypeCheckError, match="images"):
        augment.dsa()(jax.random.key(0), jnp.ones((2, 3)))
