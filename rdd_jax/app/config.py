"""What a command was asked to do, as typed dataclasses: the command line and ``config.json`` alike.

Nothing heavy is imported here, so that ``--help`` is quick.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Distill:
    """The configuration of a run: all that decides its result."""

    data: str = "digits"
    """digits, the name of a prepared TFDS set (mnist, cifar10, ...), an .npz file, or a folder of images by class."""
    shift: str = "none"
    """Give the data a group shift: colour-foreground, colour-background, two-colours, grey, rare-invert, rare-blur,
    rare-rotate, rare-noise, hidden-strata or long-tail; the test set is balanced over the groups."""
    bias: float = 0.9
    """Of colours and grey: the share of a class that has the class's own attribute."""
    share: float = 0.05
    """Of rare-* and hidden-strata: the share of the rare part; of long-tail: of the rarest class."""
    method: str = "kip"
    """Kernels: kip: learn the images; label-solve: keep the initial images, solve their labels in closed form.
    Networks: dc, dsa: match gradients, dsa under augmentation; dm: match mean embeddings; rdd: dc at networks that are
    trained on the real data under a robust risk."""
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
    """fixed: one-hot; of kernels: learned: by the optimiser; solved: in closed form at every step, over all data at the
    end; of networks: soft: distributions over classes, by the optimiser."""
    parameterisation: str = "pixels"
    """pixels; or multi-formation: --factor squared images in the storage of one."""
    factor: int = 2
    """Of multi-formation: images a side of a stored image."""
    init: str = "random"
    """Initial images: real ones, by random, kmeans, herding, kernel-herding, krr-sensitivity, kmeans-sensitivity,
    lightweight, relative-loss, pivoted-cholesky or rp-cholesky; kmeans-centres or noise; or those of a run folder or an
    .npz file."""
    init_draw: str = "distinct"
    """Of real images by a score: distinct ones, independent draws, or the top."""
    init_strata: str = "auto"
    """Initial images are taken by class, or evenly by group of a class (see --grouping); auto: by group where --robust
    is of dc, dsa, dm or rdd, else by class."""
    robust: bool = False
    """Protect subgroups without group labels: --grouping spurious+kmeans --across entropic --sampler group; of dc, dsa,
    dm and rdd --grouping spurious+kmeans --across mean --init-strata group; each unless given otherwise."""
    grouping: str = "auto"
    """Groups of every class: auto (see --robust; without it none), none, class, labels (those of the data), kmeans,
    clusters (k-means of all classes together), nearest (synthetic image), predicted, errors, spurious; several joined
    by +. All but labels work without group labels."""
    features: str = "texture"
    """What kmeans, clusters, predicted, errors and spurious look at: texture, pixels, pca or kernel."""
    groups_per_class: int = 0
    """Of kmeans and clusters; 0 finds the number of kmeans, and is 10 of clusters."""
    soft_groups: float = 0.0
    """Temperature of kmeans' assignment; above 0 groups are drawn, anew at every refit."""
    min_group: float = 0.005
    """Found groups below this share of their class are merged; given ones (labels) never."""
    refit_every: int = 100
    """Steps between fits of groupings that move: nearest, and soft ones."""
    refresh_every: int = 20
    """Steps between looks at the losses for --sampler importance."""
    within: str = "auto"
    """Risk within a group: mean, cvar, max, entropic, or a sum of them joined by +; auto: mean, or cvar of rdd."""
    across: str = "auto"
    """Risk across groups, every one counting once: auto (see --robust; without it mean), mean, max, mean+max, entropic,
    cvar. Of dc, dsa and dm: over distances, one a group. Of rdd, auto: cvar within and mean+max across, tail mass 0.8,
    of the networks' training."""
    tau: float | None = None
    """Tail mass of cvar, in (0, 1]; 1 is the mean; None: 0.2, or 0.8 of rdd."""
    sharpness: float = 5.0
    """Temperature of entropic, in 1 / loss; large is nearly max."""
    sampler: str = "auto"
    """Batches: auto (see --robust; without it uniform), uniform over examples, balanced over classes, group: even
    over groups, weighted back; importance: by loss, within classes, or group+importance: within groups. Of networks,
    auto: stratified: as many of every group; or stratified+importance. Losses are those of kernel regression on the
    set."""
    importance: str = "residual"
    """What importance is in proportion to: residual (norm), squared-error or cross-entropy."""
    mix: float = 0.1
    """The uniform share of importance draws, in (0, 1]."""
    unbiased: bool = True
    """Whether importance draws are weighted back; otherwise hard examples count for more."""
    pool: int = 50_000
    """Examples whose losses are looked at in one go; the others count as average until it is their turn."""
    batch: int = 0
    """Real examples a step, of all classes; 0: 5,000 of kernels, 2,560 of networks."""
    optimizer: str = "auto"
    """Of the synthetic set: adam, or sgd with momentum 0.5; auto: adam of kernels, sgd of networks."""
    lr: float = 0.0
    """Learning rate, in units of model space; 0: 0.04 of kernels, 0.1 of dc and dsa, 1 of dm and rdd."""
    schedule: str = "constant"
    """Learning rate over time: constant, or cosine down to zero."""
    augment: str = "none"
    """Of the real images: none, flip, shiftN (pixels), or several joined by +."""
    network: str = "convnet"
    """Of dc, dsa, dm and rdd: convnet, mlp, lenet, alexnet, vgg11, resnet18 or vit."""
    net_depth: int = 3
    """Of convnet: blocks."""
    net_width: int = 128
    """Of convnet and mlp."""
    norm: str = "instance"
    """Of convnet: none, instance, batch, group or layer."""
    distance: str = "cosine"
    """Of gradients: cosine (a layer's outputs), or squared."""
    siamese: str = "auto"
    """Augmentations of which one a step is applied to real and synthetic images alike: none, or some of
    colour+crop+cutout+flip+scale+rotate; auto: of dsa and dm as published: all of them, of digits all but flip; else
    none."""
    net_train: str = "auto"
    """What the networks are trained on between steps: none: every step has new random weights; synthetic; real. auto:
    synthetic of dc and dsa, real of rdd, none of dm."""
    net_period: int = 0
    """Steps for which a network is kept; 0: as published, of dc and dsa 1, 10 or 50 by images a class, of rdd 2."""
    net_pool: int = 1
    """Networks that take turns, step by step, their ages evenly apart; each is kept for net_period steps of its own."""
    net_steps: int = 0
    """Training steps of the network between two steps; 0: as published, of dc and dsa 1, 50 or 10 by images a class, of
    rdd 2."""
    net_batch: int = 256
    """Examples a training step of the network."""
    net_lr: float = 0.01
    """Learning rate of the network (SGD)."""
    net_groups: str = "nearest"
    """Groups of the robust risk of rdd: nearest: synthetic image, in the network's embedding; data: those of
    --grouping, of which its batches then hold as many examples each."""
    select_ridge: float = 1e-3
    """Ridge of the regression that sensitivities are about, as a fraction of the trace of all data's Gram matrix."""
    landmarks: int = 0
    """0: sensitivities are exact up to 10,000 examples and bounded from 1,000 landmarks beyond; else the landmarks."""
    reg: float = 1e-6
    """Ridge of the kernel regression, as a fraction of the mean of the Gram matrix's diagonal."""
    label_reg: float = 1e-8
    """Ridge of label solving, on the same scale."""
    preprocess: str = "standardise"
    """standardise (a channel), zca or none; fitted on train."""
    zca_reg: float = 0.1
    """Regularisation of ZCA, as a fraction of the mean eigenvalue."""
    learners: str = "auto"
    """Learners of the report, comma-separated: krr, convnet, mlp, lenet, alexnet, vgg11, resnet18, vit; auto: krr of
    kernels, --network of networks."""
    seeds: int = 5
    """Seeds of the evaluation: networks, and draws of the baselines."""
    eval_epochs: int = 0
    """Epochs that networks are trained for in the evaluation; 0: 300, or 1,000 under augmentation."""
    eval_augment: str = "auto"
    """Augmentation in that training: none, dsa, dsa-no-flip, dc, flip, ... joined by +; auto: as published, of dsa and
    dm: dsa, of digits dsa-no-flip; of dc on mnist: dc; else none."""
    eval_average: float = 0.0
    """Decay of an exponential average of the trained weights, which is then tested; 0: the last weights."""
    baselines: bool = True
    """Whether to report random, k-means and herding subsets too."""
    corruptions: str = ""
    """Corruptions of the test images to report, comma-separated: noise, blur, invert, gaussian-noise, ..."""
    checkpoint_every: int = 100
    """Steps between checkpoints and validations."""

    @property
    def by_networks(self) -> bool:
        """Whether the method matches what networks make of the images."""
        return self.method in MATCHING

    def resolved(self) -> "Distill":
        """With every ``auto``, None, and 0 that stands for a method's own value spelt out."""
        meant = dict(ROBUST if self.robust else PLAIN, **KERNELS)
        if self.by_networks:
            size = 0 if self.ipc == 1 else 1 if self.ipc <= 10 else 2
            meant |= NETWORKS | (ROBUST_MATCHING if self.robust else PLAIN_MATCHING)
            meant |= MATCHING[self.method](size, self.data.partition(":")[0])  # without TFDS's version
            if "nearest" in self.grouping:  # the set comes before its groups
                meant["init_strata"] = "class"
            meant["learners"] = self.network
        # All of these have a default that is no value of its own.
        unset = {one.name: one.default for one in fields(self)}
        found = {key: value for key, value in meant.items() if getattr(self, key) == unset[key]}
        resolved = replace(self, **found)
        return replace(resolved, eval_epochs=epochs_of(resolved))


