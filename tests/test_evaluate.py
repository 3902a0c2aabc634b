"""Evaluation: which seeds run, what the numbers are, and the baselines beside them."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax.datasets.preprocess import prepare
from rdd_jax.errors import InputError
from rdd_jax.evaluation import (
    BASELINES,
    LEARNERS,
    baselines,
    evaluate,
    evaluate_sets,
    held_out,
    krr_learner,
    learner_name,
    network_learner,
    prepare_test,
    recipe_learner,
)
from rdd_jax.evaluation import (
    Tested as Against,  # not for pytest to collect
)
from rdd_jax.evaluation.metrics import accuracy
from rdd_jax.kernels import fc_ntk, krr
from rdd_jax.networks import NETWORKS, centred, mlp, training
from rdd_jax.networks.recipes import Recipe, recipe_by_name
from rdd_jax.progress import Progress
from rdd_jax.selection import greedy
from rdd_jax.types import Data, Splits, Synthetic, centred_one_hot

KERNEL = fc_ntk(1)
TRUTH = np.arange(20) % 2


def images(seed=0, n=20):
    return np.random.default_rng(seed).standard_normal((n, 3, 3, 1)).astype(np.float32)


def synthetic(seed=0):
    return Synthetic(jnp.asarray(images(seed, 4)), centred_one_hot(np.array([0, 0, 1, 1]), 2))


def against(x=None, groups=None):
    """Twenty images, of two groups in halves where ``groups`` is so."""
    data = Data(np.zeros((20, 3, 3, 1), np.uint8), TRUTH, ("x", "y"), groups, () if groups is None else ("a", "b"))
    return Against(images() if x is None else x, data, np.array([[8, 2], [8, 2]])[:, : 1 if groups is None else 2])


def record(name, sets, learner_name, learner, test):
    """The one line that there is without groups."""
    (found,) = evaluate(name, sets, learner_name, learner, test).evaluations
    return found


class RightFor:
    """A learner whose predictor of seed ``s`` is right for the first ``s`` images; notes what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, given, seeds):
        self.calls.append((given, list(seeds)))
        for seed in seeds:
            yield lambda x, seed=seed: np.eye(2)[np.where(np.arange(len(x)) < seed, TRUTH, 1 - TRUTH)]


def test_one_set_is_learned_with_every_seed_in_one_call():
    learner, the_set = RightFor(), synthetic()
    found = record("ours", dict.fromkeys((12, 10, 17), the_set), "fake", learner, against())
    assert [seeds for _, seeds in learner.calls] == [[10, 12, 17]]
    assert (found.set, found.learner, found.metric) == ("ours", "fake", "accuracy")
    assert found.seeds == [10, 12, 17]
    np.testing.assert_allclose(found.values, [0.5, 0.6, 0.85])
    np.testing.assert_allclose(found.mean, 0.65)
    # The sample standard deviation: n - 1.
    np.testing.assert_allclose(found.std, np.sqrt((0.15**2 + 0.05**2 + 0.2**2) / 2))


def test_a_set_a_seed_is_learned_with_its_own_seed():
    learner, sets = RightFor(), {seed: synthetic(seed) for seed in (16, 8)}
    found = record("random", sets, "fake", learner, against())
    assert [seeds for _, seeds in learner.calls] == [[8], [16]]
    assert all(given is sets[seeds[0]] for given, seeds in learner.calls)
    np.testing.assert_allclose(found.values, [0.4, 0.8])


def test_a_single_seed_has_no_deviation():
    found = record("ours", {5: synthetic()}, "fake", RightFor(), against())
    assert (found.mean, found.std, found.values) == (0.25, 0.0, [0.25])


def test_ridge_regression_on_one_set_runs_once():
    the_set = synthetic()
    found = record("ours", dict.fromkeys(range(5), the_set), "krr", krr_learner(KERNEL), against())
    expected = accuracy(krr.fit(KERNEL, the_set)(images()), TRUTH)
    assert (found.seeds, found.values, found.mean, found.std) == ([0], [expected], expected, 0.0)


