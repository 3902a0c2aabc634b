r"""The grouping that chooses: it looks with several views, and protects what any of them saw, or nothing.

No view sees everything: texture sees colours and styles, a network turned digits and classes within classes. A grouping
that saw nothing does harm, since protecting chance costs the rest. So every candidate is tried, on a model so small
that the trial takes seconds: kernel ridge regression on a few hundred Nyström features, under the robust risk. One half
of the examples is fitted, the other tells what protecting the groups gained and what it cost. A small learned set has
less to spare than that model, so the best candidate is rehearsed before it is chosen: the set of a short distillation
has to gain by it too. No given group is looked at, nor validation or test data. Our own derivation.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from rdd_jax.grouping.base import Grouping, Groups, Subject, cells, crossed
from rdd_jax.grouping.clustered import fine, kmeans
from rdd_jax.grouping.features import texture
from rdd_jax.grouping.learned import network
from rdd_jax.grouping.predicted import spurious
from rdd_jax.grouping.reweighted import Part
from rdd_jax.grouping.trial import SURE, Candidate, Trial, View
from rdd_jax.progress import each

__all__ = ["Candidate", "discovered", "views"]

LEAST_CLUSTER = 0.005
"""Share of a class: smaller clusters are joined, as with the other groupings."""

LEAST_CELL = 0.001
"""Share of a class: of values of an attribute, of pieces, and of what is left where two groupings cross."""

VALUES = 1.5
"""Effective number of the values of an attribute, the exponential of their entropy: with fewer it sets one class apart
from the others, such as thin strokes the digit 1, and stands in for none."""

PROTECT, APART = 0.5, 0.25
"""Shares of the risk: over the pieces of clusters, and over the groups that a gap sets apart from the rest of their
class. Pieces alone protect every hard part of a class, but such a group too lightly, since it is cut into several;
groups alone protect nothing that no gap sets apart. Attributes that stand in for the class take the whole, or the
shortcut stays."""

SHARPNESS = (5.0, 20.0)
"""Of the risk over pieces, in 1 / loss: both are tried. Where classes are hard to tell apart the sharper one costs the
average; where they are not, it is what protects a rare piece among hundreds. Attributes and groups have the first."""

SIMPLER = 0.75
"""A candidate of fewer views, or an attribute, wins where it gains this much of what the best does."""

WORTH = 2.0
"""Points of accuracy on the hard tenth of the cells, less what the average loses, from which on protecting is worth
while."""

COST = 1.0
"""Standard errors that the average accuracy may lose to protecting clusters. Breaking a shortcut may cost more: the
average is over data that has the shortcut."""


def views() -> dict[str, Grouping]:
    """The groupings that `discovered` tries, by name."""
    patches = texture()
    return {
        "spurious:texture": spurious(patches),
        "kmeans:texture": kmeans(patches),
        "fine:network": fine(network()),
    }


def discovered(groupings: Mapping[str, Grouping] | None = None) -> Grouping:
    r"""The groups that are worth protecting, of several groupings together, and how much every example then counts.

    Half of the examples fit models, the other half measures. The **hard** cells of a view are the tenth of them on
    which the plain model does worst where it was fitted. A view whose hard cells are no harder than the average on the
    other half, by `SURE` standard errors, saw nothing, nor did one that leaves every class in one piece. The others,
    and all sets of them, are candidates: a model is fitted under a risk with a share for each, over the values of an
    attribute, or over the *pieces* of clusters and the groups that a gap sets apart (`reweighted`). Its **gain** is
    what the mean accuracy of the hard cells rises by over the plain model's, the mean over *all* views that saw
    something, so that protecting what one saw may not hurt what another did; its **cost** is what the average accuracy
    falls by.

    The candidate of the largest gain less cost is best, or one that gains `SIMPLER` of it and has fewer views, or is an
    attribute: that is the same in every class, also where it is too rare to be found alone. What is worth less than
    `WORTH`, or gains less than `SURE` standard errors, is out, and so are clusters that cost more than `COST` standard
    errors. The best is **rehearsed**: two sets are learned from the first half by a short KIP, one of them by the
    weights of the risk. Beside the other that one has to gain more than it costs, and of clusters it may cost no more
    than `COST` standard errors either; where it does not, the next best is rehearsed. With none left, the candidates
    are tried by their pieces alone; then the run is the plain one.

    The groups that are given back are the chosen ones crossed, clusters joined where no gap lies between them: what a
    person would call a group. What protects them is ``weight``: how much every example counts under that risk, in which
    a rare group need not be found as one. ``evidence`` has a `Candidate` for each that was tried last.

    Args:
      groupings: by name; default attributes by texture (`spurious`), and clusters by texture (`kmeans`) and by
        `learned.network` (`fine`). Those with ``attribute`` may have small cells, for the attribute as a whole is not,
        and take the whole risk.
    """

    def fit(seed: int, subject: Subject) -> Groups:
        tried = (groupings or views()).items()
        found = {name: _view(one, seed, subject) for name, one in each(tried, lambda item: item[0])}
        found = {name: view for name, view in found.items() if view is not None}
        everyone = np.ones(len(subject.labels), np.float32)
        nothing = Groups(np.zeros(len(subject.labels), np.int32), 1, weight=everyone)
        if not found:
            return nothing
        trial = Trial(subject, list(found.values()), seed)
        blind = {name: view for (name, view), gap in zip(found.items(), trial.gaps, strict=True) if not gap}
        unseen = [Candidate(name, len(np.unique(view.cell)), SHARPNESS[0]) for name, view in blind.items()]
        found = {name: view for name, view in found.items() if name not in blind}
        told, best = _tried(trial, found)
        if best is None and any(view.apart is not None for view in found.values()):
            found = {name: view._replace(apart=None) for name, view in found.items()}
            told, best = _tried(trial, found)
        rows = (*unseen, *(row._replace(chosen=key == best) for key, row in told.items()))
        if best is None:
            return nothing._replace(evidence=rows)
        kept = [found[name] for name in best[0]]
        weight = trial.weight(_parts(kept, best[1]))
        return _joined([view.shown for view in kept], subject)._replace(weight=weight, evidence=rows)

    return Grouping(fit, found=False)


_Key = tuple[tuple[str, ...], float]


def _tried(trial: Trial, found: Mapping[str, View]) -> tuple[dict[_Key, Candidate], _Key | None]:
    """What the trial told of all candidates, and the best of them."""
    parts = {key: _parts([found[name] for name in key[0]], key[1]) for key in _candidates(found)}
    told = {}
    for key in each(parts, lambda key: f"trial of {'+'.join(key[0])}"):
        told[key] = trial.candidate("+".join(key[0]), parts[key], key[1])
    attributes = {name for name, view in found.items() if view.attribute}
    left = dict(told)
    while (best := _best(left, attributes)) is not None:
        del left[best]
        for _ in each([best], lambda key: f"rehearsal of {'+'.join(key[0])}"):
            told[best] = trial.rehearsed(told[best], parts[best])
        if _harmless(told[best], _breaks(best, attributes)):
            return told, best
    return told, None


def _candidates(found: Mapping[str, View]) -> list[_Key]:
    """All sets of the views; with clusters, in every sharpness."""
    sets = [names for count in range(1, len(found) + 1) for names in combinations(found, count)]
    return [
        (names, sharpness)
        for names in sets
        for sharpness in (SHARPNESS[:1] if all(found[name].attribute for name in names) else SHARPNESS)
    ]


def _parts(views: Sequence[View], sharpness: float) -> list[Part]:
    """The parts of the risk: as large as those of the largest view, each in proportion to what it has alone."""
    alone = [_alone(view, sharpness) for view in views]
    totals = [sum(part.share for part in parts) for parts in alone]
    scale = max(totals) / sum(totals)
    return [part._replace(share=scale * part.share) for parts in alone for part in parts]


def _alone(view: View, sharpness: float) -> list[Part]:
    """The parts of a view that is the only one."""
    if view.attribute:
        return [Part(view.cell, view.size, 1.0, SHARPNESS[0])]
    pieces = Part(view.cell, view.size, PROTECT, sharpness)
    if view.apart is None:
        return [pieces]
    return [pieces, Part(view.apart, int(view.apart.max()) + 1, APART, SHARPNESS[0])]


def _view(grouping: Grouping, seed: int, subject: Subject) -> View | None:
    """What the grouping sees, without groups that are too small to be one; None: nothing."""
    groups = grouping.fit(seed, subject)
    if grouping.attribute:
        shown = _values(groups, subject)
        fine = shown
    else:
        shown = _merged(groups, subject, LEAST_CLUSTER)
        pieces = groups.code if groups.pieces is None else groups.pieces
        fine = _merged(Groups(pieces, int(pieces.max()) + 1), subject, LEAST_CELL)
    if fine.size == 1:
        return None
    cell = lambda groups: subject.labels * groups.size + groups.code  # noqa: E731
    apart = None if grouping.attribute or shown.size == 1 else cell(shown)
    return View(shown, cell(fine), subject.classes * fine.size, grouping.attribute, apart)


def _values(groups: Groups, subject: Subject) -> Groups:
    """The values of an attribute, without those that are too rare to stand in for a class."""
    share = np.bincount(groups.code, minlength=groups.size) / len(groups.code)
    code = np.where(share[groups.code] < 0.25 / subject.classes, share.argmax(), groups.code)
    values, code, counts = np.unique(code, return_inverse=True, return_counts=True)
    share = counts / len(code)
    if np.exp(-np.sum(share * np.log(share))) < VALUES:
        return Groups(np.zeros_like(groups.code), 1)
    return _merged(Groups(code.astype(np.int32), len(values)), subject, LEAST_CELL)


def _merged(groups: Groups, subject: Subject, least: float) -> Groups:
    """Small cells of a class joined; codes within the class."""
    cell, count = cells(groups, subject.labels, subject.classes, least)
    size = count // subject.classes
    return Groups((cell - subject.labels * size).astype(np.int32), size)


def _joined(parts: list[Groups], subject: Subject) -> Groups:
    """The only part, or the crossing of all without what is too small of it."""
    return parts[0] if len(parts) == 1 else _merged(crossed(parts), subject, LEAST_CELL)


def _best(told: Mapping[_Key, Candidate], attributes: set[str]) -> _Key | None:
    """The candidate that is best; None: none passes."""

    def order(key: _Key) -> tuple[int, bool, float]:
        return len(key[0]), not _breaks(key, attributes), -told[key].worth

    good = [key for key, row in told.items() if _passes(row, _breaks(key, attributes))]
    if not good:
        return None
    most = max((told[key] for key in good), key=lambda row: row.worth).gain
    return min((key for key in good if told[key].gain >= SIMPLER * most), key=order)


def _breaks(key: _Key, attributes: set[str]) -> bool:
    """Whether the candidate breaks a shortcut: one of its views is an attribute."""
    return not attributes.isdisjoint(key[0])


def _passes(row: Candidate, breaks: bool) -> bool:
    """Whether it gains enough, surely, and costs little enough."""
    return row.worth >= WORTH and row.gain >= SURE * row.gain_error and _affordable(row, breaks)


def _harmless(row: Candidate, breaks: bool) -> bool:
    """Whether a rehearsal confirms it: that it gains is known, that it costs little is not."""
    return row.worth > 0 and _affordable(row, breaks)


def _affordable(row: Candidate, breaks: bool) -> bool:
    """Whether it costs little enough."""
    return breaks or row.cost <= COST * row.cost_error