PLAIN = {"grouping": "none", "across": "mean", "sampler": "uniform", "init_strata": "class"}
ROBUST = {"grouping": "spurious+kmeans", "across": "entropic", "sampler": "group", "init_strata": "class"}
"""What ``--robust`` stands for."""

PLAIN_MATCHING = {"grouping": "class", "across": "mean", "sampler": "stratified"}
ROBUST_MATCHING = PLAIN_MATCHING | {"grouping": "spurious+kmeans", "init_strata": "group"}
"""The same of methods that match: every group has a distance, an equal say, and a share of the initial images."""

_ALL = {"within": "mean", "tau": 0.2, "siamese": "none", "eval_augment": "none", "net_train": "none"}
KERNELS = _ALL | {"batch": 5000, "optimizer": "adam", "lr": 0.04, "learners": "krr", "net_period": 1, "net_steps": 1}
NETWORKS = {"batch": 2560, "optimizer": "sgd", "lr": 0.1}


def _loops(size: int) -> dict[str, Any]:
    """The published (outer, inner) loops of 1, at most 10, and more images a class."""
    return {"net_train": "synthetic", "net_period": (1, 10, 50)[size], "net_steps": (1, 50, 10)[size]}


DIGITS = ("digits", "mnist", "svhn_cropped")
"""Data that mirroring makes something else of."""


