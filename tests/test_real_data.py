"""The whole journey on real data, small enough for every day."""

import json
import subprocess
import sys

import pytest

from rdd_jax.datasets import load


def distill(out, arguments):
    """The report of a run that is started as a user starts it."""
    words = [sys.executable, "-m", "rdd_jax.app.cli", "distill", "kip", *arguments.split(), "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "report.json").read_text())


@pytest.mark.real_data
def test_kip_learns_on_real_data(tmp_path):
    report = distill(tmp_path / "mnist", "--data mnist --ipc 10 --steps 60 --batch 2000 --seeds 1")
    evaluations = {e["set"]: e["mean"] for e in report["evaluations"]}
    assert evaluations["synthetic"] > 0.90
    assert evaluations["synthetic"] > max(evaluations[name] for name in ("random", "kmeans", "herding")) + 0.02


@pytest.mark.real_data
def test_groups_of_real_data_are_found_and_reported(tmp_path):
    options = "--data mnist --shift colour-foreground --robust --grouping spurious:texture --ipc 1 --steps 20"
    report = distill(tmp_path / "mnist", f"{options} --batch 500 --seeds 1 --no-baselines")
    found = {e["metric"]: e for e in report["evaluations"]}
    assert {"worst_group", "adjusted", "deo_m", "deo_a", "cvar_error", "cluster_min"} <= set(found)
    assert found["worst_group"]["mean"] <= found["accuracy"]["mean"]
    assert found["accuracy"]["mean"] > 0.15
    test = report["subgroups"]["test_count"]
    assert [len(row) for row in test] == [10] * 10
    assert found["worst_group"]["where"]["size"] in {count for row in test for count in row}
    # The colours are found, without being told.
    match = report["found_groups"]["match"]
    assert match["minority_recall"] > 0.9
    assert match["minority_precision"] > 0.8
    assert match["adjusted_mutual_information_within_class"] > 0.75
    assert max(map(len, report["found_groups"]["sizes"])) in range(7, 11)
    train = report["subgroups"]["train_count"]
    assert list(map(sum, report["found_groups"]["sizes"])) == list(map(sum, train))


@pytest.mark.real_data
def test_photographs_may_be_mirrored_and_digits_not():
    photographs = load("cifar10").train
    assert photographs.class_names[:2] == ("airplane", "automobile")
    assert photographs.mirror
    assert not load("mnist").train.mirror
