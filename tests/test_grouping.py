"""Groupings: every member's contract, what each is defined to be, and which hidden groups they find."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from rdd_jax import grouping
from rdd_jax.datasets import load
from rdd_jax.datasets.preprocess import fit
from rdd_jax.datasets.shifts import shift_by_name
from rdd_jax.errors import InputError
from rdd_jax.evaluation.metrics import group_match, minority
from rdd_jax.grouping import GROUPINGS, Groups, Subject, cells, features, grouping_by_name
from rdd_jax.grouping.clustered import _merged
from rdd_jax.grouping.features import pixels, texture
from rdd_jax.grouping.predicted import _parts
from rdd_jax.types import Synthetic, centred_one_hot

pytestmark = pytest.mark.usefixtures("quick_discovery")

CLASSES, IPC = 4, 2


@functools.cache
def strokes(seed=0, n=400):
    """The class is the column of a stroke, which texture cannot see; in 90 % of a class the colour goes with it."""
    rng = np.random.default_rng([7, seed])
    labels = rng.permutation(np.arange(n) % CLASSES).astype(np.int32)
    colour = np.where(rng.random(n) < 0.9, labels, (labels + rng.integers(1, CLASSES, n)) % CLASSES)
    palette = np.array([[1, 0.2, 0.1], [0.2, 1, 0.1], [0.1, 0.3, 1], [1, 0.9, 0.1]], np.float32)
    images = np.zeros((n, 8, 8, 3), np.float32)
    images[np.arange(n), 1:7, 2 + labels] = palette[colour][:, None]
    images += rng.normal(0, 0.05, images.shape).astype(np.float32)
    learned = images[np.concatenate([np.flatnonzero(labels == c)[:IPC] for c in range(CLASSES)])]
    synthetic = Synthetic(jnp.asarray(learned), centred_one_hot(np.repeat(np.arange(CLASSES), IPC), CLASSES))
    return Subject(images, labels, CLASSES, colour.astype(np.int32), synthetic)


def subject_of(points, labels=None):
    """Points ``[n, d]`` as images, for groupings that look at `features.pixels`."""
    labels = np.zeros(len(points), np.int32) if labels is None else labels
    return Subject(points.astype(np.float32)[:, None, None], labels, int(labels.max()) + 1)


def partition(code):
    """The groups as sets of examples, whatever their numbers."""
    return {frozenset(np.flatnonzero(code == g).tolist()) for g in np.unique(code)}


def fit_strokes(name, seed=0, **changes):
    made = grouping_by_name(name, "texture", IPC, groups_per_class=3)
    return made.fit(0, dataclasses.replace(strokes(seed), **changes))


once = functools.cache(fit_strokes)
"""`fit_strokes` of every name and seed once."""


# --- every member ------------------------------------------------------------------------------------

every_member = pytest.mark.parametrize("name", [*GROUPINGS, "spurious+kmeans", "class+labels+kmeans"])
SIZES = {"class": 1, "labels": CLASSES, "kmeans": 3, "clusters": 3, "nearest": IPC, "predicted": CLASSES, "errors": 2}


@pytest.mark.slow
@every_member
def test_a_code_below_the_size_for_every_example_repeatably(name):
    found = once(name)
    assert found.code.dtype == np.int32
    assert found.code.shape == (400,)
    assert found.code.min() >= 0
    assert found.code.max() < found.size
    assert found.size == SIZES.get(name, found.size)
    np.testing.assert_array_equal(found.code, fit_strokes(name).code)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@every_member
def test_those_move_that_look_at_the_synthetic_set_or_are_drawn(name, temperature):
    made = grouping_by_name(name, "texture", IPC, temperature=temperature)
    assert made.moves == ("nearest" in name or ("kmeans" in name and temperature > 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GROUPINGS if name != "labels"])
def test_given_groups_are_not_looked_at(name):
    np.testing.assert_array_equal(once(name).code, fit_strokes(name, given=None).code)


@pytest.mark.parametrize("name, part, nearest", [("kmean", "kmean", "kmeans"), ("spurious+eror", "eror", "errors")])
def test_unknown_groupings_suggest_the_nearest(name, part, nearest):
    with pytest.raises(InputError, match=f"unknown grouping '{part}': did you mean {nearest}"):
        grouping_by_name(name, "pixels", 1)


@pytest.mark.parametrize("name", ["", "kmeans+", "+kmeans"])
def test_half_a_product_is_no_grouping(name):
    with pytest.raises(InputError, match="unknown grouping '': choose from"):
        grouping_by_name(name, "pixels", 1)


@pytest.mark.parametrize("name", ["none", "none+kmeans"])
def test_none_is_no_grouping(name):
    with pytest.raises(InputError, match=r"unknown grouping 'none': .*choose from class, labels") as error:
        grouping_by_name(name, "pixels", 1)
    assert "did you mean none" not in str(error.value)


@pytest.mark.parametrize(
    "part, expected",
    [
        ("kmeans", ("kmeans", None)),
        ("labels", ("labels", None)),
        ("kmeans:pixels", ("kmeans", "pixels")),
        ("fine:network", ("fine", "network")),
    ],
)
def test_a_part_may_name_its_view(part, expected):
    assert grouping.view_of(part) == expected


@pytest.mark.parametrize("make", [grouping.view_of, grouping_by_name], ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    "part, message",
    [
        ("kmeans:pixel", "unknown view 'pixel': did you mean pixels"),
        ("kmeans:", "unknown view '': choose from"),
        ("kmens:pixels", "unknown grouping 'kmens': did you mean kmeans"),
        ("labels:pixels", "grouping 'labels:pixels': 'labels' looks at no features, leave out 'pixels'"),
        ("nearest:texture", "grouping 'nearest:texture': 'nearest' looks at no features"),
        ("discovered:network", "grouping 'discovered:network': 'discovered' looks at no features"),
    ],
)
def test_views_that_there_are_not_and_of_what_looks_at_none_raise(part, message, make):
    with pytest.raises(InputError, match=message):
        make(part)


def test_every_part_looks_with_its_own_view_or_that_of_all(monkeypatch):
    seen = []

    def noted(name):
        def features(subject):
            seen.append(name)
            return pixels(subject)

        return lambda: features

    for name in ("pca", "pixels", "texture"):
        monkeypatch.setitem(grouping.FEATURES, name, noted(name))
    points = subject_of(np.random.default_rng(0).standard_normal((60, 2)))
    anew = lambda: dataclasses.replace(points, _described={})  # noqa: E731
    grouping_by_name("kmeans:pca+kmeans", "pixels").fit(0, anew())
    assert seen == ["pca", "pixels"]
    grouping_by_name("kmeans+fine:pixels+kmeans:texture", "pixels").fit(0, anew())
    assert seen[2:] == ["pixels", "texture"]  # what two parts see is computed once
    grouping_by_name("kmeans").fit(0, anew())
    assert seen[4:] == ["texture"]


# --- cells -------------------------------------------------------------------------------------------


def merged(counts, least):
    """The counts of the groups of one class after `cells`."""
    code = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    found, count = cells(Groups(code, len(counts)), np.zeros(len(code), np.int32), 1, least)
    assert count == found.max() + 1
    return np.bincount(found).tolist()


def test_cells_number_the_groups_of_all_classes():
    groups = Groups(np.array([0, 2, 1, 0, 2], np.int32), 3)
    found, count = cells(groups, np.array([0, 0, 1, 1, 3], np.int32), 4)
    assert found.dtype == np.int32
    assert (found.tolist(), count) == ([0, 1, 3, 2, 6], 8)
    for least in (17, 20):
        found, count = cells(groups, np.array([0, 0, 1, 1, 3], np.int32), 4, count=least)
        assert (found.tolist(), count) == ([0, 1, 6, 5, 15], 20)


@pytest.mark.parametrize(
    "counts, least, expected",
    [
        ([90, 5, 4, 1], 0.05, [90, 5, 5]),  # the small ones together are just enough
        ([90, 6, 3, 1], 0.05, [94, 6]),  # not enough: into the largest
        ([3, 0, 94, 3], 0.05, [6, 94]),
        ([1, 0, 98, 1], 0.05, [100]),
        ([5, 95], 0.05, [5, 95]),  # the share itself is not small
        ([25, 25, 25, 25], 0.5, [100]),  # all are small
        ([1, 999, 0], 0.0, [1, 999]),
    ],
)
def test_small_groups_of_a_class_are_merged(counts, least, expected):
    assert merged(counts, least) == expected


def test_the_default_share_is_half_a_percent_of_the_class():
    code = np.concatenate([np.zeros(1000, np.int32), np.ones(1000, np.int32)])
    labels = np.repeat(np.arange(2, dtype=np.int32), 1000)
    code[:5], code[1000:1004] = 1, 0
    assert np.bincount(cells(Groups(code, 2), labels, 2)[0]).tolist() == [995, 5, 1000]
    assert code[:5].all()  # what was given is left as it was


@pytest.mark.parametrize("least", [-0.1, 1.0, float("nan")])
def test_shares_outside_0_to_1_raise(least):
    with pytest.raises(InputError, match=f"min_group is {least}"):
        merged([1, 2], least)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=60),
    st.floats(0, 1, exclude_max=True),
)
def test_cells_coarsen_groups_within_classes_until_none_is_small(examples, least):
    labels, code = np.array(examples, np.int32).T
    found, count = cells(Groups(code, 5), labels, 3, least)
    assert found.shape == labels.shape
    size = count // 3
    np.testing.assert_array_equal(found // size, labels)
    # Numbered without gaps, and no more than are needed.
    used = [np.unique(found[labels == c]) - c * size for c in range(3)]
    assert all(own.tolist() == list(range(len(own))) for own in used)
    assert size == max(map(len, used))
    sizes = np.bincount(labels, minlength=3)
    for cell in np.unique(found):
        assert np.sum(found == cell) >= least * sizes[cell // size]
    # Examples that were together stay together, and the groups that were large enough stay apart.
    before = labels * 5 + code
    kept = []
    for cell in np.unique(before):
        new = np.unique(found[before == cell])
        assert len(new) == 1
        if np.sum(before == cell) >= least * sizes[cell // 5]:
            kept.append(int(new[0]))
    assert len(set(kept)) == len(kept)
    if least == 0:
        assert len(kept) == len(np.unique(found))


# --- class, labels, nearest, product -----------------------------------------------------------------


def test_class_is_one_group_whatever_there_is():
    found = grouping.single().fit(3, strokes())
    assert found.size == 1
    assert not found.code.any()


def test_labels_are_the_groups_that_came_with_the_data():
    found = grouping.given().fit(0, strokes())
    np.testing.assert_array_equal(found.code, strokes().given)
    assert found.size == CLASSES


def test_labels_that_the_data_does_not_have_raise():
    with pytest.raises(InputError, match="grouping 'labels' needs group labels and the training data has none"):
        fit_strokes("labels", given=None)


def test_listed_groups_are_those_of_the_list_and_never_merged(tmp_path):
    codes = (np.arange(400) % 3).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", codes=codes)
    for made in (grouping.listed(codes), grouping.from_file(tmp_path / "mine.npz")):
        found = made.fit(0, strokes())
        np.testing.assert_array_equal(found.code, codes)
        assert (found.size, found.code.dtype) == (3, np.int32)
        assert not made.moves
        assert not made.found
    named = grouping_by_name(f"{tmp_path / 'mine.npz'}+labels", "pixels", 1)
    np.testing.assert_array_equal(named.fit(0, strokes()).code, codes * CLASSES + strokes().given)
    assert not named.found


def test_listed_groups_are_of_the_examples_that_they_were_made_for():
    codes, subject = np.zeros(400, int), strokes()
    assert grouping.listed(codes, subject.labels).fit(0, subject).size == 1
    with pytest.raises(InputError, match="codes were made for examples of other classes than these"):
        grouping.listed(codes, subject.labels[::-1].copy()).fit(0, subject)
    with pytest.raises(InputError, match="codes are 399, but there are 400 training examples"):
        grouping.listed(codes[1:]).fit(0, subject)


@pytest.mark.parametrize(
    "codes, message",
    [
        (np.array([0, -1, 1]), "hold -1: give a number from 0 on"),
        (np.array([0, 3, 1]), "hold 3, but there are 3 of them: number the groups from 0 on"),
        (np.array([0, 0.5, 1]), "float64 and hold 0.5: give one integer an image"),
        (np.array([0, np.nan, 1]), "hold nan"),
        (np.array(["a", "b", "b"]), "codes of .*mine.npz' are <U1: give one integer"),
        (np.zeros((3, 1), int), r"shape \(3, 1\): expected one integer an image"),
        (np.zeros(0, int), "hold nothing"),
        (np.array([0, 2**63], np.uint64), "give smaller integers"),
    ],
)
def test_what_is_no_list_of_groups_is_refused(codes, message, tmp_path):
    np.savez(tmp_path / "mine.npz", codes=codes)
    with pytest.raises(InputError, match=message):
        grouping.from_file(tmp_path / "mine.npz")


def test_weights_of_a_file_are_taken_as_they_are(tmp_path):
    weights = np.random.default_rng(0).uniform(0, 2, 400).astype(np.float32)
    np.savez(tmp_path / "mine.npz", codes=np.zeros(400, int), weights=weights)
    found = grouping.from_file(tmp_path / "mine.npz").fit(0, strokes())
    np.testing.assert_array_equal(found.weight, weights)
    assert grouping.listed(np.zeros(400, int)).fit(0, strokes()).weight is None


@pytest.mark.parametrize(
    "weights, message",
    [
        (
            np.ones(2),
            r"weights beside codes .*mine.npz' are float64 of shape \(2,\): give a number for each of the 3",
        ),
        (np.ones((3, 1)), r"of shape \(3, 1\)"),
        (np.array(["1", "1", "1"]), "are <U1 of shape"),
        (np.array([1, np.nan, 1]), "hold nan: give finite numbers, 0 or more"),
        (np.array([1, np.inf, 1]), "hold inf"),
        (np.array([1, 1e300, 1]), r"hold 1e\+300"),
        (np.array([1, -1, 1]), "hold -1"),
        (np.zeros(3), "hold only 0"),
    ],
)
def test_what_are_no_weights_is_refused(weights, message, tmp_path):
    np.savez(tmp_path / "mine.npz", codes=np.zeros(3, int), weights=weights)
    with pytest.raises(InputError, match=message):
        grouping.from_file(tmp_path / "mine.npz")


def test_files_without_groups_are_refused_and_pickles_never_loaded(tmp_path):
    with pytest.raises(InputError, match=r"no file .*: it is not there"):
        grouping.from_file(tmp_path / "no.npz")
    np.savez(tmp_path / "mine.npz", groups=np.arange(3))
    with pytest.raises(InputError, match=r"has no codes \(it has groups\)"):
        grouping.from_file(tmp_path / "mine.npz")
    np.savez(tmp_path / "mine.npz", codes=np.array([0, None]))
    with pytest.raises(InputError, match="never loaded"):
        grouping.from_file(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    "names, parts",
    [
        ("kmeans", ["kmeans"]),
        ("spurious + kmeans", ["spurious", "kmeans"]),
        ("kmeans+", ["kmeans", ""]),
        ("mine.npz+kmeans", ["mine.npz", "kmeans"]),
        ("/a+b/c++d/mine.npz+kmeans", ["/a+b/c++d/mine.npz", "kmeans"]),
        ("kmeans+a+b/mine.NPZ", ["kmeans", "a", "b/mine.NPZ"]),  # a relative path says ./a+b
        ("kmeans+./a+b/mine.npz+/x+y.npz", ["kmeans", "./a+b/mine.npz", "/x+y.npz"]),
    ],
)
def test_a_plus_joins_names_and_may_stand_in_a_path(names, parts):
    assert grouping.split_names(names) == parts


def test_nearest_is_the_nearest_synthetic_image_of_the_class():
    subject = strokes()
    found = grouping.nearest(IPC).fit(0, subject)
    synthetic = np.asarray(subject.synthetic.images, np.float64).reshape(CLASSES, IPC, -1)
    for image, label, code in zip(subject.images, subject.labels, found.code, strict=True):
        distance = [np.sum((image.ravel() - other) ** 2) for other in synthetic[label]]
        assert distance[code] <= min(distance) * (1 + 1e-5)
    assert found.size == IPC


@pytest.mark.parametrize("ipc", [1, IPC + 1])
def test_nearest_needs_a_synthetic_set_of_that_many_images(ipc):
    with pytest.raises(InputError, match=f"grouping 'nearest' needs a synthetic set of {ipc} images of 4 classes"):
        grouping.nearest(ipc).fit(0, strokes())


def test_nearest_needs_a_synthetic_set():
    with pytest.raises(InputError, match="grouping 'nearest' needs a synthetic set"):
        fit_strokes("nearest", synthetic=None)


def fixed(code, size, moves=False):
    return grouping.Grouping(lambda seed, subject: Groups(np.array(code, np.int32), size), moves)


def test_a_product_puts_together_what_all_factors_do():
    subject = subject_of(np.zeros((4, 1)))
    found = grouping.product(fixed([0, 1, 1, 0], 2), fixed([2, 0, 2, 2], 3), fixed([0, 0, 3, 3], 4)).fit(0, subject)
    assert found.size == 24
    assert found.code.tolist() == [8, 12, 23, 11]
    assert grouping.product(fixed([0], 1), fixed([0], 1, True)).moves
    assert not grouping.product(fixed([0], 1), fixed([0], 1)).moves


def test_a_product_keeps_the_evidence_and_leaves_protecting_to_the_risk():
    subject = subject_of(np.zeros((4, 1)))
    code, weight = np.zeros(4, np.int32), np.ones(4, np.float32)
    weighted, plain = (
        grouping.Grouping(lambda seed, subject, w=w: Groups(code, 1, weight=w, evidence=(w,))) for w in (weight, None)
    )
    assert grouping.product(weighted).fit(0, subject).weight is weight
    found = grouping.product(weighted, plain).fit(0, subject)
    assert found.weight is None
    assert len(found.evidence) == 2


def test_groups_that_nothing_was_found_for_ask_for_no_protection_by_name_too(monkeypatch):
    made = grouping.discovered({"kmeans:one": grouping.single()})
    monkeypatch.setitem(GROUPINGS, "discovered", lambda: made)
    assert (grouping_by_name("discovered").fit(0, strokes()).weight == 1).all()
    assert grouping_by_name("discovered+labels").fit(0, strokes()).weight is None


def test_joined_clusters_tell_the_pieces_that_they_were_joined_from():
    found = grouping.kmeans().fit(0, strokes())
    for c in range(CLASSES):
        own = strokes().labels == c
        pairs = np.unique(np.stack([found.pieces[own], found.code[own]]), axis=1)
        assert len(pairs.T) == len(np.unique(found.pieces[own])) >= len(np.unique(found.code[own]))
    assert found.pieces.max() > found.code.max()
    assert grouping.kmeans(k=2).fit(0, strokes()).pieces is None


@pytest.mark.slow
def test_names_joined_by_plus_are_the_product():
    found = once("kmeans+labels")
    np.testing.assert_array_equal(found.code, once("kmeans").code * CLASSES + strokes().given)
    assert found.size == 3 * CLASSES


# --- k-means -----------------------------------------------------------------------------------------

DIM = 4


def gaussian(seed, n=400, scale=1.0):
    return scale * np.random.default_rng([3, seed]).standard_normal((n, DIM))


def two_blobs(seed, n=400):
    """One normal distribution, and 5 % in another far from it."""
    points = gaussian(seed, n)
    points[: n // 20, 1] += 12
    return points, np.arange(n) < n // 20


def bent(seed, n=400):
    """An arc of 270 degrees: its ends are near to each other, and much farther apart along it."""
    angle = np.random.default_rng(seed).uniform(0, 1.5 * np.pi, n)
    points = gaussian(seed, n, 0.5)
    points[:, :2] += 10 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return points


def elongated(seed, n=400):
    return gaussian(seed, n) * [20, 1, 1, 1]


def found_within(points, labels=None, seed=0, **options):
    return grouping.kmeans(pixels, **options).fit(seed, subject_of(points, labels)).code


@pytest.mark.slow
def test_kmeans_finds_blobs_within_every_class():
    rng = np.random.default_rng(0)
    labels, blob = rng.integers(0, 2, 400).astype(np.int32), rng.integers(0, 3, 400)
    points = gaussian(0, scale=0.1)
    points[:, 0] += 10 * blob + labels
    subject = subject_of(points, labels)
    found = grouping_by_name("kmeans", "pixels", IPC, groups_per_class=3).fit(0, subject)
    assert found.size == 3
    for c in range(2):
        assert partition(found.code[labels == c]) == partition(blob[labels == c])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_number_of_groups_is_found(seed):
    points, rare = two_blobs(seed)
    labels = np.repeat(np.arange(3, dtype=np.int32), 400)
    code = found_within(np.concatenate([points, gaussian(seed + 10), bent(seed)]), labels, seed)
    assert partition(code[:400]) == partition(rare)
    assert len(partition(code[400:800])) == 1
    assert len(partition(code[800:])) == 1


@pytest.mark.parametrize("make", [gaussian, bent, elongated])
@pytest.mark.parametrize("seed", range(3))
def test_one_connected_cloud_of_any_shape_is_one_group(make, seed):
    assert not found_within(make(seed), seed=seed).any()


@pytest.mark.parametrize("largest, pieces", [(None, 10), (100, 26), (10, 100)])
def test_large_classes_are_cut_finer_but_not_without_end(largest, pieces):
    found = grouping.kmeans(pixels, gap=1e3, largest=largest).fit(0, subject_of(gaussian(0, 2600)))
    assert found.pieces.max() + 1 == pieces


def test_a_smaller_gap_finds_more_groups():
    assert len(partition(found_within(gaussian(0), gap=1.0))) > 1
    assert not found_within(two_blobs(0)[0], gap=1e3).any()


@pytest.mark.slow
@pytest.mark.parametrize("n, pieces", [(7, 1), (39, 1), (40, 2), (150, 7), (400, 10)])
def test_small_classes_are_cut_less_finely(n, pieces):
    found = grouping.kmeans(pixels).fit(0, subject_of(gaussian(0, n)))
    assert found.size == pieces
    assert found.code.max() < pieces


def test_more_clusters_than_examples_of_a_class_raise():
    labels = np.array([0, 0, 0, 0, 1, 1], np.int32)
    with pytest.raises(InputError, match="k is 3, but class 1 has 2 examples"):
        found_within(gaussian(0, 6), labels, k=3)


def test_parameters_out_of_range_raise():
    with pytest.raises(InputError, match="groups_per_class is 0: it must be at least 1"):
        grouping.kmeans(pixels, 0)
    with pytest.raises(InputError, match="groups_per_class is -1: it must be at least 1"):
        grouping_by_name("kmeans", "pixels", 1, -1)
    for temperature in (-0.1, float("nan")):
        with pytest.raises(InputError, match=f"temperature is {temperature}"):
            grouping_by_name("kmeans", "pixels", 1, 2, temperature)


# --- soft k-means ------------------------------------------------------------------------------------

SPOTS = np.array([-1.5, -0.5, 0.5, 1.5])
"""Two clusters with centres at -1 and 1; the mean squared distance to the nearer is 1/4."""


def soft(temperature, seed=0, each=2000):
    points = np.repeat(SPOTS, each)[:, None] * np.eye(1, DIM)
    return found_within(points, seed=seed, k=2, temperature=temperature).reshape(4, each)


def test_without_temperature_assignment_is_hard():
    cold, hard = soft(1e-6), soft(0.0)
    np.testing.assert_array_equal(cold, hard)
    assert partition(hard.ravel()) == partition(np.repeat([0, 0, 1, 1], 2000))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_assignment_follows_its_probabilities(temperature):
    right = soft(0.0)[3, 0]  # the number of the cluster at 1; the seed is the same
    drawn = (soft(temperature) == right).mean(1) * 2000
    scale = 2 * temperature * 0.25
    near, far = np.exp(-((SPOTS - 1) ** 2) / scale), np.exp(-((SPOTS + 1) ** 2) / scale)
    expected = 2000 * near / (near + far)
    for count, mean in zip(drawn, expected, strict=True):
        assert stats.chisquare([count, 2000 - count], [mean, 2000 - mean]).pvalue > 1e-3


def test_soft_assignment_is_drawn_anew_with_every_seed():
    assert (soft(4.0) == soft(4.0)).all()
    # Numbers of clusters may swap between seeds: compared is who is with the first example.
    one, other = (soft(4.0, seed) for seed in (0, 1))
    assert 0.1 < np.mean((one == one[0, 0]) == (other == other[0, 0])) < 0.9


# --- joining pieces ----------------------------------------------------------------------------------


def pieces(*centres):
    """Clusters ``centre +- 1`` on a line, each of standard deviation 1: Ashman's D is the distance of the centres.

    Every second example of one is in the other half, and the halves are alike.
    """
    points = np.concatenate([[[centre - 1.0]] * 2 + [[centre + 1.0]] * 2 for centre in centres])
    return points, np.repeat(np.arange(len(centres)), 4)


@pytest.mark.parametrize(
    "centres, expected",
    [
        ([0, 5.9], [0, 0]),
        ([0, 6.1], [0, 1]),
        ([0, 20, 5, 25], [0, 1, 0, 1]),
        ([0, 5, 10, 15], [0, 0, 0, 0]),  # 0 and 15 by way of the others
        ([0, 15, 5, 10], [0, 0, 0, 0]),
        ([15, 0, 30], [0, 1, 2]),
    ],
)
def test_pieces_are_joined_unless_a_gap_lies_between(centres, expected):
    code = _merged(*pieces(*centres), 6.0)
    assert partition(code) == partition(np.repeat(expected, 4))
    assert set(code.tolist()) == set(range(len(set(expected))))


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_the_numbers_of_pieces_do_not_matter(order):
    points, code = pieces(0, 5, 30)
    np.testing.assert_array_equal(
        partition(_merged(points, np.array(order)[code], 6.0)), partition(np.repeat([0, 0, 1], 4))
    )


def test_empty_pieces_are_no_bridges():
    points, code = pieces(-3.5, 3.5)  # an empty one would lie at 0, near to both
    assert partition(_merged(points, code * 2, 6.0)) == partition(code)


# --- the simple model --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_rare_examples_are_mistaken_for_the_class_of_their_colour(seed):
    subject = strokes(seed)
    code = once("predicted", seed).code
    rare = minority(subject.labels, subject.given)
    assert rare.sum() > 20
    assert np.mean(code[rare] == subject.given[rare]) > 0.9
    assert np.mean(code == subject.given) > 0.9


def test_self_training_cleans_what_was_predicted():
    subject = strokes(1)
    again = grouping.predicted(texture(), rounds=3).fit(0, subject).code
    assert np.mean(again == subject.given) >= np.mean(once("predicted", 1).code == subject.given)


def test_predictions_are_cross_fitted():
    labels = strokes().labels.copy()
    labels[3] = (labels[3] + 1) % CLASSES
    changed = fit_strokes("predicted", labels=labels)
    assert changed.code[3] == once("predicted").code[3]  # its own label is never seen


def test_errors_are_where_the_prediction_is_not_the_class():
    found = once("errors")
    np.testing.assert_array_equal(found.code, once("predicted").code != strokes().labels)
    assert found.size == 2
    assert np.mean(found.code[minority(strokes().labels, strokes().given)]) > 0.9


def test_too_few_rounds_raise():
    with pytest.raises(InputError, match="rounds is -1: it must be at least 0"):
        grouping.predicted(rounds=-1)
    with pytest.raises(InputError, match="rounds is 2: it must be at least 3"):
        grouping.spurious(rounds=2)


# --- more examples than are fitted -------------------------------------------------------------------


def test_principal_components_that_are_fitted_to_few_are_those_of_all(monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.normal(0, 1, (600, 20)).astype(np.float32) * np.r_[9, 5, np.full(18, 1e-3)].astype(np.float32)
    whole = features.principal(points, 2)
    monkeypatch.setattr(features, "FITTED", 250)
    assert len(points[features.sample(600)]) == 250
    some = features.principal(points, 2)
    cosines = np.abs(np.sum((whole - whole.mean(0)) * (some - some.mean(0)), 0))
    cosines /= np.linalg.norm(whole - whole.mean(0), axis=0) * np.linalg.norm(some - some.mean(0), axis=0)
    assert (cosines > 0.999).all()


def test_a_sample_has_every_class_of_labels_that_take_turns(monkeypatch):
    monkeypatch.setattr(features, "FITTED", 250)
    assert len(set((features.sample(1000) % 4).tolist())) == 4
    assert features.sample(250) == slice(None)


def test_models_that_are_fitted_to_few_tell_all(monkeypatch):
    subject = strokes(n=1200)
    monkeypatch.setattr(features, "FITTED", 400)
    found = grouping.spurious().fit(0, subject)
    right = np.setdiff1d(np.arange(1200), features.sample(1200))  # those that were told
    assert metrics.adjusted_mutual_info_score(subject.given[right], found.code[right]) > 0.95
    errors = grouping.errors().fit(0, subject).code
    assert np.mean(errors[right] == (subject.given != subject.labels)[right]) > 0.95


# --- spurious ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_the_colours_of_strokes_are_found(seed):
    subject = strokes(seed)
    found = once("spurious", seed)
    assert found.size == CLASSES
    assert len(partition(found.code) & partition(subject.given)) >= CLASSES - 1
    assert group_match(found.code, subject.labels, subject.given)["minority_recall"] > 0.9


def test_nothing_is_found_where_there_is_nothing():
    rng = np.random.default_rng([7, 0])
    labels = rng.permutation(np.arange(400) % CLASSES).astype(np.int32)
    noise = Subject(rng.standard_normal((400, 8, 8, 3)).astype(np.float32), labels, CLASSES)
    found = grouping.spurious().fit(0, noise)
    assert found.size == 1
    assert not found.code.any()


def shifted(name, shift, n=None, seed=0):
    """Training data of that shift in model space; of the first ``n`` of a random order."""
    splits = load(name)
    if n:
        few = splits.train.take(np.random.default_rng(0).permutation(len(splits.train))[:n])
        rest = (part.take(np.arange(100)) for part in (splits.validation, splits.test))
        splits = splits._replace(train=few)._replace(**dict(zip(("validation", "test"), rest, strict=True)))
    train = shift_by_name(shift)(seed, splits).train
    return Subject(fit("standardise", train.pixels).apply(train.pixels), train.labels, train.classes, train.groups)


@pytest.mark.slow
@pytest.mark.parametrize("shift", ["colour-foreground", "colour-background"])
def test_the_colours_of_digits_are_found(shift):
    subject = shifted("digits", shift)
    found = grouping.spurious().fit(0, subject)
    assert 8 <= found.size <= 10  # neighbouring colours may be joined, of a thousand digits
    match = group_match(found.code, subject.labels, subject.given)
    assert match["minority_recall"] > 0.9
    assert match["minority_precision"] > 0.95
    assert match["adjusted_mutual_information_within_class"] > 0.8


@pytest.mark.slow
def test_plain_digits_are_hardly_split():
    subject = shifted("digits", "none")
    found = grouping.spurious().fit(0, subject)
    assert 1 <= found.size <= 10
    assert found.code.max() < found.size


@pytest.mark.slow
@pytest.mark.parametrize("transform, recall", [("invert", 0.7), ("blur", 0.9)])
def test_kmeans_finds_digits_that_look_different(transform, recall):
    subject = shifted("digits", f"rare-{transform}")
    match = group_match(grouping.kmeans().fit(0, subject).code, subject.labels, subject.given)
    assert match["minority_recall"] > recall
    assert match["minority_precision"] > 0.9


@pytest.mark.slow
@pytest.mark.real_data
def test_hidden_groups_of_photographs_are_found():
    """Those of coloured digits are found by a whole run, in `test_real_data`."""
    subject = shifted("cifar10", "grey", 10_000)
    found = grouping.spurious().fit(0, subject)
    assert found.size == 2
    match = group_match(found.code, subject.labels, subject.given)
    assert match["minority_recall"] > 0.9
    assert match["minority_precision"] > 0.8
    assert match["adjusted_mutual_information_within_class"] > 0.75


# --- parts of a flow ---------------------------------------------------------------------------------


def parts(flow, cut=0.98):
    return _parts(np.array(flow, float), cut, 0)


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3, 10])
def test_values_that_keep_their_examples_are_parts(k):
    assert sorted(parts(np.diag(np.arange(1, k + 1)))) == list(range(k))


def test_blocks_that_leak_within_are_one_part_each():
    flow = np.zeros((6, 6))
    even = np.array([0, 1, 0, 1, 1, 0])
    flow[even[:, None] == even[None]] = 5
    assert partition(parts(flow)) == partition(even)
    assert partition(parts(flow + 0.01)) == partition(even)  # a hair between the blocks does not join them


def test_a_flow_that_mixes_is_one_part():
    np.testing.assert_array_equal(parts(np.ones((5, 5))), 0)


@pytest.mark.parametrize("leak, count", [(0.5, 2), (2, 1)])
def test_the_cut_is_how_much_may_leak(leak, count):
    # Of 100 examples `leak` leave each way: the second eigenvalue is 1 - 2 leak / 100.
    flow = [[100 - leak, leak], [leak, 100 - leak]]
    assert parts(flow).max() + 1 == count
    assert parts(flow, cut=0.95).max() + 1 == 2


def test_one_way_leaks_count_as_both():
    assert parts([[100, 0], [40, 60]]).max() == 0


def test_values_that_were_given_up_are_no_parts():
    found = parts(np.diag([100, 0, 90, 0, 80]))
    assert sorted(found[[0, 2, 4]]) == [0, 1, 2]
    np.testing.assert_array_equal(found[[1, 3]], 0)
    # Nor are values of a handful of examples, wherever these go.
    few = np.diag([1e5, 1, 9e4, 0, 8e4])
    few[1] = 2
    assert sorted(parts(few)[[0, 2, 4]]) == [0, 1, 2]
