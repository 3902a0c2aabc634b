"""The command line as a user has it: what it makes, and how it refuses."""

import json
import os
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax.app import evaluating
from rdd_jax.app.checkpoint import Checkpoints, Saved
from rdd_jax.app.cli import main
from rdd_jax.app.run_folder import Run
from rdd_jax.distill import compose
from rdd_jax.evaluation import rates
from rdd_jax.kernels import fc_ntk
from rdd_jax.networks.recipes import Recipe
from rdd_jax.objectives import kip
from rdd_jax.saving import load_set
from rdd_jax.types import Synthetic

pytestmark = pytest.mark.usefixtures("quick_certificate")

QUICK = {"data": "digits", "ipc": 1, "steps": 20, "batch": 200, "seeds": 2, "checkpoint-every": 10}


def distil(*arguments, method="kip"):
    """With `QUICK` options where no others are given."""
    quick = [word for name, value in QUICK.items() if f"--{name}" not in arguments for word in (f"--{name}", value)]
    return main(["distill", method, *map(str, [*quick, *arguments])])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert distil("--out", folder) == 0
    return folder


def read(file):
    return json.loads(file.read_text())


def accuracy(values, set_name="synthetic", learner="krr", metric="accuracy"):
    wanted = (set_name, learner, metric)
    found = [e for e in values["evaluations"] if (e["set"], e["learner"], e["metric"]) == wanted]
    assert len(found) == 1
    return found[0]


def metrics_of(values, set_name="synthetic"):
    return [e["metric"] for e in values["evaluations"] if e["set"] == set_name]


