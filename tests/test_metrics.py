"""Metrics, against tables small enough to reckon by hand, and what must hold for every table."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score

from rdd_jax.errors import InputError
from rdd_jax.evaluation import metrics
from rdd_jax.evaluation.metrics import Cells

TABLE = Cells(np.array([[9, 1, 0], [4, 0, 5]]), np.array([[10, 4, 0], [4, 2, 20]]))
"""Accuracies [[0.9, 0.25, nan], [1, 0, 0.25]]: 19 of 40 right."""

STATISTICS = {
    "average": metrics.average,
    "worst": metrics.worst,
    "deo": lambda table: metrics.deo(table)[1],
    "cvar_error": lambda table: metrics.cvar_error(table, 0.3),
}

fuzzed = settings(max_examples=100, deadline=None, database=None, derandomize=True)


@st.composite
def tables(draw):
    """Any table of up to 4 x 4 cells with at least one example; about a cell in four is empty."""
    classes, groups = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 30, (classes, groups)) * (rng.random((classes, groups)) < 0.75)
    count[rng.integers(classes), rng.integers(groups)] += 1
    return Cells(rng.binomial(count, rng.random((classes, groups))), count)


# --- accuracy ----------------------------------------------------------------------------------------


def test_accuracy_is_the_share_of_rows_whose_largest_entry_is_the_label():
    outputs = np.array([[0.1, 0.9, -5], [3, 2, 1], [-1, -2, -0.5], [0, 1, 0]])
    assert metrics.correct(outputs, np.array([1, 0, 0, 1])).tolist() == [True, True, False, True]
    assert metrics.accuracy(outputs, np.array([1, 0, 0, 1])) == 0.75
    assert isinstance(metrics.accuracy(outputs, np.array([1, 0, 0, 1])), float)


def test_a_row_with_a_nan_is_wrong():
    # argmax would find the NaN, and call a network that diverged right about one class.
    assert metrics.accuracy(np.full((4, 2), np.nan), np.array([0, 0, 1, 1])) == 0


# --- the table ---------------------------------------------------------------------------------------


def test_cells_count_examples_by_class_and_group():
    labels, groups = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 2, 1, 1])
    table = metrics.cells(np.array([True, False, True, False, False]), labels, groups, 3, 3)
    assert table.count.tolist() == [[2, 0, 1], [0, 2, 0], [0, 0, 0]]
    assert table.correct.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert (table.count.dtype, table.correct.dtype) == (np.int64, np.int64)
    nan = np.nan
    np.testing.assert_array_equal(table.accuracy, [[0.5, nan, 1], [nan, 0, nan], [nan, nan, nan]])


def test_small_integer_codes_do_not_overflow():
    labels = np.full(3, 20, np.uint8)
    table = metrics.cells(np.ones(3, bool), labels, np.full(3, 30, np.uint8), 21, 40)
    assert table.count[20, 30] == table.count.sum() == 3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels": np.array([0, 2])}, "labels hold 2: they must lie in 0..1"),
        ({"groups": np.array([0, 3])}, "groups hold 3: they must lie in 0..2"),
        ({"groups": np.array([-1, 0])}, "groups hold -1: code them from 0"),
        ({"groups": np.array([0])}, r"groups have shape \(1,\) for 2 examples"),
        ({"labels": np.array([0.0, 1.0])}, "labels are float64: give integers"),
        ({"correct": np.array([1, 0])}, "correct is int64: give a bool an example"),
        ({"correct": np.zeros(0, bool)}, "there are 0 examples"),
    ],
)
def test_cells_name_what_does_not_fit(change, message):
    good = {"correct": np.array([True, False]), "labels": np.array([0, 1]), "groups": np.array([2, 0])}
    assert metrics.cells(**good, classes=2, groups_count=3).count.sum() == 2
    with pytest.raises(InputError, match=message):
        metrics.cells(**good | change, classes=2, groups_count=3)


# --- statistics of a table ---------------------------------------------------------------------------


def test_average_weighs_cells_by_their_examples():
    assert metrics.average(TABLE) == 19 / 40


def test_worst_cell_is_never_an_empty_one():
    assert metrics.worst(TABLE) == 0
    assert metrics.worst_cell(TABLE) == (1, 1)
    right = Cells(np.array([[0, 3], [2, 1]]), np.array([[0, 3], [4, 2]]))
    assert metrics.worst(right) == 0.5
    # Of two equals the first.
    assert metrics.worst_cell(right) == (1, 0)


def test_adjusted_weighs_cells_by_the_training_set():
    train = np.array([[6, 2, 100], [0, 4, 8]])
    # The 100 training examples of the cell that the test set lacks count for nothing.
    expected = (6 * 0.9 + 2 * 0.25 + 4 * 0 + 8 * 0.25) / 20
    assert metrics.adjusted(TABLE, train) == pytest.approx(expected)


def test_adjusted_names_counts_that_do_not_fit():
    with pytest.raises(InputError, match=r"train_count has shape \(3, 2\): the test cells have \(2, 3\)"):
        metrics.adjusted(TABLE, np.ones((3, 2), int))
    with pytest.raises(InputError, match="smallest of train_count is -2: it must be at least 0"):
        metrics.adjusted(TABLE, np.array([[1, 1, 1], [1, -2, 1]]))
    with pytest.raises(InputError, match="train_count is 0 in every cell that has test examples"):
        metrics.adjusted(TABLE, np.array([[0, 0, 5], [0, 0, 0]]))


def test_deo_is_the_spread_over_groups_within_a_class():
    largest, mean = metrics.deo(TABLE)
    assert largest == 1
    assert mean == pytest.approx((0.65 + 1) / 2)


def test_deo_leaves_out_classes_without_two_groups():
    table = Cells(np.array([[5, 0], [3, 1], [0, 0]]), np.array([[10, 0], [4, 4], [0, 0]]))
    assert metrics.deo(table) == (0.5, 0.5)
    assert metrics.deo(Cells(*(part[:1] for part in table))) == (0, 0)
    assert metrics.deo(Cells(*(part[:, :1] for part in table))) == (0, 0)


@pytest.mark.parametrize(
    "tau, expected",
    [
        # Of 40 examples: 2 at error 1, 24 at 0.75 (two cells), 10 at 0.1, 4 at 0.
        (0.025, 1.0),
        (0.05, 1.0),
        (0.1, (2 + 2 * 0.75) / 4),
        (0.65, (2 + 24 * 0.75) / 26),
        (0.8, (2 + 24 * 0.75 + 6 * 0.1) / 32),
        (1.0, 21 / 40),
    ],
)
def test_cvar_error_takes_the_worst_cells_and_of_the_last_a_fraction(tau, expected):
    assert metrics.cvar_error(TABLE, tau) == pytest.approx(expected)


@pytest.mark.parametrize("tau", [0.0, -0.5, 1.5, float("nan")])
def test_cvar_error_refuses_a_mass_that_is_none(tau):
    with pytest.raises(InputError, match=rf"tau is {tau}: the tail mass must lie in \(0, 1\]"):
        metrics.cvar_error(TABLE, tau)


@given(tables())
@fuzzed
def test_metrics_keep_their_order_and_range(table):
    worst, average, best = metrics.worst(table), metrics.average(table), np.nanmax(table.accuracy)
    assert 0 <= worst <= average + 1e-12
    assert average <= best + 1e-12
    assert table.accuracy[metrics.worst_cell(table)] == worst
    largest, mean = metrics.deo(table)
    assert 0 <= mean <= largest + 1e-12
    assert largest <= best - worst + 1e-12


@given(tables(), st.integers(1, 9))
@fuzzed
def test_adjusted_is_the_average_where_training_and_test_are_alike(table, factor):
    assert metrics.adjusted(table, factor * table.count) == pytest.approx(metrics.average(table))


@given(tables(), st.lists(st.floats(1e-6, 1), min_size=2, max_size=5))
@fuzzed
def test_cvar_error_falls_from_the_worst_to_the_average(table, masses):
    assert metrics.cvar_error(table, 1.0) == pytest.approx(1 - metrics.average(table))
    assert metrics.cvar_error(table, 1e-6) == pytest.approx(1 - metrics.worst(table))
    errors = [metrics.cvar_error(table, tau) for tau in sorted(masses)]
    assert all(after <= before + 1e-9 for before, after in pairwise(errors))


@given(st.lists(tables(), min_size=2, max_size=4))
@fuzzed
def test_a_stack_has_the_figures_of_its_tables(some):
    some = [one for one in some if one.count.shape == some[0].count.shape]
    stack = Cells(*(np.stack(counts) for counts in zip(*some, strict=True)))
    of = {**STATISTICS, "deo_m": lambda table: metrics.deo(table)[0], "adjusted": adjusted_by_ones}
    for statistic in of.values():
        np.testing.assert_allclose(statistic(stack), [statistic(one) for one in some], rtol=1e-12)
    # And as deep as it may be.
    assert np.shape(metrics.worst(Cells(*(np.stack([counts, counts]) for counts in stack)))) == (2, len(some))


def adjusted_by_ones(table):
    return metrics.adjusted(table, np.ones(table.count.shape[-2:], int))


# --- bootstrap ---------------------------------------------------------------------------------------


@given(tables())
@settings(fuzzed, max_examples=20)
def test_bootstrap_of_the_average_contains_the_average(table):
    low, high = metrics.bootstrap(table, metrics.average, draws=300)
    assert 0 <= low <= metrics.average(table) <= high <= 1


def test_bootstrap_resamples_examples_within_their_cells():
    # The same, the long way: draw every cell's examples with replacement.
    rng = np.random.default_rng(1)
    averages = []
    for _ in range(4000):
        right = sum(
            rng.choice(np.arange(n) < k, n).sum()
            for k, n in zip(TABLE.correct.flat, TABLE.count.flat, strict=True)
            if n
        )
        averages.append(right / 40)
    found = metrics.bootstrap(TABLE, metrics.average, draws=4000, level=0.8)
    np.testing.assert_allclose(found, np.quantile(averages, [0.1, 0.9]), atol=0.026)  # an example is 0.025
    # Cells that are all right and all wrong do not vary, so the worst stays what it is.
    assert metrics.bootstrap(TABLE, metrics.worst) == (0, 0)


def test_bootstrap_narrows_with_the_examples_and_the_level():
    def width(times, level=0.95):
        low, high = metrics.bootstrap(Cells(times * TABLE.correct, times * TABLE.count), metrics.average, level=level)
        return high - low

    # As 1 / sqrt(n).
    assert width(100) == pytest.approx(width(1) / 10, rel=0.2)
    # Normal quantiles: 1.96 against 0.674.
    assert width(100, 0.5) == pytest.approx(width(100) * 0.674 / 1.96, rel=0.15)


@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
def test_bootstrap_takes_any_statistic_and_repeats_with_the_seed(statistic):
    table = Cells(np.array([[6, 5], [3, 0]]), np.array([[10, 12], [9, 0]]))
    low, high = metrics.bootstrap(table, statistic, draws=200, seed=3)
    assert low < high
    assert metrics.bootstrap(table, statistic, draws=200, seed=3) == (low, high)
    assert metrics.bootstrap(table, statistic, draws=200, seed=4) != (low, high)


def test_bootstrap_refuses_what_gives_no_interval():
    with pytest.raises(InputError, match="draws is 0: it must be at least 1"):
        metrics.bootstrap(TABLE, metrics.average, draws=0)
    with pytest.raises(InputError, match=r"level is 95\.0: the coverage"):
        metrics.bootstrap(TABLE, metrics.average, level=95.0)


# --- clusters ----------------------------------------------------------------------------------------


def test_cluster_accuracies():
    found = metrics.cluster_accuracies(np.array([True, True, False, True]), np.array([0, 3, 3, 1]), 4)
    np.testing.assert_array_equal(found, [1, 1, np.nan, 0.5])


def test_cluster_accuracies_name_a_cluster_out_of_range():
    with pytest.raises(InputError, match=r"cluster hold 4: they must lie in 0\.\.3"):
        metrics.cluster_accuracies(np.array([True]), np.array([4]), 4)


# --- groups ------------------------------------------------------------------------------------------


def examples(count):
    """``(labels, groups)`` with ``count [C, G]`` examples a cell."""
    labels, groups = np.indices(np.shape(count))
    return np.repeat(labels.ravel(), np.ravel(count)), np.repeat(groups.ravel(), np.ravel(count))


@pytest.mark.parametrize(
    "count, rare",
    [
        # An even share is 10: 4 is less than half of it, 5 is not.
        ([[26, 4], [15, 15]], [[False, True], [False, False]]),
        ([[15, 5], [16, 4]], [[False, False], [False, True]]),
        # Groups that a class lacks do not lower the share: of 12 in two groups half a share is 3.
        ([[10, 2, 0], [4, 4, 4]], [[False, True, False], [False, False, False]]),
        ([[5], [1]], [[False], [False]]),
    ],
)
def test_minority_holds_less_than_half_of_an_even_share(count, rare):
    labels, groups = examples(count)
    np.testing.assert_array_equal(metrics.minority(labels, groups), np.array(rare)[labels, groups])


def test_perfect_groups_match_whatever_they_are_called():
    labels, groups = examples([[90, 10], [8, 70]])
    # Numbered within the class, across classes, and with the codes of one class exchanged.
    for found in (groups, 2 * labels + groups - 5, np.where(labels == 0, groups, 1 - groups)):
        scores = metrics.group_match(found, labels, groups)
        assert list(scores.values()) == pytest.approx([1, 1, 1, 1])


def test_random_groups_match_by_chance_only():
    labels, groups = examples([[900, 100], [100, 900]])
    found = np.random.default_rng(0).integers(0, 3, 2000)
    scores = metrics.group_match(found, labels, groups)
    assert abs(scores["adjusted_mutual_information_within_class"]) < 0.01
    # The classes alone are worth this much, which is why there is the other.
    assert scores["adjusted_mutual_information"] > 0.3
    assert scores["minority_recall"] == 0
    assert np.isnan(scores["minority_precision"])


def test_group_match_by_hand():
    labels, groups = examples([[8, 2], [1, 7]])
    # Class 0: found 1 holds one majority and both minority examples. Class 1: the only minority example sits with one
    # of the majority, which is half and no majority.
    found = np.array([0] * 7 + [1] * 3 + [0] * 2 + [1] * 6)
    scores = metrics.group_match(found, labels, groups)
    assert scores["minority_recall"] == pytest.approx(2 / 3)
    assert scores["minority_precision"] == pytest.approx(2 / 3)
    within = [adjusted_mutual_info_score(groups[part], found[part]) for part in (slice(10), slice(10, 18))]
    assert scores["adjusted_mutual_information_within_class"] == pytest.approx(np.mean(within))
    pairs = adjusted_mutual_info_score(2 * labels + groups, 2 * labels + found)
    assert scores["adjusted_mutual_information"] == pytest.approx(pairs)


def test_without_a_minority_there_is_nothing_to_recall():
    labels, groups = examples([[5, 5]])
    scores = metrics.group_match(groups, labels, groups)
    assert np.isnan([scores["minority_recall"], scores["minority_precision"]]).all()
    assert scores["adjusted_mutual_information"] == pytest.approx(1)


def test_a_class_of_one_group_should_be_left_whole():
    labels, groups = examples([[6]])
    name = "adjusted_mutual_information_within_class"
    assert metrics.group_match(np.zeros(6, int), labels, groups)[name] == 1
    assert metrics.group_match(np.arange(6) % 2, labels, groups)[name] == 0


def test_groups_of_another_length_are_named():
    labels, groups = examples([[3, 1]])
    with pytest.raises(InputError, match=r"groups have shape \(3,\) for 4 examples"):
        metrics.minority(labels, groups[1:])
    with pytest.raises(InputError, match=r"labels have shape \(4,\) for 3 examples"):
        metrics.group_match(groups[1:], labels, groups)