def test_ridge_regression_on_a_set_a_seed_runs_on_each():
    sets = {seed: synthetic(seed) for seed in range(3)}
    found = record("random", sets, "krr", krr_learner(KERNEL), against(images(9)))
    assert found.seeds == [0, 1, 2]
    assert found.values == [accuracy(krr.fit(KERNEL, sets[seed])(images(9)), TRUTH) for seed in range(3)]


def test_evaluations_survive_json():
    found = record("ours", {0: synthetic(), 1: synthetic(1)}, "krr", krr_learner(KERNEL), against())
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


@pytest.mark.slow
def test_network_learner_gives_the_network_of_each_seed():
    network, recipe = mlp(2, width=4), Recipe(epochs=3)
    # All of them before any is used: each must keep variables of its own.
    predictors = list(network_learner(network, recipe)(synthetic(), [4, 7]))
    trained = training.train(network, synthetic(), [4, 7], recipe)
    for predict, variables in zip(predictors, trained, strict=True):
        np.testing.assert_array_equal(predict(images()), training.logits(network, variables, images()))
    assert not np.array_equal(*(predict(images()) for predict in predictors))


@pytest.mark.slow
def test_the_learner_of_a_recipe_is_its_network_trained_by_it():
    recipe = Recipe("mlp", width=4, epochs=2, loss="squared", centred=True)
    (predict,) = recipe_learner(recipe, 2)(synthetic(), [4])
    network = centred(mlp(2, width=4))
    (variables,) = training.train(network, synthetic(), [4], recipe)
    np.testing.assert_array_equal(predict(images()), training.logits(network, variables, images()))


def test_recipes_stop_by_validation_images_evenly_over_the_split():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2, dtype=np.int32), 600)
    train, validation, test = (
        Data(rng.integers(0, 256, (1200, 2, 2, 1), np.uint8), labels, ("a", "b")) for _ in range(3)
    )
    prepared = prepare(Splits(train, validation, test, "made"), "standardise")
    found = held_out(prepared)
    assert np.asarray(found.of_class).mean() == 0.5
    every = {image.tobytes() for image in prepared.model_space(validation)}
    assert len({np.asarray(image).tobytes() for image in found.images} & every) == 1000


@pytest.mark.slow
def test_the_learner_of_a_recipe_that_stops_does_so_by_what_is_held_out():
    recipe = Recipe("mlp", width=4, epochs=20, learning_rate=0.5, stop=1)
    held = synthetic(3)
    (predict,) = recipe_learner(recipe, 2, held)(synthetic(), [4])
    (variables,) = training.train(mlp(2, width=4), synthetic(), [4], recipe, held)
    np.testing.assert_array_equal(predict(images()), training.logits(mlp(2, width=4), variables, images()))
    (never,) = recipe_learner(replace(recipe, stop=0), 2)(synthetic(), [4])
    assert not np.array_equal(predict(images()), never(images()))


@pytest.mark.parametrize(
    "recipe, name",
    [
        (Recipe(), "convnet"),
        (Recipe("lenet", depth=9, width=9, norm="none"), "lenet"),
        (Recipe("mlp", depth=9), "mlp"),
        (Recipe("mlp", width=9), "mlp-9"),
        (Recipe(width=1024), "convnet-3-1024"),
        (Recipe(depth=1, growth="double", norm="batch"), "convnet-1-128-double-batch"),
        (Recipe(epochs=7), "convnet by dc,epochs=7"),
        (Recipe(epochs=1001, augment="dsa"), "convnet by dsa"),
        (recipe_by_name("frepo", 20, 10), "convnet-3-128-double-none by frepo"),
        (recipe_by_name("rfad", 20, 10), "convnet-3-1024-none by rfad"),
    ],
)
def test_no_two_widths_or_recipes_share_a_name(recipe, name):
    assert learner_name(recipe, 20, 10) == name


