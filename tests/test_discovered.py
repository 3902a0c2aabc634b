"""The grouping that chooses: planted groups are found, chance is left alone, and the trial against its formulas."""

import dataclasses
import importlib

import numpy as np
import pytest

from rdd_jax.grouping import Candidate, Groups, Subject, discovered, kmeans, listed, rehearsal, spurious
from rdd_jax.grouping import trial as trials
from rdd_jax.grouping.features import pixels
from rdd_jax.grouping.reweighted import Part, reweighted, solve
from rdd_jax.grouping.trial import Trial, View

module = importlib.import_module("rdd_jax.grouping.discovered")  # the package has a function of that name
best = module._best
pytestmark = pytest.mark.usefixtures("quick_discovery")


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
    found = discovered({"a": spurious(view(0)), "b": listed(np.zeros(len(rare), int))}).fit(0, subject)
    assert separates(found, subject, rare)
    assert (found.size, chosen(found)) == (2, ["a"])
    assert [row.groups for row in found.evidence] == ["a"]  # the other saw nothing
    (row,) = found.evidence
    assert row.cells == 4
    assert row.gain > 10
    assert row.cost > module.COST * row.cost_error  # which attributes may
    # The whole risk: among the rare ones the weights come near those of an even share.
    assert 0.3 < found.weight[rare].sum() / found.weight.sum() < 0.7


def test_a_rare_cluster_that_only_the_second_view_sees_is_found():
    subject, rare = shortcut(core=0.25, n=4000)
    found = discovered({"a": kmeans(view(2, 3)), "b": kmeans(view(0, 2, 3))}).fit(0, subject)
    assert separates(found, subject, rare)
    assert chosen(found) == ["b"]
    assert found.weight[rare].mean() > 2 * found.weight[~rare].mean()
    assert found.weight.min() >= 0.49  # half of the risk is the plain mean
    np.testing.assert_allclose(found.weight.mean(), 1, atol=1e-5)
    blind = found.evidence[0]
    assert blind.groups == "a"
    assert np.isnan([blind.gain, blind.gain_error, blind.cost, blind.cost_error]).all()


def test_clusters_that_cost_too_much_are_not_protected():
    subject, _ = shortcut(core=0.2, n=4000)
    found = discovered({"b": kmeans(view(0, 2, 3))}).fit(0, subject)
    assert (found.size, chosen(found)) == (1, [])
    assert (found.weight == 1).all()
    assert found.evidence[0].gain > 10


def test_rare_examples_that_no_gap_sets_apart_are_protected_by_pieces():
    """One group is shown, then; the weights tell all the same."""
    subject, rare = shortcut(core=0.25, n=4000)
    found = discovered({"a": kmeans(view(0, 2, 3), gap=1e9)}).fit(0, subject)
    assert (found.size, chosen(found)) == (1, ["a"])
    assert found.weight[rare].mean() > 2 * found.weight[~rare].mean()


def test_codes_at_random_are_dropped_beside_a_real_group():
    subject, rare = shortcut(core=0.2)
    drawn = listed(np.random.default_rng(0).integers(0, 3, len(rare)))
    found = discovered({"drawn": drawn, "a": spurious(view(0))}).fit(0, subject)
    assert chosen(found) == ["a"]
    assert separates(found, subject, rare)
    assert [row.groups for row in found.evidence] == ["drawn", "a"]  # nor was it tried beside another


def test_where_there_are_no_groups_none_are_protected():
    wrong = 0
    for seed in range(20):
        subject, rng = clean(seed)
        few, three, two = (rng.random(1000) < 0.05).astype(int), rng.integers(0, 3, 1000), rng.integers(0, 2, 1000)
        codes = {"a": listed(two)._replace(attribute=True), "b": listed(three), "c": listed(few)}
        found = discovered(codes).fit(seed, subject)
        assert len(found.evidence) >= 3
        if chosen(found):
            wrong += 1
        else:
            assert (found.weight == 1).all()
            assert not found.code.any()
    assert wrong <= 1


def test_pieces_of_data_without_groups_are_not_protected():
    wrong = 0
    for seed in range(20):
        subject, _ = clean(seed)
        wrong += bool(chosen(discovered({"a": kmeans(view(0, 1, 2, 3))}).fit(seed, subject)))
    assert wrong <= 1


def test_views_that_see_nothing_leave_no_evidence():
    subject, _ = clean(0)
    found = discovered({"a": listed(np.zeros(1000, int))}).fit(0, subject)
    assert (found.size, found.evidence) == (1, ())
    assert found.code.shape == found.weight.shape == (1000,)
    assert (found.weight == 1).all()


