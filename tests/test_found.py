"""``rdd groups``: what is found is written, told and shown; and ``--grouping FILE``, which takes it back."""

import importlib
import json
import re
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from rdd_jax.app import finding, found_page
from rdd_jax.app.cli import main
from rdd_jax.app.grouped import Grouped
from rdd_jax.app.looks import LARGE, TRAITS, set_apart, traits
from rdd_jax.app.report import looked_at, matched
from rdd_jax.app.sections import GroupOptions
from rdd_jax.arrays import read_npz
from rdd_jax.datasets import load, prepare
from rdd_jax.grouping import Grouping, kmeans, texture
from rdd_jax.types import Data, Groups

SHIFT = ["digits", "--shift", "rare-invert"]
discovering = importlib.import_module("rdd_jax.grouping.discovered")  # the package has a function of that name


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of groups, and what was shown of it."""
    import contextlib
    import io

    out = tmp_path_factory.mktemp("found") / "new" / "groups"
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.MonkeyPatch.context() as patch:
        # Without networks, which take long.
        patch.setattr(discovering, "views", lambda: {"kmeans:texture": kmeans(texture())})
        patch.setattr("rdd_jax.grouping.rehearsal.STEPS", 40)
        assert main(["groups", *SHIFT, "--out", str(out)]) == 0
    return out, shown.getvalue()


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


# --- what is written ---------------------------------------------------------------------------------


def test_a_folder_of_groups_is_complete_and_consistent(made):
    out, _ = made
    assert {path.name for path in out.iterdir()} == {"groups.npz", "groups.png", "report.html", "report.json"}
    arrays, values = read_npz(out / "groups.npz"), report_of(out)
    n = len(arrays["labels"])
    assert {key: arrays[key].shape for key in ("codes", "cells", "losses")} == {
        "codes": (n,), "cells": (n,), "losses": (n,)
    }  # fmt: skip
    assert arrays["codes"].dtype == arrays["cells"].dtype == np.int32
    assert arrays["class_names"].tolist() == [str(c) for c in range(10)]
    # A cell is a class and a code.
    pairs = set(zip(arrays["labels"].tolist(), arrays["codes"].tolist(), strict=True))
    assert len(pairs) == len(set(arrays["cells"].tolist())) == values["found_groups"]["groups"] == len(values["cells"])
    for row in values["cells"]:
        own = np.flatnonzero((arrays["labels"] == int(row["class"])) & (arrays["codes"] == row["group"]))
        assert row["size"] == len(own)
        assert row["share"] == pytest.approx(len(own) / np.sum(arrays["labels"] == int(row["class"])))
        assert row["loss"] == pytest.approx(arrays["losses"][own].mean(), rel=1e-4)
        assert set(row["typical"]) | set(row["wrong"]) <= set(own.tolist())
        assert len(row["typical"]) == len(row["wrong"]) == min(len(own), finding.EXAMPLES)
        assert row["wrong"][0] == own[arrays["losses"][own].argmax()]
    sizes = [row["size"] for row in values["cells"]]
    assert sizes == sorted(sizes, reverse=True)
    assert values["config"]["data"]["shift"] == "rare-invert"


def test_what_was_hidden_is_found_and_told(made):
    values = report_of(made[0])
    match = values["found_groups"]["match"]
    assert match["minority_recall"] > 0.7
    assert match["minority_precision"] > 0.9
    inverted = [row for row in values["cells"] if row["truth"]["group"] == "invert" and row["size"] >= 5]
    assert len(inverted) >= 5
    told = [one["word"] for row in inverted for one in row["looks"]]
    assert {"brighter", "brighter edge"} <= set(told)
    plain = [row for row in values["cells"] if row["truth"]["group"] == "plain" and row["size"] > 100]
    assert np.mean([row["loss"] for row in inverted]) > 1.5 * np.mean([row["loss"] for row in plain])


def test_the_page_holds_all_that_it_shows(made):
    page = (made[0] / "report.html").read_text()
    values = report_of(made[0])
    sources = re.findall(r"src='([^']{0,30})", page)
    assert len(sources) == 2 * len(values["cells"])
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page
    assert page.count("class='hardest'") == 3
    assert "What was looked at" in page


def test_the_table_fits_a_narrow_terminal_and_says_what_is_left(made):
    _, shown = made
    lines = [line for line in shown.splitlines() if "│" in line or "┃" in line]
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if re.match(r"│ \d / \d+", line)]
    assert len(rows) == min(20, len(report_of(made[0])["cells"]))
    assert sum(" * " in row for row in rows) == 3
    sizes = [int(row.split("│")[2]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    left = len(report_of(made[0])["cells"]) - 20
    assert (f"{left} smaller groups are in the report" in shown) == (left > 0)
    assert "of the minority examples of train lie in groups that are mostly minority" in shown


def test_the_picture_has_a_row_a_cell(made):
    with Image.open(made[0] / "groups.png") as picture:
        assert picture.height > 20 * 25


# --- taking it back ----------------------------------------------------------------------------------


def test_found_groups_are_taken_back_as_they_were(made, tmp_path, monkeypatch):
    out, _ = made
    monkeypatch.chdir(out.parent)  # a path that is not absolute
    words = ["distill", "kip", "--data", *SHIFT, "--grouping", "groups/groups.npz", "--ipc", "1", "--steps", "2"]
    assert main([*words, "--batch", "100", "--seeds", "1", "--no-baselines", "--out", str(tmp_path / "run")]) == 0
    wanted, found = report_of(out)["found_groups"], report_of(tmp_path / "run")["found_groups"]
    assert found["grouping"] == str(out / "groups.npz")  # holds in any directory
    assert found["sizes"] == wanted["sizes"]
    assert found["match"] == wanted["match"]
    assert found["weight"] == wanted["weight"]
    assert found["weight"]["largest"] > 1.5


def test_a_file_stands_in_a_product(made, tmp_path):
    out, _ = made
    prepared = prepare(load("digits"), "standardise")
    grouped = Grouped(GroupOptions(f"{out / 'groups.npz'}+class"), 0, prepared)
    grouped.fit(0)
    np.testing.assert_array_equal(grouped.groups % (grouped.count // 10), read_npz(out / "groups.npz")["codes"])


def test_groups_of_other_examples_are_refused_before_computing(made, tmp_path, capsys, monkeypatch):
    out, _ = made
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rdd_jax.app.distilling.prepare", None)
    arrays = read_npz(out / "groups.npz")
    n = len(arrays["codes"])
    np.savez("short.npz", codes=arrays["codes"][1:])
    np.savez("other.npz", codes=arrays["codes"], labels=np.roll(arrays["labels"], 1))
    for file, message in (
        ("short.npz", f"are {n - 1}, but there are {n} training examples: give one for each"),
        ("other.npz", "made for examples of other classes"),
        ("kmeans+short.npz", f"are {n - 1}, but there are {n} training examples"),
    ):
        assert main(["distill", "kip", "--data", *SHIFT, "--grouping", file]) == 2
        assert message in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"short.npz", "other.npz"}


def test_what_exists_is_never_overwritten(made, capsys):
    before = (made[0] / "report.json").read_bytes()
    assert main(["groups", *SHIFT, "--out", str(made[0])]) == 2
    assert "exists" in capsys.readouterr().err
    assert (made[0] / "report.json").read_bytes() == before


# --- how cells are told ------------------------------------------------------------------------------


def measured(cell, loss, taken, n=12):
    points = np.arange(n, dtype=np.float32)[:, None]
    return finding._Measured(cell, loss, taken, points, np.zeros((n, len(TRAITS)), np.float32))


def test_cells_by_hand():
    labels = np.repeat([0, 1], 6).astype(np.int32)
    data = Data(np.zeros((12, 2, 2, 1), np.uint8), labels, ("a", "b"), labels * 0, ("only",))
    cell = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2], np.int32)
    loss = np.array([0.1, 0.2, 0.1, 0.4, 0.9, 0.7, 0, 0, 0, 0, 0, 0.6], np.float32)
    taken = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0])
    rows = finding._cells(measured(cell, loss, taken), data, 2)
    assert [(row["class"], row["group"], row["size"], row["share"]) for row in rows] == [
        ("b", 0, 6, 1.0), ("a", 0, 4, 4 / 6), ("a", 1, 2, 2 / 6)
    ]  # fmt: skip
    b, most, rare = rows
    assert rare["taken_for"] == {"class": "b", "share": 1.0}
    assert most["taken_for"] is None  # the rest of the class is taken for b more often
    assert b["taken_for"] is None  # a sixth of it only
    assert (most["accuracy"], rare["accuracy"]) == (0.75, 0.0)
    assert most["loss"] == pytest.approx(0.2)
    assert most["typical"][:2] == [1, 2]
    assert b["wrong"][0] == 11
    assert b["truth"] == {"group": "only", "share": 1.0}
    assert [row["hardest"] for row in rows] == [True, False, False]  # the others have few examples


def row(name, size, hardest=False, loss=0.5):
    return {
        "class": name, "group": 0, "size": size, "share": 0.5, "loss": loss, "accuracy": 0.5, "taken_for": None,
        "looks": [], "typical": [0], "wrong": [0], "hardest": hardest,
    }  # fmt: skip


def test_the_hardest_are_shown_however_small():
    cells = [row(str(i), 100 - i, hardest=i == 50) for i in range(60)]
    shown = found_page.shown(cells, 5)
    assert [one["class"] for one in shown] == ["0", "1", "2", "3", "50"]
    assert len(found_page.shown(cells, 100)) == 60


def test_long_names_and_many_words_stay_short():
    words = {"taken_for": {"class": "n" * 60, "share": 0.5}, "looks": [{"word": "sharper", "deviations": 30.0}]}
    values = {"cells": [row("m" * 60, 5) | words]}
    _, ((name, *_, told),) = found_page.table(values)
    assert max(len(name), len(told)) <= 40
    assert found_page._apart(values["cells"][0]) == [f"taken for {'n' * 60} (50 %)", "sharper (over 10 sd)"]


@pytest.mark.parametrize("side, form", [(8, "png"), (200, "jpeg")])
@pytest.mark.parametrize("channels", [1, 3])
def test_strips_are_images_side_by_side_and_not_large(side, form, channels):
    import base64
    import io

    images = np.random.default_rng(0).integers(0, 256, (3, side, side, channels), dtype=np.uint8)
    head, _, body = found_page._strip(images).partition(",")
    assert head == f"data:image/{form};base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as strip:
        assert strip.size == (3 * min(side, 96) + 2, min(side, 96))
        if form == "png":
            np.testing.assert_array_equal(np.asarray(strip)[:, :side].reshape(images[0].shape), images[0])


# --- what gave a group away --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda x: np.clip(x + 0.3, 0, 1), "brighter"),
        (lambda x: np.clip(x - 0.3, 0, 1), "darker"),
        (lambda x: 0.5 + (x - 0.5) * 0.2, "flatter"),
        (lambda x: x * np.array([1.0, 0.6, 0.6]), "redder"),
        (lambda x: x.mean(3, keepdims=True).repeat(3, 3), "greyer"),
        (lambda x: x + np.where(np.indices(x.shape)[1:3].sum(0) % 2, 0.2, -0.2), "sharper"),
    ],
)
def test_what_sets_images_apart_is_named(change, word):
    rng = np.random.default_rng(0)
    base = np.kron(rng.random((80, 4, 4, 3)), np.ones((1, 3, 3, 1))) * 0.5 + 0.25
    inside = np.arange(80) < 20
    base[inside] = change(base[inside])
    found = set_apart(traits(np.clip(base, 0, 1).astype(np.float32)), inside, most=3)
    assert word in [name for name, _ in found]
    assert all(far >= LARGE for _, far in found)
    assert [far for _, far in found] == sorted((far for _, far in found), reverse=True)


def test_where_nothing_differs_nothing_is_named():
    found = np.random.default_rng(0).normal(size=(400, len(TRAITS))).astype(np.float32)
    assert set_apart(found, np.arange(400) < 100) == []
    assert set_apart(found, np.ones(400, bool)) == []
    assert set_apart(np.ones_like(found), np.arange(400) < 100) == []


def test_traits_are_of_pixels_whatever_their_type_and_in_any_block(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), dtype=np.uint8)
    whole = traits(images)
    np.testing.assert_allclose(traits(images / np.float32(255)), whole, atol=1e-6)
    monkeypatch.setattr("rdd_jax.app.looks.BLOCK", 3)
    np.testing.assert_allclose(traits(images), whole, atol=1e-6)
    assert (traits(images[..., :1])[:, 4:] == 0).all()


# --- what was looked at ------------------------------------------------------------------------------


class Row(NamedTuple):
    view: str
    groups: int
    recall_gain: float
    chosen: bool


def test_the_evidence_of_a_grouping_is_kept_and_shown():
    prepared = prepare(load("digits"), "standardise")
    grouped = Grouped(GroupOptions("class"), 0, prepared)

    class Told(Groups):
        evidence = (Row("<texture>", 3, np.float32(0.125), True), Row("pixels", np.int64(1), float("nan"), False))

    found = Told(np.zeros(len(prepared.train), np.int32), 1)
    grouped.grouping = Grouping(lambda seed, subject: found)
    grouped.fit(0)
    described = grouped.described()
    told = json.loads(json.dumps(described, allow_nan=False))["evidence"]
    assert told[0] == {"view": "<texture>", "groups": 3, "recall_gain": 0.125, "chosen": True}
    assert told[1]["recall_gain"] is None
    page = looked_at(told)
    assert "<h2>What was looked at</h2>" in page
    assert "<th>recall gain</th>" in page
    assert "<td>&lt;texture&gt;</td><td class='number'>3</td><td class='number'>0.125</td><td>yes</td>" in page
    assert "<td>-</td><td>no</td>" in page
    assert looked_at([]) == ""


def test_recall_and_precision_are_said_together():
    match = {"minority_recall": 0.5, "adjusted_mutual_information_within_class": 0.25}
    assert "50 % of the minority examples" in matched(match)
    assert "those groups" not in matched(match)
    assert "mostly minority, and 75 % of those groups are minority (" in matched(match | {"minority_precision": 0.75})
    assert matched({}) == ""