def test_learners_are_found_by_name():
    assert list(LEARNERS) == ["krr", *NETWORKS]


def test_krr_learner_gives_the_regression_for_every_seed():
    predictors = list(krr_learner(KERNEL, 0.1)(synthetic(), [0, 3]))
    assert len(predictors) == 2
    for predict in predictors:
        np.testing.assert_array_equal(predict(images()), krr.fit(KERNEL, synthetic(), 0.1)(images()))
    assert not np.array_equal(predictors[0](images()), krr.fit(KERNEL, synthetic())(images()))


@pytest.mark.slow
def test_baselines_are_real_examples_of_every_class_for_every_seed():
    x = images(3, 40)
    labels = np.arange(40) % 2
    class_of = {image.tobytes(): label for image, label in zip(x, labels, strict=True)}
    sets = baselines(x, labels, 2, 3, [5, 6])
    assert list(sets) == list(BASELINES)
    for name, by_seed in sets.items():
        assert list(by_seed) == [5, 6]
        for one in by_seed.values():
            expected = [0, 0, 0, 1, 1, 1]
            assert [class_of[image.tobytes()] for image in np.asarray(one.images)] == expected
            np.testing.assert_array_equal(one.labels, centred_one_hot(np.array(expected), 2))
        # One set for all seeds is learned once a seed; see `evaluate`.
        assert (by_seed[5] is by_seed[6]) == (name == "herding")
    assert not np.array_equal(sets["random"][5].images, sets["random"][6].images)


def test_the_principal_components_are_computed_once_for_all_seeds(monkeypatch):
    calls = []
    monkeypatch.setattr(greedy, "principal", lambda x: calls.append(len(x)) or x.reshape(len(x), -1))
    baselines(images(3, 40), np.arange(40) % 2, 2, 3, [5, 6, 7])
    assert calls == [40]


KRR = {"krr": krr_learner(KERNEL, 0.1)}


def prepared(train=40):
    """Two classes apart, in three splits."""
    labels = np.arange(train + 40) % 2
    pixels = (0.4 + 0.2 * labels[:, None, None, None] + 0.1 * images(3, train + 40)).clip(0, 1)
    cuts = (slice(train), slice(train, train + 20), slice(train + 20, None))
    return prepare(Splits(*(Data(pixels[at], labels[at], ("x", "y")) for at in cuts), "toy"), "standardise")


@pytest.mark.slow
def test_a_set_stands_beside_baselines_of_its_size():
    data = prepared()
    labels = centred_one_hot(np.array([0, 0, 0, 1, 1, 1]), 2)
    ours = Synthetic(jnp.asarray(data.train[[0, 2, 4, 1, 3, 5]]), labels)
    results, tables = evaluate_sets(ours, data, KRR, 3)
    # Without groups neither metrics of groups nor intervals of them: the accuracy and the clusters.
    assert {one.metric for one in results} == {"accuracy", "cluster_min", "cluster_mean"}
    assert set(tables) == {(name, "krr") for name in ("synthetic", *BASELINES)}
    found = [one for one in results if one.metric == "accuracy"]
    assert [(one.set, one.learner) for one in found] == [(name, "krr") for name in ("synthetic", *BASELINES)]
    assert [one.seeds for one in found] == [[0], [0, 1, 2], [0, 1, 2], [0]]
    test = data.splits.test
    expected = accuracy(krr.fit(KERNEL, ours, 0.1)(data.model_space(test)), test.labels)
    assert found[0].values == [expected]
    drawn = baselines(data.train, data.splits.train.labels, 2, 3, [2])["random"][2]
    expected = accuracy(krr.fit(KERNEL, drawn, 0.1)(data.model_space(test)), test.labels)
    assert found[1].values[2] == expected


