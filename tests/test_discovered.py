"""The grouping that chooses: planted groups are found, chance is left alone, and the trial against its formulas."""

import dataclasses
import importlib

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import Ridge

from rdd_jax.grouping import Candidate, Groups, Subject, discovered, kmeans, listed, spurious

module = importlib.import_module("rdd_jax.grouping.discovered")  # the package has a function of that name
Trial, best = module._Trial, module._best


@pytest.fixture(autouse=True)
def few_landmarks(monkeypatch):
    """A trial then takes a tenth of a second."""
    monkeypatch.setattr(Trial, "LANDMARKS", 60)


def points_of(points, labels, given=None):
    """Points ``[n, d]`` as images of one row."""
    return Subject(points.astype(np.float32)[:, None, None], labels, int(labels.max()) + 1, given)


def shortcut(seed=2, core=0.3, n=2000):
    """``(subject, rare [n])``: the class is in coordinate 1, and but for 5 % more plainly in 0; the rest is noise."""
    rng = np.random.default_rng([11, seed])
    labels = rng.permutation(np.arange(n) % 2).astype(np.int32)
    rare = rng.random(n) < 0.05
    sign = 2 * labels - 1
    points = np.zeros((n, 4))
    points[:, 0] = np.where(rare, -sign, sign) + 0.15 * rng.standard_normal(n)
    points[:, 1] = core * sign + 0.15 * rng.standard_normal(n)
    points[:, 2:] = 0.3 * rng.standard_normal((n, 2))
    return points_of(points, labels), rare


def clean(seed, n=1000):
    """Two classes, a normal distribution each, and what else could be drawn for them."""
    rng = np.random.default_rng([12, seed])
    labels = rng.permutation(np.arange(n) % 2).astype(np.int32)
    points = rng.standard_normal((n, 4))
    points[:, :2] += 4 * np.eye(2)[labels]
    return points_of(points, labels), rng


def view(*columns):
    """Those coordinates."""
    return lambda subject: np.ascontiguousarray(subject.images[:, 0, 0, list(columns)])


def separates(groups, subject, rare):
    """Whether the groups within the classes are those that are rare and those that are not."""
    for c in range(subject.classes):
        own = subject.labels == c
        code = groups.code[own]
        if len(np.unique(code)) != 2 or len(np.unique(np.stack([code, rare[own]]), axis=1).T) != 2:
            return False
    return True


def chosen(groups):
    return [row.groups for row in groups.evidence if row.chosen]


# --- what is found -----------------------------------------------------------------------------------


def test_an_attribute_that_stands_in_for_the_class_is_found_and_takes_the_whole_risk():
    subject, rare = shortcut(core=0.2)
    found = discovered({"spurious:a": spurious(view(0)), "kmeans:b": kmeans(view(2, 3))}).fit(0, subject)
    assert separates(found, subject, rare)
    assert (found.size, found.protect, chosen(found)) == (2, 1.0, ["spurious:a"])
    assert [row.groups for row in found.evidence] == ["spurious:a"]  # the other saw nothing
    (row,) = found.evidence
    assert row.cells == 4
    assert row.gain > 10
    assert row.cost > module.COST  # which attributes may


def test_a_rare_cluster_that_only_the_second_view_sees_is_found_and_takes_its_share_of_the_risk():
    subject, rare = shortcut()
    found = discovered({"kmeans:a": kmeans(view(2, 3)), "kmeans:b": kmeans(view(0, 2, 3))}).fit(0, subject)
    assert separates(found, subject, rare)
    assert (found.protect, chosen(found)) == (module.PROTECT, ["kmeans:b"])
    # The same clusters where protecting them costs more than clusters may.
    subject, _ = shortcut(core=0.2)
    found = discovered({"kmeans:b": kmeans(view(0, 2, 3))}).fit(0, subject)
    assert (found.size, found.protect, chosen(found)) == (1, 0.0, [])
    assert found.evidence[0].gain > 10


def test_codes_at_random_are_dropped_beside_a_real_group():
    subject, rare = shortcut(core=0.2)
    drawn = listed(np.random.default_rng(0).integers(0, 3, len(rare)))
    found = discovered({"kmeans:drawn": drawn, "spurious:a": spurious(view(0))}).fit(0, subject)
    assert chosen(found) == ["spurious:a"]
    assert separates(found, subject, rare)
    assert {row.groups for row in found.evidence} == {"kmeans:drawn", "spurious:a", "kmeans:drawn+spurious:a"}


