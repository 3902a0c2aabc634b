"""What a command was asked to do, as typed dataclasses: the command line and ``config.json`` alike.

Nothing heavy is imported here, so that ``--help`` is quick.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Distill:
    """The configuration of a run: all that decides its result."""

    data: str = "digits"
    """digits, the name of a prepared TFDS set (mnist, cifar10, ...), an .npz file, or a folder of images by class."""
    method: str = "kip"
    """kip: learn the images; label-solve: keep the initial images, solve their labels in closed form."""
    kernel: str = "fc-ntk"
    """fc-ntk or fc-nngp: of an infinitely wide fully connected ReLU network."""
    depth: int = 1
    """Hidden layers of the kernel's network."""
    ipc: int = 10
    """Synthetic images a class."""
    steps: int = 300
    """Optimiser steps."""
    seed: int = 0
    """The one seed: of splits, initial images, batches and augmentation."""
    labels: str = "fixed"
    """fixed: one-hot; learned: by the optimiser; solved: in closed form at every step, over all data at the end."""
    init: str = "random"
    """Initial images: random (real ones), kmeans (centres) or noise."""
    sampler: str = "uniform"
    """Batches: uniform over examples, or balanced over classes."""
    batch: int = 5000
    """Real examples a step."""
    lr: float = 0.04
    """Learning rate of Adam, in units of model space."""
    schedule: str = "constant"
    """Learning rate over time: constant, or cosine down to zero."""
    augment: str = "none"
    """Of the real images: none, flip, shiftN (pixels), or several joined by +."""
    reg: float = 1e-6
    """Ridge of the kernel regression, as a fraction of the mean of the Gram matrix's diagonal."""
    label_reg: float = 1e-8
    """Ridge of label solving, on the same scale."""
    preprocess: str = "standardise"
    """standardise (a channel), zca or none; fitted on train."""
    zca_reg: float = 0.1
    """Regularisation of ZCA, as a fraction of the mean eigenvalue."""
    learners: str = "krr"
    """Learners of the report, comma-separated: krr, convnet, mlp."""
    seeds: int = 5
    """Seeds of the evaluation: networks, and draws of the baselines."""
    checkpoint_every: int = 100
    """Steps between checkpoints and validations."""


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a run folder, or a set made elsewhere, beside the baselines."""

    source: tyro.conf.Positional[str]
    """A run folder, or an .npz with `images` (NHWC or NCHW) and `labels` (integers, one-hot or soft)."""
    data: str | None = None
    """The real data to test on; default: the run's own."""
    learners: str = "krr"
    """Comma-separated: krr, convnet, mlp."""
    seeds: int = 5
    """Seeds of networks and of the baselines' draws."""
    out: str | None = None
    """A JSON file for the report; must not exist."""
    kernel: str | None = None
    """Of krr; default: the run's own, or fc-ntk."""
    depth: int | None = None
    """Hidden layers of the kernel; default: the run's own, or 1."""
    reg: float | None = None
    """Ridge of krr; default: the run's own, or 1e-6."""
    space: Literal["pixel", "model"] = "pixel"
    """Of the images of an .npz: pixels (0..255 or [0, 1]), or already preprocessed as --preprocess says."""
    preprocess: str = "standardise"
    """For an .npz: standardise, zca or none, fitted on the real training data."""
    zca_reg: float = 0.1
    """Regularisation of ZCA, as a fraction of the mean eigenvalue."""
    baselines: bool = True
    """Whether to evaluate random, k-means and herding subsets too."""
    seed: int = 0
    """Of the splits that have to be drawn; a run's own is used for a run."""


@dataclass(frozen=True)
class Show:
    """Show what is in a data set: shapes, classes, counts, groups, and a picture."""

    name: tyro.conf.Positional[str]
    """digits, the name of a prepared TFDS set, an .npz file, or a folder of images by class."""
    out: str | None = None
    """Where the picture goes; default: data-NAME.png here."""


@dataclass(frozen=True)
class DistillCommand:
    """Distil a data set into a few synthetic images a class."""

    config: tyro.conf.OmitArgPrefixes[Distill] = field(default_factory=Distill)
    out: Path | None = None
    """The run folder to make; must not exist. Default: runs/DATA-METHOD-ipcIPC-seedSEED."""
    resume: Path | None = None
    """A run folder to take up again, with the configuration that it has."""


Commands = (
    Annotated[DistillCommand, tyro.conf.subcommand("distill")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Show, tyro.conf.subcommand("data")]
)