@pytest.mark.slow
def test_every_learner_and_seed_is_told_of():
    told = []
    progress = Progress(told.append, lambda done, pieces, note: told.append((done, pieces)))
    ours = synthetic()
    evaluate_sets(ours, prepared(), {"krr": RightFor(), "other": RightFor()}, 2, progress=progress)
    began = told.index("evaluating by krr")
    assert [one for one in told[:began] if isinstance(one, str)] == [
        "preparing the test images",
        "choosing the baselines",
    ]
    assert began > 4  # with the pieces of the choosing
    # Ridge regression once on our set and herding's, and for both seeds on the others.
    assert told[began + 1 :] == [*((i, 6) for i in range(7)), "evaluating by other", *((i, 8) for i in range(9))]


def test_baselines_are_left_out_where_they_are_not_wanted():
    data = prepared()
    results, tables = evaluate_sets(synthetic(), data, KRR, 2, with_baselines=False)
    assert {one.set for one in results} == {"synthetic"}
    assert list(tables) == [("synthetic", "krr")]


def test_a_set_larger_than_a_class_has_no_baselines_and_says_so():
    large = Synthetic(jnp.asarray(images(0, 10)), centred_one_hot(np.arange(10) % 2, 2))
    with pytest.raises(InputError, match="ipc is 5, but class 'x' has 4"):
        evaluate_sets(large, prepared(train=8), KRR, 1)


# --- groups ------------------------------------------------------------------------------------------

GROUPS = np.repeat([0, 1], 10).astype(np.int32)
"""Of the twenty images; each (class, group) cell has five."""

BY_GROUP = ("accuracy", "worst_group", "adjusted", "deo_m", "deo_a", "cvar_error")


def by_metric(found):
    return {one.metric: one for one in found.evaluations}


def test_metrics_by_group_by_hand():
    # Right for the first 14: group a all, of group b two of five in each class.
    lines = by_metric(evaluate("ours", {14: synthetic()}, "fake", RightFor(), against(groups=GROUPS)))
    assert tuple(lines) == BY_GROUP
    # The training set has four of five in group a; the worst fifth of the test set has the error of group b.
    expected = {"accuracy": 0.7, "worst_group": 0.4, "adjusted": 0.88, "deo_m": 0.6, "deo_a": 0.6, "cvar_error": 0.6}
    assert {metric: line.mean for metric, line in lines.items()} == pytest.approx(expected)
    assert lines["worst_group"].where == {"class": "x", "group": "b", "size": 5}
    assert all(line.where is None for metric, line in lines.items() if metric != "worst_group")


def test_cells_are_pooled_over_seeds_and_metrics_are_not():
    found = evaluate("ours", dict.fromkeys((6, 15), synthetic()), "fake", RightFor(), against(groups=GROUPS))
    # Cells in rows of a class: 3 of 5 and none at seed 6; all and, in classes x and y, 2 and 3 of 5 at seed 15.
    np.testing.assert_array_equal(found.cells.count, [[10, 10], [10, 10]])
    np.testing.assert_array_equal(found.cells.correct, [[8, 3], [8, 2]])
    lines = by_metric(found)
    assert lines["accuracy"].values == pytest.approx([0.3, 0.75])
    assert lines["worst_group"].values == pytest.approx([0.0, 0.4])
    assert lines["worst_group"].where == {"class": "y", "group": "b", "size": 5}


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_intervals_bracket_the_accuracy_and_shrink_with_the_test_set(groups):
    line = evaluate("ours", {14: synthetic()}, "fake", RightFor(), against(groups=groups)).evaluations[0]
    low, high = line.interval
    assert 0.4 < low < 0.7 < high < 1
    # Of a binomial of twenty without cells; within cells, half of which are all right, it varies less.
    spread = 1.96 * np.sqrt(0.7 * 0.3 / 20) if groups is None else 1.96 * np.sqrt(0.5 * 0.4 * 0.6 / 20)
    assert (high - low) / 2 == pytest.approx(spread, rel=0.25)
    again = evaluate("ours", {14: synthetic()}, "fake", RightFor(), against(groups=groups)).evaluations[0]
    assert again == line


