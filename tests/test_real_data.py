"""The whole journey on real data, small enough for every day."""

import json

import pytest

from rdd_jax.app.cli import main


@pytest.mark.real_data
def test_kip_learns_on_real_data(tmp_path):
    out = tmp_path / "mnist"
    arguments = f"distill kip --data mnist --ipc 10 --steps 60 --batch 2000 --seeds 1 --out {out}"
    assert main(arguments.split()) == 0
    evaluations = {e["set"]: e["mean"] for e in json.loads((out / "report.json").read_text())["evaluations"]}
    assert evaluations["synthetic"] > 0.90
    assert evaluations["synthetic"] > max(evaluations[name] for name in ("random", "kmeans", "herding")) + 0.02


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name, options, groups, at_least",
    [
        ("mnist", "--shift colour-foreground --robust --ipc 1 --steps 20", 10, 0.15),
        ("cifar10", "--shift grey --ipc 10 --steps 60", 2, 0.33),
    ],
    ids=["mnist", "cifar10"],
)
def test_groups_of_real_data_are_reported(name, options, groups, at_least, tmp_path):
    out = tmp_path / name
    arguments = f"distill kip --data {name} {options} --batch 500 --seeds 1 --no-baselines"
    assert main([*arguments.split(), "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    found = {e["metric"]: e for e in report["evaluations"]}
    assert {"worst_group", "adjusted", "deo_m", "deo_a", "cvar_error", "cluster_min"} <= set(found)
    assert found["worst_group"]["mean"] <= found["accuracy"]["mean"]
    assert found["accuracy"]["mean"] > at_least
    test = report["subgroups"]["test_count"]
    assert [len(row) for row in test] == [groups] * 10
    assert found["worst_group"]["where"]["size"] in {count for row in test for count in row}
    if name == "mnist":
        # The colours are found, without being told.
        assert report["found_groups"]["match"]["minority_recall"] > 0.9
        train = report["subgroups"]["train_count"]
        assert list(map(sum, report["found_groups"]["sizes"])) == list(map(sum, train))