def test_given_groups_are_never_looked_at_and_twice_is_the_same():
    subject, rare = shortcut(core=0.2)
    poisoned = [None, rare.astype(np.int32), np.random.default_rng(0).integers(0, 9, len(rare)).astype(np.int32)]
    found = [
        discovered({"a": spurious(view(0)), "b": kmeans(view(0, 2))}).fit(
            3, dataclasses.replace(subject, given=given, _described={})
        )
        for given in poisoned
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other.code, found[0].code)
        np.testing.assert_array_equal(other.weight, found[0].weight)
        assert other.evidence == found[0].evidence


def test_the_groups_are_final():
    made = discovered({"a": listed(np.zeros(4, int))})
    assert (made.moves, made.found) == (False, False)


# --- what is tried -----------------------------------------------------------------------------------


def tidied(attribute, counts, classes=2):
    """The sizes of the groups of a grouping as they are shown; every value is in all classes alike."""
    code = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    labels = (np.arange(len(code)) % classes).astype(np.int32)
    subject = Subject(np.zeros((len(code), 1, 1, 1), np.float32), labels, classes)
    seen = module._view(listed(code)._replace(attribute=attribute), 0, subject)
    return [len(code)] if seen is None else sorted(np.bincount(seen.shown.code).tolist())


@pytest.mark.parametrize(
    "attribute, counts, expected",
    [
        (True, [1000, 1000], [1000, 1000]),
        (True, [1000, 1000, 240], [1000, 1240]),  # below a quarter of a class
        (True, [1800, 200], [2000]),
        (True, [1650, 350], [350, 1650]),  # 1.59 values of 2 are enough
        (True, [1750, 250], [2000]),  # 1.46 are not
        (True, [2000], [2000]),
        (False, [1980, 20], [20, 1980]),
        (False, [1994, 6], [2000]),  # below half a percent of a class
        (False, [1000, 1000, 240], [240, 1000, 1000]),
    ],
)
def test_values_of_attributes_are_about_as_frequent_as_classes_and_clusters_may_be_rare(attribute, counts, expected):
    assert tidied(attribute, counts) == expected


def row(gain, cost=0.0, error=0.1):
    return Candidate("", 2, 5.0, gain, error, cost, 0.3)


@pytest.mark.parametrize(
    "told, expected",
    [
        ({"k": row(1.9)}, None),
        ({"k": row(2.0)}, "k"),
        ({"k": row(2.9, error=1.5)}, None),
        ({"k": row(3.0, error=1.5)}, "k"),
        ({"k": row(9.0, 0.4)}, None),
        ({"k": row(9.0, 0.3)}, "k"),
        ({"A": row(9.0, 5.0)}, "A"),
        ({"A": row(9.0, 8.5)}, None),  # gain less cost
        ({"kA": row(9.0, 5.0), "k": row(9.0, 5.0)}, "kA"),
        ({"k": row(7.6), "kf": row(10.0)}, "k"),
        ({"k": row(7.4), "kf": row(10.0)}, "kf"),
        ({"k": row(8.0), "f": row(9.0), "kf": row(10.0)}, "f"),
        ({"k": row(9.0), "A": row(8.0)}, "A"),  # an attribute, among equals
        # What is not open does not count as the best, either.
        ({"k": row(2.0), "f": row(20.0, 2.0)}, "k"),
        ({}, None),
    ],
)
def test_the_best_is_worth_it_costs_little_and_is_simple(told, expected):
    """A letter is a view, and a capital an attribute."""
    found = best({(tuple(names), 5.0): row for names, row in told.items()}, {"A"})
    assert (None if found is None else "".join(found[0])) == expected


@pytest.mark.parametrize(
    "told, breaks, expected",
    [
        (row(0.1, error=9.0), False, True),  # the trial was sure enough
        (row(0.1, -2.0), False, True),
        (row(0.0), False, False),
        (row(5.0, 0.3), False, True),
        (row(5.0, 0.31), False, False),
        (row(5.0, 4.9), True, True),
        (row(5.0, 5.0), True, False),
    ],
)
def test_a_rehearsal_confirms_what_gains_and_costs_little(told, breaks, expected):
    assert module._harmless(told, breaks) == expected


def test_the_sharper_of_two_that_are_as_simple_wins_where_it_is_worth_more():
    told = {(("k",), 5.0): row(5.0), (("k",), 20.0): row(5.1)}
    assert best(told, set()) == (("k",), 20.0)


