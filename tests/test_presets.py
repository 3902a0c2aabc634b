"""The published settings of every method, against constants written apart from the code.

Sources: KIP: Nguyen, Chen & Lee 2021 and its notebook; DC, DSA, DM: Zhao et al. 2021, Zhao & Bilen 2021, 2023 and their
released code; RDD: Vahidian et al. 2024 and its released code (its groups: at most ten a class of 256 images).
"""

import dataclasses
import inspect
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax import parameterise, sampling
from rdd_jax.app import options, pieces
from rdd_jax.app.methods import METHODS, configured, dc, kip, matching, name_of, networked, rdd
from rdd_jax.augment import none
from rdd_jax.datasets import prepare
from rdd_jax.errors import InputError
from rdd_jax.kernels import fc_ntk
from rdd_jax.networks import mlp
from rdd_jax.types import Data, Losses, Splits, Synthetic, centred_one_hot

SIAMESE = "colour+crop+cutout+flip+scale+rotate"
DIGITS = "colour+crop+cutout+scale+rotate"

COMMON = {"steps": 300, "ipc": 10, "seed": 0, "init": "random", "parameterisation": "pixels"}
COMMON |= {"schedule": "constant", "augment": "none", "preprocess": "standardise", "shift": "none", "seeds": 5}
LABELS = {"labels": "fixed"}
KERNEL = {"kernel": "fc-ntk", "depth": 1, "reg": 1e-6}
RANDOM = {"kernel_network", "kernel_width", "kernel_count", "kernel_seed", "kernel_memory"}
"""Of kernels that nothing has by default."""
NETWORK = {"network": "convnet", "net_depth": "auto", "net_width": 128, "norm": "instance", "learners": "convnet"}
NETWORK |= {"init_steps": 300, "precision": "float32"}
TRAINING = {"net_batch": 256, "net_lr": 0.01, "net_pool": 1}
MEAN = {"within": "mean", "across": "mean"}
EVALUATION = {"find_rates": False, "baselines": True, "corruptions": ""}

FEATURES = COMMON | KERNEL | NETWORK | MEAN | EVALUATION | {"labels": "learned", "schedule": "cosine", "lr": 0.01}
FEATURES |= {"batch": 512, "sampler": "uniform", "grouping": "none", "init_strata": "class"}
FEATURES |= {"recipe": "frepo,growth=constant,norm=instance"}
POOLED = FEATURES | {"net_period": 100, "net_batch": 1000, "net_pool": 10}