def test_where_there_are_no_groups_none_are_protected():
    wrong = 0
    for seed in range(20):
        subject, rng = clean(seed)
        few, three, two = (rng.random(1000) < 0.05).astype(int), rng.integers(0, 3, 1000), rng.integers(0, 2, 1000)
        codes = {"spurious:a": listed(two), "kmeans:b": listed(three), "kmeans:c": listed(few)}
        found = discovered(codes).fit(seed, subject)
        assert len(found.evidence) == 7
        if found.size > 1:
            wrong += 1
        else:
            assert found.protect == 0
            assert not found.code.any()
            assert chosen(found) == []
    assert wrong <= 1


def test_views_that_see_nothing_leave_no_evidence():
    subject, _ = clean(0)
    found = discovered({"kmeans:a": listed(np.zeros(1000, int))}).fit(0, subject)
    assert (found.size, found.protect, found.evidence) == (1, 0.0, ())
    assert found.code.shape == (1000,)


def test_given_groups_are_never_looked_at_and_twice_is_the_same():
    subject, rare = shortcut(core=0.2)
    poisoned = [None, rare.astype(np.int32), np.random.default_rng(0).integers(0, 9, len(rare)).astype(np.int32)]
    found = [
        discovered({"spurious:a": spurious(view(0)), "kmeans:b": kmeans(view(0, 2))}).fit(
            3, dataclasses.replace(subject, given=given, _described={})
        )
        for given in poisoned
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other.code, found[0].code)
        assert other[1:] == found[0][1:]


def test_the_groups_are_final():
    made = discovered({"kmeans:a": listed(np.zeros(4, int))})
    assert (made.moves, made.found) == (False, False)


# --- what is tried -----------------------------------------------------------------------------------


def tidied(name, counts, classes=2):
    """The sizes of the groups of a grouping after `_tidy`; every value is in all classes alike."""
    code = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    labels = (np.arange(len(code)) % classes).astype(np.int32)
    subject = Subject(np.zeros((len(code), 1, 1, 1), np.float32), labels, classes)
    return sorted(np.bincount(module._tidy(name, Groups(code, len(counts)), subject).code).tolist())


@pytest.mark.parametrize(
    "name, counts, expected",
    [
        ("spurious:x", [1000, 1000], [1000, 1000]),
        ("spurious:x", [1000, 1000, 240], [1000, 1240]),  # below a quarter of a class
        ("spurious:x", [1800, 200], [2000]),
        ("spurious:x", [1650, 350], [350, 1650]),  # 1.59 values of 2 are enough
        ("spurious:x", [1750, 250], [2000]),  # 1.46 are not
        ("spurious:x", [2000], [2000]),
        ("kmeans:x", [1980, 20], [20, 1980]),
        ("kmeans:x", [1994, 6], [2000]),  # below half a percent of a class
        ("kmeans:x", [1000, 1000, 240], [240, 1000, 1000]),
    ],
)
def test_values_of_attributes_are_about_as_frequent_as_classes_and_clusters_may_be_rare(name, counts, expected):
    assert tidied(name, counts) == expected


def row(gain, cost=0.0):
    return Candidate("", 2, gain, cost)


@pytest.mark.parametrize(
    "told, expected",
    [
        ({("kmeans:a",): row(0.9)}, None),
        ({("kmeans:a",): row(1.0)}, ("kmeans:a",)),
        ({("kmeans:a",): row(9.0, 1.6)}, None),
        ({("fine:a",): row(9.0, 1.0)}, ("fine:a",)),
        ({("spurious:a",): row(9.0, 5.0)}, ("spurious:a",)),
        ({("spurious:a",): row(9.0, 8.5)}, None),  # gain less cost
        ({("kmeans:b", "spurious:a"): row(9.0, 5.0), ("kmeans:b",): row(9.0, 5.0)}, ("kmeans:b", "spurious:a")),
        ({("kmeans:a",): row(7.6), ("kmeans:a", "kmeans:b"): row(10.0)}, ("kmeans:a",)),
        ({("kmeans:a",): row(7.4), ("kmeans:a", "kmeans:b"): row(10.0)}, ("kmeans:a", "kmeans:b")),
        ({("kmeans:a",): row(8.0), ("kmeans:b",): row(9.0), ("kmeans:a", "kmeans:b"): row(10.0)}, ("kmeans:b",)),
        # What is not open does not count as the best, either.
        ({("kmeans:a",): row(2.0), ("kmeans:b",): row(20.0, 2.0)}, ("kmeans:a",)),
        ({}, None),
    ],
)
def test_the_best_is_worth_it_costs_little_and_is_simple(told, expected):
    assert best(told) == expected


# --- the trial ---------------------------------------------------------------------------------------


def trial_of(n=400, core=0.2):
    subject, rare = shortcut(0, core, n)
    groups = Groups(rare.astype(np.int32), 2)
    return Trial(subject, [groups], 0), groups


