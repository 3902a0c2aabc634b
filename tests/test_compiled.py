"""What is compiled once is not compiled again: within a run, and by the next command."""

import json
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rdd_jax.app import compiled
from rdd_jax.app.cli import main
from rdd_jax.app.compiled import compiled_folder, keep_compiled, mended
from rdd_jax.errors import InputWarning

# --- within a run ------------------------------------------------------------------------------------


@pytest.fixture
def compilations():
    """How often XLA was asked for a program, by the name of the function."""
    found = Counter()

    def listen(event, seconds, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            found[about["fun_name"]] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def own(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (90, 6, 6, 1), dtype=np.uint8), np.arange(90) % 2
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    return tmp_path / "own.npz"


def of(compilations, name):
    return sum(count for key, count in compilations.items() if key.removesuffix(")").removeprefix("jit(") == name)


def test_a_run_compiles_its_steps_once_and_its_networks_once(own, tmp_path, compilations):
    seeds = 4
    recipe = "dc,network=mlp,width=24,steps=4"  # a network that no other test has
    words = f"distill dm --data {own} --ipc 2 --steps 60 --checkpoint-every 20 --batch 8 --network mlp --net-width 5"
    words += f" --siamese none --seeds {seeds} --recipe {recipe} --seed {seeds} --out {tmp_path / 'run'}"
    assert main(words.split()) == 0
    # Networks: all seeds on the set, and one at a time: validations, and the baselines.
    counts = {name: of(compilations, name) for name in ("advance", "_train", "_apply")}
    assert counts["advance"] == 1, compilations
    assert counts["_train"] == 2, compilations
    assert 1 <= counts["_apply"] <= 2, compilations


# --- by the next command -----------------------------------------------------------------------------

COUNTED = """
import json, sys
from collections import Counter
import jax
counts = Counter()
jax.monitoring.register_event_listener(lambda event, **about: counts.update([event.rpartition("/")[2]]))
from rdd_jax.app.cli import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, **counts}))
"""


def counted(folder, *arguments):
    """What a process of its own counts, and what it says of errors."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"RDD_CACHE": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    words = [sys.executable, "-c", COUNTED, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    found = Counter(json.loads(done.stdout.splitlines()[-1]))
    assert found.pop("code") == 0, done.stderr
    return found, done.stderr


def entries(folder):
    return {file: file.read_bytes() for file in folder.rglob("*-cache")}


def run_of(own, out):
    words = ["distill", "kip", "--data", own, "--ipc", 1, "--steps", 2, "--batch", 20, "--seeds", 1, "--no-baselines"]
    return [*words, "--out", out]


@pytest.mark.thorough
def test_the_next_command_takes_what_was_compiled_and_mends_what_is_damaged(own, tmp_path, quick_flags):
    cache = tmp_path / "cache"
    first, said = counted(cache, *run_of(own, tmp_path / "first"))
    kept = entries(cache / "compiled")
    assert first["cache_misses"] == len(kept) > 10
    assert "cannot be read" not in said

    (damaged,) = (file for file in kept if file.name.startswith("jit_advance-"))
    damaged.write_bytes(kept[damaged][: len(kept[damaged]) // 2])
    second, said = counted(cache, *run_of(own, tmp_path / "second"))
    assert [line for line in said.splitlines() if "compiled" in line] == [
        f"rdd: jit_advance, compiled before, cannot be read back from {str(damaged.parent)!r}: it is compiled anew"
    ]
    assert second["cache_misses"] == 1
    assert second["cache_hits"] >= len(kept) - 1
    after = entries(cache / "compiled")
    assert set(after) == set(kept)
    assert [file for file in kept if after[file] != kept[file]] in ([], [damaged])
    one, other = ((tmp_path / name / "synthetic.npz").read_bytes() for name in ("first", "second"))
    assert one == other


def test_the_variable_of_jax_wins(tmp_path):
    ours, theirs = tmp_path / "cache", tmp_path / "theirs"
    environment = os.environ | {"RDD_CACHE": str(ours), "JAX_COMPILATION_CACHE_DIR": str(theirs)}
    code = "from rdd_jax.app import compiled; compiled.keep_compiled()\n"
    code += "print(compiled.jax.config.jax_compilation_cache_dir)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == str(theirs)
    assert not ours.exists()


def test_the_flag_says_that_nothing_is_to_be_kept(own, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(compiled, "keep_compiled", told.append)
    for number, flag in enumerate((["--no-compilation-cache"], [])):
        assert main([*flag, "data", str(own), "--out", str(tmp_path / f"{number}.png")]) == 0
    assert told == [False, True]


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """JAX's settings as in a new process; what is changed of them is changed here alone."""
    monkeypatch.setenv("RDD_CACHE", str(tmp_path / "cache"))
    found = {"jax_enable_compilation_cache": True, "jax_compilation_cache_dir": None}
    config = SimpleNamespace(values=found, update=found.__setitem__)
    monkeypatch.setattr(compiled, "jax", SimpleNamespace(config=config))
    return found


def test_programs_are_kept_in_the_cache_folder_a_folder_a_kind_of_processor(settings, tmp_path, monkeypatch):
    keep_compiled()
    folder = compiled_folder()
    assert settings["jax_compilation_cache_dir"] == str(folder)
    assert folder.parent == tmp_path / "cache" / "compiled"
    assert folder.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(compiled.platform, "machine", lambda: "other")
    assert compiled_folder() != folder


@pytest.mark.parametrize("change", [{"jax_compilation_cache_dir": "theirs"}, {"jax_enable_compilation_cache": False}])
def test_what_jax_has_been_told_stands(change, settings, tmp_path):
    settings.update(change)
    before = dict(settings)
    keep_compiled()
    assert settings == before
    assert not (tmp_path / "cache").exists()


def test_turned_off_nothing_is_kept(settings, tmp_path):
    keep_compiled(False)
    assert not settings["jax_enable_compilation_cache"]
    assert settings["jax_compilation_cache_dir"] is None
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written_is_told_and_done_without(settings, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RDD_CACHE", str(tmp_path / "file"))
    with pytest.warns(
        InputWarning, match=r"cannot be kept \('.*file.*Not a directory\): set RDD_CACHE .* or say `rdd --no"
    ):
        keep_compiled()
    assert settings["jax_compilation_cache_dir"] is None


def test_without_a_home_it_is_done_without(settings, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RDD_CACHE")
    monkeypatch.setattr("pathlib.Path.home", nowhere)
    with pytest.warns(InputWarning, match="Could not determine home"):
        keep_compiled()


def test_a_damaged_program_in_a_folder_of_the_users_own_is_left_there(settings, tmp_path):
    settings["jax_compilation_cache_dir"] = str(tmp_path)
    (tmp_path / "jit_f-0-cache").write_bytes(b"half")
    told = mended("Error reading persistent compilation cache entry for 'jit_f': error: incomplete")
    assert told == f"jit_f, compiled before, cannot be read back: remove it from {str(tmp_path)!r}"
    assert (tmp_path / "jit_f-0-cache").exists()


@pytest.mark.parametrize(
    "words", [["--no-compilation-cach", "data"], ["--no-compilation-cache"], ["--no-compilation-cache", "dta"]]
)
def test_flags_before_the_command_are_checked(words, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_page_of_all_commands_has_the_flag(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--no-compilation-cache" in capsys.readouterr().out