PUBLISHED = {
    "kip": COMMON | LABELS | KERNEL | MEAN | EVALUATION | {"batch": 5000, "sampler": "uniform"}
    | {"optimizer": "adam", "lr": 0.04, "grouping": "none", "label_reg": 1e-8}
    | {"learners": "krr", "recipe": "dc", "init_strata": "class"},
    "dc": COMMON | LABELS | KERNEL | NETWORK | TRAINING | MEAN | EVALUATION
    | {"batch": 256, "sampler": "stratified", "optimizer": "sgd", "lr": 0.1, "grouping": "class"}
    | {"net_period": 10, "net_epochs": 50, "distance": "cosine", "siamese": "none", "init_strata": "class"}
    | {"recipe": "dc"},
    "dsa": COMMON | LABELS | KERNEL | NETWORK | TRAINING | MEAN | EVALUATION
    | {"batch": 256, "sampler": "stratified", "optimizer": "sgd", "lr": 0.1, "grouping": "class"}
    | {"net_period": 10, "net_epochs": 50, "distance": "cosine", "siamese": SIAMESE, "init_strata": "class"}
    | {"recipe": "dsa"},
    "dm": COMMON | KERNEL | NETWORK | MEAN | EVALUATION
    | {"batch": 256, "sampler": "stratified", "optimizer": "sgd", "lr": 1.0, "grouping": "class"}
    | {"siamese": SIAMESE, "init_strata": "class", "recipe": "dsa", "distance": "means", "frequencies": 1024},
    "rdd": COMMON | LABELS | KERNEL | NETWORK | TRAINING | EVALUATION
    | {"batch": 256, "sampler": "stratified", "optimizer": "sgd", "lr": 1.0, "grouping": "class"}
    | {"net_period": 2, "net_steps": 8, "net_groups": "nearest", "within": "cvar", "across": "mean+max", "tau": 0.8}
    | {"distance": "cosine", "siamese": SIAMESE, "init_strata": "class", "recipe": "dsa,epochs=1500"},
    "mtt": {name: value for name, value in COMMON.items() if name != "augment"} | LABELS | KERNEL | NETWORK | EVALUATION
    | {"optimizer": "adam", "lr": 0.1, "schedule": "cosine", "siamese": SIAMESE, "recipe": "dsa"}
    | {"span": 1, "net_steps": 10, "net_batch": 256, "net_lr": 0.06, "distance": "angle", "net_asked": 3}
    | {"net_stretches": 1}
    | {"grouping": "none", "init_strata": "class"},
    "frepo": POOLED | {"optimizer": "adam", "feature_reg": 1e-6, "net_epochs": 1, "net_lr": 3e-4},
    "rcig": POOLED | {"optimizer": "adabelief", "feature_reg": 1e-3, "net_epochs": 8, "net_lr": 5e-5},
    "rfad": FEATURES | {"optimizer": "adabelief", "feature_reg": 5e-3, "net_count": 4},
    "label-solve": {"ipc": 10, "init": "random", "label_reg": 1e-8, "learners": "krr", "recipe": "dc"} | KERNEL,
}  # fmt: skip
PHOTOGRAPHS = Data(np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 1], np.int32), ("a", "b"))
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
    told |= {"mix", "unbiased", "pool", "refresh_every", "checkpoint_every", "keep"}
    told |= {"robust", "resize", "mode", "groups_from", "mesh", "data_on"} | RANDOM
    if name != "label-solve":
        told |= {"net_growth", "snapshots", "snapshots_from", "snapshots_to", "taught"}
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
    constants |= {
        "mix": 0.1,
        "unbiased": True,
        "pool": 50_000,
        "refresh_every": 20,
        "checkpoint_every": 100,
        "keep": "last",
    }
    assert {key: found[key] for key in constants} == constants


# Outer and inner loops of the code that was published, by images a class; between two sizes those of the larger.
LOOPS = [(1, 1, 1), (10, 10, 50), (20, 20, 25), (30, 30, 20), (40, 40, 15), (50, 50, 10)]
BETWEEN = [(2, 10, 50), (11, 20, 25), (41, 50, 10), (51, 50, 10), (200, 50, 10)]


@pytest.mark.parametrize("ipc, outer, inner", LOOPS + BETWEEN)
@pytest.mark.parametrize("name", ["dc", "dsa"])
def test_loops_follow_the_images_a_class(name, ipc, outer, inner):
    found = spelt(configured(name, ipc=ipc))
    assert (found["net_period"], found["net_epochs"]) == (outer, inner)
    assert spelt(configured(name, ipc=ipc, net_epochs=7))["net_epochs"] == 7


@pytest.mark.parametrize("classes, steps", [(10, 40), (100, 400)])
def test_rdd_trains_for_two_epochs_over_512_images_a_class(classes, steps):
    labels = np.arange(classes, dtype=np.int32)
    train = Data(np.zeros((classes, 32, 32, 3), np.uint8), labels, tuple(map(str, labels)))
    assert spelt(configured("rdd"), train)["net_steps"] == steps
    assert spelt(configured("rdd", net_steps=3), train)["net_steps"] == 3


@pytest.mark.parametrize("name", ["dc", "dsa", "dm", "rdd"])
@pytest.mark.parametrize("classes", [2, 100])
def test_a_step_sees_256_real_images_of_every_class(name, classes):
    assert configured(name).drawn(classes).batch == 256 * classes


@pytest.mark.parametrize("name", ["dsa", "dm"])
def test_digits_and_letters_are_not_mirrored(name):
    found = spelt(configured(name), CHARACTERS)
    assert (found["siamese"], found["recipe"]) == (DIGITS, "dsa,augment=dsa-no-flip")
    assert spelt(configured(name, siamese="crop"), CHARACTERS)["siamese"] == "crop"


@pytest.mark.parametrize(
    "data, expected",
    [("mnist", "dsa,augment=dc"), ("mnist:3.0.1", "dsa,augment=dc"), ("cifar10", "dc")],
)
def test_networks_of_dc_are_trained_as_published_for_the_data(data, expected):
    assert spelt(configured("dc", data=data))["recipe"] == expected
    assert spelt(configured("dc", data=data, recipe="dsa,epochs=7"))["recipe"] == "dsa,epochs=7"