def test_protecting_one_group_is_ridge_regression():
    trial, _ = trial_of()
    n, d = trial.x.shape
    assert 0.4 * 400 < n < 0.6 * 400
    alpha = trial.RIDGE * (trial.x**2).sum() / d
    found = trial._protected(np.zeros(n, int), 1)
    expected = Ridge(alpha, fit_intercept=False).fit(trial.x.astype(np.float64), trial.y).coef_.T
    np.testing.assert_allclose(trial.x @ found, trial.x @ expected, atol=1e-3)
    np.testing.assert_allclose(trial.y.sum(1), 0, atol=1e-6)


def test_protected_groups_have_nearly_the_least_of_half_the_mean_and_half_the_entropic_risk():
    trial, groups = trial_of()
    code, count = trial._cell(groups)
    code = code[trial.fitted]
    x, y = trial.x.astype(np.float64), trial.y.astype(np.float64)
    size = np.bincount(code, minlength=count)
    ridge = trial.RIDGE * (x**2).mean(0).sum() / x.shape[1]  # every example is about as long

    def risk(flat):
        weights = flat.reshape(x.shape[1], 2)
        error = x @ weights - y
        loss = 0.5 * (error**2).sum(1)
        by_group = np.bincount(code, loss, count) / size
        tilt = np.exp(trial.SHARPNESS * by_group - logsumexp(trial.SHARPNESS * by_group))
        entropic = (logsumexp(trial.SHARPNESS * by_group) - np.log(count)) / trial.SHARPNESS
        each = 0.5 / len(x) + 0.5 * (tilt / size)[code]
        value = 0.5 * loss.mean() + 0.5 * entropic + 0.5 * ridge * (weights**2).sum()
        return value, (x.T @ (error * each[:, None]) + ridge * weights).ravel()

    assert (size > 0).all()
    plain = trial._solve(*trial.plain).ravel().astype(np.float64)
    least = minimize(risk, plain, jac=True, method="L-BFGS-B", options={"maxiter": 20_000, "maxfun": 20_000}).fun
    found = risk(trial._protected(code, count).ravel().astype(np.float64))[0]
    assert risk(plain)[0] - least > 0.01
    assert found - least < 0.02 * (risk(plain)[0] - least)


def test_groups_without_examples_are_left_out():
    trial, groups = trial_of()
    code, count = trial._cell(groups)
    code = code[trial.fitted]
    sparse = trial._protected(2 * code + 1, 2 * count + 3)
    np.testing.assert_allclose(sparse, trial._protected(code, count), rtol=1e-5, atol=1e-6)


def test_the_softly_worst_is_a_loop_over_the_cells():
    rng = np.random.default_rng(0)
    code = rng.choice([0, 1, 3, 4, 5], 60, p=[0.4, 0.05, 0.25, 0.25, 0.05])  # two classes of three; 2 is empty
    right = (rng.random(60) < 0.3 + 0.1 * code).astype(float)
    of_class = np.array([right[code < 3].mean(), right[code >= 3].mean()])
    worst = [
        np.exp(-5 * (right[code == g].sum() + 5 * of_class[g // 3]) / (np.sum(code == g) + 5)) for g in np.unique(code)
    ]
    assert module._soft(right, code, 6, of_class) == pytest.approx(-np.log(np.mean(worst)) / 5)


def test_what_is_measured_is_of_the_half_that_was_not_fitted():
    trial, groups = trial_of()
    weights = trial._solve(*trial.plain)
    right = (trial.points @ weights).argmax(1) == trial.labels
    held = np.setdiff1d(np.arange(400), np.flatnonzero(trial.fitted))
    worst, average = trial._measured(weights)
    assert average == pytest.approx(right[held].mean())
    cell = trial.labels * 2 + groups.code
    of_class = np.array([right[held][trial.labels[held] == c].mean() for c in range(2)])
    assert worst == pytest.approx([module._soft(right[held].astype(float), cell[held], 4, of_class)])
    row = trial.candidate("x", groups)
    after = trial._measured(trial._protected(cell[trial.fitted], 4))
    assert row == Candidate("x", 4, pytest.approx(100 * (after[0] - worst).mean()), 100 * (average - after[1]))


def test_of_much_data_some_take_part(monkeypatch):
    monkeypatch.setattr(module, "MOST", 300)
    trial, groups = trial_of()
    assert len(trial.points) == len(trial.labels) == len(np.unique(trial.chosen)) == 300
    subject, _ = shortcut(0, 0.2, 400)
    np.testing.assert_array_equal(trial.labels, subject.labels[trial.chosen])
    np.testing.assert_array_equal(trial._cell(groups)[0], 2 * trial.labels + groups.code[trial.chosen])
