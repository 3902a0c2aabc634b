"""The published settings of every method, against constants written apart from the code.

Sources: KIP: Nguyen, Chen & Lee 2021 and its notebook; DC, DSA, DM: Zhao et al. 2021, Zhao & Bilen 2021, 2023 and their
released code; RDD: Vahidian et al. 2024 and its released code (its groups: at most ten a class of 256 images).
"""

import dataclasses

import numpy as np
import pytest

from rdd_jax.app import options, pieces
from rdd_jax.app.methods import METHODS, configured, name_of
from rdd_jax.types import Data

SIAMESE = "colour+crop+cutout+flip+scale+rotate"
DIGITS = "colour+crop+cutout+scale+rotate"

COMMON = {"steps": 300, "ipc": 10, "seed": 0, "labels": "fixed", "init": "random", "parameterisation": "pixels"}
COMMON |= {"schedule": "constant", "augment": "none", "preprocess": "standardise", "shift": "none", "seeds": 5}
KERNEL = {"kernel": "fc-ntk", "depth": 1, "reg": 1e-6}
NETWORK = {"network": "convnet", "net_depth": 3, "net_width": 128, "norm": "instance", "learners": "convnet"}
TRAINING = {"net_batch": 256, "net_lr": 0.01, "net_pool": 1}
MEAN = {"within": "mean", "across": "mean"}
EVALUATION = {"eval_average": 0.0, "baselines": True, "corruptions": ""}

PUBLISHED = {
    "kip": COMMON | KERNEL | MEAN | EVALUATION
    | {"batch": 5000, "sampler": "uniform", "optimizer": "adam", "lr": 0.04, "grouping": "none", "label_reg": 1e-8}
    | {"learners": "krr", "eval_epochs": 300, "eval_augment": "none", "init_strata": "class"},
    "dc": COMMON | KERNEL | NETWORK | TRAINING | MEAN | EVALUATION
    | {"batch": 2560, "sampler": "stratified", "optimizer": "sgd", "lr": 0.1, "grouping": "class"}
    | {"net_period": 10, "net_steps": 50, "distance": "cosine", "siamese": "none", "init_strata": "class"}
    | {"eval_epochs": 300, "eval_augment": "none"},
    "dsa": COMMON | KERNEL | NETWORK | TRAINING | MEAN | EVALUATION
    | {"batch": 2560, "sampler": "stratified", "optimizer": "sgd", "lr": 0.1, "grouping": "class"}
    | {"net_period": 10, "net_steps": 50, "distance": "cosine", "siamese": SIAMESE, "init_strata": "class"}
    | {"eval_epochs": 1000, "eval_augment": "dsa"},
    "dm": COMMON | KERNEL | NETWORK | MEAN | EVALUATION
    | {"batch": 2560, "sampler": "stratified", "optimizer": "sgd", "lr": 1.0, "grouping": "class"}
    | {"siamese": SIAMESE, "init_strata": "class", "eval_epochs": 1000, "eval_augment": "dsa"},
    "rdd": COMMON | KERNEL | NETWORK | TRAINING | EVALUATION
    | {"batch": 2560, "sampler": "stratified", "optimizer": "sgd", "lr": 1.0, "grouping": "class"}
    | {"net_period": 2, "net_steps": 2, "net_groups": "nearest", "within": "cvar", "across": "mean+max", "tau": 0.8}
    | {"distance": "cosine", "siamese": "none", "init_strata": "class", "eval_epochs": 300, "eval_augment": "none"},
    "label-solve": {"ipc": 10, "init": "random", "label_reg": 1e-8, "learners": "krr", "eval_epochs": 300} | KERNEL,
}  # fmt: skip
PHOTOGRAPHS = Data(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1], np.int32), ("a", "b"))
CHARACTERS = dataclasses.replace(PHOTOGRAPHS, mirror=False)


def spelt(config, train=PHOTOGRAPHS):
    return {field.name: field.default for field in options.options(config.resolved(train))}


@pytest.mark.parametrize("name", METHODS)
def test_what_is_not_said_is_as_published(name):
    found = spelt(configured(name))
    assert {key: found[key] for key in PUBLISHED[name]} == PUBLISHED[name]
    # Everything that changes the result is in the table.
    told = {"data", "bias", "share", "mirror", "zca_reg", "init_draw", "factor", "select_ridge", "landmarks"}
    told |= {
        "features",
        "groups_per_class",
        "soft_groups",
        "min_group",
        "refit_every",
        "tau",
        "sharpness",
        "importance",
    }
    told |= {"mix", "unbiased", "pool", "refresh_every", "checkpoint_every"}
    told |= {"robust"}
    if name != "label-solve":
        told |= {"net_depth", "net_width", "norm"}
        assert set(found) - set(PUBLISHED[name]) <= told