def test_networks_of_an_evaluation_are_those_that_were_matched_at():
    given = {"network": "mlp", "net_width": 8, "net_depth": 2, "net_growth": "double", "norm": "none"}
    found = spelt(configured("rdd", **given))
    assert found["learners"] == "mlp"
    assert found["recipe"] == "dsa,network=mlp,depth=2,width=8,growth=double,norm=none,epochs=1500"
    # A recipe that is given is taken as it is.
    found = spelt(configured("rdd", **given, recipe="rfad"))
    assert (found["learners"], found["recipe"]) == ("convnet", "rfad")


@pytest.mark.parametrize("name", ["frepo", "rfad", "rcig"])
def test_networks_learn_labels_that_were_learned_by_frepos_training_in_the_size_of_the_steps(name):
    at = {"net_depth": 1, "net_width": 8, "norm": "none"}
    assert spelt(configured(name, **at))["recipe"] == "frepo,depth=1,width=8,growth=constant"
    assert spelt(configured(name, net_growth="double", norm="none"))["recipe"] == "frepo"
    digits = spelt(configured(name, **at), CHARACTERS)
    assert digits["recipe"] == "frepo,depth=1,width=8,growth=constant,augment=frepo-no-flip"


@pytest.mark.parametrize("name", ["dsa", "frepo"])
def test_a_set_is_validated_by_the_recipe_of_its_evaluation(name, monkeypatch):
    monkeypatch.setattr(networked, "recipe_learner", made := Mock(wraps=networked.recipe_learner))
    config = configured(name, net_width=8).resolved(PHOTOGRAPHS)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    train, validation = (dataclasses.replace(PHOTOGRAPHS, images=images[where]) for where in (slice(2), slice(2, 4)))
    prepared = prepare(Splits(train, validation, train, "made"), "standardise")
    config.validator(fc_ntk(), prepared)
    [(recipe, classes, stops_by)] = [call.args for call in made.call_args_list]
    assert ([recipe], classes) == (config.recipes(2), 2)
    np.testing.assert_array_equal(stops_by.images, prepared.model_space(validation))


SIDES = [(4, 2), (8, 3), (28, 3), (32, 3), (64, 4), (96, 4), (128, 5), (224, 5)]


@pytest.mark.parametrize("side, depth", SIDES)
@pytest.mark.parametrize("name", ["kip", "dc", "dm", "frepo"])
def test_networks_have_the_depth_that_goes_with_the_images(name, side, depth):
    train = dataclasses.replace(PHOTOGRAPHS, images=np.zeros((2, side, side, 3), np.uint8))
    assert configured(name).resolved(train).recipe(2).depth == depth
    if name != "kip":
        given = configured(name, net_depth=1).resolved(train)
        assert (given.network.net_depth, given.recipe(2).depth) == (1, 1)
        # What was asked stays as it was: it is what a run keeps.
        assert configured(name).resolved(train).network.net_depth == "auto"
        variables = [
            jax.eval_shape(networked.pieces.network_of(of.network, "convnet", 2, train.images.shape[1:]).init,
                           jax.random.key(0), jnp.zeros((1, side, side, 3)))
            for of in (given, configured(name))
        ]  # fmt: skip
        assert [len(found["params"]["body"]) for found in variables] == [2, 2 * depth]


def test_a_recipe_that_only_larger_sets_can_have_is_refused_for_the_smaller_ones():
    recipe = "frepo,warmup=1500"
    assert spelt(configured("kip", ipc=50, recipe=recipe))["recipe"] == recipe
    with pytest.raises(InputError, match="warmup is 1500 of 1000 steps"):
        configured("kip", ipc=1, recipe=recipe).resolved(PHOTOGRAPHS)


def test_a_recipe_of_a_file_is_spelt_out(tmp_path):
    (tmp_path / "own.toml").write_text("steps = 40\nwidth = 8\n")
    found = spelt(configured("kip", recipe=f"{tmp_path / 'own.toml'},depth=1"))["recipe"]
    assert found == "dc,depth=1,width=8,steps=40"


