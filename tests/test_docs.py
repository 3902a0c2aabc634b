"""What README and docs say is what there is: their commands parse, their script runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rdd_jax import datasets
from rdd_jax.app import options
from rdd_jax.app.cli import main
from rdd_jax.app.commands import Evaluate, Export, Select, Show
from rdd_jax.app.methods import METHODS, configured

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "experiments" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = {"evaluate": Evaluate(""), "select": Select(), "data": Show(""), "export": Export("")}
OF_A_RUN = {"--out", "--config", "--resume"}


def commands(page):
    """The command lines of a page that are whole: in code, starting with ``rdd``."""
    text = page.read_text().replace("\\\n", " ")
    fenced = re.findall(r"^(?:    |```\w*\n)?(rdd [a-z].*)$", text, re.M)
    for line in [*fenced, *re.findall(r"`(rdd [a-z-]+ [^`]*)`", text)]:
        words = shlex.split(line.partition("  #")[0].replace("[OPTIONS]", "").replace("...", ""))
        if len(words) > 1:
            yield [word.rstrip(",.;:") for word in words]


FOUND = [(page.relative_to(ROOT), words) for page in PAGES for words in commands(page)]


def test_there_are_commands_to_try():
    assert len(FOUND) > 30


@pytest.mark.parametrize("page, words", FOUND, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_every_option_of_a_command_is_one(page, words):
    command, rest = words[1], words[2:]
    if command == "distill":
        if rest and not rest[0].startswith("-") and rest[0] not in ("METHOD", "[METHOD]", "M", "NAME"):
            assert rest[0] in METHODS
            known = configured(rest[0])
        else:
            known = None
    elif command in COMMANDS:
        known = COMMANDS[command]
    else:
        assert command in ("compare", "COMMAND")
        return
    having = [known] if known else [configured(name) for name in METHODS]
    flags = {f"--{field.name.replace('_', '-')}" for config in having for field in options.options(config)}
    said = {word.partition("=")[0] for word in rest if word.startswith("--")}
    said = {f"--{word[5:]}" if word.startswith("--no-") else word for word in said}
    assert said <= flags | OF_A_RUN | {"--help", "--version"}


@pytest.mark.slow
def test_pytorch_trains_on_an_exported_set(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed: the example for it is not run")
    run = tmp_path / "run"
    assert main(f"distill kip --ipc 5 --steps 50 --batch 500 --seeds 1 --no-baselines --out {run}".split()) == 0
    assert main(["export", str(run), "--to", "npz", "--out", str(tmp_path / "set")]) == 0
    script = ROOT / "docs" / "examples" / "train_torch.py"
    test = datasets.load("digits").test
    np.savez(tmp_path / "test.npz", images=test.images, labels=test.labels)
    words = [sys.executable, str(script), str(tmp_path / "set" / "set.npz"), str(tmp_path / "test.npz")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"test accuracy: ([\d.]+) %", done.stdout)
    assert float(accuracy) > 75