def _dsa(data: str) -> dict[str, Any]:
    """The published augmentations, in matching and in training."""
    flip, training = ("", "dsa-no-flip") if data in DIGITS else ("flip+", "dsa")
    return {"siamese": f"colour+crop+cutout+{flip}scale+rotate", "eval_augment": training}


MATCHING: dict[str, Callable[[int, str], dict[str, Any]]] = {
    "dc": lambda size, data: _loops(size) | ({"eval_augment": "dc"} if data == "mnist" else {}),
    "dsa": lambda size, data: _loops(size) | _dsa(data),
    "dm": lambda size, data: {"lr": 1.0} | _dsa(data),
    "rdd": lambda size, data: {
        "lr": 1.0,
        "net_train": "real",
        "net_period": 2,
        "net_steps": 2,
        "within": "cvar",
        "across": "mean+max",
        "tau": 0.8,
    },
}
"""The methods that match, and their own values for what is ``auto`` or 0, by the size of the set and the data."""


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a run folder, or a set made elsewhere, beside the baselines."""

    source: tyro.conf.Positional[str]
    """A run folder, or an .npz with `images` (NHWC or NCHW) and `labels` (integers, one-hot or soft)."""
    data: str | None = None
    """The real data to test on; default: the run's own."""
    shift: str | None = None
    """A group shift of the data, see `rdd distill --help`; default: the run's own, or none."""
    bias: float | None = None
    """Of the shift; default: the run's own, or 0.9."""
    share: float | None = None
    """Of the shift; default: the run's own, or 0.05."""
    corruptions: str = ""
    """Corruptions of the test images to report, comma-separated: noise, blur, invert, gaussian-noise, ..."""
    learners: str = "krr"
    """Comma-separated: krr, convnet, mlp, lenet, alexnet, vgg11, resnet18, vit."""
    eval_epochs: int = 0
    """Epochs that networks are trained for; 0: the run's own; without a run, or under another augmentation than its
    own, 300, or 1,000 under augmentation."""
    eval_augment: str = "auto"
    """Augmentation in that training: none, dsa, dsa-no-flip, dc, flip, ... joined by +; auto: the run's own, or
    none."""
    eval_average: float = 0.0
    """Decay of an exponential average of the trained weights, which is then tested; 0: the last weights."""
    net_depth: int = 3
    """Of convnet: blocks."""
    net_width: int = 128
    """Of convnet and mlp."""
    norm: str = "instance"
    """Of convnet: none, instance, batch, group or layer."""
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