def test_robust_is_spelt_out_and_what_is_given_stays():
    names = ("grouping", "across", "sampler", "init_strata")

    def of(name, **given):
        found = spelt(configured(name, **given))
        return tuple(found[key] for key in names)

    assert of("kip", robust=True) == ("discovered", "entropic", "group", "class")
    assert of("kip", robust=True, grouping="labels", sampler="uniform") == ("labels", "entropic", "uniform", "class")
    assert of("dm", robust=True) == ("discovered", "mean", "stratified", "group")
    assert of("dm", robust=True, grouping="labels") == ("labels", "mean", "stratified", "group")
    assert of("dm", grouping="labels") == ("labels", "mean", "stratified", "class")
    assert of("dm", robust=True, init_strata="class")[3] == "class"
    # The synthetic set comes before its groups.
    assert of("dc", robust=True, grouping="spurious+nearest")[3] == "class"
    assert of("rdd", robust=True) == ("discovered", "mean+max", "stratified", "group")
    for name in ("frepo", "rfad", "rcig"):
        assert of(name, robust=True) == ("discovered", "entropic", "group", "class")


@pytest.mark.parametrize("name", METHODS)
def test_spelling_out_twice_changes_nothing(name):
    config = configured(name).resolved(CHARACTERS)
    assert config.resolved(PHOTOGRAPHS) == config
    assert name_of(config) == name


def test_the_optimiser_is_the_published_one():
    def moves(name, steps):
        config = configured(name).resolved(PHOTOGRAPHS)
        optimizer = pieces.steps_of(config.batch, config.optimiser)["optimizer"]
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
    optimizer = pieces.steps_of(config.batch, config.optimiser)["optimizer"]
    state, rates = optimizer.init(0.0), []
    for _ in range(5):
        update, state = optimizer.update(1.0, state, 0.0)
        rates.append(-float(update))
    momentum = [rates[0], *(b / sum(0.5**j for j in range(i + 1)) for i, b in enumerate(rates[1:], 1))]
    np.testing.assert_allclose(momentum, (1 + np.cos(np.pi * np.arange(5) / 4)) / 2, atol=1e-6)


# --- what options may be -----------------------------------------------------------------------------

POSITIVE, COUNT = ([1e-6, 100.0], [0.0, -1.0]), ([1], [0])
# The ends of what an option takes, and what is just beyond them.
BOUNDS = {
    "seed": ([0], [-1]),
    "kernel_seed": ([0], [-1]),
    "bias": ([0.0, 1.0], [-0.01, 1.01]),
    "share": ([1e-6, 1.0], [0.0, 1.01]),
    "snapshots_from": ([0], [-1]),
    "net_asked": ([0], [-1]),
    "taught": ([0.0], [-0.01]),
    "soft_groups": ([0.0, 10.0], [-0.01]),
    "min_group": ([0.0, 0.999], [-0.01, 1.0]),
    "tau": ([1e-6, 1.0], [0.0, 1.01]),
    "mix": ([1e-6, 1.0], [0.0, 1.01]),
}
BOUNDS |= dict.fromkeys(
    ("zca_reg", "select_ridge", "sharpness", "lr", "reg", "label_reg", "net_lr", "feature_reg"), POSITIVE
)
METHOD_OF = {
    field.name: name for name in METHODS for field in options.options(configured(name)) if field.type in (int, float)
}


@pytest.mark.parametrize("name", METHOD_OF)
def test_numbers_are_taken_up_to_their_bounds(name):
    taken, refused = BOUNDS.get(name, COUNT)
    check = lambda value: configured(METHOD_OF[name], **{name: value}).check()  # noqa: E731
    for value in taken:
        check(value)
    for value in refused:
        with pytest.raises(InputError, match=f"{name} is {value}: it must be"):
            check(value)