def test_what_is_asked_for_stays_as_it_is():
    found = spelt(configured("kip"))
    constants = {
        "bias": 0.9,
        "share": 0.05,
        "zca_reg": 0.1,
        "init_draw": "distinct",
        "factor": 2,
        "features": "texture",
    }
    constants |= {
        "select_ridge": 1e-3,
        "landmarks": None,
        "robust": False,
        "groups_per_class": None,
        "soft_groups": 0.0,
    }
    constants |= {"min_group": 0.005, "refit_every": 100, "tau": 0.2, "sharpness": 5.0, "importance": "residual"}
    constants |= {"mix": 0.1, "unbiased": True, "pool": 50_000, "refresh_every": 20, "checkpoint_every": 100}
    assert {key: found[key] for key in constants} == constants


@pytest.mark.parametrize("ipc, outer, inner", [(1, 1, 1), (2, 10, 50), (10, 10, 50), (11, 50, 10), (50, 50, 10)])
@pytest.mark.parametrize("name", ["dc", "dsa"])
def test_loops_follow_the_images_a_class(name, ipc, outer, inner):
    found = spelt(configured(name, ipc=ipc))
    assert (found["net_period"], found["net_steps"]) == (outer, inner)
    assert spelt(configured(name, ipc=ipc, net_steps=7))["net_steps"] == 7


@pytest.mark.parametrize("name", ["dsa", "dm"])
def test_digits_and_letters_are_not_mirrored(name):
    found = spelt(configured(name), CHARACTERS)
    assert (found["siamese"], found["eval_augment"], found["eval_epochs"]) == (DIGITS, "dsa-no-flip", 1000)
    assert spelt(configured(name, siamese="crop"), CHARACTERS)["siamese"] == "crop"


@pytest.mark.parametrize(
    "data, expected", [("mnist", ("dc", 1000)), ("mnist:3.0.1", ("dc", 1000)), ("cifar10", ("none", 300))]
)
def test_networks_of_dc_are_trained_as_published_for_the_data(data, expected):
    found = spelt(configured("dc", data=data))
    assert (found["eval_augment"], found["eval_epochs"]) == expected
    assert spelt(configured("dc", data=data, eval_epochs=7))["eval_epochs"] == 7


def test_robust_is_spelt_out_and_what_is_given_stays():
    names = ("grouping", "across", "sampler", "init_strata")

    def of(name, **given):
        found = spelt(configured(name, **given))
        return tuple(found[key] for key in names)

    assert of("kip", robust=True) == ("spurious+kmeans", "entropic", "group", "class")
    assert of("kip", robust=True, grouping="labels", sampler="uniform") == ("labels", "entropic", "uniform", "class")
    assert of("dm", robust=True) == ("spurious+kmeans", "mean", "stratified", "group")
    assert of("dm", robust=True, grouping="labels") == ("labels", "mean", "stratified", "group")
    assert of("dm", grouping="labels") == ("labels", "mean", "stratified", "class")
    assert of("dm", robust=True, init_strata="class")[3] == "class"
    # The synthetic set comes before its groups.
    assert of("dc", robust=True, grouping="spurious+nearest")[3] == "class"
    assert of("rdd", robust=True) == ("spurious+kmeans", "mean+max", "stratified", "group")


@pytest.mark.parametrize("name", METHODS)
def test_spelling_out_twice_changes_nothing(name):
    config = configured(name).resolved(CHARACTERS)
    assert config.resolved(PHOTOGRAPHS) == config
    assert name_of(config) == name


def test_the_optimiser_is_the_published_one():
    import jax.numpy as jnp

    def moves(name, steps):
        config = configured(name).resolved(PHOTOGRAPHS)
        optimizer = pieces.steps_of(config.batch, config.optimiser, 1)["optimizer"]
        params, state, found = jnp.zeros(()), None, []
        state = optimizer.init(params)
        for gradient in steps:
            update, state = optimizer.update(jnp.asarray(gradient), state, params)
            found.append(float(update))
        return found

    # SGD with momentum 0.5: the second step has half of the first in it.
    np.testing.assert_allclose(moves("dc", [1.0, 1.0, 0.0]), [-0.1, -0.15, -0.075], rtol=1e-6)
    np.testing.assert_allclose(moves("dm", [1.0, 1.0, 0.0]), [-1.0, -1.5, -0.75], rtol=1e-6)
    # Adam: the first step is the rate, whatever the gradient.
    np.testing.assert_allclose(moves("kip", [3.0, 3.0]), [-0.04, -0.04], rtol=1e-4)


def test_a_cosine_ends_at_zero():
    config = configured("kip", schedule="cosine", steps=4, optimizer="sgd", lr=1.0).resolved(PHOTOGRAPHS)
    optimizer = pieces.steps_of(config.batch, config.optimiser, 1)["optimizer"]
    state, rates = optimizer.init(0.0), []
    for _ in range(5):
        update, state = optimizer.update(1.0, state, 0.0)
        rates.append(-float(update))
    momentum = [rates[0], *(b / sum(0.5**j for j in range(i + 1)) for i, b in enumerate(rates[1:], 1))]
    np.testing.assert_allclose(momentum, (1 + np.cos(np.pi * np.arange(5) / 4)) / 2, atol=1e-6)
