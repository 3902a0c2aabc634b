"""The whole journey on real data, small enough for every day."""

import json

import pytest

from rdd_jax.cli import main


@pytest.mark.real_data
@pytest.mark.parametrize("name, at_least", [("mnist", 0.90), ("cifar10", 0.40)])
def test_kip_learns_on_real_data(name, at_least, tmp_path):
    out = tmp_path / name
    arguments = f"distill --data {name} --ipc 10 --steps 60 --batch 2000 --seeds 1 --out {out}"
    assert main(arguments.split()) == 0
    evaluations = {e["set"]: e["mean"] for e in json.loads((out / "report.json").read_text())["evaluations"]}
    assert evaluations["synthetic"] > at_least
    assert evaluations["synthetic"] > max(evaluations[name] for name in ("random", "kmeans", "herding")) + 0.02