@pytest.mark.parametrize(
    "method, name, choices",
    [
        ("kip", "labels", {"fixed", "learned", "solved"}),
        ("dc", "labels", {"fixed", "soft"}),
        ("kip", "sampler", {"uniform", "balanced", "group", "importance", "group+importance"}),
        ("dm", "sampler", {"stratified", "stratified+importance"}),
        ("dm", "init_strata", {"class", "group"}),
        ("dm", "distance", {"means", "characteristic"}),
        ("dc", "distance", {"cosine", "squared"}),
        ("dm", "siamese", {"none", *SIAMESE.split("+"), SIAMESE}),
        ("rdd", "net_groups", {"nearest", "data"}),
        ("frepo", "labels", {"fixed", "learned"}),
        ("rfad", "sampler", {"uniform", "balanced", "group", "importance", "group+importance"}),
    ],
)
def test_choices_are_those_that_the_method_can_use(method, name, choices):
    asked = choices | {
        "means",
        "cosine",
        *parameterise.LABELS,
        *sampling.SAMPLERS,
        "solved",
        "class",
        "group",
        "data",
        "none+crop",
    }

    def taken(value):
        try:
            configured(method, **{name: value}).check()
        except InputError as error:
            return f"unknown {name}" not in str(error)
        return True

    assert {value for value in asked if taken(value)} == choices


def test_an_init_is_a_start_or_a_file_that_is_there(tmp_path):
    for start in ("noise", "kmeans", str(tmp_path)):
        configured("kip", init=start).check()
    with pytest.raises(InputError, match=r"unknown init 'nowhere.npz': .*a run folder, an \.npz file"):
        configured("kip", init="nowhere.npz").check()