def test_a_run_folder_is_complete(finished):
    files = {path.name for path in finished.iterdir()}
    expected = {
        "config.json",
        "environment.json",
        "lock",
        "metrics.jsonl",
        "synthetic.npz",
        "images.png",
        "curves.png",
        "report.json",
    }
    assert files == expected | {"report.html", "checkpoints"}

    config = read(finished / "config.json")
    found = (config["method"], config["data"]["data"], config["set"]["ipc"], config["optimiser"]["lr"])
    assert found == ("kip", "digits", 1, 0.04)
    assert {"jax", "device", "rdd_jax", "data_fingerprint"} <= set(read(finished / "environment.json"))

    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 21))
    assert [row["step"] for row in rows if "validation_accuracy" in row] == [10, 20]
    assert all(row["gradient_norm"] > 0 for row in rows if "loss" in row)

    report = json.loads((finished / "report.json").read_text())
    assert {"data", "method", "ipc", "steps", "seconds", "peak_memory_bytes", "device"} <= set(report)
    assert {e["set"] for e in report["evaluations"]} == {"synthetic", "random", "kmeans", "herding"}
    # Without groups no metric of groups.
    assert {e["metric"] for e in report["evaluations"]} == {"accuracy", "cluster_min", "cluster_mean"}
    assert all(0 <= e["mean"] <= 1 for e in report["evaluations"])
    assert not {"subgroups", "found_groups"} & set(report)
    stages = ["reading", "selecting", "grouping", "distilling", "evaluating", "reporting", "whole"]
    assert list(report["seconds"]) == stages
    assert min(report["seconds"].values()) >= 0
    assert accuracy(report, "random")["seeds"] == [0, 1]
    assert accuracy(report)["mean"] > accuracy(report, "random")["mean"]

    html = (finished / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 2
    assert "http" not in html
    for picture in ("images.png", "curves.png"):
        assert (finished / picture).read_bytes().startswith(b"\x89PNG")


def test_the_synthetic_set_carries_its_preprocessing(finished):
    arrays = np.load(finished / "synthetic.npz")
    assert arrays["images"].shape == arrays["images_model"].shape == (10, 8, 8, 1)
    assert arrays["labels"].shape == (10, 10)
    saved = load_set(finished / "synthetic.npz")
    np.testing.assert_allclose(saved.preprocess.apply(arrays["images"]), arrays["images_model"], atol=1e-5)


@pytest.mark.slow
def test_evaluating_a_run_agrees_with_its_report(finished, tmp_path):
    assert main(["evaluate", str(finished), "--seeds", "2", "--out", str(tmp_path / "new" / "e.json")]) == 0
    again = json.loads((tmp_path / "new" / "e.json").read_text())
    report = json.loads((finished / "report.json").read_text())
    assert again["evaluations"] == report["evaluations"]


@pytest.mark.slow
def test_a_set_made_elsewhere_in_every_form_gives_the_same_figure(finished, tmp_path):
    ours = np.load(finished / "synthetic.npz")
    integer = np.repeat(np.arange(10), 1)
    forms = {
        "nhwc": ({"images": ours["images"], "labels": integer}, []),
        "nchw": ({"images": np.moveaxis(ours["images"], -1, 1), "labels": np.eye(10)[integer]}, []),
        "model": ({"images": ours["images_model"], "labels": ours["labels"]}, ["--space", "model"]),
    }
    results = []
    for name, (arrays, options) in forms.items():
        file, out = tmp_path / f"{name}.npz", tmp_path / f"{name}.json"
        np.savez(file, **arrays)
        common = ["--data", "digits", "--no-baselines", "--out", str(out)]
        assert main(["evaluate", str(file), *common, *options]) == 0
        results.append(accuracy(json.loads(out.read_text()))["mean"])
    report = json.loads((finished / "report.json").read_text())
    assert results == pytest.approx([accuracy(report)["mean"]] * 3, abs=0.003)


def learners(file):
    return list(dict.fromkeys(e["learner"] for e in json.loads(file.read_text())["evaluations"]))


COLUMN = Recipe(depth=1, width=2, epochs=1)
"""In the place of DC's column: as quick as can be."""


@pytest.mark.slow
def test_a_set_is_evaluated_by_the_recipe_that_it_carries(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluating, "column", lambda train: COLUMN)
    recipe = "dc,network=mlp,width=4,loss=squared,epochs=1"
    assert distil("--steps", "2", "--batch", "50", "--recipe", recipe, "--out", tmp_path / "run") == 0
    file = tmp_path / "run" / "synthetic.npz"
    assert load_set(file).recipe == Recipe("mlp", width=4, loss="squared", epochs=1)
    (tmp_path / "own.toml").write_text('network = "mlp"\nwidth = 8\nepochs = 2\n')
    run, elsewhere = [str(tmp_path / "run")], [str(file), "--data", "digits"]
    own, column = "mlp-4 by dc,loss=squared,epochs=1", "convnet-1-2 by dc,epochs=1"
    for number, (arguments, found) in enumerate(
        [
            (run, ["krr"]),
            ([*run, "--learners", "krr,mlp"], ["krr", own, column]),
            ([*elsewhere], [own, column]),
            ([*elsewhere, "--recipe", f"{tmp_path / 'own.toml'}"], ["mlp-8 by dc,epochs=2", column]),
        ]
    ):
        out = tmp_path / f"{number}.json"
        assert main(["evaluate", *arguments, "--seeds", "1", "--no-baselines", "--out", str(out)]) == 0
        assert learners(out) == found


@pytest.mark.slow
def test_rates_are_found_and_kept_with_the_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluating, "column", lambda train: COLUMN)
    monkeypatch.setattr(rates, "FACTORS", (1e-6, 10.0))
    recipe = ["--recipe", "dc,depth=1,width=2,epochs=1", "--find-rates"]
    run = tmp_path / "run"
    assert distil("--steps", "2", "--batch", "50", *recipe, "--out", run) == 2
    assert "add a network that the recipe is not of (mlp)" in capsys.readouterr().err
    assert not run.exists()
    learned = ["--learners", "krr,mlp", "--seeds", "1", "--no-baselines"]
    assert distil("--steps", "2", "--batch", "50", *recipe, *learned, "--out", run) == 0
    assert load_set(run / "synthetic.npz").recipe == Recipe(depth=1, width=2, epochs=1, rates="mlp:0.1")
    assert "finding rates" in read(run / "report.json")["seconds"]
    for source in ([str(run)], [str(run / "synthetic.npz"), "--data", "digits", "--learners", "krr,mlp"]):
        out = tmp_path / f"{len(source)}.json"
        assert main(["evaluate", *source, "--seeds", "1", "--no-baselines", "--out", str(out)]) == 0
        assert learners(out)[:2] == ["krr", "mlp-2 by dc,learning_rate=0.1,epochs=1"]


def test_label_solve_beats_its_own_start(tmp_path):
    solve = ["distill", "label-solve", "--ipc", "1", "--seeds", "2", "--out", str(tmp_path / "run")]
    assert main(solve) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    # The initial images are the random baseline's at seed 0.
    assert accuracy(report)["mean"] > accuracy(report, "random")["values"][0]
    assert report["steps"] == 0
    assert not (tmp_path / "run" / "curves.png").exists()


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("labels", ["learned", "solved"])
def test_labels_can_be_learned_and_solved(labels, tmp_path):
    assert distil("--labels", labels, "--augment", "shift1", "--schedule", "cosine", "--out", tmp_path / "run") == 0
    one_hot = np.eye(10) - 0.1
    assert np.abs(np.load(tmp_path / "run" / "synthetic.npz")["labels"] - one_hot).max() > 1e-3
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert accuracy(report)["mean"] > accuracy(report, "random")["mean"]
    assert len(report["notes"]) == 1


