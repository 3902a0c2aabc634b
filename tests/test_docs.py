"""What README and docs say is what there is: their commands parse, their script runs."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax import datasets
from rdd_jax.app import options, run_commands
from rdd_jax.app.cli import main
from rdd_jax.app.commands import COMMANDS
from rdd_jax.app.methods import METHODS, configured
from rdd_jax.app.run_folder import folder_of
from rdd_jax.saving import SavedSet, save_set
from rdd_jax.types import Synthetic, centred_one_hot

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "experiments" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OF_A_RUN = {"--out", "--config", "--resume", "--coordinator", "--hosts", "--host"}


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


# --- commands in the order of a page -----------------------------------------------------------------


def listed(page):
    """The commands of a page that stand on lines of their own."""
    lines = re.findall(r"^    (?:TFDS_DATA_DIR=\S+ )?(rdd [a-z].*)$", page.read_text().replace("\\\n", " "), re.M)
    return [shlex.split(line.partition("  #")[0]) for line in lines]


def made(words):
    """The file or folder that a command makes."""
    if "--out" in words:
        return words[words.index("--out") + 1]
    if words[1] == "distill" and "--resume" not in words:
        config, *_ = run_commands._asked(words[2:])
        return str(folder_of(config))
    if words[1] == "export":
        return f"{words[2]}/export-{words[words.index('--to') + 1]}"
    stem = Path(words[2]).stem
    return {"data": f"data-{stem}.png", "groups": f"groups-{stem}", "compare": "compare.png"}.get(words[1])


def used(words):
    """The runs that a command needs."""
    if words[1] in ("evaluate", "compare", "export"):
        return [word for word in words[2:4] if word.startswith("runs/")]
    return [words[words.index(flag) + 1] for flag in ("--resume", "--init", "--config") if flag in words]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run_in_their_order(page):
    there = set()
    for words in listed(page):
        for need in used(words):
            if need.startswith("runs/"):
                assert any(need.startswith(one) for one in there), f"{words} needs {need}"
        out = made(words)
        assert out not in there, f"{words} makes {out} again"
        there |= {out} - {None}


def test_pages_do_not_make_the_same_folders():
    makers = {}
    for page in PAGES:
        for words in listed(page):
            if (out := made(words)) is not None:
                makers.setdefault(out, []).append(words)
    clash = {out: lines for out, lines in makers.items() if any(words != lines[0] for words in lines)}
    assert not clash


def test_scikit_learn_trains_on_a_saved_set(tmp_path, monkeypatch, capsys):
    splits = datasets.load("digits")
    prepared = datasets.prepare(splits, "standardise")
    labels = splits.train.labels
    chosen = np.concatenate([np.flatnonzero(labels == c)[:10] for c in range(10)])
    synthetic = Synthetic(jnp.asarray(prepared.train[chosen]), centred_one_hot(labels[chosen], 10))
    save_set(tmp_path / "set.npz", SavedSet(synthetic, prepared.fitted, splits.train.class_names))
    np.savez(tmp_path / "test.npz", images=splits.test.images, labels=splits.test.labels)
    monkeypatch.setattr(sys, "argv", ["train_sklearn.py", str(tmp_path / "set.npz"), str(tmp_path / "test.npz")])
    runpy.run_path(str(ROOT / "docs" / "examples" / "train_sklearn.py"))
    (accuracy,) = re.findall(r"test accuracy: ([\d.]+) %", capsys.readouterr().out)
    assert float(accuracy) > 80


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
