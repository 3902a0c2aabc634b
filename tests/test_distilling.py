"""Runs in this process: groups that move while the set is learned."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest

from rdd_jax.app import comparing, evaluating, pieces
from rdd_jax.app.checkpoint import Checkpoints
from rdd_jax.app.cli import main
from rdd_jax.app.distilling import distill
from rdd_jax.app.grouped import Grouped
from rdd_jax.app.methods import configured
from rdd_jax.app.run_folder import Run
from rdd_jax.app.stepping import Steps
from rdd_jax.datasets import load
from rdd_jax.datasets.preprocess import prepare
from rdd_jax.distill import Distiller
from rdd_jax.grouping import Grouping, Groups
from rdd_jax.networks.recipes import Recipe
from rdd_jax.types import Data

pytestmark = pytest.mark.usefixtures("quick_certificate")

discovering = importlib.import_module("rdd_jax.grouping.discovered")  # the package has a function of that name

CONFIG = configured(
    "kip",
    ipc=1,
    steps=40,
    batch=100,
    seeds=1,
    baselines=False,
    checkpoint_every=10,
    grouping="kmeans",
    soft_groups=1.0,
    refit_every=15,
    across="mean+max",
    sampler="group",
)


def note_fits(patch):
    """Groups drawn at random, another number of them at every fit; the arguments of every fit are noted."""
    noted = []

    def fit(seed, subject):
        size = 2 + seed % 7
        noted.append((seed, size, subject.synthetic))
        return Groups(np.random.default_rng(seed).integers(0, size, len(subject.labels)).astype(np.int32), size)

    patch.setattr(pieces, "grouping_of", lambda options, images: Grouping(fit, moves=True))
    return noted


def note_counts(patch):
    """The numbers of groups of the data between two fits."""
    noted, run = [], Distiller.run

    def counted(self, key, state, data, *rest):
        noted.append(data.group_count)
        return run(self, key, state, data, *rest)

    patch.setattr(Distiller, "run", counted)
    return noted


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was not stopped, the fits of its groups, and the numbers of groups."""
    with pytest.MonkeyPatch.context() as patch:
        fits, counts = note_fits(patch), note_counts(patch)
        return distill(CONFIG, tmp_path_factory.mktemp("whole") / "run"), fits, counts


@pytest.mark.slow
def test_groups_are_fitted_again_as_the_set_moves(whole):
    whole, fits, counts = whole
    # Before steps 1, 16 and 31, each time with a seed of its own and the set as it then was.
    assert len(fits) == 3
    seeds, sizes, sets = zip(*fits, strict=True)
    assert len(set(seeds)) == len(set(sizes)) == 3
    assert np.abs(sets[1].images - sets[0].images).max() > 1e-2
    assert np.abs(sets[2].images - sets[1].images).max() > 1e-2
    # The risk is over all groups that there then are; one that can hold more of them stays.
    assert counts == (10 * np.maximum.accumulate(sizes)).tolist()
    found = whole.report["found_groups"]
    assert found["groups"] == 10 * sizes[2]
    assert sum(map(sum, found["sizes"])) == 1295