def test_shares_are_in_proportion_to_what_each_takes_alone():
    cell = np.arange(4, dtype=np.int32) % 3
    bare = View(Groups(cell, 3), cell, 3, attribute=False)
    views = [bare._replace(attribute=True), bare, bare._replace(apart=cell // 2)]

    def shares(*which):
        return [(part.share, part.size, part.sharpness) for part in module._parts([views[i] for i in which], 20.0)]

    assert shares(0) == [(1.0, 3, 5.0)]
    assert shares(1) == [(0.5, 3, 20.0)]
    assert shares(1, 1) == [(0.25, 3, 20.0)] * 2
    assert shares(0, 1, 1) == [(0.5, 3, 5.0), (0.25, 3, 20.0), (0.25, 3, 20.0)]
    # What a gap sets apart has a share beside the pieces.
    assert shares(2) == [(0.5, 3, 20.0), (0.25, 2, 5.0)]
    np.testing.assert_allclose(shares(1, 2), [(0.3, 3, 20), (0.3, 3, 20), (0.15, 2, 5)])


def test_groups_that_a_gap_sets_apart_are_protected_as_such():
    """Two far clusters in one of two classes: each of the three cells has a say of its own."""
    rng = np.random.default_rng(0)
    labels = (np.arange(600) % 2).astype(np.int32)
    x = rng.normal(0, 0.1, 600) + np.where((labels == 1) & (np.arange(600) % 20 == 1), 5.0, 0.0)
    subject = points_of(np.stack([x, np.zeros(600)], 1), labels)
    view = module._view(kmeans(pixels, pieces=4), 0, subject)
    assert len(np.unique(view.apart)) == 3
    assert len(np.unique(view.cell)) > 3
    np.testing.assert_array_equal(view.apart // view.shown.size, labels)
    np.testing.assert_array_equal(view.apart % view.shown.size, view.shown.code)
    near = points_of(rng.normal(0, 0.1, (600, 2)), labels)
    assert module._view(kmeans(pixels, pieces=4), 0, near).apart is None


def test_what_a_learned_set_gains_too_little_by_gives_way_to_the_next_best_and_to_nothing(monkeypatch):
    subject, _ = shortcut(core=0.2)
    asked = []

    def rehearsed(self, candidate, parts):
        asked.append(candidate.groups)
        assert not candidate.rehearsed
        return candidate._replace(rehearsed=True, gain=0.0 if candidate.groups in refused else 0.1, cost=0.0)

    monkeypatch.setattr(Trial, "rehearsed", rehearsed)
    looking = discovered({"a": spurious(view(0)), "b": spurious(view(0))})
    refused: set[str] = {"a"}
    found = looking.fit(0, subject)
    assert (asked, chosen(found)) == (["a", "b"], ["b"])
    assert {row.groups: row.rehearsed for row in found.evidence} == {"a": True, "b": True, "a+b": False}
    refused |= {"b", "a+b"}
    found = looking.fit(0, subject)
    assert (found.size, chosen(found)) == (1, [])
    np.testing.assert_array_equal(found.weight, 1)


# --- the trial ---------------------------------------------------------------------------------------


def trial_of(n=400, core=0.2):
    """A trial of the rare and the others, and the part of the risk that is over them."""
    subject, rare = shortcut(0, core, n)
    cell = 2 * subject.labels + rare.astype(np.int32)
    view = View(Groups(rare.astype(np.int32), 2), cell, 4, True)
    return Trial(subject, [view], 0), Part(cell, 4, 0.5, 5.0)


def test_hard_cells_are_the_worst_tenth_of_the_half_that_was_fitted():
    rng = np.random.default_rng(0)
    cell = rng.integers(0, 30, 2000).astype(np.int32) * 2  # every other one is empty
    fitted = rng.random(2000) < 0.5
    fitted[cell == 10], fitted[cell == 20] = True, False  # as if they were, for one half
    loss = rng.random(fitted.sum()) + 0.1 * (cell[fitted] % 7) + 9.0 * (cell[fitted] == 10)
    both = sorted(set(cell[fitted]) & set(cell[~fitted]))
    mean = {g: (loss[cell[fitted] == g].sum() + 5 * loss.mean()) / ((cell[fitted] == g).sum() + 5) for g in both}
    hard = sorted(both, key=lambda g: -mean[g])[:3]  # of 28
    expected = np.array([1 / (np.sum(cell[~fitted] == g) + 5) if g in hard else 0 for g in cell[~fitted]])
    np.testing.assert_allclose(trials._hard(cell, 61, fitted, loss), expected / expected.sum())


def test_what_is_measured_is_of_the_half_that_was_not_fitted():
    trial, part = trial_of()
    own, held = trial.fitted, ~trial.fitted
    ones = np.ones(own.sum(), np.float32)
    reweighed = reweighted(trial.points[own], trial.targets[own], [part._replace(cell=part.cell[own])]).coefficients
    right = [
        (trial.points[held] @ weights).argmax(1) == trial.labels[held]
        for weights in (solve(trial.points[own], trial.targets[own], ones), reweighed)
    ]
    rare = np.isin(part.cell[held], [1, 3])
    share = trial.share
    assert share.sum() == pytest.approx(1)
    assert share[rare].max() > 0
    assert not share[~rare].any()  # one of the four cells
    row = trial.candidate("x", [part], 5.0)
    change = 100 * (right[1].astype(float) - right[0])
    assert row.gain == pytest.approx((share * change).sum())
    assert row.gain_error == pytest.approx(np.sqrt((share**2 * change**2).sum()))
    assert (row.cost, row.cells) == (pytest.approx(-change.mean()), 4)
    assert row.cost_error == pytest.approx(np.sqrt((change**2).sum()) / held.sum())
    assert change[rare].mean() > 10


def test_weights_are_those_of_both_halves():
    trial, part = trial_of()
    found = trial.weight([part])
    expected = reweighted(trial.points, trial.targets, [part]).weight([part])
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-6)


def test_of_much_data_some_take_part_and_all_are_weighted(monkeypatch):
    monkeypatch.setattr(trials, "MOST", 300)
    trial, part = trial_of()
    assert len(trial.points) == len(trial.labels) == len(np.unique(trial.chosen)) == 300
    subject, _ = shortcut(0, 0.2, 400)
    np.testing.assert_array_equal(trial.labels, subject.labels[trial.chosen])
    weight = trial.weight([part])
    assert weight.shape == (400,)
    assert len(np.unique(weight)) <= 4  # by cell alone


# --- the rehearsal -----------------------------------------------------------------------------------


def test_the_rehearsal_is_learned_from_the_one_half_and_measured_on_the_other(monkeypatch):
    monkeypatch.setattr(trials, "BLOCK", 64)
    trial, part = trial_of()
    count = 0

    def learned(*arguments):
        nonlocal count
        count += 1
        return rehearsal.learned(*arguments)

    monkeypatch.setattr(trials, "learned", learned)
    before = trial.candidate("x", [part], 5.0)
    row = trial.rehearsed(before, [part])
    assert trial.rehearsed(before, [part]) == row  # the same twice
    assert count == 3  # the plain one once
    own, held = trial.fitted, ~trial.fitted
    images, labels = trial.subject.images, trial.subject.labels
    parts = [part._replace(cell=part.cell[own])]
    weight = reweighted(trial.points[own], trial.targets[own], parts).weight(parts)
    right = [
        rehearsal.learned(images[own], labels[own], 2, w, 0)(images[held]).argmax(1) == labels[held]
        for w in (np.ones_like(weight), weight)
    ]
    change = 100 * (right[1].astype(float) - right[0])
    assert row.gain == pytest.approx((trial.share * change).sum())
    assert row.cost == pytest.approx(-change.mean())
    assert (row.groups, row.cells, row.sharpness, row.rehearsed) == ("x", 4, 5.0, True)


def test_a_set_is_learned_from_what_counts():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 1, 1, 4)).astype(np.float32)
    truth = (x[:, 0, 0, 0] > 0).astype(np.int32)
    labels = np.where(np.arange(300) % 3 == 0, 1 - truth, truth).astype(np.int32)
    counts = (labels == truth).astype(np.float32)
    right = [
        np.mean(rehearsal.learned(x, labels, 2, weight, 0)(x).argmax(1) == truth)
        for weight in (counts, np.ones(300, np.float32), 1 - counts)
    ]
    assert right[0] > 0.95
    assert right[0] >= right[1] > 0.7
    assert right[2] < 0.2


def test_images_that_are_all_the_same_are_learned_from_too():
    images, labels = np.ones((30, 1, 1, 4), np.float32), (np.arange(30) % 3).astype(np.int32)
    found = rehearsal.learned(images, labels, 3, np.ones(30, np.float32), 0)(images)
    assert np.isfinite(found).all()