def epochs_of(config: Distill | Evaluate) -> int:
    """Epochs of the evaluation's networks, as published where none are given."""
    return config.eval_epochs or (300 if config.eval_augment == "none" else 1000)


@dataclass(frozen=True)
class Select:
    """Select a weighted subset of the real images, with a certificate of what it is good for."""

    data: str = "digits"
    """digits, the name of a prepared TFDS set, an .npz file, or a folder of images by class."""
    method: str = "krr-sensitivity"
    """random, kmeans, herding, kernel-herding, krr-sensitivity, kmeans-sensitivity, lightweight, relative-loss,
    pivoted-cholesky or rp-cholesky."""
    ipc: int = 10
    """Images a class (on average, with --strata all)."""
    draw: str = "distinct"
    """By a score: distinct images, independent draws (which the theorem covers), or the top."""
    strata: str = "class"
    """Take as many of every class, evenly by group of a class, or from all together."""
    grouping: str = "labels"
    """Of --strata group: labels (those of the data), spurious+kmeans, ...; see `rdd distill --help`."""
    shift: str = "none"
    """A group shift, see `rdd distill --help`."""
    bias: float = 0.9
    """Of the shift."""
    share: float = 0.05
    """Of the shift."""
    kernel: str = "fc-ntk"
    """fc-ntk or fc-nngp."""
    depth: int = 1
    """Hidden layers of the kernel's network."""
    select_ridge: float = 1e-3
    """Ridge of the regression that the certificate is about, as a fraction of the Gram matrix's trace."""
    landmarks: int = 0
    """0: sensitivities are exact up to 10,000 examples and bounded from 1,000 landmarks beyond; else the landmarks."""
    eps: float = 0.5
    """Relative error of the regression's cost that the certificate asks for."""
    delta: float = 0.1
    """Chance of missing it."""
    preprocess: str = "standardise"
    """standardise (a channel), zca or none; fitted on train."""
    zca_reg: float = 0.1
    """Regularisation of ZCA, as a fraction of the mean eigenvalue."""
    seed: int = 0
    """Of splits, shift and draws."""
    out: str | None = None
    """The .npz to make, with a picture (.png) and a report (.json) beside it; must not exist. Default:
    DATA-METHOD.npz."""


@dataclass(frozen=True)
class Show:
    """Show what is in a data set: shapes, classes, counts, groups, and a picture."""

    name: tyro.conf.Positional[str]
    """digits, the name of a prepared TFDS set, an .npz file, or a folder of images by class."""
    shift: str = "none"
    """A group shift, see `rdd distill --help`."""
    bias: float = 0.9
    """Of the shift."""
    share: float = 0.05
    """Of the shift."""
    seed: int = 0
    """Of splits and shift."""
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


@dataclass(frozen=True)
class Compare:
    """Compare finished runs side by side, group by group: a table, and a picture of every (class, group) cell."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run folders, on the same data."""
    out: str = "compare.png"
    """Where the picture goes."""


Commands = (
    Annotated[DistillCommand, tyro.conf.subcommand("distill")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Select, tyro.conf.subcommand("select")]
    | Annotated[Show, tyro.conf.subcommand("data")]
)
