"""The whole journey on real data, small enough for every day."""

import json
import subprocess
import sys

import pytest


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
@pytest.mark.parametrize(
    "name, options, groups, at_least",
    [
        ("mnist", "--shift colour-foreground --robust --grouping spurious:texture --ipc 1 --steps 20", 10, 0.15),
        ("cifar10", "--shift grey --ipc 1 --steps 20", 2, 0.2),
    ],
    ids=["mnist", "cifar10"],
)
def test_groups_of_real_data_are_reported(name, options, groups, at_least, tmp_path):
    report = distill(tmp_path / name, f"--data {name} {options} --batch 500 --seeds 1 --no-baselines")
    found = {e["metric"]: e for e in report["evaluations"]}
    assert {"worst_group", "adjusted", "deo_m", "deo_a", "cvar_error", "cluster_min"} <= set(found)
    assert found["worst_group"]["mean"] <= found["accuracy"]["mean"]
    assert found["accuracy"]["mean"] > at_least
    test = report["subgroups"]["test_count"]
    assert [len(row) for row in test] == [groups] * 10
    assert found["worst_group"]["where"]["size"] in {count for row in test for count in row}
    if name == "cifar10":
        assert report["subgroups"]["class_names"][:2] == ["airplane", "automobile"]
        assert json.loads((tmp_path / name / "config.json").read_text())["data"]["mirror"] is True
    if name == "mnist":
        # The colours are found, without being told.
        assert report["found_groups"]["match"]["minority_recall"] > 0.9
        train = report["subgroups"]["train_count"]
        assert list(map(sum, report["found_groups"]["sizes"])) == list(map(sum, train))
