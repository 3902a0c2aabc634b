"""Recipes: the published constants, files and words, what is refused, and what the optimisers do with them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rdd_jax.datasets import prepare
from rdd_jax.errors import InputError
from rdd_jax.evaluation import recipe_learner, with_rates
from rdd_jax.networks import NETWORKS
from rdd_jax.networks.recipe_files import (
    from_values,
    read_recipe,
    recipe_of,
    spelt,
    to_values,
    write_recipe,
)
from rdd_jax.networks.recipes import RECIPES, Recipe, network_by_recipe, recipe_by_name
from rdd_jax.networks.training import optimizer_of
from rdd_jax.types import Data, Splits, Synthetic, centred_one_hot

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
DC = PUBLISHED | {"network": "convnet", "depth": 3, "width": 128, "growth": "constant", "norm": "instance"}
DC |= {"centred": False, "loss": "cross-entropy", "label_scale": 1.0, "optimizer": "sgd", "schedule": "drop"}
DC |= {"warmup": 0, "steps": None, "augment": "none", "stop": 0, "rates": ""}
# Zhou et al. 2022 and Loo et al. 2022, with their released code; of RFAD the rate and how it stops are our own.
FREPO = DC | {"growth": "double", "norm": "none", "loss": "squared", "optimizer": "adam", "learning_rate": 3e-4}
FREPO |= {"weight_decay": 0.0, "schedule": "cosine", "warmup": 500, "epochs": None, "batch": 500, "augment": "frepo"}
RFAD = DC | {"width": 1024, "norm": "none", "centred": True, "loss": "squared", "weight_decay": 0.0}
RFAD |= {"schedule": "constant", "epochs": None, "steps": 20_000, "stop": 5}


@pytest.mark.parametrize(
    "name, images, classes, published",
    [
        ("dc", 100, 10, DC),
        ("dsa", 100, 10, DC | {"epochs": 1001, "augment": "dsa"}),
        ("frepo", 10, 10, FREPO | {"steps": 1000}),
        ("frepo", 100, 10, FREPO | {"steps": 2000}),
        ("frepo", 101, 10, FREPO | {"steps": 5000}),
        ("frepo", 1000, 100, FREPO | {"steps": 5000}),
        ("rfad", 10, 10, RFAD | {"label_scale": 8.0, "batch": 10}),
        ("rfad", 500, 10, RFAD | {"label_scale": 2.0, "batch": 500}),
    ],
)
def test_the_constants_are_the_published_ones(name, images, classes, published):
    assert to_values(recipe_by_name(name, images, classes)) == published


# --- files and words ---------------------------------------------------------------------------------

OWN = Recipe(
    "mlp", width=7, loss="squared", label_scale=3, epochs=None, steps=12, augment="crop+shift2", average=0.5, stop=2
)


@pytest.mark.parametrize("name", [*RECIPES, "own"])
@pytest.mark.parametrize("form", ["json", "toml", "words"])
def test_recipes_come_back_as_they_were(name, form, tmp_path):
    recipe = OWN if name == "own" else recipe_by_name(name, 20, 10)
    if form == "words":
        words = spelt(recipe, 20, 10)
        assert recipe_of(words, 20, 10) == recipe
        assert name in (words, "own")
    else:
        write_recipe(tmp_path / f"recipe.{form}", recipe)
        assert read_recipe(tmp_path / f"recipe.{form}") == recipe


@pytest.mark.parametrize(
    "words, changed",
    [
        ("dc", {}),
        ("dsa,epochs=1500", {"epochs": 1500, "augment": "dsa"}),
        ("dc, steps=5 , momentum=.5", {"epochs": None, "steps": 5, "momentum": 0.5}),
        ("dc,centred=true,norm=none", {"centred": True, "norm": "none"}),
    ],
)
def test_words_say_a_name_and_what_is_changed(words, changed):
    assert recipe_of(words, 20, 10) == replace(Recipe(), **changed)


def test_words_say_a_file_and_what_is_changed(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('loss = "squared"\nsteps = 40\n')
    assert recipe_of(f"{file},epochs=3", 20, 10) == Recipe(loss="squared", epochs=3)


def test_the_words_of_the_training_alone_leave_the_network_out():
    recipe = recipe_of("dsa,width=8,depth=1,epochs=2", 20, 10)
    assert spelt(recipe, 20, 10, network=False) == "dsa,epochs=2"


@pytest.mark.parametrize(
    "values, message",
    [
        ({"epoch": 3}, "unknown key 'epoch': did you mean epochs"),
        ({"loss": "square"}, "unknown loss 'square': did you mean squared"),
        ({"optimizer": "adma"}, "did you mean adam"),
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"network": "convnt"}, "did you mean convnet"),
        ({"growth": "doubled"}, "did you mean double"),
        ({"norm": "instanse"}, "did you mean instance"),
        ({"augment": "dsa+flop"}, "did you mean flip"),
        ({"epochs": 0}, "epochs is 0: it must be at least 1"),
        ({"steps": -1}, "steps is -1"),
        ({"width": 0}, "width is 0"),
        ({"depth": 101}, "depth is 101"),
        ({"average": 1.0}, "average is 1.0"),
        ({"stop": -1}, "stop is -1"),
        ({"momentum": 1}, "momentum is 1"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"label_scale": 1e9, "loss": "squared"}, "label_scale is 1000000000.0"),
        ({"epochs": 3, "steps": 4}, "epochs is 3 and steps is 4: give one"),
        ({"epochs": None}, "epochs is None and steps is None: give one"),
        ({"label_scale": 2.0}, "label_scale is 2.0, but the loss is cross-entropy"),
        ({"warmup": 5}, "warmup is 5, but the schedule is drop"),
        ({"schedule": "cosine", "warmup": 5, "steps": 5}, "warmup is 5 of 5 steps"),
        ({"epochs": 3.0}, "epochs is 3.0: give a whole number"),
        ({"epochs": True}, "epochs is True: give a whole number"),
        ({"centred": 1}, "centred is 1: give true or false"),
        ({"weight_decay": "much"}, "weight_decay is 'much': give a number"),
        ({"loss": None}, "loss is None: give a name"),
    ],
)
def test_bad_values_are_refused_with_their_place_and_remedy(values, message):
    with pytest.raises(InputError) as error:
        from_values(values, "own.json")
    assert str(error.value).startswith("own.json: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    "words, message",
    [
        ("ds", "unknown recipe 'ds': did you mean dsa or dc"),
        ("", "unknown recipe ''"),
        ("dc,epochs", "'epochs' is no change: give NAME,key=value"),
        ("dc,epochs=3,epochs=4", "say epochs once"),
        ("dc,epochs=many", "epochs is 'many': give a whole number"),
        ("dc,epoch=3", "unknown key 'epoch': did you mean epochs"),
        ("own.toml", "no file 'own.toml'"),
    ],
)
def test_bad_words_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        recipe_of(words, 20, 10)


@pytest.mark.parametrize("name, content", [("a.json", "[1]"), ("a.json", "{"), ("a.toml", "a ="), ("a.toml", "x = 1")])
def test_bad_files_are_named(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=name):
        read_recipe(tmp_path / name)


@pytest.mark.parametrize("name", ["lenet", "vit"])
def test_networks_without_sizes_are_as_they_were_published(name):
    shapes = lambda network: jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))  # noqa: E731
    own = shapes(network_by_recipe(Recipe(name, depth=1, width=8, norm="none"), 3))
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, shapes(NETWORKS[name](3)))


def test_a_recipe_says_its_network():
    recipe = Recipe(depth=2, width=4, growth="double", norm="none")
    variables = jax.eval_shape(network_by_recipe(recipe, 3).init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    filters = [variables["params"]["body"][f"Conv_{block}"]["kernel"].shape for block in range(2)]
    assert filters == [(3, 3, 1, 4), (3, 3, 4, 8)]
    with pytest.raises(InputError, match="width is 128, doubled 29 times"):
        network_by_recipe(replace(recipe, width=128, depth=30), 3)


# --- optimisers --------------------------------------------------------------------------------------


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
    optimizer = optimizer_of(Recipe(), images)

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


def rates(recipe, images, steps):
    """What a gradient of 1 moves a parameter by, step by step."""
    optimizer = optimizer_of(recipe, images)

    def step(state, _):
        updates, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
        return state, -updates

    return np.asarray(jax.lax.scan(step, optimizer.init(jnp.zeros(())), length=steps)[1])


PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.5}


@pytest.mark.parametrize(
    "recipe, images, expected",
    [
        (Recipe(schedule="constant", epochs=2, batch=4, **PLAIN), 5, [0.5] * 4),
        (Recipe(epochs=None, steps=5, **PLAIN), 5, [0.5] * 2 + [0.05] * 3),
        # Up from 0 by quarters, then half of a cosine from 1 to 0.01 over eight steps.
        (
            Recipe(schedule="cosine", warmup=4, epochs=None, steps=12, **PLAIN),
            5,
            [0, 0.125, 0.25, 0.375, *(0.005 + 0.495 * 0.5 * (1 + np.cos(np.pi * np.arange(8) / 8)))],
        ),
        (
            Recipe(schedule="cosine", epochs=2, batch=4, **PLAIN),
            5,
            0.005 + 0.495 * 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4)),
        ),
    ],
)
def test_schedules_are_those_of_constants(recipe, images, expected):
    np.testing.assert_allclose(rates(recipe, images, len(expected)), expected, rtol=1e-5, atol=1e-7)


def test_adam_moves_by_its_rate():
    # Of constant gradients every step of Adam is the rate, however large they are.
    recipe = Recipe(optimizer="adam", schedule="constant", learning_rate=3e-4, weight_decay=0.0)
    np.testing.assert_allclose(rates(recipe, 5, 4), 3e-4, rtol=1e-4)


def test_a_warm_up_as_long_as_the_training_is_refused():
    with pytest.raises(InputError, match="warmup is 4 of 4 steps"):
        optimizer_of(Recipe(schedule="cosine", warmup=4, epochs=2, batch=4), 5)


# --- rates of other networks -------------------------------------------------------------------------


def test_a_network_has_the_rate_that_is_known_for_it():
    recipe = Recipe(rates="mlp:0.03 lenet:1e-3")
    assert recipe.of("mlp") == Recipe("mlp", learning_rate=0.03)
    assert recipe.of("lenet").learning_rate == 1e-3
    assert recipe.of("vgg11") == Recipe("vgg11")
    assert recipe_of(spelt(recipe, 100, 10), 100, 10) == recipe


@pytest.mark.parametrize(
    "rates, message",
    [
        ("mpl:0.1", "unknown network of rates 'mpl': did you mean mlp"),
        ("mlp", "rates hold 'mlp': give NAME:RATE"),
        ("mlp:fast", "rates hold 'mlp:fast': give NAME:RATE"),
        ("mlp:0", "rates hold 'mlp:0': a rate must be at least"),
        ("mlp:nan", "rates hold 'mlp:nan'"),
        ("mlp:0.1 lenet:0.1 mlp:0.2", "rates hold mlp twice"),
    ],
)
def test_rates_that_are_none_are_refused(rates, message):
    with pytest.raises(InputError, match=message):
        Recipe(rates=rates)


def halves(n, seed):
    """Two classes that differ in which half of the image is lit."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % 2
    images = rng.integers(0, 120, (n, 4, 4, 1), np.uint8)
    images[labels == 1, 2:] += 60
    return Data(images, labels, ("low", "high"))


def test_rates_are_the_best_on_validation_and_test_is_not_looked_at():
    train, validation, test = (halves(n, seed) for seed, n in enumerate((200, 200, 40)))
    prepared = prepare(Splits(train, validation, test, "made"), "standardise")
    synthetic = Synthetic(jnp.asarray(prepared.train[:20]), centred_one_hot(train.labels[:20], 2))
    slow = Recipe(learning_rate=1e-6, epochs=30)
    found = with_rates(slow, ["mlp"], synthetic, prepared)
    images = prepared.model_space(validation)
    reached = {}
    for rate in (1e-6, 3e-7, 3e-6, 1e-7, 1e-5):
        learner = recipe_learner(Recipe("mlp", learning_rate=rate, epochs=30), 2)
        outputs = next(learner(synthetic, [0]))(images)
        reached[rate] = np.mean(outputs.argmax(1) == validation.labels)
    assert len(set(reached.values())) > 1
    assert reached[found.of("mlp").learning_rate] == max(reached.values())
    assert replace(found, rates="") == slow
    poisoned = prepare(Splits(train, validation, replace(test, labels=1 - test.labels), "made"), "standardise")
    assert with_rates(slow, ["mlp"], synthetic, poisoned) == found