@pytest.mark.slow
def test_intervals_are_averaged_over_seeds():
    several = dict.fromkeys((8, 14), synthetic())
    both = by_metric(evaluate("ours", several, "fake", RightFor(), against(groups=GROUPS)))
    alone = [
        by_metric(evaluate("ours", {seed: synthetic()}, "fake", RightFor(), against(groups=GROUPS))) for seed in (8, 14)
    ]
    for metric in BY_GROUP:
        expected = np.mean([one[metric].interval for one in alone], 0)
        np.testing.assert_allclose(both[metric].interval, expected)


def test_evaluations_leave_out_what_they_have_not():
    lines = by_metric(evaluate("ours", {14: synthetic()}, "fake", RightFor(), against(groups=GROUPS)))
    assert set(lines["worst_group"].to_dict()) - set(lines["accuracy"].to_dict()) == {"where"}
    assert json.loads(json.dumps(lines["worst_group"].to_dict())) == lines["worst_group"].to_dict()


def test_there_is_no_adjusted_accuracy_where_train_has_none_of_the_tested_cells():
    test = replace(against(groups=GROUPS), train_count=np.array([[0, 4], [3, 0]]))
    one_group = replace(test, data=replace(test.data, groups=np.zeros(20, np.int32)))
    for tested, expected in ((test, BY_GROUP), (one_group, BY_GROUP)):
        assert tuple(by_metric(evaluate("ours", {14: synthetic()}, "fake", RightFor(), tested))) == expected
    neither = replace(one_group, train_count=np.array([[0, 4], [0, 5]]))
    found = by_metric(evaluate("ours", {14: synthetic()}, "fake", RightFor(), neither))
    assert tuple(found) == tuple(metric for metric in BY_GROUP if metric != "adjusted")


def with_groups(seed=0):
    labels, groups = np.arange(60) % 2, (np.arange(60) % 6 > 3).astype(np.int32)
    pixels = (0.4 + 0.2 * labels[:, None, None, None] + 0.1 * images(seed, 60)).clip(0, 1)
    cuts = (slice(20), slice(20, 40), slice(40, 60))
    parts = (Data(pixels[at], labels[at], ("x", "y"), groups[at], ("a", "b")) for at in cuts)
    return prepare(Splits(*parts, "toy"), "standardise")


def test_the_test_set_is_prepared_with_its_clusters_and_corruptions():
    data = with_groups()
    test = prepare_test(data, ["invert"])
    np.testing.assert_array_equal(test.images, data.model_space(data.splits.test))
    np.testing.assert_array_equal(test.groups, data.splits.test.groups)
    train = data.splits.train
    counted = [[np.sum((train.labels == c) & (train.groups == g)) for g in range(2)] for c in range(2)]
    np.testing.assert_array_equal(test.train_count, counted)
    assert sorted(set(test.cluster)) == list(range(10))
    expected = data.fitted.apply(1 - data.splits.test.pixels)
    np.testing.assert_allclose(test.corrupted["invert"], expected, atol=1e-6)


@pytest.mark.slow
def test_corruptions_and_clusters_are_measured_without_intervals():
    data = with_groups()
    ours = Synthetic(jnp.asarray(data.train[:4]), centred_one_hot(np.arange(4) % 2, 2))
    results, _ = evaluate_sets(ours, data, KRR, 1, corruptions=["invert", "noise"])
    lines = {one.metric: one for one in results if one.set == "synthetic"}
    assert list(lines) == [*BY_GROUP, "cluster_min", "cluster_mean", "accuracy:invert", "accuracy:noise"]
    predict, test = krr.fit(KERNEL, ours, 0.1), data.splits.test
    inverted = predict(data.fitted.apply(1 - test.pixels))
    assert lines["accuracy:invert"].mean == accuracy(inverted, test.labels)
    assert all(one.interval is None for metric, one in lines.items() if metric not in BY_GROUP)
    assert 0 <= lines["cluster_min"].mean <= lines["cluster_mean"].mean <= 1
