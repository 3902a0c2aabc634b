"""Kills at random moments: every resumed run must end with the same bytes as one that was left alone.

    python -m benchmarks.kills --times 30 --seed 0

Each time a run of the next method is started, gets SIGKILL, SIGTERM or SIGINT after a random time, is resumed, and
killed again until it ends by itself. Two processes are also put into one folder, of which one must be refused.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SHORT = ["--data", "digits", "--ipc", "1", "--seeds", "1", "--no-baselines"]
STEPS = ["--steps", "40", "--batch", "100", "--checkpoint-every", "10"]
NETWORK = [*STEPS, "--net-width", "8", "--net-depth", "2", "--recipe", "dc,width=8,depth=2,epochs=5"]
RUNS = {
    "label-solve": [],
    "kip": STEPS,
    "kip, robust": [*STEPS, "--shift", "rare-invert", "--robust"],
    "kip, importance": [*STEPS, "--sampler", "importance"],
    "dm": NETWORK,
    "dc": NETWORK,
    "dsa": NETWORK,
    "rdd": NETWORK,
    "frepo": NETWORK,
    "rfad": NETWORK,
    "rcig": NETWORK,
}


def rdd(*words: object) -> subprocess.Popen:
    """The command line as a process of its own."""
    command = [sys.executable, "-m", "rdd_jax.app.cli", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def start(name: str, out: Path) -> list[object]:
    """The words that start the run."""
    return ["distill", name.partition(",")[0], *SHORT, *RUNS[name], "--out", out]


def killed(name: str, out: Path, rng: random.Random, longest: float) -> list[str]:
    """Kills a run until it has ended; when and how, and what it then did."""
    told = []
    while not (out / "report.json").exists():
        words = ["distill", "--resume", out] if (out / "config.json").exists() else start(name, out)
        process = rdd(*words)
        number, after = rng.choice(SIGNALS), rng.uniform(0, longest) * (len(told) + 1) ** 0.5
        try:
            errors = process.communicate(timeout=after)[1]
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            errors = process.communicate()[1]
        told.append(f"{number.name} {after:.1f} s: {process.returncode}")
        if process.returncode not in (0, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT) or "Trace" in errors:
            told.append(errors.strip().splitlines()[-1])
            break
    return told


def both(out: Path) -> bool:
    """Whether of two processes in one folder exactly one is refused."""
    words = start("kip", out)
    first, second = rdd(*words), rdd(*words)
    first.communicate()
    second.communicate()
    return sorted((first.returncode, second.returncode)) == [0, 2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line a run, and how many were the same."""
    parser = argparse.ArgumentParser(description="Kills at random moments")
    parser.add_argument("--times", type=int, default=30, help="runs that are killed")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of processes in one folder")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    rng, same, names = random.Random(given.seed), 0, list(RUNS)
    with tempfile.TemporaryDirectory() as folder:
        whole: dict[str, tuple[bytes, float]] = {}
        for i in range(given.times):
            name = names[i % len(names)]
            if name not in whole:
                began, out = time.perf_counter(), Path(folder) / f"whole-{len(whole)}"
                assert rdd(*start(name, out)).wait() == 0
                whole[name] = (out / "synthetic.npz").read_bytes(), time.perf_counter() - began
            out = Path(folder) / f"killed-{i}"
            told = killed(name, out, rng, whole[name][1])
            found = out / "synthetic.npz"
            equal = found.exists() and found.read_bytes() == whole[name][0]
            same += equal
            print(f"| {name} | {'; '.join(told)} | {'same' if equal else 'OTHER'} |", flush=True)
            shutil.rmtree(out, ignore_errors=True)
        refused = sum(both(Path(folder) / f"both-{i}") for i in range(given.pairs))
    print(f"{same} of {given.times} the same bytes; of {given.pairs} pairs {refused} with one refused")


if __name__ == "__main__":
    main()