@pytest.mark.slow
def test_finite_networks_are_learners_too(tmp_path):
    assert distil("--learners", "krr,mlp", "--preprocess", "zca", "--out", tmp_path / "run") == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(accuracy(report, learner="mlp")["values"]) == 2
    assert accuracy(report, learner="mlp")["mean"] > 0.2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(finished, tmp_path):
    assert distil("--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "synthetic.npz").read_bytes() == (finished / "synthetic.npz").read_bytes()
    assert distil("--seed", "1", "--out", tmp_path / "other") == 0
    assert (tmp_path / "other" / "synthetic.npz").read_bytes() != (finished / "synthetic.npz").read_bytes()


def test_data_shows_counts_and_a_picture(tmp_path, capsys):
    out = tmp_path / "digits.png"
    assert main(["data", "digits", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    text = capsys.readouterr().out
    assert "class 9" in text
    assert "(8, 8, 1)" in text


# --- groups ------------------------------------------------------------------------------------------

BY_GROUP = ["accuracy", "worst_group", "adjusted", "deo_m", "deo_a", "cvar_error"]
CORRUPTED = ["--corruptions", "noise,blur,invert"]
ROBUST = ["--robust", "--grouping", "spurious+kmeans"]
"""Of a thousand digits the default, `discovered`, protects none."""


@pytest.fixture(scope="module")
def robust(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "robust"
    assert distil("--shift", "colour-foreground", *ROBUST, *CORRUPTED, "--out", folder) == 0
    return folder


@pytest.mark.slow
def test_a_robust_run_reports_every_group(robust):
    config, report = read(robust / "config.json"), read(robust / "report.json")
    assert config["groups"]["robust"] is True
    found = (config["groups"]["grouping"], config["risk"]["across"], config["batch"]["sampler"])
    assert found == ("spurious+kmeans", "entropic", "group")

    corrupted = [f"accuracy:{name}" for name in ("noise", "blur", "invert")]
    for name in ("synthetic", "random", "kmeans", "herding"):
        assert metrics_of(report, name) == [*BY_GROUP, "cluster_min", "cluster_mean", *corrupted]
        for metric in BY_GROUP:
            line = accuracy(report, name, metric=metric)
            low, high = line["interval"]
            assert 0 <= low <= high <= 1
        assert accuracy(report, name)["interval"][0] < accuracy(report, name)["mean"]
        assert accuracy(report, name)["interval"][1] > accuracy(report, name)["mean"]
        worst = accuracy(report, name, metric="worst_group")
        assert set(worst["where"]) == {"class", "group", "size"}
        assert worst["mean"] <= accuracy(report, name)["mean"]

    subgroups = report["subgroups"]
    assert subgroups["class_names"] == list("0123456789")
    assert subgroups["group_names"][:2] == ["red", "orange"]
    train, test = np.array(subgroups["train_count"]), np.array(subgroups["test_count"])
    assert (np.diag(train) > 0.85 * train.sum(1)).all()
    assert test.max() - test.min() <= 1
    for name, seeds in (("synthetic", 1), ("random", 2)):
        table = {key: np.array(value) for key, value in subgroups["predictions"]["krr"][name].items()}
        np.testing.assert_array_equal(table["count"], seeds * test)
        found = accuracy(report, name)
        assert table["correct"].sum() / table["count"].sum() == pytest.approx(found["mean"])
    worst = accuracy(report, metric="worst_group")
    cell = worst["where"]
    c, g = subgroups["class_names"].index(cell["class"]), subgroups["group_names"].index(cell["group"])
    table = subgroups["predictions"]["krr"]["synthetic"]
    assert table["correct"][c][g] / table["count"][c][g] == worst["mean"]
    assert cell["size"] == test[c, g]

    groups = report["found_groups"]
    assert [sum(sizes) for sizes in groups["sizes"]] == train.sum(1).tolist()
    assert groups["groups"] == sum(map(len, groups["sizes"])) > 20
    assert groups["match"]["minority_recall"] > 0.5

    assert (robust / "subgroups.png").read_bytes().startswith(b"\x89PNG")
    html = (robust / "report.html").read_text()
    assert html.count("data:image/png;base64,") == len(list(robust.glob("*.png"))) == 4
    assert f"class {cell['class']}, {cell['group']} ({cell['size']} test examples)" in html
    assert "every group" in html
    assert "Grouping spurious+kmeans trained with" in html


@pytest.mark.slow
def test_what_robust_stands_for_is_the_same_run_to_the_byte(robust, tmp_path):
    spelt = ["--grouping", "spurious+kmeans", "--across", "entropic", "--sampler", "group"]
    again = tmp_path / "spelt"
    assert distil("--shift", "colour-foreground", *spelt, "--no-baselines", *CORRUPTED, "--out", again) == 0
    assert (again / "synthetic.npz").read_bytes() == (robust / "synthetic.npz").read_bytes()
    one, other = read(again / "report.json"), read(robust / "report.json")
    assert one["evaluations"] == [row for row in other["evaluations"] if row["set"] == "synthetic"]
    assert one["found_groups"] == other["found_groups"]
    assert metrics_of(read(tmp_path / "spelt" / "report.json"), "random") == []


@pytest.mark.slow
def test_evaluating_a_run_takes_its_shift(robust, tmp_path, capsys):
    out = tmp_path / "e.json"
    assert main(["evaluate", str(robust), "--seeds", "2", *CORRUPTED, "--out", str(out)]) == 0
    again, report = read(out), read(robust / "report.json")
    for key in ("evaluations", "subgroups", "data"):
        assert again[key] == report[key]
    assert "Worst group of the synthetic set" in capsys.readouterr().out
    # Other data, where it is said: the images no longer fit.
    assert main(["evaluate", str(robust), "--shift", "none"]) == 2
    assert "evaluate it on the data it was made from" in capsys.readouterr().err


@pytest.mark.slow
def test_a_set_made_elsewhere_is_evaluated_on_shifted_data(finished, robust, tmp_path):
    ours, out = np.load(finished / "synthetic.npz"), tmp_path / "e.json"
    np.savez(tmp_path / "set.npz", images=ours["images"], labels=ours["labels"])
    common = ["evaluate", str(tmp_path / "set.npz"), "--data", "digits", "--no-baselines", "--out", str(out)]
    assert main([*common, "--shift", "rare-invert", "--share", "0.1", "--corruptions", "invert"]) == 0
    report = read(out)
    assert metrics_of(report) == [*BY_GROUP, "cluster_min", "cluster_mean", "accuracy:invert"]
    assert report["data"] == "digits, rare-invert (share 0.1)"
    assert report["subgroups"]["group_names"] == ["plain", "invert"]
    train = np.array(report["subgroups"]["train_count"])
    np.testing.assert_array_equal(train[:, 1], np.round(0.1 * train.sum(1)))
    # Trained on plain digits alone, and half of the test is inverted.
    assert accuracy(report, metric="worst_group")["where"]["group"] == "invert"


def test_data_shows_the_groups_of_a_shift(tmp_path, capsys):
    assert main(["data", "digits", "--shift", "rare-invert", "--out", str(tmp_path / "new" / "digits.png")]) == 0
    text = capsys.readouterr().out
    assert "group plain" in text
    (line,) = [line for line in text.splitlines() if "group invert" in line]
    assert [int(word) for word in line.split() if word.isdigit()] == [65, 10, 178]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A set with groups of its own: two classes of stripes, one in ten of which runs the other way."""
    rng = np.random.default_rng(0)
    labels, groups = np.arange(300) % 2, (np.arange(300) // 2 % 10 == 0).astype(int)
    images = rng.integers(0, 120, (300, 6, 6, 1), dtype=np.uint8)
    images[(labels ^ groups) == 0, 2] += 100
    images[(labels ^ groups) == 1, :, 2] += 100
    images[labels == 1, 5, 5] = 200
    file = tmp_path_factory.mktemp("own") / "own.npz"
    np.savez(file, images=images, labels=labels, groups=groups, group_names=np.array(["usual", "rare"]))
    return file


@pytest.mark.slow
def test_groups_of_your_own_can_be_trained_on(own, tmp_path, capsys):
    out = tmp_path / "given"
    options = ["--data", own, "--grouping", "labels", "--across", "mean+max", "--sampler", "group", "--no-baselines"]
    assert distil(*options, "--out", out) == 0
    report = read(out / "report.json")
    assert metrics_of(report) == [*BY_GROUP, "cluster_min", "cluster_mean"]
    assert report["subgroups"]["group_names"] == ["usual", "rare"]
    groups, train = report["found_groups"], report["subgroups"]["train_count"]
    assert groups["sizes"] == train
    assert groups["match"]["adjusted_mutual_information_within_class"] == pytest.approx(1)
    assert groups["match"]["minority_recall"] == 1
    # The picture shows the set alone where there is no baseline.
    assert (out / "subgroups.png").exists()
    assert main(["distill", "--resume", str(out), "--grouping", "class"]) == 2
    assert "--grouping class (it has labels)" in capsys.readouterr().err


@pytest.mark.slow
def test_groups_may_be_known_of_the_test_set_alone(own, tmp_path, capsys):
    given = np.load(own)
    test = {f"test_{key}": given[key][200:] for key in ("images", "labels", "groups")}
    file, out = tmp_path / "tested.npz", tmp_path / "run"
    np.savez(file, images=given["images"][:200], labels=given["labels"][:200], **test)
    assert distil("--data", file, "--grouping", "none", "--no-baselines", "--out", out) == 0
    report = read(out / "report.json")
    assert "adjusted" not in metrics_of(report)  # it weighs by the training set's groups
    assert accuracy(report, metric="worst_group")["where"]["group"] in ("0", "1")
    assert report["subgroups"]["train_count"] is None
    assert report["subgroups"]["test_count"] == [[45, 5], [45, 5]]
    assert "<td>-</td><td>45</td>" in (out / "report.html").read_text()
    assert distil("--data", file, "--grouping", "labels", "--out", tmp_path / "labels") == 2
    assert "the training data has none" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_are_compared_side_by_side(robust, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    # Of the same name, in another folder.
    plain = tmp_path / robust.name
    assert distil("--shift", "colour-foreground", "--no-baselines", "--out", plain) == 0
    capsys.readouterr()
    out = tmp_path / "new" / "both.png"
    assert main(["compare", str(plain), str(robust), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    # By the part of the path in which they differ.
    assert f"│ {plain.parent.name} " in text
    assert f"│ {robust.parent.name} " in text
    assert "worst group, %" in text
    assert str(out) in text
    shown = read(plain / "report.json")
    assert f"{100 * accuracy(shown)['mean']:.1f}" in text
    from matplotlib.image import imread

    tables = [read(run / "report.json")["subgroups"]["predictions"]["krr"]["synthetic"] for run in (plain, robust)]
    assert tables[0] != tables[1]
    # Two panels side by side.
    height, width = imread(out).shape[:2]
    assert width > 1.5 * height


@pytest.mark.slow
def test_what_cannot_be_compared_is_refused(finished, robust, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unfinished").mkdir()
    for arguments, message in (
        ([robust], "needs two different runs or more, not 1"),
        ([robust, robust], "needs two different runs or more, not 1"),
        ([robust, tmp_path / "nothing"], "has no report.json"),
        ([robust, tmp_path / "unfinished"], "the run has not ended"),
        ([robust, finished], "different data (digits; digits, colour-foreground (bias 0.9))"),
    ):
        assert main(["compare", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "compare.png").exists()


def test_runs_without_groups_are_compared_without_a_picture(finished, tmp_path, capsys):
    import shutil

    shutil.copytree(finished, tmp_path / "copy")
    out = tmp_path / "both.png"
    out.write_bytes(b"mine")
    assert main(["compare", str(finished), str(tmp_path / "copy"), "--out", str(out)]) == 0
    assert "both.png" not in capsys.readouterr().out
    assert out.read_bytes() == b"mine"


@pytest.mark.slow
def test_resuming_a_robust_run_refuses_another_grouping(robust, capsys):
    before = (robust / "synthetic.npz").read_bytes()
    for options, message in (
        (["--grouping", "kmeans"], "--grouping kmeans (it has spurious+kmeans)"),
        (["--grouping", "none"], "--grouping none (it has spurious+kmeans)"),
        (["--no-robust"], "--robust False (it has True)"),
        (["--shift", "none"], "--shift none (it has colour-foreground)"),
    ):
        assert main(["distill", "--resume", str(robust), *options]) == 2
        assert message in capsys.readouterr().err
    assert (robust / "synthetic.npz").read_bytes() == before


# --- refusing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        (["--data", "mnst"], "mnist"),
        (["--kernel", "fcntk"], "did you mean fc-ntk"),
        (["--learners", "krr,convent"], "did you mean convnet"),
        (["--labels", "learnt"], "did you mean learned"),
        (["--init", "kmean"], "did you mean kmeans"),
        (["--sampler", "uniforn"], "did you mean uniform"),
        (["--sampler", "stratified"], "unknown sampler 'stratified'"),
        (
            ["--net-period", "3"],
            "--net-period is no option of `rdd distill kip`: it is one of dc, dsa, rdd, frepo,",
        ),
        (["--ipcc", "3"], "unknown option '--ipcc': did you mean --ipc"),
        (["--labels", "soft"], "unknown labels 'soft'"),
        (["--schedule", "cosin"], "did you mean cosine"),
        (["--preprocess", "standardize"], "did you mean standardise"),
        (["--augment", "flop"], "did you mean flip"),
        (["--augment", "shift9"], "shift by fewer pixels"),
        (["--ipc", "0"], "ipc is 0"),
        (["--steps", "0"], "steps is 0"),
        (["--batch", "-1"], "batch is -1"),
        (["--depth", "0"], "depth is 0"),
        (["--seeds", "0"], "seeds is 0"),
        (["--checkpoint-every", "0"], "checkpoint_every is 0"),
        (["--reg", "0"], "reg is 0"),
        (["--lr", "nan"], "lr is nan"),
        (["--ipc", "1000"], "lower ipc"),
        (["--data", "nowhere.npz"], "no file"),
        (["--tau", "0"], "tau is 0.0"),
        (["--tau", "1.5"], "it must be above 0, at most 1"),
        (["--across", "cvar", "--tau", "-1"], "tau is -1.0"),
        (["--sharpness", "0"], "sharpness is 0.0"),
        (["--across", "entropic", "--sharpness", "inf"], "sharpness is inf"),
        (["--soft-groups", "-1"], "soft_groups is -1.0"),
        (["--grouping", "spurios"], "did you mean spurious"),
        (["--grouping", "spurious+kmean"], "did you mean kmeans"),
        (["--shift", "colour-forground"], "did you mean colour-foreground"),
        (["--within", "cvr"], "unknown within 'cvr': did you mean cvar"),
        (["--across", "entropi"], "unknown across 'entropi': did you mean entropic"),
        (["--features", "textures"], "did you mean texture"),
        (["--corruptions", "noise,blurr"], "did you mean blur"),
        (["--corruptions", "saturate"], "it needs 3 channels"),
        (["--shift", "grey", "--bias", "2"], "bias is 2.0"),
        (["--bias", "2"], "bias is 2.0"),
        (["--shift", "rare-invert", "--share", "0"], "share is 0.0"),
        (["--share", "0"], "share is 0.0"),
        (["--shift", "grey"], "give RGB images"),
        (["--grouping", "labels"], "choose a --shift"),
        (["--grouping", "kmeans", "--groups-per-class", "1000"], "groups_per_class is 1000, but class '8' has 125"),
        (["--groups-per-class", "-1"], "groups_per_class is -1"),
        (["--refit-every", "0"], "refit_every is 0"),
        (["--min-group", "1"], "min_group is 1.0"),
    ],
)
def test_bad_options_exit_with_2_and_touch_nothing(options, message, tmp_path, capsys):
    out = tmp_path / "run"
    assert distil("--out", out, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("rdd: ")
    assert message in error
    assert "Traceback" not in error
    assert not out.exists()


GREY = np.random.default_rng(0).integers(0, 256, (60, 6, 6, 1), dtype=np.uint8)


@pytest.mark.parametrize(
    "arrays, options, message",
    [
        ({"images": GREY.repeat(3, 3)}, ["--shift", "colour-foreground"], "(6, 6, 3): it needs 1 channel(s)"),
        ({"groups": np.arange(59) % 2}, [], "groups have shape (59,) for 60 images"),
        ({"groups": np.arange(60) % 2 + 0.5}, [], "groups are float64"),
        ({"groups": np.arange(60) % 2 - 1}, [], "groups hold -1"),
        ({"groups": np.arange(60) % 3, "group_names": np.array(["a", "b"])}, [], "groups hold 2"),
        ({"groups": np.arange(60) % 2}, ["--shift", "rare-invert"], "already has groups 0, 1"),
        ({}, ["--grouping", "labels"], "put `groups` into the .npz"),
    ],
)
def test_bad_groups_and_data_that_a_shift_cannot_take_are_refused(arrays, options, message, tmp_path, capsys):
    np.savez(tmp_path / "own.npz", **({"images": GREY, "labels": np.arange(60) // 10 % 2} | arrays))
    out = tmp_path / "run"
    assert distil("--data", tmp_path / "own.npz", "--out", out, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not out.exists()


def test_an_unreadable_number_exits_with_2(tmp_path):
    assert distil("--ipc", "ten", "--out", tmp_path / "run") == 2


def test_what_exists_is_never_overwritten(finished, tmp_path, capsys):
    before = (finished / "report.json").read_bytes()
    assert distil("--out", finished) == 2
    assert "exists" in capsys.readouterr().err
    assert (finished / "report.json").read_bytes() == before
    (tmp_path / "e.json").write_text("mine")
    assert main(["evaluate", str(finished), "--out", str(tmp_path / "e.json")]) == 2
    assert (tmp_path / "e.json").read_text() == "mine"


def test_images_too_small_for_a_network_are_refused_before_computing(tmp_path, capsys):
    np.savez(
        tmp_path / "tiny.npz",
        images=np.zeros((40, 4, 4, 1), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None],
        labels=np.arange(40) % 2,
    )
    out = tmp_path / "run"
    # A recipe that is given has the depth that it says.
    words = ["--data", tmp_path / "tiny.npz", "--learners", "convnet", "--recipe", "dc"]
    assert distil(*words, "--out", out) == 2
    assert "too small" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "change, options, message",
    [
        ({"labels": np.arange(10) + 1}, [], "labels hold 10"),
        ({"labels": np.arange(9)}, [], "(9,) for 10 images"),
        ({"labels": np.eye(9)[np.arange(10) % 9]}, [], "(10, 9)"),
        ({"images": np.zeros((10, 7, 8, 1))}, [], "(10, 7, 8, 1)"),
        ({"images": np.full((10, 8, 8, 1), np.nan)}, [], "NaN"),
        ({"images": np.full((10, 8, 8, 1), 255.0)}, [], "--space model"),
        ({"images": np.full((10, 8, 8, 1), 256)}, [], "0..255"),
        ({"images": np.array([object()] * 10)}, [], "never loaded"),
        ({}, ["--preprocess", "zac"], "did you mean zca"),
        ({}, ["--learners", "resnet"], "unknown learner"),
        ({}, ["--reg", "-1"], "reg is -1"),
        ({}, ["--corruptions", "blurr"], "did you mean blur"),
        ({}, ["--corruptions", "saturate"], "it needs 3 channels"),
        ({}, ["--shift", "rare-inverts"], "did you mean rare-invert"),
        ({}, ["--shift", "rare-invert", "--share", "0.7"], "share is 0.7"),
        ({}, ["--data", "nowhere.npz"], "no file"),
    ],
)
def test_bad_sets_made_elsewhere_are_refused(change, options, message, tmp_path, capsys):
    arrays = {"images": np.random.default_rng(0).random((10, 8, 8, 1)), "labels": np.arange(10)} | change
    np.savez(tmp_path / "set.npz", **arrays)
    out = tmp_path / "e.json"
    data = [] if "--data" in options else ["--data", "digits"]
    assert main(["evaluate", str(tmp_path / "set.npz"), *data, "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_evaluate_needs_something_to_evaluate(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "nothing")]) == 2
    assert "neither a run folder nor an .npz" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err
    np.savez(tmp_path / "set.npz", images=np.zeros(3))
    assert main(["evaluate", str(tmp_path / "set.npz")]) == 2
    assert "--data is missing" in capsys.readouterr().err


def test_a_duplicated_set_is_reported_and_not_turned_into_nan(tmp_path, capsys):
    # A thousand copies of one image: the Gram matrix has rank 1 a class.
    images = np.repeat(np.random.default_rng(0).integers(0, 256, (2, 6, 6, 1), dtype=np.uint8), 60, axis=0)
    np.savez(tmp_path / "same.npz", images=images, labels=np.repeat(np.arange(2), 60))
    out = tmp_path / "run"
    code = distil("--data", tmp_path / "same.npz", "--ipc", "30", "--reg", "1e-12", "--out", out)
    assert code == 2
    assert "not positive definite" in capsys.readouterr().err
    assert not out.exists()


def empty(m):
    return Synthetic(jnp.zeros((m, 8, 8, 1)), jnp.zeros((m, 10)))


@pytest.mark.slow
def test_divergence_stops_the_run_and_keeps_the_last_good_state(tmp_path, capsys):
    out = tmp_path / "run"
    assert distil("--lr", "1e30", "--out", out) == 3
    assert "not finite at step 2: " in capsys.readouterr().err
    like = Saved(compose(kip(fc_ntk())).init(empty(10)), jnp.zeros(1295, jnp.int32), jnp.asarray(1))
    saved = Checkpoints(out / "checkpoints").restore(like)
    assert saved is not None
    state = saved.state
    assert int(state.step) == 1
    assert np.isfinite(state.params["images"]).all()
    assert not (out / "synthetic.npz").exists()


# --- resuming ----------------------------------------------------------------------------------------


def command(*arguments):
    return [sys.executable, "-m", "rdd_jax.app.cli", *map(str, arguments)]


LONG = ["--ipc", "2", "--steps", "60", "--batch", "500", "--seeds", "1", "--checkpoint-every", "10"]
LONG += ["--no-baselines"]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, quick_flags):
    import signal

    moving = ["--shift", "rare-invert", "--grouping", "nearest", "--refit-every", "10", "--across", "mean+max"]
    arguments = ["distill", "kip", "--data", "digits", *LONG, *moving, "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*arguments, str(whole)]) == 0

    def code_when_killed(words, kill, at):
        process = subprocess.Popen(command(*words), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not any(row.get("step") == at for row in Run(killed).metrics()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(kill)
        return process.wait(60)

    assert code_when_killed([*arguments, killed], signal.SIGTERM, 10) == 130
    assert code_when_killed(["distill", "--resume", killed], signal.SIGKILL, 40) == -signal.SIGKILL
    assert not (killed / "synthetic.npz").exists()
    assert main(["distill", "--resume", str(killed)]) == 0
    assert (killed / "synthetic.npz").read_bytes() == (whole / "synthetic.npz").read_bytes()
    steps = [row["step"] for row in Run(killed).metrics() if "loss" in row]
    assert steps == list(range(1, 61))
    one, other = read(killed / "report.json"), read(whole / "report.json")
    assert one["evaluations"] == other["evaluations"]
    assert one.get("found_groups") == other.get("found_groups")


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_is_noted_and_a_second_one_is_obeyed(number):
    import signal

    from rdd_jax.app.interrupting import signals_noted

    which = getattr(signal, number)
    before = signal.getsignal(which)
    reached = []

    def once():
        with signals_noted() as noted:
            signal.raise_signal(which)
            assert noted == [which]
            reached.append("the end")

    def twice():
        with signals_noted():
            signal.raise_signal(which)
            signal.raise_signal(which)
            reached.append("never")

    for block in (once, twice):
        with pytest.raises(KeyboardInterrupt):
            block()
    assert reached == ["the end"]
    assert signal.getsignal(which) == before


INTERRUPTED = """
import os, signal, threading
import jax

def listen(event, seconds, **about):
    if event == "/jax/core/compile/backend_compile_duration" and "_train" in about["fun_name"]:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

jax.monitoring.register_event_duration_secs_listener(listen)
from rdd_jax.app.cli import run
run()
"""
"""Half a second after the training of a network was compiled."""


@pytest.mark.slow
def test_an_interrupt_is_heard_while_a_network_is_trained(finished, quick_flags):
    endless = "dc,network=mlp,width=8,epochs=1000000000"
    words = ["evaluate", str(finished), "--learners", "mlp", "--recipe", endless, "--seeds", "1", "--no-baselines"]
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, *words], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "rdd: interrupted")


def test_resuming_refuses_another_configuration(finished, capsys):
    before = (finished / "synthetic.npz").read_bytes()
    assert main(["distill", "--resume", str(finished), "--ipc", "3", "--lr", "0.1"]) == 2
    error = capsys.readouterr().err
    assert "--ipc 3 (it has 1)" in error
    assert "--lr 0.1 (it has 0.04)" in error
    assert main(["distill", "--resume", str(finished), "--out", "elsewhere"]) == 2
    assert (finished / "synthetic.npz").read_bytes() == before


@pytest.mark.slow
def test_resuming_on_changed_data_is_refused(tmp_path, capsys):
    file, out = tmp_path / "own.npz", tmp_path / "run"
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 6, 1), dtype=np.uint8)
    np.savez(file, images=images, labels=np.arange(60) % 2)
    assert distil("--data", file, "--out", out) == 0
    images[0, 0, 0, 0] ^= 1
    np.savez(file, images=images, labels=np.arange(60) % 2)
    (out / "report.json").unlink()
    assert main(["distill", "--resume", str(out)]) == 2
    assert "other data" in capsys.readouterr().err


def test_resuming_a_finished_run_changes_nothing(finished):
    before, report = (finished / "synthetic.npz").read_bytes(), read(finished / "report.json")
    assert main(["distill", "--resume", str(finished), "--ipc", "1"]) == 0
    assert (finished / "synthetic.npz").read_bytes() == before
    # Of the steps it says how long they took when they were taken.
    taken = read(finished / "report.json")["seconds"]["distilling"]
    assert taken == pytest.approx(report["seconds"]["distilling"], abs=0.05)


def test_resuming_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["distill", "--resume", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{")
    assert main(["distill", "--resume", str(tmp_path)]) == 2
    assert "broken" in capsys.readouterr().err


@pytest.mark.slow
def test_a_truncated_checkpoint_is_named(tmp_path, capsys):
    out = tmp_path / "run"
    assert distil("--out", out) == 0
    (out / "report.json").unlink()
    newest = out / "checkpoints" / "20"
    for file in newest.rglob("*"):
        if file.is_file() and file.stat().st_size > 8:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    before = (out / "metrics.jsonl").read_bytes()
    assert main(["distill", "--resume", str(out)]) == 2
    assert "delete that folder" in capsys.readouterr().err
    assert (out / "metrics.jsonl").read_bytes() == before
    import shutil

    shutil.rmtree(newest)
    assert main(["distill", "--resume", str(out)]) == 0


# --- starting up -------------------------------------------------------------------------------------


def fresh(code):
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    ).stdout


def test_help_and_import_stay_light():
    code = """
import contextlib, io, sys
import rdd_jax, rdd_jax.app.cli
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    rdd_jax.app.cli.main(["--help"])
print([name for name in ("jax", "flax", "matplotlib", "tensorflow") if name in sys.modules])
"""
    assert fresh(code).strip() == "[]"
