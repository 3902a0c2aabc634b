"""The published recipe of training on a small set: its constants, and what its optimiser does with them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rdd_jax.networks.training import Recipe

# Zhao et al. 2021, *Dataset Condensation with Gradient Matching*, and the code of its tables, `evaluate_synset` of
# VICO-UoE/DatasetCondensation: `for ep in range(Epoch + 1)` with 300, that is 301 epochs; after that of
# `ep == Epoch // 2 + 1`, the 152nd, SGD is made again at a tenth of the rate, with no momentum yet; weight decay, no
# augmentation and no averaging.
PUBLISHED = {
    "epochs": 301,
    "batch": 256,
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "average": 0.0,
}
DROP, DROPS_AFTER = 0.1, 152


def test_the_constants_are_the_published_ones():
    recipe = Recipe()._asdict()
    images = jnp.arange(8.0).reshape(2, 2, 2, 1)
    np.testing.assert_array_equal(recipe.pop("augment")(jax.random.key(0), images), images)
    assert recipe == PUBLISHED


def by_numpy(start, gradients, drop, rate, momentum, decay, anew=None):
    """SGD as PyTorch has it: decay joins the gradient, the rate does not enter the momentum, which begins at a step."""
    anew = drop if anew is None else anew
    parameters, speed = start.astype(np.float64), np.zeros(len(start))
    path = []
    for step, gradient in enumerate(gradients):
        speed = (momentum * speed if step != anew else 0) + gradient + decay * parameters
        parameters = parameters - rate * (1.0 if step < drop else DROP) * speed
        path.append(parameters)
    return np.array(path)


@pytest.mark.parametrize("images, batches", [(10, 1), (256, 1), (257, 2), (700, 3)])
def test_parameters_move_as_those_of_plain_sgd_across_the_drop(images, batches):
    half = DROPS_AFTER * batches
    rng = np.random.default_rng(0)
    # Large parameters, so that the decay shows beside the gradients.
    start = rng.uniform(50, 100, 4).astype(np.float32)
    gradients = rng.standard_normal((half + 12, 4)).astype(np.float32)
    optimizer = Recipe().optimizer(images)

    def step(carry, gradient):
        parameters, state = carry
        updates, state = optimizer.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        return (parameters, state), parameters

    _, path = jax.lax.scan(step, (jnp.asarray(start), optimizer.init(jnp.asarray(start))), gradients)
    rate, momentum, decay = (PUBLISHED[name] for name in ("learning_rate", "momentum", "weight_decay"))
    steps = lambda path: np.diff(np.concatenate([start[None], np.asarray(path, float)]), axis=0)  # noqa: E731
    expected = steps(by_numpy(start, gradients, half, rate, momentum, decay))
    np.testing.assert_allclose(steps(path), expected, atol=2e-5)
    # The tolerance tells the recipe from its neighbours, at the start and after the drop.
    for other in (
        by_numpy(start, gradients, half, 0.02, momentum, decay),
        by_numpy(start, gradients, half, rate, 0.5, decay),
        by_numpy(start, gradients, half, rate, momentum, 0.0),
        by_numpy(start, gradients, half + 1, rate, momentum, decay),
        by_numpy(start, gradients, half - 1, rate, momentum, decay),
        by_numpy(start, gradients, half, rate, momentum, decay, anew=-1),
    ):
        assert np.abs(steps(other) - expected).max() > 2e-4