@pytest.mark.parametrize("name", METHODS)
def test_a_configuration_is_frozen_with_all_its_sections(name):
    config = configured(name)
    sections = [getattr(config, field.name) for field in dataclasses.fields(config)]
    for part in (config, *filter(dataclasses.is_dataclass, sections)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


def test_images_of_a_class_are_those_that_the_storage_decodes_to():
    assert configured("label-solve", ipc=3).images == 3
    assert configured("dm", ipc=3, factor=3).images == 3
    assert configured("dm", ipc=2, factor=3, parameterisation="multi-formation").images == 18


def test_labels_that_have_no_gradient_cannot_be_asked_for():
    with pytest.raises(InputError, match="unknown option of dm 'labels'"):
        configured("dm", labels="soft")


def test_solved_labels_go_without_groups():
    for given in ({"robust": True}, {"grouping": "labels"}, {"robust": True, "grouping": "labels"}):
        configured("kip", labels="learned", **given).check()
        with pytest.raises(InputError, match="but solved labels are those of the mean"):
            configured("kip", labels="solved", **given).check()
    for given in ({}, {"grouping": "none"}):
        configured("kip", labels="solved", **given).check()


def test_matching_needs_groups_and_kip_does_not():
    for grouping in ("class", "labels", "spurious+kmeans"):
        configured("dm", grouping=grouping).check()
    with pytest.raises(InputError, match="grouping is 'none', but matching compares groups"):
        configured("dm", grouping="none").check()
    configured("kip", grouping="none").check()


@pytest.mark.parametrize("classes, scale", [(10, 1.0), (40, 0.5)])
def test_labels_that_are_learned_start_in_the_published_scale(classes, scale):
    start = Synthetic(jnp.zeros((classes, 4, 4, 3)), centred_one_hot(np.arange(classes), classes))
    np.testing.assert_allclose(configured("frepo").started(start).labels, scale * start.labels, rtol=1e-6)


def test_labels_that_a_run_has_learned_stay_as_they_are():
    start = Synthetic(jnp.zeros((2, 4, 4, 3)), jnp.array([[3.0, -1.0], [-2.0, 2.0]]))
    assert configured("frepo").started(start) is start


def test_a_network_of_rcig_does_not_couple_the_images_of_a_batch():
    with pytest.raises(InputError, match="norm 'batch' couples the images of a batch"):
        configured("rcig", norm="batch").check()
    configured("frepo", norm="batch").check()


def test_none_stands_alone_and_has_no_strata():
    for method, grouping in (("kip", "none+labels"), ("dm", "labels+none")):
        with pytest.raises(InputError, match="'none' stands alone"):
            configured(method, grouping=grouping).check()
    for given in ({}, {"grouping": "none"}, {"grouping": "none", "robust": True}):
        configured("kip", init_strata="class", **given).check()
        with pytest.raises(InputError, match="init_strata is 'group', but grouping is 'none'"):
            configured("kip", init_strata="group", **given).check()
    for given in ({"robust": True}, {"grouping": "labels"}, {"grouping": "class"}):
        configured("kip", init_strata="group", **given).check()


def test_label_solving_takes_no_steps_and_knows_no_groups():
    config = configured("label-solve")
    config.check()
    assert spelt(config)["data"] == "digits"
    assert (config.steps, config.robust, config.label_kind, config.groups.grouping) == (0, False, "solved", "none")


# --- what a method is made of ------------------------------------------------------------------------

NETWORK = mlp(2, width=4)


def recorded(monkeypatch, module, name):
    """The arguments by name of every call of a function of the module, which are made as ever."""
    function, calls = getattr(module, name), []

    def record(*args, **named):
        calls.append(inspect.signature(function).bind(*args, **named).arguments)
        return function(*args, **named)

    monkeypatch.setattr(module, name, record)
    return calls


def made(function):
    """The name of what made a closure."""
    return getattr(function, "draw", function).__qualname__.partition(".")[0]


@pytest.mark.parametrize("labels, objective", [("fixed", "kip"), ("learned", "kip"), ("solved", "kip_solved")])
def test_kip_is_composed_by_its_labels(labels, objective, monkeypatch):
    calls, risks = recorded(monkeypatch, kip, "compose"), recorded(monkeypatch, pieces, "risk_of")
    config = configured("kip", labels=labels).resolved(PHOTOGRAPHS)
    config.distiller(fc_ntk(), PHOTOGRAPHS)
    (parts,) = calls
    assert (made(parts["objective"]), made(parts["sampler"])) == (objective, "uniform")
    assert risks == [{"options": config.risk}]


def test_the_risk_of_rdd_is_that_of_its_networks_and_its_distances_are_a_plain_mean(monkeypatch):
    risks = recorded(monkeypatch, pieces, "risk_of")
    losses = Losses(jnp.array([1.0, 2.0, 6.0]), jnp.arange(3), jnp.ones(3))
    assert float(configured("rdd", across="max").across()(losses)) == 3.0
    assert risks == []
    config = configured("dm", across="max")
    config.across()
    assert risks == [{"options": config.risk}]


def test_siamese_augmentation_is_none_where_none_is_said():
    assert matching.siamese_of(None) is matching.siamese_of("none") is none
    assert matching.siamese_of("flip") is not none


@pytest.mark.parametrize("name", ["dsa", "rdd"])
def test_networks_are_trained_under_the_augmentation_that_they_are_matched_under_image_by_image(name, monkeypatch):
    made_of = recorded(monkeypatch, matching, "dsa")
    config = configured(name, ipc=3).resolved(PHOTOGRAPHS)
    config.objective(NETWORK)
    config.trajectory(NETWORK)
    assert [(one["names"], one["shared"]) for one in made_of] == [(SIAMESE, True), (SIAMESE, False)]


def test_networks_of_dc_learn_from_the_set_as_the_options_say(monkeypatch):
    lessons, trajectories = (recorded(monkeypatch, dc, name) for name in ("on_synthetic", "trained"))
    configured("dc", ipc=2, net_batch=7, net_pool=3).resolved(PHOTOGRAPHS).trajectory(NETWORK)
    assert {key: lessons[0][key] for key in ("epochs", "batch", "augment")} == {
        "epochs": 50,
        "batch": 7,
        "augment": none,
    }
    assert {key: trajectories[0][key] for key in ("period", "pool")} == {"period": 10, "pool": 3}
    assert not trajectories[0].get("warm")


@pytest.mark.parametrize("groups, sampler", [("nearest", "uniform"), ("data", "by_group")])
def test_networks_of_rdd_learn_from_the_data_under_its_risk(groups, sampler, monkeypatch):
    risks = recorded(monkeypatch, pieces, "risk_of")
    lessons, trajectories = (recorded(monkeypatch, rdd, name) for name in ("on_real", "trained"))
    config = configured("rdd", ipc=3, net_groups=groups, net_pool=5).resolved(PHOTOGRAPHS)
    config.trajectory(NETWORK)
    assert (made(lessons[0]["sampler"]), lessons[0]["nearest"]) == (sampler, groups == "nearest")
    assert risks == [{"options": config.risk}]
    assert {key: trajectories[0][key] for key in ("period", "warm", "pool")} == {"period": 2, "warm": True, "pool": 5}
    assert lessons[0]["steps"] == 8
