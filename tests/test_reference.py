"""The reference model of a grouping: ridge regression on the other half."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from rdd_jax.errors import InputError
from rdd_jax.grouping import reference
from rdd_jax.grouping.reference import outputs, squared_errors


def blobs(n=200, d=7, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % classes).astype(np.int32)
    return (rng.normal(size=(n, d)) + 2 * np.eye(classes, d)[labels]).astype(np.float32), labels


@pytest.mark.parametrize("block", [reference.BLOCK, 33])
@pytest.mark.parametrize("ridge", [0.1, 3.0])
def test_outputs_are_those_of_scikit_learn_fitted_to_the_other_half(ridge, block, monkeypatch):
    monkeypatch.setattr(reference, "BLOCK", block)
    points, labels = blobs()
    found = outputs(points, labels, 3, 5, ridge)
    half = np.random.default_rng(5).permutation(len(labels)) % 2
    for fold in (0, 1):
        x = points[half == fold].astype(np.float64)
        model = Ridge(ridge * (x**2).sum() / x.shape[1], fit_intercept=False)
        model.fit(x, np.eye(3)[labels[half == fold]] - 1 / 3)
        np.testing.assert_allclose(found[half != fold], model.predict(points[half != fold]), atol=1e-5)
    assert (found.argmax(1) == labels).mean() > 0.8


def test_no_example_is_told_by_a_model_that_saw_it():
    points, labels = blobs()
    changed = labels.copy()
    changed[17] = (labels[17] + 1) % 3
    before, after = outputs(points, labels, 3, 0), outputs(points, changed, 3, 0)
    np.testing.assert_array_equal(before[17], after[17])
    assert not np.array_equal(before, after)


def test_the_same_seed_gives_the_same_outputs_and_another_other_halves():
    points, labels = blobs()
    np.testing.assert_array_equal(outputs(points, labels, 3, 1), outputs(points, labels, 3, 1))
    assert not np.array_equal(outputs(points, labels, 3, 1), outputs(points, labels, 3, 2))


@given(st.integers(2, 30), st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_outputs_are_finite_whatever_the_points(n, d, classes):
    labels = (np.arange(n) % classes).astype(np.int32)
    for points in (np.zeros((n, d), np.float32), blobs(n, d, 1)[0]):
        found = outputs(points, labels, classes, 0)
        assert found.shape == (n, classes)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


def test_losses_are_squared_errors_of_centred_labels():
    points, labels = blobs()
    found = outputs(points, labels, 3, 0)
    wanted = ((found - (np.eye(3)[labels] - 1 / 3)) ** 2).sum(1)
    np.testing.assert_allclose(squared_errors(found, labels), wanted, rtol=1e-4)
    np.testing.assert_allclose(squared_errors(np.zeros_like(found), labels), 2 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"points": np.zeros((1, 7), np.float32), "labels": np.zeros(1, np.int32)}, "at least 2"),
        ({"ridge": 0.0}, "ridge is 0.0"),
        ({"ridge": float("nan")}, "ridge is nan"),
        ({"labels": np.full(200, 3, np.int32)}, r"in 0\.\.2"),
    ],
)
def test_what_cannot_be_fitted_is_refused(changes, message):
    points, labels = blobs()
    with pytest.raises(InputError, match=message):
        outputs(**{"points": points, "labels": labels, "classes": 3, "seed": 0} | changes)