@pytest.mark.slow
@pytest.mark.parametrize("at", [20, 30])
def test_a_run_stopped_between_fits_resumes_to_the_same_bytes(at, whole, stop_at, monkeypatch, tmp_path):
    """Fits are before steps 16 and 31: the one checkpoint lies between them, the other at the second."""
    (whole, _, of_whole), stopped = whole, Run(tmp_path / "stopped")
    note_fits(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        distill(CONFIG, stopped.folder, progress=stop_at(at))
    counts = note_counts(monkeypatch)
    resumed = distill(stopped.config(), stopped.folder, resume=True)
    assert counts == of_whole[at // 15 :]  # the checkpoint knows how many there were
    assert resumed.report["found_groups"] == whole.report["found_groups"]
    assert (stopped.folder / "synthetic.npz").read_bytes() == (whole.run.folder / "synthetic.npz").read_bytes()
    assert [row["step"] for row in stopped.metrics() if "loss" in row] == list(range(1, 41))


@pytest.mark.slow
def test_a_grouping_that_does_not_move_is_fitted_once(tmp_path, monkeypatch):
    noted = []

    def fit(seed, subject):
        noted.append(seed)
        return Groups(np.zeros(len(subject.labels), np.int32), 1)

    monkeypatch.setattr(pieces, "grouping_of", lambda options, images: Grouping(fit))
    report = distill(CONFIG, tmp_path / "run").report
    assert len(noted) == 1
    assert report["found_groups"]["groups"] == 10


VALIDATED = {10: 0.5, 20: 0.8, 30: 0.8, 40: 0.7}


@pytest.mark.slow
@pytest.mark.parametrize("at", [None, 30])
def test_the_best_on_validation_is_kept_however_often_the_run_is_stopped(at, stop_at, tmp_path, monkeypatch):
    monkeypatch.setattr(Steps, "_validate", lambda steps, state: VALIDATED.get(int(state.step), 0.1))
    plain = configured(CONFIG, grouping="none", across="mean", sampler="uniform")
    config, out = configured(plain, keep="best"), tmp_path / "run"
    if at is not None:
        with pytest.raises(KeyboardInterrupt):
            distill(config, out, progress=stop_at(at))
    outcome = distill(config, out, resume=at is not None)
    assert outcome.report["best"] == {"step": 20, "validation_accuracy": 0.8}
    distill(configured(plain, steps=20), tmp_path / "twenty")
    assert (out / "synthetic.npz").read_bytes() == (tmp_path / "twenty" / "synthetic.npz").read_bytes()
    assert "that of step 20, which was the best on validation: 80.0 %" in (out / "report.html").read_text()


def test_the_best_is_kept_before_the_checkpoint(tmp_path, monkeypatch):
    """A kill between the two must not lose it."""
    order, save = [], Checkpoints.save

    def noted(checkpoints, saved):
        order.append((checkpoints.folder.name, int(saved.state.step)))
        save(checkpoints, saved)

    monkeypatch.setattr(Checkpoints, "save", noted)
    distill(
        configured(CONFIG, grouping="none", across="mean", sampler="uniform", steps=10, keep="best"), tmp_path / "run"
    )
    assert order == [("best", 10), ("checkpoints", 10)]


ODD = ["$x^$", "[/x] <b>&", "a\\b_c'\"", "\N{GRINNING FACE}" + "long" * 100]


@pytest.mark.slow
def test_odd_names_and_groups_that_train_has_none_of_pass_through_a_run(tmp_path, capsys):
    rng, labels = np.random.default_rng(0), np.arange(80) % 2
    images = rng.integers(0, 120, (80, 6, 6, 1), dtype=np.uint8)
    images[labels == 1, 3] += 100
    groups = np.zeros(80, int)
    tested = {"test_images": images[:40], "test_labels": labels[:40], "test_groups": groups[:40] + 1}
    names = {"class_names": np.array(ODD[:2]), "group_names": np.array(ODD[2:])}
    file, out = tmp_path / "[b]$_^$.npz", tmp_path / "$x^$ <b>&"
    np.savez(file, images=images, labels=labels, groups=groups, **tested, **names)
    config = configured(CONFIG, data=str(file), ipc=2, steps=4, batch=40, grouping="labels", soft_groups=0.0)
    assert "adjusted" not in {e["metric"] for e in distill(config, out).report["evaluations"]}
    (out / "report.json").unlink()
    assert main(["distill", "--resume", str(out)]) == 0
    said = capsys.readouterr()
    assert f"│ {'synthetic':9} │" in said.out
    assert "Traceback" not in said.err
    page = (out / "report.html").read_text()
    assert ODD[0] in page
    assert "[/x] &lt;b&gt;&amp;" in page


def test_a_folder_whose_checkpoints_could_not_be_read_is_refused(tmp_path, capsys):
    assert main(["distill", "kip", "--out", str(tmp_path / "[a]" / "run")]) == 2
    assert "with '[' in its name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


BESIDE = Recipe(depth=1, width=2, epochs=1)
"""In the place of DC's column: as quick as can be."""
TINY = {"ipc": 1, "seeds": 2, "checkpoint_every": 2, "steps": 2, "batch": 100}
LEARNERS = {"learners": "krr,convnet", "batch": 50}
RECIPE = "dc,width=4,depth=1,epochs=2"
EVALUATED = {
    "kip": configured("kip", **TINY, seed=3, shift="two-colours", corruptions="invert"),
    "multi-formation": configured(
        "dm",
        **TINY | LEARNERS,
        net_depth=1,
        net_width=4,
        siamese="none",
        parameterisation="multi-formation",
        recipe=f"{RECIPE},augment=crop,norm=batch",
    ),
    "averaged": configured("kip", **TINY | LEARNERS, recipe=f"{RECIPE},average=0.9", preprocess="zca", reg=1e-3),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", EVALUATED)
def test_evaluating_a_run_gives_the_figures_that_it_gave_itself(way, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluating, "column", lambda train: BESIDE)
    report = distill(EVALUATED[way], tmp_path / "run").report
    again = evaluating.evaluate(evaluating.of_run(str(tmp_path / "run")))
    by_own = [e for e in again["evaluations"] if e["learner"] != "convnet-1-2 by dc,epochs=1"]
    assert by_own == report["evaluations"]
    assert (by_own != again["evaluations"]) == ("convnet" in EVALUATED[way].evaluation.learners)
    assert {e["set"] for e in again["evaluations"]} > {"synthetic", "random"}


@pytest.mark.parametrize(
    "recipes, side, beside",
    [
        ([], 8, []),
        ([Recipe()], 8, []),
        ([Recipe("mlp")], 8, []),
        ([Recipe(epochs=7)], 8, [Recipe()]),
        ([Recipe("mlp", width=7)], 8, [Recipe()]),
        ([Recipe("mlp", width=7)], 64, [Recipe(depth=4)]),
        ([Recipe("mlp", width=7)], 1, []),
        ([Recipe(epochs=7), Recipe()], 8, []),
    ],
)
def test_the_column_of_every_table_stands_beside_other_recipes(recipes, side, beside):
    train = Data(np.zeros((2, side, side, 1), np.uint8), np.arange(2, dtype=np.int32), ("a", "b"))
    assert evaluating._beside(recipes, train) == beside


@pytest.mark.parametrize(
    "folders, names",
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["runs/fg/plain/0", "runs/fg/robust/0", "runs/fg/true/0"], ["plain", "robust", "true"]),
        (["a", "b"], ["a", "b"]),
        (["x/a/0", "y/a/0"], ["x", "y"]),
        (["runs", "runs/a"], ["runs", "runs/a"]),
        (["a/b/c", "a/b/b/c"], ["a/b/c", "a/b/b/c"]),
    ],
)
def test_compared_runs_are_named_by_what_differs(folders, names):
    assert comparing._distinct(folders) == names


# --- groups that call for no protection --------------------------------------------------------------


def look_with(patch, groups):
    """What `discovered` chooses is replaced; every grouping by name is it."""
    patch.setattr(pieces, "grouping_of", lambda options, images: Grouping(lambda seed, subject: groups, found=False))


ROBUST = configured("kip", ipc=1, steps=5, batch=100, seeds=1, baselines=False, checkpoint_every=5, robust=True)
SMALL = ["--ipc", "1", "--steps", "5", "--batch", "100", "--seeds", "1", "--no-baselines"]


@pytest.mark.slow
def test_where_nothing_is_discovered_a_robust_run_is_the_plain_one(tmp_path, monkeypatch):
    looks = []

    def fit(seed, subject):
        looks.append(subject)
        return Groups(np.zeros(len(subject.labels), np.int32), 1)

    monkeypatch.setattr(discovering, "views", lambda: {"kmeans:one": Grouping(fit)})
    for name, options in (("plain", []), ("robust", ["--robust"])):
        assert main(["distill", "kip", "--data", "digits", *SMALL, *options, "--out", str(tmp_path / name)]) == 0
    assert len(looks) == 1
    plain, robust = (np.load(tmp_path / name / "synthetic.npz") for name in ("plain", "robust"))
    assert robust["images"].tobytes() == plain["images"].tobytes()
    assert robust["labels"].tobytes() == plain["labels"].tobytes()
    saved = json.loads((tmp_path / "robust" / "config.json").read_text())
    assert saved["groups"]["grouping"] == "discovered"


def weighted(largest=9.0):
    """One group to be shown of 1,295 digits, of which a tenth count for more."""
    weight = np.where(np.random.default_rng(0).random(1295) < 0.1, largest, 1.0).astype(np.float32)
    return Groups(np.zeros(1295, np.int32), 1, weight=weight / weight.mean())


@pytest.mark.slow
def test_weights_that_groups_call_for_change_the_run_and_are_told(tmp_path, monkeypatch):
    images = {}
    for largest in (1.0, 9.0):
        look_with(monkeypatch, weighted(largest))
        images[largest] = distill(ROBUST, tmp_path / str(largest)).saved.synthetic.images
    look_with(monkeypatch, weighted(1.0))
    plain = distill(replace(ROBUST, groups=replace(ROBUST.groups, robust=False)), tmp_path / "plain")
    np.testing.assert_array_equal(images[1.0], plain.saved.synthetic.images)
    assert np.abs(images[9.0] - images[1.0]).max() > 1e-3
    told = json.loads((tmp_path / "9.0" / "report.json").read_text())["found_groups"]["weight"]
    w = weighted().weight.astype(float)
    assert told == pytest.approx({"least": w.min(), "largest": w.max(), "effective": 1 / (w**2).mean()}, rel=1e-5)


@pytest.mark.slow
def test_a_resumed_run_keeps_the_weights(stop_at, tmp_path, monkeypatch):
    look_with(monkeypatch, weighted())
    config = configured(ROBUST, steps=4, checkpoint_every=2)
    whole, stopped = distill(config, tmp_path / "whole"), Run(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        distill(config, stopped.folder, progress=stop_at(2))
    look_with(monkeypatch, weighted(2.0))  # what is looked at again differs a little: what was found first holds
    resumed = distill(stopped.config(), stopped.folder, resume=True)
    np.testing.assert_array_equal(resumed.saved.synthetic.images, whole.saved.synthetic.images)


@pytest.mark.slow
@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("largest", [None, 1.0, 9.0])
def test_weights_stand_for_groups_beside_classes_or_one_group(monkeypatch, by_class, largest):
    prepared = prepare(load("digits"), "standardise")
    options = configured("dm", robust=True).resolved(prepared.splits.train).groups
    look_with(monkeypatch, Groups(np.zeros(1295, np.int32), 1) if largest is None else weighted(largest))
    grouped = Grouped(options, 0, prepared, 1, by_class)
    grouped.fit(0)
    examples = grouped.applied(prepared.examples())
    by_classes = by_class or largest is None
    assert examples.group_count == (10 if by_classes else 1)
    np.testing.assert_array_equal(examples.groups, prepared.splits.train.labels * by_classes)
    if largest == 9.0:
        np.testing.assert_array_equal(examples.weight, weighted().weight)
    else:
        assert examples.weight is None
