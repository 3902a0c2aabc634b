"""The words and tables of a report, from its values alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax.app import reporting
from rdd_jax.app.report import render_html, sentences, table_rows
from rdd_jax.networks.recipes import Recipe
from rdd_jax.types import Synthetic, centred_one_hot

SET = Synthetic(jnp.zeros((2, 4, 4, 1)), centred_one_hot(np.arange(2), 2))


def line(set_name, metric, mean, seeds=(0,), learner="krr", **more):
    return {
        "set": set_name, "learner": learner, "metric": metric, "mean": mean, "std": 0.012, "seeds": list(seeds), **more
    }  # fmt: skip


WORST = {"interval": [0.25, 0.5], "where": {"class": "cat", "group": "grey", "size": 40}}
EVALUATIONS = [
    line("synthetic", "accuracy", 0.8123, interval=[0.8, 0.82]),
    line("synthetic", "worst_group", 0.375, **WORST),
    line("synthetic", "adjusted", 0.7, interval=[0.6, 0.8]),
    line("synthetic", "cluster_min", 0.6),
    line("synthetic", "accuracy:blur", 0.5),
    line("random", "accuracy", 0.5, seeds=(0, 1)),
    line("random", "worst_group", 0.1, seeds=(0, 1), **WORST),
    line("random", "adjusted", 0.4, seeds=(0, 1)),
]
INSIDE = {"outside": 0.01, "farthest": 2.0}
SECONDS = {"reading": 0.01, "distilling": 2.5, "whole": 95.0}
FOUND = {"grouping": "spurious", "groups": 20, "sizes": []}
MATCH = {"minority_recall": 0.934, "adjusted_mutual_information_within_class": 0.876}


def test_the_table_has_a_set_a_row_and_a_metric_a_column():
    header, rows = table_rows(EVALUATIONS)
    columns = ("accuracy", "worst group", "adjusted", "Cluster-min", "accuracy: blur")
    assert header == ["set", *(f"krr\n{name}, %" for name in columns)]
    assert rows == [
        ["synthetic", "81.2", "37.5", "70.0", "60.0", "50.0"],
        ["random", "50.0 ± 1.2", "10.0 ± 1.2", "40.0 ± 1.2", "", ""],
    ]


def test_the_short_table_keeps_the_main_metrics_and_corruptions():
    header, rows = table_rows(EVALUATIONS, short=True)
    assert header == [
        "set",
        *(f"krr\n{name}, %" for name in ("accuracy", "worst group", "Cluster-min", "accuracy: blur")),
    ]
    assert rows[0] == ["synthetic", "81.2", "37.5", "60.0", "50.0"]


def test_the_worst_group_of_the_synthetic_set_is_put_into_words():
    (said,) = sentences({"evaluations": EVALUATIONS, "pixels": INSIDE})
    assert "synthetic set under krr: class cat, grey (40 test examples): 37.5 %" in said
    assert "25.0 to 50.0" in said
    assert sentences({"evaluations": [line("synthetic", "accuracy", 0.8)], "pixels": INSIDE}) == []


def test_pixels_that_run_away_are_put_into_words():
    pixels = np.full((2, 5, 5, 1), 0.5, np.float32)
    pixels[0, 0, :, 0] = [-0.001, 1.0019, -0.25, 1.5, 1]
    found = reporting._beyond(pixels)
    assert found == {"outside": 0.04, "farthest": 0.5}
    (said,) = sentences({"evaluations": [], "pixels": found})
    assert said.startswith("4.0 % of the pixels of the synthetic set lie outside [0, 1], the farthest by 0.50")
    assert reporting._beyond(pixels[1:]) == {"outside": 0, "farthest": 0}


@pytest.mark.parametrize(
    "labels, words",
    [
        ("fixed", []),
        ("learned", ["numbers, learned with the images"]),
        ("solved", ["numbers that fit all training examples"]),
        ("soft", ["distributions over the classes", "it started with"]),
    ],
)
def test_the_notes_say_what_labels_there_are(labels, words):
    said = reporting.notes(labels, SET, [])
    assert len(said) == bool(words)
    assert all(word in said[0] for word in words)


ONE_HOT = ["one-hot labels at the largest entry"]
AS_THEY_ARE = ["labels as they are"]


@pytest.mark.parametrize(
    "scale, losses, words",
    [
        (1, [], []),
        (1, ["cross-entropy"], []),
        (3, ["cross-entropy"], ONE_HOT),
        (1, ["squared"], AS_THEY_ARE),
        (3, ["squared", "cross-entropy"], AS_THEY_ARE + ONE_HOT),
    ],
)
def test_the_notes_say_what_networks_make_of_labels(scale, losses, words):
    recipes = [Recipe(loss=loss) for loss in losses]
    said = reporting.notes("fixed", SET._replace(labels=scale * SET.labels), recipes)
    assert len(said) == len(words)
    assert all(word in one for word, one in zip(words, said, strict=True))


@pytest.mark.parametrize("match, words", [(MATCH, ("93 %", "0.88")), ({}, ()), (None, ())])
def test_what_was_found_is_put_into_words(match, words):
    found = FOUND if match is None else FOUND | {"match": match}
    (said,) = sentences({"evaluations": [], "found_groups": found, "pixels": INSIDE})
    assert said.startswith("Grouping spurious trained with 20 groups")
    assert all(word in said for word in words)
    assert ("minority" in said) == bool(match)


@pytest.mark.parametrize(
    "weight, words",
    [
        ({}, "20 groups."),
        ({"weight": {"least": 1.0, "largest": 1.0}}, "Nothing was worth protecting: all images count the same."),
        ({"weight": {"least": 0.514, "largest": 21.8}}, "images count 0.51 to 22 times as much as on average."),
    ],
)
def test_how_much_the_images_count_is_put_into_words(weight, words):
    (said,) = sentences({"evaluations": [], "found_groups": FOUND | weight, "pixels": INSIDE})
    assert said.endswith(words)


def report(**more):
    values = {
        "data": "pets, grey",
        "method": "kip (robust)",
        "ipc": 1,
        "steps": 2,
        "seconds": SECONDS,
        "pixels": INSIDE,
    }
    values |= {"peak_memory_bytes": 2**30, "device": "CPU", "evaluations": EVALUATIONS, "notes": ["<noted>"]}
    return values | more


def test_the_page_lists_every_cell_worst_first_and_leaves_out_empty_ones():
    cells = {"correct": [[3, 1], [4, 0]], "count": [[4, 4], [4, 0]]}
    subgroups = {
        "class_names": ["cat", "<dog>"],
        "group_names": ["colour", "grey"],
        "train_count": [[90, 11], [99, 0]],
        "test_count": [[4, 4], [4, 0]],
        "predictions": {"krr": {"synthetic": cells, "random": cells}},
    }
    page = render_html(report(subgroups=subgroups), "{}", {})
    row = "<tr>{}</tr>".format
    cell = "<td>{}</td>".format
    rows = [
        row("".join(map(cell, values)))
        for values in (
            ("cat", "grey", "11", "4", "25.0", "25.0"),
            ("cat", "colour", "90", "4", "75.0", "75.0"),
            ("&lt;dog&gt;", "colour", "99", "4", "100.0", "100.0"),
        )
    ]
    assert "".join(rows) in page
    assert "Worst group of the synthetic set" in page
    assert "&lt;noted&gt;" in page
    assert "<noted>" not in page
    assert "<td>time</td><td>1 min 35 s (distilling 2.5 s)</td>" in page


def test_a_page_without_groups_has_no_table_of_them():
    assert "every group" not in render_html(report(), "{}", {})
